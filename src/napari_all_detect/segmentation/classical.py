"""Cells without a network: chromatin by its colour, cytoplasm by what sets it apart from slide and red cells.

A red cell absorbs one colour of light, more where it is thick: in the space of absorbed red, green and blue, slide and
red cells lie on one line from the origin. Its direction is taken from what lies far from any nucleus, so that it is
the image's own; a pixel is the more likely part of a white cell the further it lies from that line.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu

from napari_all_detect.segmentation.depth import fill_holes
from napari_all_detect.segmentation.grid import as_ratio, reduced, shrink
from napari_all_detect.segmentation.instances import enlarge, expected_share, keep_only
from napari_all_detect.segmentation.light import CHROMATIN, least_chromatin, mean_stain, percentile
from napari_all_detect.segmentation.necks import cut_at_waists
from napari_all_detect.segmentation.nuclei import find_dark_nuclei
from napari_all_detect.segmentation.scale import estimate_diameter, seed_level, typical_diameter, wide_regions
from napari_all_detect.segmentation.view import Found, Survey, View

__all__ = ["found_diameter", "segment_classical"]

WORKING_DIAMETER_PX = 32.0
"""Larger cells are found on a reduced image: more pixels improve nothing there and cost time."""

REACH = 0.5
"""How far cytoplasm reaches from the nucleus at most, over the cell's diameter."""

ABOVE_RED_CELLS = 0.07
"""Chromatin is by so much darker than red cells: darker spots are where they lie on each other."""

SMOOTHED_PX = 8
"""More than smoothing and resampling reach."""

LEAST_AREA = 0.2
"""Of nucleus, over a typical cell's: less is debris."""

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]


def segment_classical(view: View, diameter: float | None, *, nuclei: bool = True) -> Found:
    """Find white cells and their nuclei by colour and shape.

    Parameters
    ----------
    view : View
    diameter : float or None
        Of a typical white cell, in pixels; None estimates it.
    nuclei : bool
        Whether to outline the nuclei, too.
    """
    assumed = diameter or view.survey("classical diameter", lambda: estimate_diameter(view.rgb, view.empty_field))
    if assumed is None:
        return Found.nothing(view.shape, nuclei)
    ratio = _ratio(assumed)
    view.survey.block_px = ratio.numerator
    pieces, stained = _find(view, assumed, view.survey)
    outline = ndi.gaussian_filter((pieces > 0).astype(np.float32), 0.6) * 255
    cells = enlarge(pieces, outline.astype(np.uint8), view.shape, ratio)
    reach_px = round(REACH * assumed / float(ratio)) + SMOOTHED_PX
    return Found(cells, find_dark_nuclei(view.rgb, cells, view.empty_field) if nuclei else None, stained, reach_px)


def _ratio(diameter: float) -> Fraction:
    return as_ratio(max(1.0, diameter / WORKING_DIAMETER_PX))


def _absorbed(view: View, ratio: Fraction, field: Floats) -> Floats:
    """Return the share of light that the reduced image absorbs, a little smoothed; (3, h, w)."""
    # Channel by channel: loops over three values at a time take several times longer.
    small = np.moveaxis(shrink(view.plane, reduced(view, ratio), ratio), -1, 0).astype(np.float32, order="C")
    return np.asarray(ndi.gaussian_filter(1 - small / field[:, None, None], (0, 0.7, 0.7)), np.float32)


def found_diameter(view: View) -> float | None:
    """Return the typical diameter of the white cells that are found in a view, in pixels, or None.

    Whole cells tell more than their chromatin: nine in ten images of two sets of single cells and one of smears came
    out within 0.7 to 1.3 of the truth, by chromatin alone (the single cells) within 0.35 to 1.2.
    """
    assumed = estimate_diameter(view.rgb, view.empty_field)
    if assumed is None:
        return None
    pieces, _ = _find(view, assumed, Survey())
    found = typical_diameter(pieces)
    # Without a cell, what chromatin there is may be platelets: seen from afar, red cells are no white ones.
    return found * float(_ratio(assumed)) if found else 2 * assumed


