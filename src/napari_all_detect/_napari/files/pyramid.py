"""Image stores -> arrays for napari's layers that are read piece by piece, when they are looked at. No Qt."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np

from napari_all_detect._napari.layers.axis_names import PLANE_AXES, axis_labels, axis_names
from napari_all_detect._napari.layers.metadata_keys import (
    CHANNELS_KEY,
    FILE_KEY,
    PIXEL_SIZE_KEY,
    PLANES_KEY,
)
from napari_all_detect._napari.layers.origins import Origin, identified
from napari_all_detect.errors import InputError
from napari_all_detect.params import ReadParams
from napari_all_detect.sources import Plane, open_planes
from napari_all_detect.sources.ome_zarr import levels, ome_attributes, rgb_channels
from napari_all_detect.sources.places import zarr_place
from napari_all_detect.sources.plane import ImageFile
from napari_all_detect.sources.stack import choose_channels
from napari_all_detect.sources.zarr_store import is_zarr_node

__all__ = ["OpenedSmear", "is_coloured_image", "open_smear"]

LayerData = tuple[Any, dict[str, Any], str]


@dataclass(frozen=True, eq=False)
class OpenedSmear:
    """An image in colour, ready to be an image layer.

    Attributes
    ----------
    path : Path
    arrays : tuple of (..., H, W, 3) uint8 array-like
        Its resolution levels, the finest first: dask arrays where they are read piece by piece.
    pixel_size_um : float or None
        Of the finest.
    channels : tuple of int or None
        Which of the file's channels these are; None if they were not chosen.
    planes : tuple of str or None
        Which of the file's planes these are; None if they were not chosen.
    axes : tuple of str
        Names of the axes before the plane that are longer than 1, if they are known.
    first_px : tuple of float
        Where the centre of the finest first pixel lies along y and x, in such pixels.
    in_pixels : bool
        Whether its layers are scaled in pixels even if their size is known.
    identity : UUID
        By which the labels that are read with it know it.
    """

    path: Path
    arrays: tuple[Any, ...]
    pixel_size_um: float | None
    channels: tuple[int, ...] | None = None
    planes: tuple[str, ...] | None = None
    axes: tuple[str, ...] = ()
    first_px: tuple[float, float] = (0.0, 0.0)
    in_pixels: bool = False
    identity: UUID = field(default_factory=uuid4)

    def origin(self, name: str) -> Origin:
        """Return what labels of the image note, if its layer has this name."""
        return Origin(self.identity, name)

    def layer(self, name: str, told: Mapping[str, Any] | None = None) -> LayerData:
        """Return the image as napari's readers do; `told` is what its metadata say beside."""
        data = list(self.arrays) if len(self.arrays) > 1 else self.arrays[0]
        placed = self.placed(self.arrays[0].shape[:-1])
        options = {"name": name, "rgb": True, "multiscale": len(self.arrays) > 1, **placed}
        known = {FILE_KEY: str(self.path), **identified(self.identity, self.arrays[0]), **(told or {})}
        size = self.pixel_size_um if self.in_pixels else None
        noted = {CHANNELS_KEY: self.channels, PLANES_KEY: self.planes, PIXEL_SIZE_KEY: size}
        return data, options | {"metadata": known | {key: of for key, of in noted.items() if of is not None}}, "image"

    def level_of(self, shape: tuple[int, ...]) -> int | None:
        """Return which level labels of this shape belong to."""
        return next((k for k, array in enumerate(self.arrays) if array.shape[:-1] == tuple(shape)), None)

    def placed(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """Return where a layer of this shape lies so that it covers the image, and what its axes are called."""
        um = None if self.in_pixels else self.pixel_size_um
        leading, size = len(shape) - 2, um or 1.0
        factor = np.array(self.arrays[0].shape[-3:-1]) / shape[-2:]
        placed: dict[str, Any] = {"scale": (1.0,) * leading + tuple(size * factor)}
        first = size * (self.first_px + (factor - 1) / 2)  # a coarse pixel's centre is that of all that it covers
        if first.any():
            placed["translate"] = (0.0,) * leading + tuple(first)
        if (labels := axis_labels(self.axes, shape)) is not None:
            placed["axis_labels"] = labels
        return placed | ({} if um is None else {"units": ("pixel",) * leading + ("micrometer",) * 2})

    def of_one_stack(self) -> "OpenedSmear":
        """Return the image with all its planes along one axis."""
        if self.arrays[0].ndim <= 4:
            return self
        return replace(self, arrays=tuple(one.reshape((-1, *one.shape[-3:])) for one in self.arrays), axes=())


def open_smear(file: ImageFile, planes: list[str] | None = None, reading: ReadParams | None = None) -> OpenedSmear:
    """Open an image in colour; of an OME-Zarr image only metadata are read.

    Parameters
    ----------
    file : ImageFile
    planes : list of str, optional
        Those of which there are labels: they become one axis. All of them on their own axes if not given.
    reading : ReadParams, optional
        Which channels; and which level, of what has no pyramid here.

    Raises
    ------
    InputError
        If the image can't be read, or has no such planes.
    """
    reading = reading or ReadParams()
    smear = _pyramid(file, reading.channels)
    if smear is not None and (planes is None or len(planes) == math.prod(smear.arrays[0].shape[:-3])):
        return smear if planes is None else smear.of_one_stack()
    found = {plane.plane: plane for plane in open_planes(file, reading)}
    if planes is not None and not found.keys() >= set(planes):
        raise InputError(f"{file.path}: another image by now; score it again")
    chosen = list(found.values()) if planes is None else [found[name] for name in planes]
    pixels = [plane.read().rgb for plane in chosen]
    if len({plane.shape for plane in pixels}) > 1:
        raise InputError(f"{file.path}: planes that had one size have several by now; score it again")
    array = pixels[0] if len(pixels) == 1 else np.stack(pixels)
    names, axes = None if planes is None else tuple(planes), tuple(axis_names(chosen[0].plane))
    return OpenedSmear(file.path, (array,), chosen[0].pixel_size_um, reading.channels, names, axes)


def is_coloured_image(file: ImageFile) -> bool:
    """Return whether a store is an image in colour, by its metadata."""
    import zarr

    node: Any = zarr.open(zarr_place(file.path), mode="r")
    if isinstance(node, zarr.Array):
        return node.ndim > 2 and (node.shape[-1] in (3, 4) or node.shape[-3] == 3)
    return _pyramid(file, None) is not None


def _pyramid(file: ImageFile, channels: tuple[int, ...] | None) -> OpenedSmear | None:
    """Return an OME-Zarr image in colour with its levels; None of what is grey, or no such image."""
    if not is_zarr_node(file.path):
        return None
    import zarr

    node = zarr.open(zarr_place(file.path), mode="r")
    if isinstance(node, zarr.Array):
        return None
    attributes, version = ome_attributes(node, file.path)
    if "multiscales" not in attributes:
        return None
    found = levels(attributes, version, file.path)
    arrays = []
    for number, level in enumerate(found):
        array: Any = node[level.path]
        sizes = dict(zip(level.axes, array.shape, strict=True))
        if "c" not in level.axes:
            return None
        count = sizes["c"]
        told = channels or rgb_channels(attributes, count)
        chosen = choose_channels(level.axes, array.shape, [1, 3], told, str(file.path))
        if len(chosen or range(count)) != 3:
            return None
        if array.dtype == np.uint8:
            arrays.append(_pieces(array, level.axes, chosen))
        else:
            planes = open_planes(file, ReadParams(number, channels))
            arrays.append(_whole_planes(planes, array.shape, level.axes))
    return OpenedSmear(
        path=file.path,
        arrays=tuple(arrays),
        pixel_size_um=found[0].pixel_size_um,
        channels=None if chosen is None else tuple(chosen),
        axes=tuple(axis for axis in found[0].axes if axis not in PLANE_AXES and sizes[axis] > 1),
        first_px=_first_px(attributes),
    )


def _first_px(attributes: Any) -> tuple[float, float]:
    """Return where the centre of the finest level's first pixel lies, in its pixels, by OME-Zarr metadata."""
    image = attributes["multiscales"][0]
    scale, first = np.ones(2), np.zeros(2)
    for transform in (
        *image["datasets"][0]["coordinateTransformations"],
        *(image.get("coordinateTransformations") or ()),
    ):
        # What is kept in an array of its own isn't read.
        by = np.asarray(transform.get("scale", (1.0, 1.0))[-2:], float)
        scale, first = scale * by, first * by + transform.get("translation", (0.0, 0.0))[-2:]
    y, x = np.divide(first, scale, out=np.zeros(2), where=scale > 0)
    return float(y), float(x)


def _pieces(array: Any, axes: tuple[str, ...], chosen: list[int] | None) -> Any:
    """Read chunk by chunk: nothing of the values has to be known."""
    import dask.array

    pixels = dask.array.from_zarr(array)
    if chosen is not None:
        pixels = dask.array.take(pixels, chosen, axis=axes.index("c"))
    pixels = dask.array.moveaxis(pixels, axes.index("c"), -1)
    single = [k for k, n in enumerate(pixels.shape[:-3]) if n == 1]
    # One chunk for all channels, as they are drawn together.
    return dask.array.squeeze(pixels, axis=tuple(single)).rechunk({-1: 3})


def _whole_planes(planes: list[Plane], shape: tuple[int, ...], axes: tuple[str, ...]) -> Any:
    """Read plane by plane, as how values become 8-bit depends on all of a plane."""
    import dask.array
    from dask.delayed import delayed

    sizes = dict(zip(axes, shape, strict=True))
    side = sizes["y"], sizes["x"], 3
    read = [
        dask.array.from_delayed(delayed(_rgb)(plane), side, dtype=np.uint8, meta=np.zeros((0, 0, 0), np.uint8))
        for plane in planes
    ]
    leading = [n for axis, n in sizes.items() if axis not in PLANE_AXES and n > 1]
    return dask.array.stack(read).reshape((*leading, *side))


def _rgb(plane: Plane) -> Any:
    return plane.read().rgb
