"""Score every plane of many inputs into a folder."""

import contextlib
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from napari_all_detect import trust
from napari_all_detect.batch.cluster import connected
from napari_all_detect.batch.collecting import Collector, write_at_the_end
from napari_all_detect.batch.containers import check_stores, delete_container
from napari_all_detect.batch.cutting import n_processes
from napari_all_detect.batch.delegating import on_cluster
from napari_all_detect.batch.overlapping import overlapped
from napari_all_detect.batch.planning import listed_images, plan_units
from napari_all_detect.batch.progress import BatchProgress, BatchSummary
from napari_all_detect.batch.record import absolute_arguments, run_record
from napari_all_detect.batch.resuming import (
    check_repeated,
    expected_images,
    finished_units,
    missing_images,
    other_programs,
)
from napari_all_detect.batch.running import interruptible
from napari_all_detect.batch.store import UnitStore
from napari_all_detect.batch.units import Job, Unit, UnitResult
from napari_all_detect.errors import InputError, OutputError, ParameterError, StoreError
from napari_all_detect.export.formats import check_formats
from napari_all_detect.optional import require
from napari_all_detect.params import ClusterParams, OutputParams, ScoreParams
from napari_all_detect.pipeline import Scorer, open_scorer
from napari_all_detect.results import (
    SUMMED,
    Failure,
    ResultTables,
    as_folder,
    check_folder,
    locked_folder,
    prepare_folder,
    read_run,
    refuse_links,
    write_run,
)
from napari_all_detect.samplesheet import coverage, read_sample_sheet
from napari_all_detect.segmentation import open_method
from napari_all_detect.sources import ImageFile, as_inputs, find_images

__all__ = ["score_batch"]

NONE_LISTED = (
    "no line of the sample sheet names an image of this run, so that samples.csv is empty; expected names as in the "
    "column image of images.csv, or folders of them"
)


def score_batch(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    params: ScoreParams | None = None,
    output: OutputParams | None = None,
    progress: BatchProgress | None = None,
    repeated: Mapping[str, Any] | None = None,
    cluster: ClusterParams | None = None,
) -> BatchSummary:
    """Score every plane of the inputs into a folder.

    Parameters
    ----------
    inputs : path or sequence of path
        Image files, folders of them, patterns, zarr stores, URLs; none with a sample sheet: those that it lists.
    out : path
        Gets `cells.csv`, `images.csv`, `failures.csv`, `run.json`, label images, and `samples.csv` with a sheet.
    params : ScoreParams, optional
    output : OutputParams, optional
    progress : BatchProgress, optional
    repeated : mapping, optional
        The record (`run.json`) of an earlier run: bundle and images must be the same as they were then.
    cluster : ClusterParams, optional
        Other processes or machines to score on. In a script that starts some, call this below
        ``if __name__ == "__main__":``.

    Returns
    -------
    summary : BatchSummary

    Raises
    ------
    OutputError
        If the folder holds results, another run writes into it, it can't be written to, or the run to go on with was
        another one.
    ParameterError
        If there is no input, one is empty or no path, or `out` is empty.
    BundleError, MissingDependencyError, InputError
        If the bundle, the device, the format or the sample sheet can't be used, or one label image is given for
        several images. A bad image raises nothing: it becomes a row of `failures.csv`.
    """
    folder, began = as_folder(out), time.perf_counter()
    progress, cluster = progress or BatchProgress(), cluster or ClusterParams()
    inputs, params, output = absolute_arguments(as_inputs(inputs), params or ScoreParams(), output or OutputParams())
    if not inputs and output.samples is None:
        raise ParameterError("there are no inputs; expected a path at least, or a sample sheet that lists the images")
    sheet = read_sample_sheet(Path(output.samples)) if output.samples else None
    check_formats(output.formats)
    if not cluster.is_here:
        require("distributed", "dask", "a cluster")
    if _interrupted(folder, output) is None:
        check_folder(
            folder, output.overwrite, [Path(path) for path in (*inputs, output.labels, output.samples) if path]
        )
    else:
        refuse_links(folder)
    if inputs or sheet is None:
        files = find_images(inputs)
    else:
        files = listed_images(sheet["image"], Path(str(output.samples)).parent)
    scorer = open_scorer(params)
    if output.labels is None:
        open_method(params.segmentation.method, params.device, scorer.params.engine)
    interruptible()
    with locked_folder(folder):
        run = _begin(folder, scorer, output, inputs, files, repeated)
        if run is None:
            return _summary_of(folder)
        if repeated is not None and (others := other_programs(repeated, run.record)):
            progress.note(others)
        covered = None if sheet is None else coverage(sheet, run.images)
        if covered is not None and covered.is_empty and run.units:
            run = replace(run, failures=[*run.failures, Failure(str(output.samples), "open", NONE_LISTED)])
        tables = _run(run, scorer, output, cluster, progress, sheet, began)
    note = "" if covered is None else covered.in_words()
    cells, called_all, called_hem, uncertain, unlike = tables.counts.values()
    failures = tuple(tables.failures)
    return BatchSummary(
        folder, tables.planes, cells, called_all, called_hem, uncertain, unlike, failures, note, tables.notes
    )


