"""How an image layer's array is read as smears: which axis holds the channels, which resolution level is taken."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.transforms import Affine
from numpy.typing import NDArray

from napari_all_detect._napari.layers.axis_names import axis_labels, axis_names, default_labels
from napari_all_detect._napari.layers.metadata_keys import CHANNELS_KEY, PIXEL_SIZE_KEY
from napari_all_detect._napari.layers.viewers import finest
from napari_all_detect.errors import InputError
from napari_all_detect.params import ReadParams
from napari_all_detect.sources.ome_zarr import Level, choose_level
from napari_all_detect.sources.pixel_size import believed_um, um_per_unit
from napari_all_detect.sources.stack import choose_channels

__all__ = [
    "Layout",
    "cells_shape",
    "channel_axes",
    "fitting",
    "is_smear",
    "layout_of",
    "pixel_size_um",
    "placed_like",
    "world_steps",
]

CHANNEL_NAMES = ("c", "ch", "channel", "channels")
MOST_OBLIQUE = 0.01
"""Cosine between y and x of pixels that are still taken for squares."""


@dataclass(frozen=True)
class Layout:
    """Where in a layer's array the smears are.

    Attributes
    ----------
    level : int
        Of a multiscale image, 0 being the finest.
    channel_axis : int or None
        None of an RGB layer, which has its channels last.
    channels : tuple of int or None
        Which channels are red, green and blue, or the one of an RGB layer that is grey; all if None.
    """

    level: int = 0
    channel_axis: int | None = None
    channels: tuple[int, ...] | None = None

    def array(self, image: Any) -> Any:
        """Return the level's array: numpy, dask or zarr."""
        return image.data[self.level] if image.multiscale else image.data


