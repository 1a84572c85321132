"""The nucleus in each cell: a coarse map says where, the image's own chromatin where it ends."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu

from napari_all_detect.segmentation.grid import stretch
from napari_all_detect.segmentation.instances import HALF
from napari_all_detect.segmentation.light import chromatin

__all__ = ["find_dark_nuclei", "find_nuclei"]

SURELY_NOT, SURELY = 60, 200
"""Bytes of the map between which a pixel's own chromatin decides. Where the map ends halfway between nucleus and
cytoplasm the true outline lies within a pixel of the map, which is several of the plane's where cells are large."""

ENOUGH_PX = 20
"""So many pixels on both sides tell what is chromatin's colour in this cell, and what its cytoplasm's."""

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Window = tuple[slice, ...]


def find_nuclei(
    rgb: NDArray[np.uint8],
    cells: Labels,
    nuclear: NDArray[np.uint8],
    ratio: Fraction,
    field: Floats,
) -> Labels:
    """Outline the nuclei at the plane's resolution.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    cells : (H, W) int32
    nuclear : (h, w) uint8
        How likely a pixel of a smaller image of the plane is nucleus, times 255.
    ratio : Fraction
        Pixels of the plane that are one of the smaller image.
    field : (3,) float32
        Colour of the empty field.

    Returns
    -------
    nuclei : (H, W) int32
        The cells' numbers, 0 outside of the nuclei. The map alone outlines the nucleus of a cell of which no part is
        surely nucleus, or none surely not.
    """
    likely = stretch(nuclear, (rgb.shape[0], rgb.shape[1]), ratio)
    return _in_each(rgb, cells, field, lambda box, cell, stain: _by_map(cell, likely[box], stain))


def find_dark_nuclei(rgb: NDArray[np.uint8], cells: Labels, field: Floats) -> Labels:
    """Take what is darkest in chromatin's colour for the nucleus, in each cell by its own level (Otsu 1979).

    A pale blast beside dark cells has its own level.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    cells : (H, W) int32
    field : (3,) float32
        Colour of the empty field.

    Returns
    -------
    nuclei : (H, W) int32
        The cells' numbers, 0 outside of the nuclei.
    """

    def dark(_: Window, cell: Mask, stain: Floats) -> Mask:
        smooth = ndi.gaussian_filter(stain, 1.0)
        return np.asarray(cell & (smooth > threshold_otsu(smooth[cell])), bool)

    return _in_each(rgb, cells, field, dark)


def _in_each(
    rgb: NDArray[np.uint8], cells: Labels, field: Floats, nucleus: Callable[[Window, Mask, Floats], Mask]
) -> Labels:
    """Find one nucleus after another, from where its cell lies, its shape, and its chromatin; no holes, no specks."""
    nuclei = np.zeros_like(cells)
    for number, box in enumerate(ndi.find_objects(cells), start=1):
        cell = cells[box] == number
        found = nucleus(box, cell, chromatin(rgb[box], field))
        nuclei[box][ndi.binary_fill_holes(ndi.binary_opening(found)) & cell] = number
    return nuclei


def _by_map(cell: Mask, likely: NDArray[np.uint8], stain: Floats) -> Mask:
    """Return what is surely nucleus, and between that and what is surely not, what is the darker."""
    surely, possibly = cell & (likely >= SURELY), cell & (likely >= SURELY_NOT)
    cytoplasm = cell & ~possibly
    nucleus = cell & (likely >= HALF)
    if min(np.count_nonzero(surely), np.count_nonzero(cytoplasm)) >= ENOUGH_PX:
        dark, pale = np.median(stain[surely]), np.median(stain[cytoplasm])
        if dark > pale:
            nucleus = surely | (possibly & (stain >= (dark + pale) / 2))
    return nucleus
