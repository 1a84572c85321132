"""Plane + labels -> one crop per cell: centred, at the bundle's scale, the rest black.

C-NMC 2019 shows each cell alone on black, and Mondal et al. (2021, section 2.2.1) cut its centre out without
interpolation. Cells of a smear are shown to the networks the same way.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor, inf
from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi

from napari_all_detect.errors import InputError
from napari_all_detect.labelled import check_labels, check_range
from napari_all_detect.params import Rescale

__all__ = ["center_crop", "crop_scale", "first_pixel", "resampling_px"]

LIKE_SIZE = (2 / 3, 3 / 2)
"""Cells whose diameter differs from the bundle's by no more are left at their size, which tells blasts from
lymphocytes; and their pixels stay as they are."""


def center_crop(
    rgb: NDArray[np.uint8],
    labels: NDArray[np.integer | np.bool_],
    size: int,
    scale: float = 1.0,
    *,
    origin: tuple[int, int] = (0, 0),
    plane_shape: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Cut out every labelled cell, centred on its bounding box, on black.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        The plane.
    labels : (H, W) integer or bool
        0 for background, one positive number per cell. Gaps in the numbering are fine; a mask is one cell.
    size : int
        Side of a crop in pixels.
    scale : float
        Factor by which plane and labels are resampled first; at 1 pixels are copied, never interpolated.
    origin : (int, int)
        Row and column of the plane at which `rgb` and `labels` begin, if they are a part of it. The part must reach
        beyond all cells by `resampling_px`.
    plane_shape : (int, int), optional
        Height and width of the plane, if they are a part of it.

    Returns
    -------
    crops : (N, size, size, 3) uint8
        In the order of the labels' numbers. What lies outside the cell, or outside the plane, is 0.

    Raises
    ------
    InputError
        If the plane is not uint8 of three channels, the labels are no label image of its shape, or a crop would have no
        pixels.

    Examples
    --------
    A cell that fills its image gives the image's own centre, as in Mondal et al.:

    >>> image = np.arange(450 * 450 * 3).reshape(450, 450, 3).astype(np.uint8)
    >>> crop = center_crop(image, np.ones((450, 450), int), size=300)
    >>> bool((crop[0] == image[75:375, 75:375]).all())
    True
    """
    _check(rgb, labels, size, scale)
    if labels.dtype == bool:
        labels = labels.astype(np.uint8)
    boxes = [(i + 1, box) for i, box in enumerate(ndi.find_objects(labels)) if box is not None]
    crops = np.zeros((len(boxes), size, size, 3), np.uint8)
    for crop, (number, box) in zip(crops, boxes, strict=True):
        if scale == 1.0:
            window, place = _window([(s.start, s.stop) for s in box], size, labels.shape)
            np.copyto(crop[place], rgb[window], where=(labels[window] == number)[..., None])
        else:
            (y0, x0), (height, width) = origin, plane_shape or labels.shape
            rows, columns = (
                _span(_shifted(part, start), size, n, scale)
                for part, start, n in zip(box, origin, (height, width), strict=True)
            )
            if rows is not None and columns is not None:
                cell = labels[np.ix_(rows.pixels - y0, columns.pixels - x0)] == number
                seen = _shifted(rows.seen, -y0), _shifted(columns.seen, -x0)
                _fill_resampled(crop, rgb[seen], cell, (rows, columns))
    return crops


def _check(rgb: NDArray[np.uint8], labels: NDArray[np.integer | np.bool_], size: int, scale: float) -> None:
    """Raise InputError unless cells can be cut from these."""
    for name, given in (("the image", rgb), ("the labels", labels)):
        if not isinstance(given, np.ndarray):
            raise InputError(f"{name}: got {type(given).__name__}; expected an array")
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise InputError(f"the image is {rgb.dtype} of shape {rgb.shape}; expected uint8 of shape (H, W, 3)")
    check_labels(labels, rgb.shape[:2])
    check_range(int(labels.min(initial=0)), int(labels.max(initial=0)))
    if not isinstance(size, Integral) or size < 1:
        raise InputError(f"size is {size!r}; expected a whole number of pixels from 1 on")
    if not 0 < scale < inf:
        raise InputError(f"scale is {scale!r}; expected a number above 0")


