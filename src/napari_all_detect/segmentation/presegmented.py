"""Cells on black, as in C-NMC 2019: their outline is the black's."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_all_detect.segmentation.depth import fill_holes
from napari_all_detect.segmentation.instances import in_one_piece
from napari_all_detect.segmentation.light import BLACK, brightest, empty_field, like_field, sampled
from napari_all_detect.segmentation.necks import cut_at_waists
from napari_all_detect.segmentation.scale import estimate_diameter, inscribed_radius
from napari_all_detect.segmentation.surround import picture
from napari_all_detect.segmentation.view import Found, View

__all__ = ["ON_BLACK", "cells_on_black", "is_on_black", "on_white"]

ON_BLACK = "taken for cells cut out on black"
"""What is noted of such a plane: a dark picture may be taken for one."""

LEAST_BLACK = 0.25
"""Share of an image from which black is taken for a background that somebody else put there."""

RECTANGLE = 0.95
"""Where so much of a picture without its margins is not black, the black is margins: no cell is a rectangle."""

NARROW = 0.35
"""A white cell's width over that of what black surrounds: 0.04 to 0.34 of blood smears in an eyepiece's circle; 0.36 at
least, mostly 0.85, of cells cut out by hand."""

EVEN = 0.15
"""Share of the pixels that look like the brightest: 0.02 to 0.09 of a cell of C-NMC, over 0.2 of a field."""

COLOURLESS = 0.09
"""Of the brightest pixels, the range of the channels over the highest: up to 0.09 of bare slide, from 0.28 in C-NMC."""

CIRCLE = 0.97
"""Share of an eyepiece's view that the largest circle in it fills; up to 0.95 of cells cut out by hand."""

LEAST_AREA = 0.2
"""Smaller than this share of a typical cell is no white cell."""

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]


def is_on_black(view: View) -> bool:
    """Return whether an image holds cells whose background is black already, not a field in a black surround."""
    return view.survey("on black", lambda: _holds_cells_on_black(view))


def _holds_cells_on_black(view: View) -> bool:
    shown = brightest(view.rgb) > BLACK
    if shown.mean() >= 1 - LEAST_BLACK:
        return False
    if not shown.any():
        return True
    return shown[picture(view)].mean() < RECTANGLE and not _is_field(view.rgb, shown)


def _is_field(rgb: NDArray[np.uint8], shown: Mask) -> bool:
    """Return whether what is shown of an image looks like a field by two signs of three.

    Cells in a field are much narrower than it; much of it is of one colour, bare slide; and that has no colour. A
    cell's nucleus is nearly as wide as it is, a cell has hardly two pixels alike, and each stain is a colour; but lamps
    have one, too, some cytoplasm is even, and overexposure bleaches. Where no nucleus tells how wide cells are, what
    has no colour is a field if it is a circle.
    """
    field = empty_field(rgb[shown][None])
    painted = np.where(shown[..., None], rgb, np.rint(field).astype(np.uint8))
    filled = ndi.binary_fill_holes(shown)
    radius = inscribed_radius(filled) or 0.0
    seen = estimate_diameter(painted, field)
    colourless = field.max() - field.min() < COLOURLESS * field.max()
    if seen is None:  # no nucleus: red cells alone, or pale or grey cells cut out
        return bool(colourless and np.pi * radius**2 > CIRCLE * filled.sum())
    narrow = seen < NARROW * 2 * radius
    even = like_field(sampled(rgb[shown][None]), field).mean() > EVEN
    return int(narrow) + int(even) + int(colourless) >= 2


def cells_on_black(view: View, diameter: float | None) -> Found:
    """Label the cells of an image whose background is black already.

    Parameters
    ----------
    view : View
    diameter : float or None
        Of a typical cell, in pixels; None takes what fits into the widest.
    """
    mask = brightest(view.rgb) > BLACK
    widest = view.survey("widest on black", lambda: 2 * (inscribed_radius(ndi.binary_fill_holes(mask)) or 0.0))
    mask = fill_holes(mask, widest)
    diameter = diameter or widest
    cells = _parted(mask, diameter) if diameter and widest else np.zeros(mask.shape, np.int32)
    return Found(cells, None, mask, round(0.3 * diameter) + 1, on_black=True)


def on_white(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace the black by white, which absorbs nothing."""
    return np.where((brightest(rgb) > BLACK)[..., None], rgb, np.uint8(255))


def _parted(mask: NDArray[np.bool_], diameter: float) -> Labels:
    """Cut clumps at their waists; drop pieces too small for a white cell."""
    pieces = cut_at_waists(mask, diameter)
    large = np.bincount(pieces.ravel()) >= LEAST_AREA * np.pi / 4 * diameter**2
    return in_one_piece(np.where(large[pieces], pieces, 0))
