"""napari's layers -> the planes that `score_plane` takes, with their names, labels and pixel size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from napari_all_detect._napari.axes import Layout, cells_shape, layout_of, pixel_size_um
from napari_all_detect._napari.axis_names import plane_names
from napari_all_detect._napari.pyramid import FILE_KEY
from napari_all_detect.errors import AllDetectError, InputError
from napari_all_detect.params import ReadParams
from napari_all_detect.pipeline import PlaneInput
from napari_all_detect.sources import Plane, as_rgb, find_images, open_planes

__all__ = ["NUCLEI_KEY", "LayerPlane", "computed", "layer_planes"]

NUCLEI_KEY = "all_detect_nuclei"
"""In a labels layer's metadata: where the nuclei are, if they were looked for."""


@dataclass(frozen=True, eq=False)
class LayerPlane:
    """One 2-D plane of an image layer; its pixels are computed by `read`.

    Attributes
    ----------
    index : tuple of int
        Where it lies on the leading axes of labels; empty for a 2-D image.
    image, plane : str
        The names in the tables: those that the command line gives the file.
    pixel_size_um : float or None
    well, field : str
        Where the file lies on a plate, if it does.
    pixels : (H, W, C), or (C, H, W) if `channels_first`, array-like
        Numpy, dask or zarr.
    channels_first : bool
    channels : tuple of int or None
        Which of them are read; all if None.
    labels : (H, W) array-like, optional
    nuclei : (H, W) array-like, optional
    """

    index: tuple[int, ...]
    image: str
    plane: str
    pixel_size_um: float | None
    well: str
    field: str
    pixels: Any
    channels_first: bool
    channels: tuple[int, ...] | None = None
    labels: Any | None = None
    nuclei: Any | None = None

    def read(self) -> PlaneInput:
        """Compute the pixels.

        Raises
        ------
        InputError
            If the values can't be taken for 8-bit RGB.
        """
        channels: Any = slice(None) if self.channels is None else list(self.channels)
        if self.channels_first:
            pixels = np.moveaxis(np.asarray(self.pixels[channels]), 0, -1)
        else:  # interleaved: whoever reads one of them reads all
            pixels = np.asarray(self.pixels)[..., channels]
        labels, nuclei = (None if array is None else np.asarray(array) for array in (self.labels, self.nuclei))
        rgb = as_rgb(pixels, self.image)
        return PlaneInput(rgb, self.image, self.plane, labels, self.pixel_size_um, self.well, self.field, nuclei)


def layer_planes(
    image: Any, layout: Layout | None = None, labels: Any | None = None, at: Sequence[int] | None = None
) -> list[LayerPlane]:
    """List the planes of an image layer, or the one at an index.

    Parameters
    ----------
    image : napari.layers.Image
        In colour, with any number of leading axes.
    layout : Layout, optional
        How it is read; found if not given.
    labels : napari.layers.Labels, optional
        Of the shape `cells_shape`.
    at : sequence of int, optional
        Of the leading axes: this plane only.

    Raises
    ------
    InputError
        If the image is grey, or the labels are another image's.
    """
    layout = layout_of(image) if layout is None else layout
    shape, pixels = cells_shape(image, layout), layout.array(image)
    numbers = None if labels is None else _labels_of(labels, image, shape)
    nuclei = None if labels is None else labels.metadata.get(NUCLEI_KEY)
    if nuclei is not None and nuclei.shape != shape:  # the labels were cut or joined since
        nuclei = None
    indices = list(np.ndindex(*shape[:-2]))
    named = dict(zip(indices, _named(image, layout, shape), strict=True))
    return [
        LayerPlane(
            index=index,
            image=named[index].image,
            plane=named[index].plane,
            pixel_size_um=named[index].pixel_size_um,
            well=named[index].well,
            field=named[index].field,
            pixels=_cut(pixels, layout, index),
            channels_first=layout.channel_axis is not None,
            channels=layout.channels,
            labels=None if numbers is None else numbers[index],
            nuclei=None if nuclei is None else nuclei[index],
        )
        for index in (indices if at is None else [tuple(at)])
    ]


def _labels_of(labels: Any, image: Any, shape: tuple[int, ...]) -> Any:
    numbers = labels.data[0] if labels.multiscale else labels.data
    if numbers.shape != shape and _sides(numbers.shape) == _sides(shape):
        numbers = (numbers if hasattr(numbers, "reshape") else np.asarray(numbers)).reshape(shape)  # zarr's has none
    if numbers.shape != shape:
        raise InputError(
            f"labels {labels.name!r} have the shape {tuple(numbers.shape)}, image {image.name!r} has {shape}; "
            "choose the labels of this image, or 'Find cells'"
        )
    return numbers


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the leading axes of length 1, of which labels may have more or fewer."""
    return *(n for n in shape[:-2] if n > 1), *shape[-2:]


def _cut(pixels: Any, layout: Layout, index: tuple[int, ...]) -> Any:
    """Cut a plane with its channels out of an array; `index` has none for channels first, a 0 for others."""
    axis = layout.channel_axis
    if axis is None:
        return pixels[index] if index else pixels
    if axis == 0:
        return pixels[(slice(None), *index)]
    return pixels[(*index[:axis], slice(None), *index[axis + 1 :])]


def _named(image: Any, layout: Layout, shape: tuple[int, ...]) -> list[Plane]:
    """Return planes with the names that the command line gives them, if the layer's file is known; else by its axes.

    Their pixel size is that of the level that is read; what the layer's scale says counts more than its file.
    """
    finest = _planes_of_file(image, ReadParams(channels=layout.channels))
    planes = finest if layout.level == 0 else _planes_of_file(image, ReadParams(layout.level, layout.channels))
    n = math.prod(shape[:-2])
    if len(planes) != n:
        names = plane_names(image.axis_labels[-len(shape) :], shape)
        # Pixels come from the layer.
        planes = [Plane(image.name, name, Path(), None, _unread) for name in names]
    size = pixel_size_um(image)
    if size is None or (len(finest) == n and size == finest[0].pixel_size_um):
        return planes
    if image.multiscale:
        size *= float(image.downsample_factors[layout.level][image.ndim - 1])
    return [replace(plane, pixel_size_um=size) for plane in planes]


def _planes_of_file(image: Any, reading: ReadParams) -> list[Plane]:
    path = image.metadata.get(FILE_KEY) or image.source.path
    if path is None:
        return []
    try:
        if Path(path).is_file():
            stat = Path(path).stat()
            return _remembered(Path(path), reading, stat.st_size, stat.st_mtime_ns)
        return _opened(Path(path), reading)
    except (AllDetectError, OSError):  # moved meanwhile, or of a format that only napari reads
        return []


def _opened(path: Path, reading: ReadParams) -> list[Plane]:
    files = find_images([path])
    return open_planes(files[0], reading) if len(files) == 1 else []


@lru_cache(maxsize=4)
def _remembered(path: Path, reading: ReadParams, _size: int, _mtime_ns: int) -> list[Plane]:
    """Return a file's planes: whoever chooses a long stack and then scores it has its pages listed once."""
    return _opened(path, reading)


def _unread() -> NoReturn:
    raise NotImplementedError


def computed(plane: LayerPlane) -> PlaneInput | AllDetectError:
    """Compute a layer's pixels; whatever is raised by what computes them becomes one line."""
    try:
        return plane.read()
    except AllDetectError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a layer's array may be anything
        return InputError(
            f"the pixels of {plane.image!r} can't be computed ({type(error).__name__}: {error}); open the image again"
        )