def first_pixel(start: int, stop: int, size: int, scale: float = 1.0) -> int:
    """Return at which pixel of the rescaled plane a crop begins on one axis: centred on a cell from `start` to `stop`.

    >>> first_pixel(100, 140, size=60), first_pixel(100, 140, size=60, scale=0.5)
    (90, 30)
    """
    return int((start * scale + stop * scale - size) // 2)


def _shifted(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def resampling_px(scale: float) -> int:
    """Return how far beyond a cell pixels take part when a plane is resampled by a factor; 0 at 1."""
    return 0 if scale == 1.0 else ceil(1 / scale) + 1 + _filter_px(scale)


def _filter_px(scale: float) -> int:
    """Return how far the filter reaches, and a pixel more."""
    return ceil(max(1.0, 1 / scale)) + 1


def crop_scale(
    rescale: Rescale,
    *,
    pixel_size_um: float | None,
    diameters_px: NDArray[np.floating],
    bundle_pixel_size_um: float | None,
    bundle_diameter_px: float,
) -> float:
    """Return the factor that brings a plane's cells to the scale of a bundle's training cells.

    Parameters
    ----------
    rescale : {"auto", "none"} or float
        A number is returned as it is, `none` is 1.
    pixel_size_um, bundle_pixel_size_um : float or None
        Micrometres per pixel of the plane and of the training images. If both are known, their ratio decides.
    diameters_px : (N,) float
        Diameters of the plane's cells; otherwise their median decides.
    bundle_diameter_px : float
        Median diameter of the training cells.

    Returns
    -------
    scale : float
        1.0 where the median diameter is within two thirds to three halves of the bundle's.

    Examples
    --------
    >>> crop_scale("auto", pixel_size_um=None, diameters_px=np.array([150.0, 170.0]),
    ...            bundle_pixel_size_um=None, bundle_diameter_px=32.0)
    0.2
    """
    if not isinstance(rescale, str):
        return float(rescale)
    if rescale == "none" or len(diameters_px) == 0:
        return 1.0
    if pixel_size_um is not None and bundle_pixel_size_um is not None:
        return pixel_size_um / bundle_pixel_size_um
    ratio = bundle_diameter_px / float(np.median(diameters_px))
    return 1.0 if LIKE_SIZE[0] <= ratio <= LIKE_SIZE[1] else ratio


class _Span(NamedTuple):
    """One axis of a cell that is resampled.

    Attributes
    ----------
    pixels : (n,) int
        Of the plane, those whose labels the pixels of the crop take.
    seen : slice
        Of the plane, those whose colours take part.
    ends : (float, float)
        Between which places in those the cell lies.
    place : slice
        Where it lies in the crop.
    """

    pixels: NDArray[np.intp]
    seen: slice
    ends: tuple[float, float]
    place: slice


def _span(part: slice, size: int, length: int, scale: float) -> _Span | None:
    """Return how an axis of a cell is resampled, in a plane of some length; None if no pixel is left of it."""
    n = max(1, round(length * scale))
    first = first_pixel(part.start, part.stop, size, scale)
    new = np.arange(max(first, 0), min(first + size, n))
    old = (2 * new + 1) * length // (2 * n)  # in which its centre lies
    of_cell = (part.start <= old) & (old < part.stop)
    new, old = new[of_cell], old[of_cell]
    if not len(new):
        return None
    begin, end = Fraction(int(new[0]) * length, n), Fraction(int(new[-1] + 1) * length, n)
    seen = slice(max(0, floor(begin) - _filter_px(scale)), min(length, ceil(end) + _filter_px(scale)))
    ends = float(begin - seen.start), float(end - seen.start)
    return _Span(old, seen, ends, slice(int(new[0]) - first, int(new[-1]) + 1 - first))


def _fill_resampled(
    crop: NDArray[np.uint8], rgb: NDArray[np.uint8], cell: NDArray[np.bool_], spans: tuple[_Span, _Span]
) -> None:
    """Fill a crop with a cell, of whose plane only these pixels are resampled."""
    rows, columns = spans
    box = columns.ends[0], rows.ends[0], columns.ends[1], rows.ends[1]
    # Pillow's bilinear filter widens when it shrinks, so nothing aliases.
    image = Image.fromarray(np.ascontiguousarray(rgb))
    size = len(columns.pixels), len(rows.pixels)
    crop[rows.place, columns.place][cell] = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box))[cell]


def _window(
    box: Sequence[tuple[int, int]], size: int, shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where the cell's part of the crop lies in the plane, and where in the crop."""
    window, place = [], []
    for (start, stop), length in zip(box, shape, strict=True):
        first = first_pixel(start, stop, size)
        inside = slice(max(first, 0, start), max(min(first + size, length, stop), 0))
        window.append(inside)
        place.append(slice(inside.start - first, inside.stop - first))
    return tuple(window), tuple(place)
