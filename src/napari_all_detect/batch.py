"""Many planes: plan, run, collect. Whatever fails is recorded, and the rest goes on."""

import hashlib
import platform
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import AllDetectError, InputError, OutputError
from napari_all_detect.export.csv import write_csv
from napari_all_detect.export.formats import check_formats
from napari_all_detect.export.geojson import write_geojson
from napari_all_detect.export.labels import write_labels
from napari_all_detect.export.ome_zarr import write_ome_zarr
from napari_all_detect.params import OutputParams, ScoreParams, SegmentationParams
from napari_all_detect.pipeline import PlaneInput, ScoredImage, Scorer, open_scorer, score_plane
from napari_all_detect.results import Failure, ResultsFolder, check_folder, prepare_folder
from napari_all_detect.samplesheet import read_sample_sheet, sum_samples
from napari_all_detect.segmentation import describe_method, open_method, segment_cells
from napari_all_detect.sources import Plane, find_images, open_planes
from napari_all_detect.sources.labels import find_labels, label_names, read_labels

__all__ = ["BatchProgress", "BatchSummary", "Failure", "plan", "score_batch", "segment_batch"]

THREADS = 2
"""While one plane is with the networks, which take one at a time, the next is read and segmented."""

AHEAD = 4
"""Planes begun before the first of them is written: what a run holds in memory does not grow with their number."""

VERSIONS_OF = ("napari-all-detect", "keras", "numpy", "scikit-image", "pandas")

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchProgress:
    """Is told how a run goes on; this one keeps quiet. Override what you need."""

    def start(self, planes: int) -> None:
        """Take the number of planes to score."""

    def cells(self, n: int) -> None:
        """Take how many more cells were scored; called from other threads."""

    def plane(self) -> None:
        """One more plane is done."""

    def failed(self, failure: Failure) -> None:
        """One more input failed."""


@dataclass(frozen=True)
class BatchSummary:
    """What a run gave.

    Attributes
    ----------
    folder : Path
    planes, cells, called_all, called_hem, uncertain : int
    failures : tuple of Failure
    """

    folder: Path
    planes: int
    cells: int
    called_all: int
    called_hem: int
    uncertain: int
    failures: tuple[Failure, ...]

    @property
    def exit_status(self) -> int:
        """0 if all was done, 3 if some inputs failed, 1 if nothing could be done."""
        return 0 if not self.failures else 3 if self.planes else 1


def plan(inputs: Sequence[str | Path]) -> tuple[list[Plane], list[Failure]]:
    """List the planes of all inputs from their headers, and the inputs that can't be opened."""
    planes: list[Plane] = []
    failures: list[Failure] = []
    for file in find_images(inputs):
        try:
            planes += open_planes(file)
        except InputError as error:
            failures.append(Failure(file.image, "open", str(error)))
    return planes, failures


def score_batch(
    inputs: Sequence[str | Path],
    out: str | Path,
    params: ScoreParams | None = None,
    output: OutputParams | None = None,
    progress: BatchProgress | None = None,
) -> BatchSummary:
    """Score every plane of the inputs into a folder.

    Parameters
    ----------
    inputs : sequence of path
        Image files, folders of them, zarr stores.
    out : path
        Gets `cells.csv`, `images.csv`, `failures.csv`, `run.json`, label images, and `samples.csv` with a sheet.
    params : ScoreParams, optional
    output : OutputParams, optional
    progress : BatchProgress, optional

    Returns
    -------
    summary : BatchSummary

    Raises
    ------
    OutputError
        If the folder holds results, or can't be written to.
    BundleError, MissingDependencyError, InputError
        If the bundle, the device, the format or the sample sheet can't be used. A bad image raises nothing: it becomes
        a row of `failures.csv`.
    """
    params, output, progress = params or ScoreParams(), output or OutputParams(), progress or BatchProgress()
    folder, began = Path(out), time.perf_counter()
    sheet = read_sample_sheet(Path(output.samples)) if output.samples else None
    check_formats(output.formats)
    check_folder(folder, output.overwrite, [Path(p) for p in (*inputs, output.labels, output.samples) if p])
    scorer = open_scorer(params)
    if output.labels is None:
        open_method(params.segmentation.method, params.device)
    prepare_folder(folder, output.overwrite)
    results = ResultsFolder(folder, scorer.members, output.formats)
    planes, failures = plan(inputs)
    names = label_names(planes)
    run = _run_record(scorer, output, inputs, planes)
    results.write_run(run | {"status": "running"})
    loaded = time.perf_counter()
    status = "interrupted"
    try:
        progress.start(len(planes))
        for failure in failures:
            _fail(results, progress, failure)
        for plane, scored in _in_order(lambda p: _score_one(scorer, p, output, progress), planes):
            if isinstance(scored, Failure):
                _fail(results, progress, scored)
            else:
                _write_images(folder, names[plane.image, plane.plane], plane, scored, output.formats)
                results.add_plane(scored.table, scored.summary)
            progress.plane()
        results.finish()
        if sheet is not None:
            write_csv(sum_samples(results.images, sheet), folder / "samples.csv")
        status = "complete"
    finally:
        seconds = {"load": loaded - began, "score": time.perf_counter() - loaded}
        results.write_run(run | {"status": status, "seconds": {k: round(v, 3) for k, v in seconds.items()}})
    return _summary(folder, results)


