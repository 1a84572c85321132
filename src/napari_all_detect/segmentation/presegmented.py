"""Cells on black, as in C-NMC 2019: their outline is the black's."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_all_detect.segmentation.depth import depth_within
from napari_all_detect.segmentation.instances import in_one_piece
from napari_all_detect.segmentation.light import BLACK
from napari_all_detect.segmentation.necks import cut_at_necks
from napari_all_detect.segmentation.scale import inscribed_radius

__all__ = ["cells_on_black", "on_white"]

LEAST_BLACK = 0.25
"""Share of an image from which black is taken for a background that somebody else put there."""

LOBE_NECK = 0.8
LEAST_AREA = 0.2

Labels = NDArray[np.int32]


def cells_on_black(rgb: NDArray[np.uint8], diameter: float | None) -> Labels | None:
    """Label the cells of an image whose background is black already; None if it isn't.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    diameter : float or None
        Of a typical cell, in pixels; None takes what fits into the widest.
    """
    mask = _brightest(rgb) > BLACK
    if mask.mean() >= 1 - LEAST_BLACK:
        return None
    mask = ndi.binary_fill_holes(mask)
    radius = inscribed_radius(mask)
    if radius is None:
        return np.zeros(mask.shape, np.int32)
    return _parted(mask, diameter or 2 * radius)


def on_white(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace the black by white, which absorbs nothing."""
    return np.where((_brightest(rgb) > BLACK)[..., None], rgb, np.uint8(255))


def _brightest(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return each pixel's brightest channel; ten times as fast as a maximum along the last axis."""
    return np.maximum(np.maximum(rgb[..., 0], rgb[..., 1]), rgb[..., 2])


def _parted(mask: NDArray[np.bool_], diameter: float) -> Labels:
    """Cut clumps at their waists; drop pieces too small for a white cell."""
    depth = ndi.gaussian_filter(depth_within(mask), 0.05 * diameter)
    pieces = cut_at_necks(mask, depth, min_distance=0.3 * diameter, neck_share=LOBE_NECK)
    large = np.bincount(pieces.ravel()) >= LEAST_AREA * np.pi / 4 * diameter**2
    return in_one_piece(np.where(large[pieces], pieces, 0))
