"""Planes at another scale, so that any part of one comes out as it does in the whole.

A pixel of a reduced image is a whole number of 64ths of one of the plane. All places are then numbers that floats hold
exactly, wherever a part begins.
"""

from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect.segmentation.view import View
from napari_all_detect.windows import Pixels

__all__ = ["as_ratio", "length", "reduced", "shrink", "stretch"]

PARTS = 64


def as_ratio(pixels: float) -> Fraction:
    """Return how many pixels of a plane are one of a reduced image, as near to a number as can be."""
    return Fraction(max(1, round(PARTS * pixels)), PARTS)


def length(pixels: int, ratio: Fraction, multiple: int = 1) -> int:
    """Return how many pixels of a reduced image hold so many of a plane, a multiple of some number."""
    return multiple * ceil(pixels / (ratio * multiple))


def reduced(view: View, ratio: Fraction, multiple: int = 1) -> tuple[slice, slice]:
    """Return the window of a reduced image in which a view lies, that begins where the view does."""
    rows, columns = (slice(int(part.start / ratio), length(part.stop, ratio, multiple)) for part in view.window)
    return rows, columns


def shrink(
    plane: Pixels,
    window: tuple[slice, slice],
    ratio: Fraction,
    multiple: int = 1,
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
) -> NDArray[np.uint8]:
    """Return a window of a plane's reduced image.

    Parameters
    ----------
    plane : Pixels
    window : (slice, slice)
        In pixels of the reduced image; it may reach as far beyond the plane as `length` says, where the plane goes on
        as at its border.
    ratio : Fraction
        Pixels of the plane that are one of the reduced image.
    multiple : int
        Of which the length of the reduced image is one.
    change : callable, optional
        Is applied to the plane's pixels first.

    Returns
    -------
    small : (h, w, 3) uint8
    """
    reach = ceil(ratio) + 1  # of the filter, on both sides
    spans, box, beyond = [], [], []
    for part, n in zip(window, plane.shape[:2], strict=False):
        last = ceil(length(n, ratio, multiple) * ratio)
        start, stop = part.start * ratio, part.stop * ratio
        first, end = max(0, floor(start) - reach), min(last, ceil(stop) + reach)
        first = min(first, n - 1)
        spans.append(slice(first, min(end, n)))
        beyond.append((0, max(0, end - n)))
        box.append((float(start - first), float(stop - first)))
    pixels = plane[spans[0], spans[1]]
    if change is not None:
        pixels = change(pixels)
    if any(after for _, after in beyond):
        pixels = np.pad(pixels, (*beyond, (0, 0)), mode="edge")
    (top, bottom), (left, right) = box
    size = window[1].stop - window[1].start, window[0].stop - window[0].start
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=(left, top, right, bottom)))


def stretch(small: NDArray[np.uint8], shape: tuple[int, int], ratio: Fraction) -> NDArray[np.uint8]:
    """Return a reduced image at the plane's resolution.

    Parameters
    ----------
    small : (h, w) uint8
    shape : (int, int)
        Height and width of what is returned.
    ratio : Fraction
        Pixels of the plane that are one of the reduced image.
    """
    # Filled up to where pixels of both end together: the scale is the same number then, whatever part this is.
    after = [(0, -n % ratio.denominator) for n in small.shape]
    filled = np.pad(small, after, mode="edge")
    height, width = (int(n * ratio) for n in filled.shape)
    large = Image.fromarray(filled).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(large)[: shape[0], : shape[1]]
