"""napari's layers -> the planes that `score_plane` takes, with their names, labels and pixel size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from napari_all_detect.errors import AllDetectError, InputError
from napari_all_detect.pipeline import PlaneInput
from napari_all_detect.sources import Plane, as_rgb, find_images, open_planes
from napari_all_detect.sources.pixel_size import believed_um, um_per_unit

__all__ = ["FILE_KEY", "LayerPlane", "is_smear", "layer_planes", "pixel_size_um", "spatial_shape"]

FILE_KEY = "all_detect_file"
"""In a layer's metadata: the file that it was read from, where the layer's source is a folder of many."""


@dataclass(frozen=True, eq=False)
class LayerPlane:
    """One 2-D plane of an image layer; its pixels are computed by `read`.

    Attributes
    ----------
    index : tuple of int
        Where it lies on the layer's leading axes; empty for a 2-D image.
    image, plane : str
        The names in the tables: those that the command line gives the file.
    pixel_size_um : float or None
    well, field : str
        Where the file lies on a plate, if it does.
    pixels : (H, W, C), or (3, H, W) if `channels_first`, array-like
        Numpy, dask or zarr.
    labels : (H, W) array-like, optional
    """

    index: tuple[int, ...]
    image: str
    plane: str
    pixel_size_um: float | None
    well: str
    field: str
    pixels: Any
    channels_first: bool
    labels: Any | None

    def read(self) -> PlaneInput:
        """Compute the pixels.

        Raises
        ------
        InputError
            If the values can't be taken for 8-bit RGB.
        """
        pixels = np.asarray(self.pixels)
        if self.channels_first:
            pixels = np.moveaxis(pixels, 0, -1)
        labels = None if self.labels is None else np.asarray(self.labels)
        rgb = as_rgb(pixels, self.image)
        return PlaneInput(rgb, self.image, self.plane, labels, self.pixel_size_um, self.well, self.field)


def is_smear(layer: Any) -> bool:
    """Return whether an image layer has colour: RGB, or three channels shown as a grey stack."""
    return bool(layer.rgb) or (len(_full_size(layer).shape) == 3 and _full_size(layer).shape[0] == 3)


def spatial_shape(image: Any) -> tuple[int, ...]:
    """Return the shape that labels of an image layer have: leading axes, height, width.

    Raises
    ------
    InputError
        If it is grey: there is no stain to go by.
    """
    if not is_smear(image):
        raise InputError(
            f"layer {image.name!r} is grey, of shape {_full_size(image).shape}; expected a stained smear in RGB: open "
            "the colour image, or select its three channels and take 'Merge to RGB' from the layers' menu"
        )
    shape = _full_size(image).shape
    return tuple(shape[:-1] if image.rgb else shape[1:])


def layer_planes(image: Any, labels: Any | None = None, at: Sequence[int] | None = None) -> list[LayerPlane]:
    """List the planes of an image layer, or the one at an index.

    Parameters
    ----------
    image : napari.layers.Image
        RGB with any number of leading axes, or three channels first.
    labels : napari.layers.Labels, optional
        Of the same shape.
    at : sequence of int, optional
        Of the leading axes: this plane only.

    Raises
    ------
    InputError
        If the image is grey, or the labels are another image's.
    """
    shape = spatial_shape(image)
    pixels = _full_size(image)
    numbers: Any = None if labels is None else _full_size(labels)
    if labels is not None and tuple(numbers.shape) != shape:
        raise InputError(
            f"labels {labels.name!r} have the shape {tuple(numbers.shape)}, image {image.name!r} has {shape}; "
            "choose the labels of this image, or 'Find cells'"
        )
    indices = list(np.ndindex(*shape[:-2]))
    named = dict(zip(indices, _named(image, len(indices)), strict=True))
    return [
        LayerPlane(
            index=index,
            image=named[index].image,
            plane=named[index].plane,
            pixel_size_um=pixel_size_um(image) or named[index].pixel_size_um,
            well=named[index].well,
            field=named[index].field,
            pixels=pixels[index] if index else pixels,
            channels_first=not image.rgb,
            labels=None if numbers is None else numbers[index] if index else numbers,
        )
        for index in (indices if at is None else [tuple(at)])
    ]


def pixel_size_um(layer: Any) -> float | None:
    """Return the edge of a pixel by the layer's scale, if its units are lengths that a microscope gives."""
    y_um, x_um = (
        float(scale) * um_per_unit(str(unit)) for scale, unit in zip(layer.scale[-2:], layer.units[-2:], strict=True)
    )
    return believed_um(x_um, y_um)


def _full_size(layer: Any) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def _named(image: Any, n: int) -> list[Plane]:
    """Return planes with the names that the command line gives them, if the layer's file is known; else of our own."""
    path = image.metadata.get(FILE_KEY) or image.source.path
    if path is not None:
        files = find_images([Path(path)])
        try:
            planes = open_planes(files[0])
        except AllDetectError:  # moved meanwhile, or of a format that only napari reads
            planes = []
        if len(files) == 1 and len(planes) == n:
            return planes
    names = ["0"] if n == 1 else [f"p{i}" for i in range(n)]
    # Pixels come from the layer.
    return [Plane(image.name, name, Path(), None, _unread) for name in names]


def _unread() -> NoReturn:
    raise NotImplementedError
