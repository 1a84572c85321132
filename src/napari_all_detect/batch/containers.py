"""Labels and tables into the OME-Zarr images that were scored, or into new ones beside the results."""

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from napari_all_detect.batch.planning import Unit
from napari_all_detect.batch.store import UnitResult, UnitStore
from napari_all_detect.errors import OutputError
from napari_all_detect.export.ome_zarr import NAME, LabelledPlane, add_labels, write_ome_zarr
from napari_all_detect.labelled import LabelImage
from napari_all_detect.sources import RgbPlane
from napari_all_detect.sources.labels import open_labels, read_labels
from napari_all_detect.sources.places import is_remote

__all__ = ["check_stores", "write_containers"]


def check_stores(units: Sequence[Unit]) -> None:
    """Raise OutputError if an image that labels will be written into holds those of an earlier run."""
    for unit in units:
        if _takes_labels(unit) and (unit.plane.path / "labels" / NAME).exists():
            raise OutputError(f"{unit.plane.path} holds labels {NAME} of an earlier run already; add --overwrite")


def write_containers(folder: Path, store: UnitStore, units: Sequence[Unit]) -> None:
    """Write the results of each OME-Zarr image into it; those of all else into a container of its own.

    A container of its own holds one plane with its pixels, below `ome-zarr` in the output folder. It is also made for
    an OME-Zarr image that can't be written to.
    """
    for path, members in groupby(units, key=lambda unit: unit.plane.path):
        of_image = list(members)
        if _takes_labels(of_image[0]) and of_image[0].plane.ome is not None:
            planes = list(_places(folder, store, of_image))
            if planes:
                add_labels(path, iter(planes), of_image[0].plane.ome.level)
        else:
            for unit, result in store.read_all(of_image):
                _write_beside(folder, unit, result)


def _takes_labels(unit: Unit) -> bool:
    return unit.plane.ome is not None and not is_remote(unit.plane.path) and os.access(unit.plane.path, os.W_OK)


def _places(folder: Path, store: UnitStore, units: Sequence[Unit]) -> Iterator[LabelledPlane]:
    for unit, result in store.read_all(units):
        if unit.plane.ome is not None:
            yield LabelledPlane(unit.plane.ome.place, _labels(folder, unit), result.cells)


def _write_beside(folder: Path, unit: Unit, result: UnitResult) -> None:
    size = result.summary["pixel_size_um"].iloc[0]
    path = folder / "ome-zarr" / f"{unit.stem}.zarr"
    pixel_size_um = None if np.isnan(size) else float(size)
    opened = unit.plane.open()
    pixels = opened.rgb if isinstance(opened, RgbPlane) else opened
    write_ome_zarr(pixels, _labels(folder, unit), result.cells, path, pixel_size_um)


def _labels(folder: Path, unit: Unit) -> LabelImage:
    path = folder / "labels" / f"{unit.stem}_labels.tif"
    return read_labels(path) if unit.plane.opener is None else open_labels(path)
