"""Label images for many planes, without scoring them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Event

from napari_all_detect.batch.planning import Unit, plan_units
from napari_all_detect.batch.progress import BatchProgress, BatchSummary
from napari_all_detect.batch.running import in_order
from napari_all_detect.errors import AllDetectError, OutputError
from napari_all_detect.export.labels import write_labels
from napari_all_detect.labelled import LabelImage
from napari_all_detect.params import ReadParams, SegmentationParams
from napari_all_detect.results import Failure
from napari_all_detect.segmentation import find_in_view, open_method, segment_cells
from napari_all_detect.sources import TiledPlane, find_images
from napari_all_detect.tiling import find_tiled

__all__ = ["segment_batch"]

THREADS = 3
"""While planes are with the segmenter, others are read and written."""


def segment_batch(
    inputs: Sequence[str | Path],
    out: str | Path,
    params: SegmentationParams | None = None,
    overwrite: bool = False,
    progress: BatchProgress | None = None,
    nuclei: bool = False,
    reading: ReadParams | None = None,
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
    reading : ReadParams, optional
        Which resolution level and channels.

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
    open_method(params.method, "auto", "auto")
    units, failures = plan_units(find_images(inputs), reading)
    kinds = ["labels", "nuclei"] if nuclei else ["labels"]
    there = [name for kind in kinds for unit in units if (folder / (name := f"{unit.stem}_{kind}.tif")).exists()]
    if there and not overwrite:
        raise OutputError(f"{folder} holds {there[0]} already; name another folder or add --overwrite")
    progress.start(len(units))
    for failure in failures:
        progress.failed(failure)
    counts = []
    for unit, found in in_order(partial(_segment, params=params), units, Event(), THREADS):
        if isinstance(found, Failure):
            failures.append(found)
            progress.failed(found)
        else:
            cells, nuclear, n = found
            write_labels(cells, folder / f"{unit.stem}_labels.tif")
            if nuclei and nuclear is not None:
                write_labels(nuclear, folder / f"{unit.stem}_nuclei.tif")
            counts.append(n)
            progress.cells(counts[-1])
        progress.plane()
    return BatchSummary(folder, len(counts), sum(counts), 0, 0, 0, 0, tuple(failures))


def _segment(unit: Unit, params: SegmentationParams) -> tuple[LabelImage, LabelImage | None, int] | Failure:
    """Return cells, nuclei and the number of cells."""
    stage = "read"
    try:
        pixels = unit.plane.open()
        stage = "segment"
        if isinstance(pixels, TiledPlane):
            found = find_tiled(pixels, partial(find_in_view, params, unit.plane.pixel_size_um, "auto", "auto"))
            return found.labels, found.nuclei, len(found.numbers)
        cells, nuclei = segment_cells(pixels.rgb, params, pixel_size_um=unit.plane.pixel_size_um, nuclei=True)
        return cells, nuclei, int(cells.max(initial=0))
    except AllDetectError as error:
        return Failure(unit.name, stage, str(error))
