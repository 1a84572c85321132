"""Cells without a network: chromatin by its colour, cytoplasm by what sets it apart from slide and red cells.

A red cell absorbs one colour of light, more where it is thick: in the space of absorbed red, green and blue, slide and
red cells lie on one line from the origin. Its direction is taken from what lies far from any nucleus, so that it is
the image's own; a pixel is the more likely part of a white cell the further it lies from that line.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu

from napari_all_detect.segmentation.depth import depth_within
from napari_all_detect.segmentation.instances import enlarge, expected_share, keep_only
from napari_all_detect.segmentation.light import CHROMATIN, empty_field, least_chromatin, mean_stain, percentile
from napari_all_detect.segmentation.necks import cut_at_necks
from napari_all_detect.segmentation.nuclei import find_dark_nuclei
from napari_all_detect.segmentation.scale import estimate_diameter, seed_level, typical_diameter, wide_regions

__all__ = ["found_diameter", "segment_classical"]

WORKING_DIAMETER_PX = 32.0
"""Larger cells are found on a reduced image: more pixels improve nothing there and cost time."""

REACH = 0.5
"""How far cytoplasm reaches from the nucleus at most, over the cell's diameter."""

ABOVE_RED_CELLS = 0.07
"""Chromatin is by so much darker than red cells: darker spots are where they lie on each other."""

NECK = 0.8
"""Pieces of a clump are one cell where the neck between them is at least this share of the smaller one's width."""

LEAST_AREA = 0.2
"""Of nucleus, over a typical cell's: less is debris."""

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]


def segment_classical(
    rgb: NDArray[np.uint8], diameter: float | None, *, nuclei: bool = True
) -> tuple[Labels, Labels | None]:
    """Find white cells and their nuclei by colour and shape.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    diameter : float or None
        Of a typical white cell, in pixels; None estimates it.
    nuclei : bool
        Whether to outline the nuclei, too.

    Returns
    -------
    cells : (H, W) int32
    nuclei : (H, W) int32 or None
    """
    shape = rgb.shape[0], rgb.shape[1]
    assumed = diameter or estimate_diameter(rgb)
    if assumed is None:
        return np.zeros(shape, np.int32), np.zeros(shape, np.int32) if nuclei else None
    pieces = _find(rgb, assumed)
    outline = ndi.gaussian_filter((pieces > 0).astype(np.float32), 0.6) * 255
    cells = enlarge(pieces, outline.astype(np.uint8), shape)
    return cells, find_dark_nuclei(rgb, cells) if nuclei else None


def _absorbed(rgb: NDArray[np.uint8], factor: float) -> Floats:
    """Return the share of light that the reduced image absorbs, a little smoothed; (h, w, 3)."""
    size = max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR), np.float32)
    return np.asarray(ndi.gaussian_filter(1 - small / empty_field(rgb), (0.7, 0.7, 0)), np.float32)


def found_diameter(rgb: NDArray[np.uint8]) -> float | None:
    """Return the typical diameter of the white cells that are found, in pixels, or None.

    Whole cells tell more than their chromatin: nine in ten images of two sets of single cells and one of smears came
    out within 0.7 to 1.3 of the truth, by chromatin alone (the single cells) within 0.35 to 1.2.
    """
    assumed = estimate_diameter(rgb)
    if assumed is None:
        return None
    pieces = _find(rgb, assumed)
    found = typical_diameter(pieces)
    # Without a cell, what chromatin there is may be platelets: seen from afar, red cells are no white ones.
    return found * rgb.shape[0] / pieces.shape[0] if found else 2 * assumed


def _find(rgb: NDArray[np.uint8], diameter: float) -> Labels:
    """Label the cells of the reduced image."""
    factor = min(1.0, WORKING_DIAMETER_PX / diameter)
    diameter, radius = diameter * factor, diameter * factor / 3
    absorbed = _absorbed(rgb, factor)
    stain = absorbed @ CHROMATIN
    nothing = np.zeros(stain.shape, np.int32)
    seeds = wide_regions(ndi.binary_fill_holes(stain > seed_level(stain)), max(1.0, 0.3 * radius))
    if not seeds.any():
        return nothing
    distance = ndi.distance_transform_edt(~seeds)
    far = distance > 2 * radius
    seeds = _drop_faint(seeds, stain, far)
    if not seeds.any():
        return nothing
    white = _beyond_red_cells(absorbed, far)
    near = distance <= REACH * diameter
    cells = ndi.binary_fill_holes(ndi.binary_opening(near & (white > _level(white, near, far))) | seeds)
    return _part(cells, seeds, diameter)


def _drop_faint(seeds: Mask, stain: Floats, far: Mask) -> Mask:
    """Drop the regions whose chromatin is hardly darker than red cells that lie on each other."""
    regions = ndi.label(seeds)[0]
    dark = mean_stain(regions, stain) >= least_chromatin(stain[far], ABOVE_RED_CELLS)
    dark[0] = False
    return np.asarray(dark[regions], bool)


def _beyond_red_cells(absorbed: Floats, far: Mask) -> Floats:
    """Return each pixel's distance from the line on which slide and red cells lie, in absorbed light; (h, w)."""
    plain = absorbed[far]
    plain = plain[:: max(1, len(plain) // 20_000)]
    amount = _length(plain)
    red = plain[amount >= np.percentile(amount, 75)].mean(axis=0) if len(plain) > 100 else np.zeros(3, np.float32)
    thickest = float(np.linalg.norm(red)) + 1e-6
    direction = red / thickest
    along = np.clip(absorbed @ direction, 0, 1.15 * thickest)
    return _length(absorbed - along[..., None] * direction)


def _length(vectors: Floats) -> Floats:
    """Return lengths along the last axis, without an array of squares."""
    return np.asarray(np.sqrt(np.einsum("...c,...c->...", vectors, vectors)), np.float32)


def _level(white: Floats, near: Mask, far: Mask) -> float:
    """Return the level that parts cytoplasm from what lies around it (Otsu 1979), above most of what lies far off."""
    around = white[near]
    otsu = float(threshold_otsu(np.clip(around, 0, np.percentile(around, 60))))
    return max(otsu, percentile(white[far], 90))


def _part(cells: Mask, seeds: Mask, diameter: float) -> Labels:
    """Cut clumps at their waists, and drop what has too little nucleus."""
    depth = ndi.gaussian_filter(depth_within(cells), 0.05 * diameter)
    pieces = cut_at_necks(cells, depth, min_distance=0.3 * diameter, neck_share=NECK)
    chromatin_px = np.bincount(pieces[seeds], minlength=pieces.max() + 1)
    return keep_only(pieces, chromatin_px >= LEAST_AREA * np.pi / 4 * diameter**2 * expected_share(pieces))
