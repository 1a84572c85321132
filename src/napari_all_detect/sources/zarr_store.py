"""Zarr arrays (v2 and v3) and OME-Zarr images (0.4 and 0.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_all_detect.errors import InputError
from napari_all_detect.sources.pixel_size import believed_um, um_per_unit
from napari_all_detect.sources.plane import ImageFile, Plane, readable
from napari_all_detect.sources.rgb import RgbPlane, as_rgb
from napari_all_detect.sources.stack import Index, channels_last, check_channels, indices

if TYPE_CHECKING:
    import zarr
    from ome_zarr_models.v04.multiscales import Multiscale as Multiscale04
    from ome_zarr_models.v05.multiscales import Multiscale as Multiscale05

__all__ = ["is_zarr_node", "looks_like_zarr", "open_zarr"]

_METADATA_FILES = ("zarr.json", ".zarray", ".zgroup")


def is_zarr_node(path: Path) -> bool:
    """Return whether the folder is a zarr array or group."""
    return any((path / name).is_file() for name in _METADATA_FILES)


def looks_like_zarr(path: Path) -> bool:
    """Return whether the folder is, or by its name was meant to be, a zarr array or group."""
    return is_zarr_node(path) or path.suffix.lower() == ".zarr"


def open_zarr(file: ImageFile) -> list[Plane]:
    """List the planes of a zarr array or of level 0 of an OME-Zarr image; only metadata are read."""
    import zarr

    with readable(file.path, "zarr"):
        if not is_zarr_node(file.path):
            raise InputError(f"{file.path}: no zarr metadata ({' or '.join(_METADATA_FILES)}); copy the folder again")
        node = zarr.open(file.path, mode="r")
        if isinstance(node, zarr.Array):
            component, axes, size = "", _axes_of_array(node, file.path), None
            array, channels = node, [1, 3, 4]
        else:
            component, axes, size = _full_size_level(_multiscale(node, file.path))
            array, channels = zarr.open_array(file.path, path=component, mode="r"), [1, 3]
        if len(axes) != array.ndim:
            raise InputError(
                f"{file.path}: {len(axes)} axes are named but the array has {array.ndim}; mend the metadata"
            )
        check_channels(axes, array.shape, channels, str(file.path))
        return [
            Plane(file.image, name, file.path, size, partial(_read, file.path, component, axes, index))
            for name, index in indices(axes, array.shape)
        ]


def _read(path: Path, component: str, axes: tuple[str, ...], index: Index) -> RgbPlane:
    import zarr

    with readable(path, "zarr"):
        array = zarr.open_array(path, path=component, mode="r")
        values = channels_last(np.asarray(array[index]), axes)
    return as_rgb(values, str(path))


def _axes_of_array(array: zarr.Array[Any], path: Path) -> tuple[str, ...]:
    """Name the axes of a plain array: by its own names if it has them, else by its shape."""
    names = getattr(array.metadata, "dimension_names", None) or ()
    if {"y", "x"} <= set(names) and len(set(names) - {None}) == array.ndim:
        return tuple(str(name) for name in names)
    shape = array.shape
    if not 2 <= len(shape) <= 5:
        raise InputError(f"{path}: a zarr array of shape {shape}; expected 2 to 5 axes such as (n, H, W, 3)")
    if len(shape) == 2:
        return ("y", "x")
    if shape[-1] in (1, 3, 4):
        return (*"p" * (len(shape) - 3), "y", "x", "c")
    if len(shape) == 5:
        return ("t", "c", "z", "y", "x")  # the order that OME-Zarr asks for
    if shape[-3] == 3 and min(shape[-2:]) > 3:
        return (*"p" * (len(shape) - 3), "c", "y", "x")
    return (*"p" * (len(shape) - 2), "y", "x")


def _multiscale(group: zarr.Group, path: Path) -> Multiscale04 | Multiscale05:
    """Validate the OME-Zarr metadata of a group that is an image, or say what the group is instead."""
    import pydantic
    from ome_zarr_models.v04.multiscales import Multiscale as Multiscale04
    from ome_zarr_models.v05.multiscales import Multiscale as Multiscale05

    attributes: Mapping[str, Any] = group.attrs.asdict()
    model: type[Multiscale04 | Multiscale05] = Multiscale04
    if "ome" in attributes:
        attributes, model = attributes["ome"], Multiscale05
        if attributes.get("version") != "0.5":
            raise InputError(f"{path}: OME-Zarr version {attributes.get('version')}; expected 0.4 or 0.5: convert it")
    for kind in ("plate", "well"):
        if kind in attributes:
            raise InputError(
                f"{path}: an OME-Zarr {kind}; plates aren't read yet: "
                "give the path of one image in it, such as PLATE/A/1/0"
            )
    if "multiscales" not in attributes:
        raise InputError(
            f"{path}: a zarr group without an OME-Zarr image; give the path of an array or an image inside it"
        )
    try:
        return model.model_validate(attributes["multiscales"][0])
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: OME-Zarr metadata not valid at multiscales.0.{place} ({first['msg']}); "
            "expected version 0.4 or 0.5: write the image again"
        ) from error


def _full_size_level(multiscale: Multiscale04 | Multiscale05) -> tuple[str, tuple[str, ...], float | None]:
    """Return the path of level 0, the names of its axes and its pixel size."""
    axes = tuple("c" if axis.type == "channel" else str(axis.name) for axis in multiscale.axes)
    # The specification lets the space axes have any name, but the last two are the plane.
    axes = (*axes[:-2], "y", "x")
    level = multiscale.datasets[0]
    sizes = np.array([um_per_unit(axis.unit) for axis in multiscale.axes])
    for transform in (*level.coordinateTransformations, *(multiscale.coordinateTransformations or ())):
        if transform.type == "scale":
            sizes *= getattr(transform, "scale", math.nan)  # a scale kept in an array of its own isn't read
    return level.path, axes, believed_um(sizes[-1], sizes[-2])
