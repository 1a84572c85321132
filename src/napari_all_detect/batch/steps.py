"""What is done for one unit, in whatever thread or process."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from napari_all_detect.batch.running import Stopped
from napari_all_detect.batch.units import CutUnit, Job, Unit, UnitResult
from napari_all_detect.digest import file_digest
from napari_all_detect.errors import AllDetectError, StoreError
from napari_all_detect.export.geojson import geojson_text
from napari_all_detect.export.labels import labels_tiff
from napari_all_detect.labelled import LabelImage
from napari_all_detect.pipeline import PlaneInput, Scorer, cut_cells, score_cells
from napari_all_detect.results import Failure
from napari_all_detect.retrying import with_retries
from napari_all_detect.sources import RgbPlane, TiledPlane
from napari_all_detect.sources.identity import identity
from napari_all_detect.sources.labels import find_labels, open_labels, read_labels
from napari_all_detect.sources.plane import readable

__all__ = ["Begin", "cut_unit", "failing_alone", "labels_sha256", "score_cut", "score_unit"]

Result = TypeVar("Result")

Begin = Callable[[str], None]
"""Is told which stage of a unit begins."""

OUT_OF_MEMORY = "out of memory; give it more, or score fewer planes at once"


def failing_alone(unit: Unit, work: Callable[[Begin], Result]) -> Result | Failure:
    """Do what is to be done for a unit; whatever keeps that from being done is its failure, and the others go on.

    Parameters
    ----------
    unit : Unit
    work : callable
        Takes a function that it tells which stage begins.
    """
    stage = ""

    def begin(name: str) -> None:
        nonlocal stage
        stage = name

    try:
        return work(begin)
    except Stopped:
        raise
    except Exception as error:  # noqa: BLE001 - other packages' methods raise anything
        return Failure(unit.name, stage, _reason(error))


def cut_unit(job: Job, unit: Unit) -> CutUnit | Failure:
    """Take one plane down the first half of the road; return where it stopped, if it did."""
    return failing_alone(unit, partial(_cut, job, unit))


def _cut(job: Job, unit: Unit, begin: Begin) -> CutUnit:
    plane = unit.plane
    begin("read")
    pixels = with_retries(plane.open, StoreError)
    source: dict[str, Any] = with_retries(partial(_identity, plane.path, pixels), StoreError)
    labels: LabelImage | None = None
    if job.output.labels is not None:
        begin("labels")
        path = find_labels(Path(job.output.labels), plane.image, plane.plane, unit.stem)
        read = open_labels if isinstance(pixels, TiledPlane) else read_labels
        labels = with_retries(partial(read, path), StoreError)
        source["labels_sha256"] = with_retries(partial(_sha256, path), StoreError)
    begin("score")
    given = PlaneInput(pixels, plane.image, plane.plane, labels, plane.pixel_size_um, plane.well, plane.field)
    cut = cut_cells(given, job.params, job.crop)
    return CutUnit(cut, source, {f"labels/{unit.stem}_labels.tif": labels_tiff(cut.labels)})


def labels_sha256(labels: Path, unit: Unit) -> str:
    """Return the SHA-256 of the label image that belongs to a unit.

    Raises
    ------
    InputError
        If there is none, or it can't be read.
    """
    return _sha256(find_labels(labels, unit.plane.image, unit.plane.plane, unit.stem))


def _sha256(path: Path) -> str:
    with readable(path, "a label image"):
        return file_digest(path)


def _identity(path: Path, pixels: RgbPlane | TiledPlane) -> dict[str, Any]:
    with readable(path, "an image"):
        return dict(identity(path, pixels))


def _reason(error: Exception) -> str:
    if isinstance(error, AllDetectError):
        return str(error)
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    return f"{type(error).__name__}: {error}; a fault of the program or of the segmentation method: please report it"


def score_cut(
    scorer: Scorer, job: Job, unit: Unit, found: CutUnit, progress: Callable[[int], None] | None = None
) -> UnitResult | Failure:
    """Take one plane down the second half of the road; return where it stopped, if it did.

    Parameters
    ----------
    scorer : Scorer
    job : Job
    unit : Unit
    found : CutUnit
        What `cut_unit` made of the unit.
    progress : callable, optional
        Is told how many more cells are scored.
    """

    def score(begin: Begin) -> UnitResult:
        begin("score")
        scored = score_cells(scorer, found.cut, progress)
        files = found.files
        if "geojson" in job.output.formats:
            text = geojson_text(scored.table, scored.labels, scored.nuclei, unit.plane.downsample)
            files = files | {f"geojson/{unit.stem}.geojson": text.encode()}
        return UnitResult(scored.table, scored.summary, found.source, files)

    return failing_alone(unit, score)


def score_unit(scorer: Scorer, job: Job, unit: Unit) -> UnitResult | Failure:
    """Take one plane down the whole road."""
    found = cut_unit(job, unit)
    return found if isinstance(found, Failure) else score_cut(scorer, job, unit, found)
