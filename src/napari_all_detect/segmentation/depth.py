"""How deep pixels lie in a mask, region by region: most of a smear is slide, which takes no time then."""

from collections.abc import Iterator
from math import hypot

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

__all__ = ["depth_within", "fill_holes", "region_radii"]

Window = tuple[slice, ...]


def depth_within(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return each pixel's distance to the nearest one outside of the mask; (H, W) float32, in pixels.

    Parameters
    ----------
    mask : (H, W) bool
        The world beyond its border is more of the same.
    """
    depth = np.zeros(mask.shape, np.float32)
    regions, _ = ndi.label(mask)
    for number, window in _windows(regions):
        own = regions[window] == number
        depth[window][own] = ndi.distance_transform_edt(mask[window])[own]
    return depth


def fill_holes(mask: NDArray[np.bool_], widest: float) -> NDArray[np.bool_]:
    """Fill the holes of a mask but for wide ones: what lies within a ring of cells, or of ink, is no part of them.

    Parameters
    ----------
    mask : (H, W) bool
    widest : float
        Height and width up to which a hole is filled, in pixels.

    Returns
    -------
    filled : (H, W) bool
    """
    outside, _ = ndi.label(~mask)
    filled = mask.copy()
    for number, box in enumerate(ndi.find_objects(outside), start=1):
        inner = all(s.start > 0 and s.stop < n for s, n in zip(box, mask.shape, strict=True))
        if inner and max(s.stop - s.start for s in box) <= widest:
            filled[box] |= outside[box] == number
    return filled


def region_radii(mask: NDArray[np.bool_], least: float = 0.0) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Label the regions of a mask and measure the largest circle that fits into each.

    Parameters
    ----------
    mask : (H, W) bool
    least : float
        Regions that can't hold a circle of this radius get 0 without being measured: specks are many.

    Returns
    -------
    regions : (H, W) int32
    radii : (n + 1,) float32
        By number, in pixels; 0 for the background.
    """
    regions, n = ndi.label(mask)
    radii = np.zeros(n + 1, np.float32)
    for number, window in _windows(regions, least):
        radii[number] = ndi.distance_transform_edt(mask[window])[regions[window] == number].max()
    return regions, radii


def _windows(regions: NDArray[np.int32], least: float = 0.0) -> Iterator[tuple[int, Window]]:
    """Yield the number of each region that is long enough, and its box with a pixel around it."""
    for number, box in enumerate(ndi.find_objects(regions), start=1):
        if hypot(*(s.stop - s.start for s in box)) >= least:
            yield number, tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