def _find(view: View, diameter: float, survey: Survey) -> tuple[Labels, Mask]:
    """Label the cells of the reduced image, and return where it is stained as they are."""
    ratio = _ratio(diameter)
    diameter = diameter / float(ratio)
    radius = diameter / 3
    absorbed = _absorbed(view, ratio, view.empty_field)
    stain = _along(absorbed, CHROMATIN)
    stained = fill_holes(stain > survey("seed level", lambda: seed_level(stain)), diameter)
    nothing = np.zeros(stain.shape, np.int32), stained
    seeds = wide_regions(stained, max(1.0, 0.3 * radius))
    if not seeds.any():
        return nothing
    distance = ndi.distance_transform_edt(~seeds)
    far = distance > 2 * radius
    seeds = _only_dark(seeds, stain, survey("faint level", lambda: least_chromatin(stain[far], ABOVE_RED_CELLS)))
    if not seeds.any():
        return nothing
    white = _beyond_red_cells(absorbed, survey("red cells", lambda: _red_cells(absorbed, far)))
    near = distance <= REACH * diameter
    level = survey("cytoplasm level", lambda: _level(white, near, far))
    cells = fill_holes(ndi.binary_opening(near & (white > level)) | seeds, diameter)
    return _part(cells, seeds, diameter), stained


def _only_dark(seeds: Mask, stain: Floats, level: float) -> Mask:
    """Drop the regions whose chromatin is hardly darker than red cells that lie on each other."""
    regions = ndi.label(seeds)[0]
    dark = mean_stain(regions, stain) >= level
    dark[0] = False
    return np.asarray(dark[regions], bool)


def _red_cells(absorbed: Floats, far: Mask) -> Floats:
    """Return what the thickest red cells absorb, (3,), by pixels that lie far from white cells; 0 if too few do."""
    pixels = np.flatnonzero(far)
    if len(pixels) <= 100:
        return np.zeros(3, np.float32)
    plain = absorbed.reshape(3, -1)[:, pixels[:: max(1, len(pixels) // 20_000)]]
    amount = np.linalg.norm(plain, axis=0)
    return np.asarray(plain[:, amount >= np.percentile(amount, 75)].mean(axis=1), np.float32)


def _beyond_red_cells(absorbed: Floats, red: Floats) -> Floats:
    """Return each pixel's distance from the line on which slide and red cells lie, in absorbed light; (h, w)."""
    thickest = float(np.linalg.norm(red)) + 1e-6
    direction = red / thickest
    along = np.clip(_along(absorbed, direction), 0, 1.15 * thickest)
    squares = np.zeros_like(along)
    for channel, step in zip(absorbed, direction, strict=True):
        squares += (channel - step * along) ** 2
    return np.asarray(np.sqrt(squares), np.float32)


def _along(absorbed: Floats, direction: Floats) -> Floats:
    """Project the light that each pixel absorbs; (h, w). By BLAS other cores would spin for it."""
    red, green, blue = (step * channel for channel, step in zip(absorbed, direction, strict=True))
    return np.asarray(red + green + blue, np.float32)


def _level(white: Floats, near: Mask, far: Mask) -> float:
    """Return the level that parts cytoplasm from what lies around it (Otsu 1979), above most of what lies far off."""
    around = white[near]
    otsu = float(threshold_otsu(np.clip(around, 0, np.percentile(around, 60))))
    return max(otsu, percentile(white[far], 90))


def _part(cells: Mask, seeds: Mask, diameter: float) -> Labels:
    """Cut clumps at their waists, and drop what has too little nucleus."""
    pieces = cut_at_waists(cells, diameter)
    chromatin_px = np.bincount(pieces[seeds], minlength=pieces.max() + 1)
    return keep_only(pieces, chromatin_px >= LEAST_AREA * np.pi / 4 * diameter**2 * expected_share(pieces))
