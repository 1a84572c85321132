"""An image of one cell on black: its pixels, its size, and its centre cut out, as training and evaluation see them."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi

from all_detect_training.listing import some
from napari_all_detect.crops import center_crop
from napari_all_detect.errors import InputError
from napari_all_detect.sources import Plane, find_images, open_planes

__all__ = ["cut_centre", "diameter_px", "first_plane", "is_on_black", "read_on_black", "warn_not_on_black"]

log = logging.getLogger(__name__)
Rgb = NDArray[np.uint8]

DARK = 8
"""Up to this level in each colour a pixel may be background: JPEG makes 1 to 3 of black, more beside a cell."""


def first_plane(path: Path, *, tell: bool = True) -> Plane:
    """Return an image's only or first plane; that others are left out is logged if `tell`.

    Raises
    ------
    InputError
        If the file is gone, or none that is read.
    """
    planes = open_planes(find_images([path])[0])
    if tell and len(planes) > 1:
        log.warning("%s: %d pages or planes, of which only the first is read", path, len(planes))
    return planes[0]


def read_on_black(plane: Plane) -> Rgb:
    """Read an image of one cell, and make its background exactly black.

    Background is what is dark and reaches the border of the image through dark pixels; transparent pixels are laid
    over black.

    Returns
    -------
    rgb : (H, W, 3) uint8
        With 0 where there is no cell.

    Raises
    ------
    InputError
        If the image can't be read, or nothing of it is left.
    """
    pixels = plane.read()
    rgb = pixels.rgb
    if any("transparent" in note for note in pixels.notes):
        rgb = _over_black(rgb, plane.path)
    dark = np.pad((rgb <= DARK).all(axis=-1), 1, constant_values=True)
    parts, _ = ndi.label(dark)
    rgb = np.where((parts == parts[0, 0])[1:-1, 1:-1, None], np.uint8(0), rgb)
    if not rgb.any():
        raise InputError(f"{plane.path}: all black")
    return rgb


def _over_black(over_white: Rgb, path: Path) -> Rgb:
    """Lay an image over black that was laid over white: each colour loses what white shone through."""
    try:
        with Image.open(path, formats=("PNG", "BMP")) as image:
            alpha = np.asarray(image.convert("RGBA"))[..., 3:]
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: transparent; expected a cell on black: lay it over black first") from error
    shone_through = np.uint8(255) - alpha
    return np.maximum(over_white, shone_through) - shone_through


def is_on_black(rgb: Rgb) -> bool:
    """Return whether at least half of an image's border is black."""
    border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    return bool(border.any(axis=-1).mean() <= 0.5)


def warn_not_on_black(names: Sequence[str], n_images: int) -> None:
    """Log which of so many images of one cell are not on black, if any."""
    if names:
        log.warning(
            "%d of %d images of one cell are not on black: %s; scoring blackens all around a cell, so that what is "
            "learned or measured on these is of little use there: blacken it first, or give smears",
            *(len(names), n_images, some(names)),
        )


def diameter_px(rgb: Rgb) -> float:
    """Return the diameter of the circle of the same area as what is not black."""
    return float(np.sqrt(4 / np.pi * np.count_nonzero(rgb.any(axis=-1))))


def cut_centre(rgb: Rgb, size: int, path: Path, scale: float = 1.0) -> Rgb:
    """Cut out an image's own centre, wherever the cell lies; (1, size, size, 3).

    Raises
    ------
    InputError
        If nothing but black is there.
    """
    crops = center_crop(rgb, np.ones(rgb.shape[:2], np.int32), size, scale)
    if not crops.any():
        raise InputError(f"{path}: black in the {size} px about its centre; the cell must be in the image's middle")
    return crops