def segment_batch(
    inputs: Sequence[str | Path],
    out: str | Path,
    params: SegmentationParams | None = None,
    overwrite: bool = False,
    progress: BatchProgress | None = None,
    nuclei: bool = False,
) -> BatchSummary:
    """Find the white cells of every plane of the inputs and write their label images.

    Parameters
    ----------
    inputs : sequence of path
    out : path
        Gets `<image>_labels.tif` for each plane, and `<image>_nuclei.tif` if nuclei are asked for.
    params : SegmentationParams, optional
    overwrite : bool
        Whether label images that are there already may be replaced.
    progress : BatchProgress, optional
    nuclei : bool
        Whether to write the nuclei too, under their cells' numbers.

    Returns
    -------
    summary : BatchSummary
        Without calls.

    Raises
    ------
    OutputError
        If label images are there already.
    ParameterError, BundleError
        If there is no such method, or its bundle can't be used.
    """
    progress, folder, params = progress or BatchProgress(), Path(out), params or SegmentationParams()
    open_method(params.method, "auto")
    planes, failures = plan(inputs)
    names = label_names(planes)
    written = [*names.values()]
    if nuclei:
        written += [name.replace("_labels.tif", "_nuclei.tif") for name in names.values()]
    there = [name for name in written if (folder / name).exists()]
    if there and not overwrite:
        raise OutputError(f"{folder} holds {there[0]} already; name another folder or add --overwrite")
    progress.start(len(planes))
    for failure in failures:
        progress.failed(failure)
    counts = []
    for plane, found in _in_order(lambda p: _segment_one(p, params), planes):
        if isinstance(found, Failure):
            failures.append(found)
            progress.failed(found)
        else:
            cells, nuclear = found
            path = folder / names[plane.image, plane.plane]
            write_labels(cells, path)
            if nuclei and nuclear is not None:
                write_labels(nuclear, path.with_name(path.name.replace("_labels.tif", "_nuclei.tif")))
            counts.append(int(cells.max(initial=0)))
            progress.cells(counts[-1])
        progress.plane()
    return BatchSummary(folder, len(counts), sum(counts), 0, 0, 0, tuple(failures))


def _in_order(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int = THREADS
) -> Iterator[tuple[Item, Result]]:
    """Do the work in threads, a few items ahead, and yield the results in the items' order."""
    begun: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                begun.append((item, pool.submit(work, item)))
                if len(begun) == AHEAD:
                    first, future = begun.popleft()
                    yield first, future.result()
            while begun:
                first, future = begun.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _score_one(scorer: Scorer, plane: Plane, output: OutputParams, progress: BatchProgress) -> ScoredImage | Failure:
    """Take one plane down the road; return where it stopped, if it did."""
    stage = "read"
    try:
        pixels = plane.read()
        stage = "labels"
        labels = read_labels(find_labels(Path(output.labels), plane)) if output.labels else None
        stage = "score"
        given = PlaneInput(pixels, plane.image, plane.plane, labels, plane.pixel_size_um)
        return score_plane(scorer, given, progress.cells)
    except AllDetectError as error:
        return Failure(_name(plane), stage, str(error))


def _write_images(folder: Path, name: str, plane: Plane, scored: ScoredImage, formats: Sequence[str]) -> None:
    """Write a plane's labels, and what else is a file for each plane."""
    write_labels(scored.labels, folder / "labels" / name)
    stem = name.removesuffix("_labels.tif")
    if "geojson" in formats:
        write_geojson(scored.table, scored.labels, folder / "geojson" / f"{stem}.geojson", scored.nuclei)
    if "ome-zarr" in formats:
        size = scored.summary["pixel_size_um"].iloc[0]
        path = folder / "ome-zarr" / f"{stem}.zarr"
        write_ome_zarr(plane.read().rgb, scored.labels, scored.table, path, None if np.isnan(size) else float(size))


def _segment_one(
    plane: Plane, params: SegmentationParams
) -> tuple[NDArray[np.int32], NDArray[np.int32] | None] | Failure:
    stage = "read"
    try:
        rgb = plane.read().rgb
        stage = "segment"
        return segment_cells(rgb, params, pixel_size_um=plane.pixel_size_um, nuclei=True)
    except AllDetectError as error:
        return Failure(_name(plane), stage, str(error))


def _name(plane: Plane) -> str:
    return plane.image if plane.plane == "0" else f"{plane.image} [{plane.plane}]"


def _fail(results: ResultsFolder, progress: BatchProgress, failure: Failure) -> None:
    results.add_failure(failure)
    progress.failed(failure)


def _run_record(
    scorer: Scorer, output: OutputParams, inputs: Sequence[str | Path], planes: Sequence[Plane]
) -> dict[str, Any]:
    """Say all that is needed to know how the numbers came about, and to get them again."""
    manifest = scorer.bundle.manifest
    paths = {plane.image: plane.path for plane in planes}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": [str(given) for given in inputs],
        "parameters": asdict(scorer.params) | asdict(output),
        "bundle": {
            "name": manifest.name,
            "version": manifest.version,
            "digest": scorer.bundle.digest,
            "weights": {member.name: member.sha256 for member in manifest.members},
            "weighting": scorer.params.weighting or manifest.ensemble.weighting,
            "member_weights": dict(zip(scorer.members, scorer.weights.tolist(), strict=True)),
            "threshold": scorer.threshold,
            "research_use_only": manifest.research_use_only,
        },
        "segmentation": None if output.labels else describe_method(scorer.params.segmentation.method),
        "engine": scorer.engine.name,
        "device": scorer.engine.device,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS_OF},
        "images": [{"image": image, "path": str(path)} | _identity(path) for image, path in paths.items()],
    }


def _identity(path: Path) -> dict[str, Any]:
    """Return a file's size and digest; a zarr store is many files and has neither."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _summary(folder: Path, results: ResultsFolder) -> BatchSummary:
    images = results.images
    cells, called_all, called_hem, uncertain = (
        int(images[name].sum()) for name in ("cells", "all", "hem", "uncertain")
    )
    return BatchSummary(folder, len(images), cells, called_all, called_hem, uncertain, tuple(results.failures))
