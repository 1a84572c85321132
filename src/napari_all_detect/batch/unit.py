"""What is done for one unit, in whatever thread or process."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_all_detect.batch.planning import Unit
from napari_all_detect.batch.retrying import with_retries
from napari_all_detect.batch.store import UnitResult
from napari_all_detect.errors import AllDetectError, InputError, StoreError
from napari_all_detect.export.geojson import geojson_text
from napari_all_detect.export.labels import labels_tiff
from napari_all_detect.params import OutputParams
from napari_all_detect.pipeline import PlaneInput, ScoredImage, Scorer, score_plane
from napari_all_detect.results import Failure
from napari_all_detect.sources.identity import identity
from napari_all_detect.sources.labels import find_labels, read_labels

__all__ = ["Job", "score_unit"]


@dataclass(frozen=True)
class Job:
    """What a unit needs to know of the run, beside the scorer.

    Attributes
    ----------
    output : OutputParams
    expected : dict
        For a run that is repeated, the SHA-256 that each image must have.
    """

    output: OutputParams
    expected: dict[str, str]


def score_unit(
    scorer: Scorer, job: Job, unit: Unit, progress: Callable[[int], None] | None = None
) -> UnitResult | Failure:
    """Take one plane down the road; return where it stopped, if it did."""
    stage, plane = "read", unit.plane
    try:
        pixels = with_retries(plane.read, StoreError)
        source = identity(plane.path, pixels.rgb)
        _check_expected(job, unit, source)
        labels = None
        if job.output.labels is not None:
            stage = "labels"
            path = find_labels(Path(job.output.labels), plane)
            labels = read_labels(path)
            source["labels_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        stage = "score"
        given = PlaneInput(pixels, plane.image, plane.plane, labels, plane.pixel_size_um, plane.well, plane.field)
        scored = score_plane(scorer, given, progress)
    except AllDetectError as error:
        return Failure(unit.name, stage, str(error))
    except MemoryError:
        return Failure(unit.name, stage, "out of memory; give it more, or score fewer planes at once")
    return UnitResult(scored.table, scored.summary, source, _files(unit, scored, job.output.formats))


def _check_expected(job: Job, unit: Unit, source: dict[str, int | str]) -> None:
    expected = job.expected.get(unit.plane.image)
    if expected not in (None, source.get("sha256")):
        raise InputError(f"{unit.plane.path}: not the file that the repeated run scored; expected SHA-256 {expected}")


def _files(unit: Unit, scored: ScoredImage, formats: tuple[str, ...]) -> dict[str, bytes]:
    files = {f"labels/{unit.stem}_labels.tif": labels_tiff(scored.labels)}
    if "geojson" in formats:
        files[f"geojson/{unit.stem}.geojson"] = geojson_text(scored.table, scored.labels, scored.nuclei).encode()
    return files