def channel_axes(image: Any, channels: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Return the axes of a grey layer that may hold these channels, or three; the likeliest first. RGB has none."""
    if image.rgb:
        return ()
    shape = finest(image).shape[:-2]
    fit = [axis for axis, n in enumerate(shape) if (n == 3 if channels is None else n > max(channels))]
    named = [axis for axis in fit if str(image.axis_labels[axis]).lower() in CHANNEL_NAMES]
    # Next to the pixels, as most files have it.
    return tuple(dict.fromkeys([*named, *reversed(fit)]))


def is_smear(image: Any) -> bool:
    """Return whether an image layer has colour: RGB, or an axis of three channels."""
    return bool(image.rgb or channel_axes(image))


def layout_of(
    image: Any, reading: ReadParams | None = None, channel_axis: int | None = None, wanted_um: float | None = None
) -> Layout:
    """Return where in a layer's array the smears are.

    Parameters
    ----------
    image : napari.layers.Image
    reading : ReadParams, optional
        Which level and channels.
    channel_axis : int, optional
        Found by its name or length if not given.
    wanted_um : float, optional
        Pixel size by which the level `auto` is chosen.

    Raises
    ------
    InputError
        If the image is grey, as there is no stain to go by; or has no such level or channels.
    """
    reading = reading or ReadParams()
    level = _level(image, reading, wanted_um)
    told, shape = reading.channels, finest(image).shape
    if image.rgb:
        chosen = choose_channels("c", shape[-1:], (3, 4), _of_layer(image, told), f"layer {image.name!r}")
        return Layout(level, None, None if chosen is None else tuple(chosen))
    axis = next(iter(channel_axes(image, told)), None) if channel_axis is None else channel_axis
    if axis is None and shape[-1] in (3, 4):
        raise InputError(
            f"layer {image.name!r} of shape {shape} is a stack to napari, which takes pictures of up to 30 pixels on a "
            "side for stacks; expected RGB: score its file with all-detect score, or type into napari's console "
            f"viewer.add_image(viewer.layers[{image.name!r}].data, rgb=True)"
        )
    if axis is None or (told is not None and len(told) != 3):
        raise InputError(
            f"layer {image.name!r} is grey, of shape {shape}; expected a stained smear in RGB or an axis of three "
            "channels: open the colour image, select its three channels and take 'Merge to RGB' from the layers' "
            "menu, or say under Advanced which channels are red, green and blue: 0,1,2"
        )
    if axis >= len(shape) - 2 or (shape[axis] != 3 if told is None else max(told) >= shape[axis]):
        raise InputError(
            f"layer {image.name!r} of shape {shape} has no channels {told or (0, 1, 2)} alone on axis {axis}; choose "
            "another axis, or say under Advanced which channels are red, green and blue: 0,1,2"
        )
    return Layout(level, axis, told)


def _of_layer(image: Any, told: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return which of an RGB layer's channels those of its file are, which the command line counts."""
    shown: tuple[int, ...] | None = image.metadata.get(CHANNELS_KEY)
    if told is None or shown is None:
        return told
    if not set(told) <= set(shown):
        raise InputError(
            f"layer {image.name!r} shows the channels {shown} of its file; expected some of those, not {told}: for "
            f"others run all-detect score --channels {','.join(map(str, told))} and open its results"
        )
    return tuple(shown.index(channel) for channel in told)


def cells_shape(image: Any, layout: Layout) -> tuple[int, ...]:
    """Return the shape that labels of an image have: its leading axes, height, width.

    Channels first are left away. Channels between other axes become an axis of length 1, so that napari, which matches
    axes from the last one, shows the labels on the planes that are theirs.
    """
    shape = [int(n) for n in layout.array(image).shape]
    if layout.channel_axis is None:
        return tuple(shape[:-1])
    shape[layout.channel_axis] = 1
    return tuple(shape[1:] if layout.channel_axis == 0 else shape)


def placed_like(image: Any, layout: Layout, plane: str = "") -> dict[str, Any]:
    """Return where a labels layer lies so that it covers an image, and what its axes are called.

    Parameters
    ----------
    image : napari.layers.Image
    layout : Layout
    plane : str
        The name of one of its planes, `t0_z3`, which names axes that have no names in napari.
    """
    scale, units, first = np.array(image.scale, float), list(image.units), np.zeros(image.ndim)
    if image.multiscale:
        factor = np.array(image.downsample_factors[layout.level][: image.ndim], float)
        scale, first = scale * factor, (factor - 1) / 2
    axis = layout.channel_axis
    if axis:
        n = layout.array(image).shape[axis]
        scale[axis], first[axis] = scale[axis] * n, (n - 1) / 2
    # Where the centre of the first pixel lies, before the layer's affine transform.
    translate = np.asarray(image.affine.inverse(image.data_to_world(first)))
    kept = slice(1 if axis == 0 else 0, None)
    # Shear is the upper triangle row by row: the first axis has as many values as there are others.
    sheared = image.shear[image.ndim - 1 :] if axis == 0 else image.shear
    labels = None
    if image.axis_labels == default_labels(image.ndim):
        labels = axis_labels(axis_names(plane), cells_shape(image, layout))
    return {
        "scale": scale[kept],
        "translate": translate[kept],
        "units": units[kept],
        "axis_labels": labels or image.axis_labels[kept],
        "rotate": image.rotate[kept, kept],
        "shear": sheared,
        "affine": image.affine.set_slice(range(image.ndim)[kept]),
    }


def pixel_size_um(layer: Any) -> float | None:
    """Return the edge of a pixel as it lies in the world, if it is square, in a length that a microscope gives.

    Else it is the one that was noted when the layer was read.
    """
    um = [um_per_unit(str(unit)) for unit in layer.units]
    # Axes that a step doesn't go along may have units that are no lengths.
    y, x = (
        [px * size if px else 0.0 for px, size in zip(step, um, strict=True)]
        for step in world_steps(layer)[-2:].tolist()
    )
    y_um, x_um = math.hypot(*y), math.hypot(*x)
    is_square = abs(np.dot(y, x)) <= MOST_OBLIQUE * y_um * x_um
    noted: float | None = layer.metadata.get(PIXEL_SIZE_KEY)
    return (believed_um(x_um, y_um) if is_square else None) or noted


def world_steps(layer: Any) -> NDArray[np.float64]:
    """Return how far one step along each axis of a layer's data, a row each, goes along each axis of the world.

    These are its scale, rotation, shear and affine transform; where they only scale, to the last digit.
    """
    placed = Affine(scale=layer.scale, rotate=layer.rotate, shear=layer.shear)
    steps: NDArray[np.float64] = (layer.affine.linear_matrix @ placed.linear_matrix).T
    return steps


def fitting(image: Any, shape: tuple[int, ...], known: Layout | None = None) -> Layout | None:
    """Return how an image is read so that labels of this shape are its own, if possible as is known; else None."""
    levels = range(len(image.data) if image.multiscale else 1)
    channels = None if known is None else known.channels
    if image.rgb and channels is not None and max(channels) >= finest(image).shape[-1]:
        channels = None
    axes = (None,) if image.rgb else channel_axes(image, channels)
    layouts = sorted((Layout(level, axis, channels) for level in levels for axis in axes), key=lambda one: one != known)
    return next((layout for layout in layouts if cells_shape(image, layout) == tuple(shape)), None)


def _level(image: Any, reading: ReadParams, wanted_um: float | None) -> int:
    if not image.multiscale:
        return 0
    size = pixel_size_um(image)
    factors = [float(factor[image.ndim - 1]) for factor in image.downsample_factors]
    found = [Level(str(k), (), size and size * factor) for k, factor in enumerate(factors)]
    return int(choose_level(found, reading.level, wanted_um, Path(image.name)).path)