@dataclass(frozen=True)
class _Run:
    """A run that may begin: its folder is its own, and what lies in it agrees with it.

    Attributes
    ----------
    record : dict
        What `run.json` will say.
    expected : mapping of str to mapping
        For a run that is repeated, what `expected_images` says: digests that must be the same.
    """

    store: UnitStore
    record: dict[str, Any]
    units: Sequence[Unit]
    done: Collection[int]
    failures: Sequence[Failure]
    expected: Mapping[str, Mapping[str, Any]]

    @property
    def images(self) -> Iterator[str]:
        """The images' names, those that could not be opened included."""
        yield from (unit.plane.image for unit in self.units)
        yield from (failure.input for failure in self.failures)


def _begin(
    folder: Path,
    scorer: Scorer,
    output: OutputParams,
    inputs: Sequence[str],
    files: Sequence[ImageFile],
    repeated: Mapping[str, Any] | None,
) -> _Run | None:
    """Plan a run and prepare its folder; None if the run that lies there is complete."""
    before = _interrupted(folder, output)
    units, failures = plan_units(files, scorer.params.reading, scorer.bundle.manifest.crop.pixel_size_um)
    _check_labels(output.labels, {unit.plane.image for unit in units} | {failure.input for failure in failures})
    if before is None:
        prepare_folder(folder, output.overwrite)
    if before is None and "ome-zarr" in output.formats and not output.overwrite:
        check_stores(units)
    failed = {failure.input for failure in failures}
    unlisted = [unit.plane for unit in units if unit.plane.error is not None]
    unopened = [*(file.path for file in files if file.image in failed), *(plane.path for plane in unlisted)]
    record = run_record(scorer, output, inputs, units, unopened)
    if repeated is not None:
        check_repeated(repeated, record)
        failures += [missing for missing in missing_images(repeated, record) if missing.input not in failed]
    store = UnitStore(folder, scorer.members)
    unreached = [failure.reason for failure in failures if failure.passes]
    unreached += [str(plane.error) for plane in unlisted if isinstance(plane.error, StoreError)]
    done = finished_units(folder, before, record, units, store, unreached) if before else frozenset()
    if before is not None and before["status"] == "complete" and not store.exists:
        if failures:  # the run that lies there had none
            raise OutputError(
                f"{folder} holds a complete run without {failures[0].input}, which can't be opened "
                f"({failures[0].reason}); leave it out, name another folder, or add --overwrite"
            )
        return None
    write_run(folder, record | {"status": "running"})
    return _Run(store, record, units, done, failures, expected_images(repeated, record) if repeated else {})


