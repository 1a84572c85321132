"""Plane + labels -> one crop per cell: centred, at the bundle's scale, the rest black.

C-NMC 2019 shows each cell alone on black, and Mondal et al. (2021, section 2.2.1) cut its centre out without
interpolation. Cells of a smear are shown to the networks the same way.
"""

from math import ceil, inf
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
        rows, columns = (
            _span(_shifted(part, start), size, n, scale)
            for part, start, n in zip(box, origin, plane_shape or labels.shape, strict=True)
        )
        if rows is not None and columns is not None:
            (y0, x0) = origin
            cell = labels[np.ix_(rows.pixels - y0, columns.pixels - x0)] == number
            seen = rgb[_shifted(rows.seen, -y0), _shifted(columns.seen, -x0)]
            colours = seen if scale == 1.0 else _resampled(seen, rows, columns)
            np.copyto(crop[rows.place, columns.place], colours, where=cell[..., None])
    return crops


def _check(rgb: NDArray[np.uint8], labels: NDArray[np.integer | np.bool_], size: int, scale: float) -> None:
    """Raise InputError unless cells can be cut from these."""
    for name, given in (("the image", rgb), ("the labels", labels)):
        if not isinstance(given, np.ndarray):
            raise InputError(f"{name}: got {type(given).__name__}; expected an array")
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise InputError(f"the image is {rgb.dtype} of shape {rgb.shape}; expected uint8 of shape (H, W, 3)")
    check_labels(labels, rgb.shape[:2])
    check_range(labels)
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
    """Return how far the filter reaches, and a pixel more; 0 at 1, where pixels are copied."""
    return 0 if scale == 1.0 else ceil(max(1.0, 1 / scale)) + 1


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
    # Pixels whose centres lie in the cell: (2 i + 1) length >= 2 n start, and < 2 n stop.
    start = max(first, 0, -(-2 * n * part.start // length) // 2)
    stop = min(first + size, n, -(-2 * n * part.stop // length) // 2)
    if start >= stop:
        return None
    pixels = (2 * np.arange(start, stop) + 1) * length // (2 * n)
    begin, end, margin = start * length, stop * length, _filter_px(scale)  # of the n-th parts of a pixel
    seen = slice(max(0, begin // n - margin), min(length, -(-end // n) + margin))
    ends = (begin - seen.start * n) / n, (end - seen.start * n) / n
    return _Span(pixels, seen, ends, slice(start - first, stop - first))


def _resampled(rgb: NDArray[np.uint8], rows: _Span, columns: _Span) -> NDArray[np.uint8]:
    """Resample what is seen of a plane to the pixels of a crop."""
    box = columns.ends[0], rows.ends[0], columns.ends[1], rows.ends[1]
    # Pillow's bilinear filter widens when it shrinks, so nothing aliases.
    image = Image.fromarray(np.ascontiguousarray(rgb))
    size = len(columns.pixels), len(rows.pixels)
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box))
