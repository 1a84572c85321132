"""Zarr arrays (v2 and v3, sharded or not), and OME-Zarr images, plates and collections (0.4 and 0.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import InputError, StoreError
from napari_all_detect.params import ReadParams
from napari_all_detect.retrying import with_retries
from napari_all_detect.sources.collection import images_of_collection, is_collection
from napari_all_detect.sources.ome_zarr import Level, child, choose_level, levels, ome_attributes, rgb_channels
from napari_all_detect.sources.places import has_query, is_remote, network_errors, without_slash, zarr_place
from napari_all_detect.sources.plane import ImageFile, OmePlace, Plane, passes, readable
from napari_all_detect.sources.plates import FieldOfView, fields_of_plate, fields_of_well, name_of_well
from napari_all_detect.sources.rgb import RgbPlane, as_rgb
from napari_all_detect.sources.stack import Index, channels_last, check_size, choose_channels, indices, places, within
from napari_all_detect.sources.tiled import TiledPlane, open_tiled
from napari_all_detect.windows import Window

if TYPE_CHECKING:
    import zarr

__all__ = ["is_zarr_node", "looks_like_zarr", "open_zarr"]

_CHANNELS = frozenset({"c", "ch", "channel", "channels", "rgb", "rgba", "band"})
"""What writers call the axis of colours."""

FEW = 16
"""An axis of so many at most is no side of a plane."""

_METADATA_FILES = ("zarr.json", ".zarray", ".zgroup")


def is_zarr_node(path: Path) -> bool:
    """Return whether the folder is a zarr array or group; a URL with a query names a file, below which nothing lies."""
    return not has_query(path) and any(_has(path / name) for name in _METADATA_FILES)


def _has(file: Path) -> bool:
    if not is_remote(file):
        return file.is_file()
    with readable(file, "zarr"):
        try:
            # Read, as to a question whether it is there a server in trouble answers no. By one request: to open a
            # file takes another.
            remote: Any = file
            remote.fs.cat_file(remote.path)
        except _absent() as error:
            if passes(error):
                raise
            return False
    return True


def _absent() -> tuple[type[Exception], ...]:
    """Return the errors of what is not there, below a file, too; some servers say 403 of that."""
    return FileNotFoundError, IsADirectoryError, NotADirectoryError, FileExistsError, *network_errors()


def looks_like_zarr(path: Path) -> bool:
    """Return whether the folder is, or by its name was meant to be, a zarr array or group."""
    return path.suffix.lower() == ".zarr" or is_zarr_node(path)


def open_zarr(file: ImageFile, reading: ReadParams, wanted_um: float | None) -> list[Plane]:
    """List the planes of a zarr array, of one level of an OME-Zarr image, or of all images of a plate or a collection.

    Only metadata are read.
    """
    import zarr

    with readable(file.path, "zarr"):
        if not is_zarr_node(file.path):
            raise InputError(f"{file.path}: no zarr metadata ({' or '.join(_METADATA_FILES)}); copy the folder again")
        node = zarr.open(zarr_place(file.path), mode="r")
        if isinstance(node, zarr.Array):
            return _planes_of_array(node, file, reading)
        attributes, version = ome_attributes(node, file.path)
        if "plate" in attributes:
            fields = fields_of_plate(node, attributes, version, file.path)
        elif "well" in attributes:
            fields = fields_of_well(node, file.path)
        elif is_collection(attributes):
            fields = images_of_collection(node, file.path)
        else:
            well, field = _place_on_plate(file.path)
            planes = _planes_of_image(node, file, reading, wanted_um)
            return [replace(plane, well=well, field=field) for plane in planes]
    return [plane for field in fields for plane in _planes_of_field(node, file, field, reading, wanted_um)]


def _place_on_plate(image: Path) -> tuple[str, str]:
    """Return the well and the field of an image that is opened alone; empty if the group around it is no well."""
    import zarr

    around = without_slash(image).parent
    if not is_zarr_node(around):
        return "", ""
    attributes: Any = zarr.open(zarr_place(around), mode="r").attrs.asdict()
    is_well = "well" in (attributes.get("ome") or attributes)  # by versions 0.5 and 0.4
    return (name_of_well(around), image.name) if is_well else ("", "")


def _planes_of_field(
    parent: zarr.Group, file: ImageFile, field: FieldOfView, reading: ReadParams, wanted_um: float | None
) -> list[Plane]:
    """List the planes of one image among several; if it can't be opened, one that can't be read, to spoil no other."""
    image = ImageFile(file.path / field.path, f"{file.image}/{field.path}")

    def listed() -> list[Plane]:
        with readable(image.path, "zarr"):
            return _planes_of_image(child(parent, field.path, file.path), image, reading, wanted_um)

    try:
        if field.error is not None:
            raise field.error
        planes = with_retries(listed, StoreError)
    except InputError as error:
        planes = [Plane(image.image, "0", image.path, None, partial(_raise, error), error=error)]
    return [replace(plane, well=field.well, field=field.field) for plane in planes]


def _planes_of_array(array: zarr.Array[Any], file: ImageFile, reading: ReadParams) -> list[Plane]:
    axes = _axes_of_array(array, file.path)
    _check_array(array, axes, file.path)
    chosen = choose_channels(axes, array.shape, [1, 3, 4], reading.channels, str(file.path))
    opener = _opener(axes, array.shape, reading)
    return [
        Plane(
            file.image,
            name,
            file.path,
            None,
            partial(_read, file.path, "", axes, index),
            opener=opener and partial(opener, file.path, "", axes, index),
        )
        for name, index in indices(axes, array.shape, chosen)
    ]


def _planes_of_image(image: Any, file: ImageFile, reading: ReadParams, wanted_um: float | None) -> list[Plane]:
    attributes, version = ome_attributes(image, file.path)
    level = choose_level(levels(attributes, version, file.path), reading.level, wanted_um, file.path)
    array = child(image, level.path, file.path)
    _check_axes(level, array.ndim, file.path)
    _check_array(array, level.axes, file.path)
    count = dict(zip(level.axes, array.shape, strict=True)).get("c")
    told = reading.channels or rgb_channels(attributes, count)
    chosen = choose_channels(level.axes, array.shape, [1, 3], told, str(file.path))
    opener = _opener(level.axes, array.shape, reading)
    return [
        Plane(
            file.image,
            name,
            file.path,
            level.pixel_size_um,
            partial(_read, file.path, level.path, level.axes, index),
            downsample=level.downsample,
            ome=OmePlace(level.path, places(level.axes, index)),
            opener=opener and partial(opener, file.path, level.path, level.axes, index),
        )
        for name, index in indices(level.axes, array.shape, chosen)
    ]


def _check_axes(level: Level, n_axes: int, path: Path) -> None:
    if len(level.axes) != n_axes:
        raise InputError(f"{path}: {len(level.axes)} axes are named but the array has {n_axes}; mend the metadata")


def _check_array(array: zarr.Array[Any], axes: Sequence[str], path: Path) -> None:
    """Refuse an array before any of it is decoded: values that are objects may be pickles, and run code."""
    if array.dtype.kind not in "buif":
        raise InputError(f"{path}: a zarr array of {array.dtype}; expected numbers: write the image again")
    check_size(axes, array.shape, str(path))


def _opener(axes: Sequence[str], shape: Sequence[int], reading: ReadParams) -> Callable[..., TiledPlane] | None:
    """Return what opens planes of an array for reading by tiles; None if they are taken as a whole."""
    size = shape[axes.index("y")], shape[axes.index("x")]
    tile_px = reading.tile_px(size)
    return None if tile_px is None else partial(_open, size, tile_px)


def _open(
    size: tuple[int, int], tile_px: int, path: Path, component: str, axes: Sequence[str], index: Index
) -> TiledPlane:
    with readable(path, "zarr"):
        array, missing = _array(path, component)

    def read(window: Window) -> NDArray[np.generic]:
        with readable(path, "zarr"):
            return _cut(array, axes, within(axes, index, window))

    tiled = open_tiled(read, size, tile_px, str(path))
    return replace(tiled, noted=lambda: (*tiled.notes, *missing()))


def _read(path: Path, component: str, axes: Sequence[str], index: Index) -> RgbPlane:
    with readable(path, "zarr"):
        array, missing = _array(path, component)
        values = _cut(array, axes, index)
    plane = as_rgb(values, str(path))
    return replace(plane, notes=(*plane.notes, *missing()))


def _array(path: Path, component: str) -> tuple[zarr.Array[Any], Callable[[], tuple[str, ...]]]:
    from napari_all_detect.sources.missing import open_watched

    return open_watched(zarr_place(path), component)


def _cut(array: zarr.Array[Any], axes: Sequence[str], index: Index) -> NDArray[np.generic]:
    selected = tuple(np.array(i) if isinstance(i, list) else i for i in index)
    return channels_last(np.asarray(array.oindex[selected]), axes)


def _raise(error: InputError) -> NoReturn:
    raise InputError(str(error)) from error  # asked for often enough: a StoreError is tried again by callers


def _axes_of_array(array: zarr.Array[Any], path: Path) -> tuple[str, ...]:
    """Name the axes of a plain array: by its own names if it has them, else by its shape."""
    # Version 2 has no names of its own; xarray keeps them in this attribute.
    given: Any = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    names = tuple("c" if str(name).lower() in _CHANNELS else str(name).lower() for name in given if name)
    if {"y", "x"} <= set(names) and len(set(names)) == array.ndim:
        return names
    shape = array.shape
    if not 2 <= len(shape) <= 5:
        raise InputError(f"{path}: a zarr array of shape {shape}; expected 2 to 5 axes such as (n, H, W, 3)")
    if len(shape) == 2:
        return ("y", "x")
    if shape[-1] in (1, 3, 4) or shape[-1] <= FEW < min(shape[-3:-1]):
        return (*"p" * (len(shape) - 3), "y", "x", "c")
    if len(shape) == 5:
        return ("t", "c", "z", "y", "x")  # the order that OME-Zarr asks for
    if shape[-3] == 3 and min(shape[-2:]) > 3:
        return (*"p" * (len(shape) - 3), "c", "y", "x")
    return (*"p" * (len(shape) - 2), "y", "x")
