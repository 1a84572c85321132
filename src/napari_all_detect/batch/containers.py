"""Labels and tables into the OME-Zarr images that were scored, or into new ones beside the results."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from napari_all_detect.batch.store import UnitStore
from napari_all_detect.batch.units import Unit, UnitResult
from napari_all_detect.batch.writing import Fail, PlaneWriter, rest_goes_on
from napari_all_detect.errors import OutputError, StoreError
from napari_all_detect.export.ome_zarr import NAME, LabelledPlane, add_labels, write_ome_zarr
from napari_all_detect.labelled import LabelImage
from napari_all_detect.retrying import with_retries
from napari_all_detect.sources.labels import open_labels, read_labels
from napari_all_detect.sources.places import is_remote

__all__ = ["check_stores", "delete_container", "write_containers"]

PART = ".part.zarr"
"""What a container is called, below `ome-zarr`, until it is whole; of the names that `--overwrite` clears away."""

Done = Sequence[tuple[Unit, UnitResult]]

REFUSED = (PermissionError, FileExistsError, FileNotFoundError, NotADirectoryError)
"""By the image, not by its disk: some of ngio's own errors are of these kinds, too."""


def check_stores(units: Sequence[Unit]) -> None:
    """Raise OutputError if an image that labels will be written into holds those of an earlier run."""
    for unit in units:
        if _takes_labels(unit) and (unit.plane.path / "labels" / NAME).exists():
            raise OutputError(
                f"{unit.plane.path} holds labels {NAME} of an earlier run already; add --overwrite to replace them"
            )


def write_containers(
    folder: Path, store: UnitStore, units: Sequence[Unit], fail: Fail, begin: Callable[[str], object]
) -> None:
    """Write the results of each OME-Zarr image into it; those of all else into a container of its own.

    A container of its own holds one plane with its pixels, below `ome-zarr` in the output folder, in place of one that
    an interrupted run left there. It is also made for an OME-Zarr image that can't be written to, or that ngio refuses.

    Parameters
    ----------
    folder : Path
        The output folder.
    store : UnitStore
    units : sequence of Unit
        Those of one image one after the other.
    fail : callable
        Takes the failure of each image that can't be written to, as its disk failed, and of each plane of which no
        container can be written; the others are written nevertheless.
    begin : callable
        Is told how far it is.
    """
    writer, n = PlaneWriter(), 0
    for path, members in groupby(units, key=lambda unit: unit.plane.path):
        begin(f"ome-zarr {n}/{len(units)}")
        of_image = list(members)
        n += len(of_image)
        done = list(store.read_all(of_image))
        if done and _taken(path, folder, done, writer, fail):
            continue
        for unit, result in done:
            place = _place_beside(folder, unit.stem)
            with rest_goes_on(fail, unit.name, place):
                _write_beside(folder, unit, result, place)


def delete_container(folder: Path, stem: str) -> None:
    """Delete the container of its own of a plane whose files are called so, if there is one."""
    _room_for(_place_beside(folder, stem), folder)


def _takes_labels(unit: Unit) -> bool:
    path = unit.plane.path
    if unit.plane.ome is None or is_remote(path) or not os.access(path, os.W_OK):
        return False
    return not (path / "labels").is_symlink()  # nothing is written through a link to elsewhere


def _taken(path: Path, folder: Path, done: Done, writer: PlaneWriter, fail: Fail) -> bool:
    """Write the results of an image into it, or tell why that failed; return False if it is none that takes them."""
    first, taken = done[0][0], True
    if first.plane.ome is None or not _takes_labels(first):
        return False
    with rest_goes_on(fail, first.plane.image, path):
        taken = writer.tried(partial(_written_into, path, folder, done, first.plane.ome.level))
        for unit, _ in done if taken else ():
            delete_container(folder, unit.stem)  # the image could not be written to in an earlier try
    return taken


def _written_into(path: Path, folder: Path, done: Done, level: str) -> bool:
    """Write the results of an image into it; return False if that is not allowed, or ngio refuses the image."""
    try:
        add_labels(path, _labelled(folder, done), level)
    except Exception as error:
        # ngio is stricter than our reader, and its errors are of many kinds. A disk that fails is none of them.
        if isinstance(error, (OSError, StoreError, MemoryError)) and not isinstance(error, REFUSED):
            raise
        return False
    return True


def _labelled(folder: Path, done: Done) -> Iterator[LabelledPlane]:
    for unit, result in done:
        if unit.plane.ome is not None:
            yield LabelledPlane(unit.plane.ome.place, _labels(folder, unit), result.cells)


def _place_beside(folder: Path, stem: str) -> Path:
    """Return where a plane's own container lies; names that are no Unicode, which Parquet can't open, are escaped."""
    return folder / "ome-zarr" / f"{stem.encode(errors='backslashreplace').decode()}.zarr"


def _write_beside(folder: Path, unit: Unit, result: UnitResult, place: Path) -> None:
    """Write a container that is there whole or not at all."""
    size = result.summary["pixel_size_um"].iloc[0]
    pixel_size_um = None if np.isnan(size) else float(size)
    pixels = with_retries(unit.plane.open, StoreError)
    part = _room_for(place, folder)
    try:
        write_ome_zarr(pixels, _labels(folder, unit), result.cells, part, pixel_size_um)
        place.parent.mkdir(parents=True, exist_ok=True)
        part.replace(place)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _room_for(place: Path, folder: Path) -> Path:
    """Delete the container that lies there, if it is ours; return where the new one is to be written until it is whole.

    It is renamed before it is deleted, so that whatever kills the run leaves no half of it under its name.
    """
    part = folder / "ome-zarr" / PART
    if part.exists():
        shutil.rmtree(part)
    if (place / "zarr.json").is_file():
        place.replace(part)
        shutil.rmtree(part)
    return part


def _labels(folder: Path, unit: Unit) -> LabelImage:
    path = folder / "labels" / f"{unit.stem}_labels.tif"
    return read_labels(path) if unit.plane.opener is None else open_labels(path)