def _check_labels(labels: str | None, images: Collection[str]) -> None:
    """Refuse one label image for several images: it would put the cells of one onto all."""
    if labels is not None and len(images) > 1 and Path(labels).is_file():
        raise InputError(
            f"{labels} is one label image, the inputs are {len(images)} images; expected a label image for each: give "
            "the folder of their label images, or score the image that it belongs to alone"
        )


def _run(
    run: _Run,
    scorer: Scorer,
    output: OutputParams,
    cluster: ClusterParams,
    progress: BatchProgress,
    sheet: pd.DataFrame | None,
    began: float,
) -> ResultTables:
    """Score what is left, fill the tables, and say in `run.json` how it ended."""
    folder, record, loaded = run.store.folder, run.record, time.perf_counter()
    status, sources = "interrupted", dict[str, dict[str, Any]]()

    def seconds() -> dict[str, float]:
        return {"load": round(loaded - began, 3), "score": round(time.perf_counter() - loaded, 3)}

    try:
        for stem in run.store.delete_renamed(run.units):
            delete_container(folder, stem)
        tables = ResultTables(folder, scorer.members)
        collector = Collector(tables, run.store, run.units, run.done, progress, run.expected)
        if run.done:
            progress.note(f"{len(run.done)} of {len(run.units)} planes are done already: their rows come first")
            collector.advance()
        progress.start(len(run.units) - len(run.done))
        for failure in run.failures:
            collector.fail(failure)
        job = Job(scorer.params, scorer.bundle.manifest.crop, output)
        left = [unit for unit in run.units if unit.number not in run.done]
        with contextlib.closing(_results(cluster, scorer, job, left, record, progress)) as results:
            for unit, result in results:
                collector.add(unit, result)
        collector.end()
        told = record | {"seconds": seconds()}
        write_at_the_end(tables, run.store, run.units, output.formats, sheet, told, collector.fail, progress.writing)
        status, sources = "complete", collector.sources
    except OSError as error:
        raise OutputError(
            f"{folder} can't be written to any more ({error.strerror or error}); mend that, then go on with --resume"
        ) from error
    finally:
        images = [row | sources.get(row["image"], {}) for row in record["images"]]
        with contextlib.suppress(OSError):
            write_run(folder, record | {"images": images, "status": status, "seconds": seconds()})
    if not tables.failures:
        run.store.clear()
    return tables


def _results(
    cluster: ClusterParams,
    scorer: Scorer,
    job: Job,
    units: Sequence[Unit],
    record: Mapping[str, Any],
    progress: BatchProgress,
) -> Generator[tuple[Unit, UnitResult | Failure], None, None]:
    """Score units, here or on a cluster, and yield the results as they come."""
    if cluster.is_here:
        processes = n_processes(cluster.segmentation_processes, len(units))
        yield from overlapped(scorer, job, units, progress.cells, processes)
        return
    with connected(cluster) as client:
        for unit, result in on_cluster(client, job, units, record):
            if isinstance(result, UnitResult):
                progress.cells(len(result.cells))
            yield unit, result


def _summary_of(folder: Path) -> BatchSummary:
    """Return what a run gave that is complete, without a failure."""
    images = pd.read_csv(folder / "images.csv", usecols=[*SUMMED, "notes"], keep_default_na=False)
    cells, called_all, called_hem, uncertain = (int(images[name].sum()) for name in SUMMED)
    flags = pd.read_csv(folder / "cells.csv", usecols=["flags"], keep_default_na=False)["flags"]
    unlike, notes = trust.n_out_of_domain(flags), trust.count_joined(images["notes"])
    return BatchSummary(folder, len(images), cells, called_all, called_hem, uncertain, unlike, failures=(), notes=notes)


def _interrupted(folder: Path, output: OutputParams) -> dict[str, Any] | None:
    """Return the record of the run to go on with, if there is one and the user wants to."""
    path = folder / "run.json"
    return read_run(path) if output.resume and path.exists() else None
