"""Label images for many planes, without scoring them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

from napari_all_detect.atomic import write_atomically
from napari_all_detect.batch.planning import plan_units
from napari_all_detect.batch.progress import BatchProgress, BatchSummary
from napari_all_detect.batch.running import in_order
from napari_all_detect.batch.steps import Begin, failing_alone
from napari_all_detect.batch.units import Unit
from napari_all_detect.batch.writing import PlaneWriter
from napari_all_detect.errors import OutputError, ParameterError, StoreError
from napari_all_detect.export.labels import labels_tiff
from napari_all_detect.labelled import LabelImage
from napari_all_detect.params import ReadParams, SegmentationParams
from napari_all_detect.results import Failure, as_folder, locked_folder
from napari_all_detect.retrying import with_retries
from napari_all_detect.segmentation import cell_finder, open_method
from napari_all_detect.sources import find_images
from napari_all_detect.tiling import TiledCells, find_in_plane

__all__ = ["segment_batch"]

THREADS = 3
"""While planes are with the segmenter, others are read and written."""


def segment_batch(
    inputs: str | Path | Sequence[str | Path],
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
    inputs : path or sequence of path
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
        If label images are there already, another run writes into the folder, or it can't be written to.
    ParameterError, BundleError
        If there is no input, one is empty or no path, or `out` is empty; if there is no such method, or its bundle
        can't be used.
    """
    progress, folder, params = progress or BatchProgress(), as_folder(out), params or SegmentationParams()
    files = find_images(inputs)
    if not files:
        raise ParameterError("there are no inputs; expected a path at least")
    open_method(params.method, "auto", "auto")
    units, failures = plan_units(files, reading)
    kinds = ["labels", "nuclei"] if nuclei else ["labels"]
    there = [name for kind in kinds for unit in units if (folder / (name := f"{unit.stem}_{kind}.tif")).exists()]
    if there and not overwrite:
        raise OutputError(f"{folder} holds {there[0]} already; name another folder or add --overwrite")
    counts, notes, writer = list[int](), Counter[str](), PlaneWriter()
    with locked_folder(folder):
        progress.start(len(units))
        for failure in failures:
            progress.failed(failure)
        for unit, found in in_order(partial(_segment, params, kinds), units, Event(), THREADS):
            if isinstance(found, _Segmented):
                found = writer.write(unit, partial(_write, folder, found)) or found
            if isinstance(found, Failure):
                failures.append(found)
                progress.failed(found)
            else:
                counts.append(found.n_cells)
                notes.update(found.notes)
                progress.cells(found.n_cells)
            progress.plane()
    return BatchSummary(folder, len(counts), sum(counts), 0, 0, 0, 0, tuple(failures), notes=notes)


@dataclass(frozen=True)
class _Segmented:
    """What was found in a plane: how many cells, what is to be said of it, and the files that say where."""

    n_cells: int
    notes: tuple[str, ...]
    files: dict[str, bytes]


def _segment(params: SegmentationParams, kinds: Sequence[str], unit: Unit) -> _Segmented | Failure:
    """Find the cells of one plane; return where it stopped, if it did."""

    def segment(begin: Begin) -> _Segmented:
        begin("read")
        pixels = with_retries(unit.plane.open, StoreError)
        begin("segment")
        cells = find_in_plane(pixels, cell_finder(params, unit.plane.pixel_size_um, "auto", "auto"))
        n = len(cells.numbers) if isinstance(cells, TiledCells) else int(cells.labels.max(initial=0))
        found: dict[str, LabelImage | None] = {"labels": cells.labels, "nuclei": cells.nuclei}
        wanted = {f"{unit.stem}_{kind}.tif": found[kind] for kind in kinds}
        files = {name: labels_tiff(image) for name, image in wanted.items() if image is not None}
        return _Segmented(n, (*pixels.notes, *cells.notes), files)

    return failing_alone(unit, segment)


def _write(folder: Path, found: _Segmented) -> None:
    for name, data in found.files.items():
        write_atomically(folder / name, data)
