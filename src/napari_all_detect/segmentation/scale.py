"""How wide the white cells of an image are, from its chromatin."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from skimage.filters import threshold_multiotsu

from napari_all_detect.segmentation.depth import region_radii
from napari_all_detect.segmentation.light import chromatin, empty_field

__all__ = [
    "WHITE_CELL_UM",
    "WHOLE_TO_NUCLEUS",
    "estimate_diameter",
    "inscribed_radius",
    "seed_level",
    "typical_diameter",
    "wide_regions",
]

WHITE_CELL_UM = 12.0
"""Typical diameter of a white cell on a smear: lymphocytes 8 to 12 um, blasts and granulocytes 10 to 18 um."""

WHOLE_TO_NUCLEUS = 1.45
"""Ratio of a cell's diameter to that of the widest circle in its nucleus: 1.1 for blasts, 3 for some lobed cells."""

SEED_RANGE = (0.18, 0.28)
"""Where the level of what is surely chromatin may lie: above red cells, which an image without white cells would
otherwise have cut in two, and below the palest blasts."""

LEAST_NUCLEUS_RADIUS_PX = 3.0
"""Smaller specks are noise at any magnification at which a cell can be judged."""

Mask = NDArray[np.bool_]


def estimate_diameter(rgb: NDArray[np.uint8], field: NDArray[np.float32] | None = None) -> float | None:
    """Return the typical diameter of a white cell in pixels, or None where there is no chromatin.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    field : (3,) float32, optional
        Colour of the empty field, by the image itself if not given.
    """
    field = empty_field(rgb) if field is None else field
    factor = 2 if min(rgb.shape[:2]) >= 64 else 1
    small = np.asarray(Image.fromarray(rgb).reduce(factor))
    stain = ndi.gaussian_filter(chromatin(small, field), 1.0)
    radius = inscribed_radius(ndi.binary_fill_holes(stain > seed_level(stain)), LEAST_NUCLEUS_RADIUS_PX)
    return None if radius is None else 2 * WHOLE_TO_NUCLEUS * factor * radius


def typical_diameter(labels: NDArray[np.int32]) -> float | None:
    """Return the diameter of the cell at the middle of all cells' area, in pixels: fragments count for little."""
    area = np.sort(np.bincount(labels.ravel())[1:])
    if not area.any():
        return None
    return float(2 * np.sqrt(area[np.searchsorted(np.cumsum(area), area.sum() / 2)] / np.pi))


def seed_level(stain: NDArray[np.float32]) -> float:
    """Return the level of stain above which there is surely chromatin (Otsu 1979, three classes)."""
    sample = stain.ravel()[:: max(1, stain.size // 100_000)]
    try:
        level = float(threshold_multiotsu(sample, classes=3, nbins=128)[1])
    except ValueError:  # a flat image: fewer than three different values
        return np.inf
    return float(np.clip(level, *SEED_RANGE))


def inscribed_radius(mask: Mask, least: float = 0.0) -> float | None:
    """Return the median, weighted by area, of the radii of the largest circles that fit in the regions, in pixels.

    Regions that can't hold a circle of the least radius don't count; None where none can.
    """
    regions, radii = region_radii(mask, least)
    area = np.bincount(regions.ravel())
    numbers = np.argsort(radii)
    numbers = numbers[radii[numbers] >= max(least, 1)]
    if not len(numbers):
        return None
    total = np.cumsum(area[numbers])
    return float(radii[numbers][np.searchsorted(total, total[-1] / 2)])


def wide_regions(mask: Mask, radius: float) -> Mask:
    """Drop the regions in which no circle of this radius fits: platelets and stain dirt."""
    regions, radii = region_radii(mask, radius)
    return np.asarray((radii >= max(radius, 1))[regions], bool)
