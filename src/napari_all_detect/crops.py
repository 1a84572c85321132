"""Plane + labels -> one crop per cell: centred, at the bundle's scale, the rest black.

C-NMC 2019 shows each cell alone on black, and Mondal et al. (2021, section 2.2.1) cut its centre out without
interpolation. Cells of a smear are shown to the networks the same way.
"""

from collections.abc import Sequence
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi

from napari_all_detect.errors import InputError
from napari_all_detect.params import Rescale

__all__ = ["center_crop", "crop_scale"]

LIKE_SIZE = (2 / 3, 3 / 2)
"""Cells whose diameter differs from the bundle's by no more are left at their size, which tells blasts from
lymphocytes; and their pixels stay as they are."""


def center_crop(
    rgb: NDArray[np.uint8], labels: NDArray[np.integer], size: int, scale: float = 1.0
) -> NDArray[np.uint8]:
    """Cut out every labelled cell, centred on its bounding box, on black.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        The plane.
    labels : (H, W) integer
        0 for background, one positive number per cell. Gaps in the numbering are fine.
    size : int
        Side of a crop in pixels.
    scale : float
        Factor by which plane and labels are resampled first; at 1 pixels are copied, never interpolated.

    Returns
    -------
    crops : (N, size, size, 3) uint8
        In the order of the labels' numbers. What lies outside the cell, or outside the plane, is 0.

    Raises
    ------
    InputError
        If the plane and the labels differ in shape.

    Examples
    --------
    A cell that fills its image gives the image's own centre, as in Mondal et al.:

    >>> image = np.arange(450 * 450 * 3).reshape(450, 450, 3).astype(np.uint8)
    >>> crop = center_crop(image, np.ones((450, 450), int), size=300)
    >>> bool((crop[0] == image[75:375, 75:375]).all())
    True
    """
    if rgb.shape[:2] != labels.shape:
        raise InputError(f"the labels' shape is {labels.shape}, the image's {rgb.shape[:2]}; expected the same")
    boxes = [(i + 1, box) for i, box in enumerate(ndi.find_objects(labels)) if box is not None]
    crops = np.zeros((len(boxes), size, size, 3), np.uint8)
    if scale != 1.0:
        rgb, labels = _resample(rgb, labels, scale)
    for crop, (number, box) in zip(crops, boxes, strict=True):
        window, place = _window([(s.start * scale, s.stop * scale) for s in box], size, labels.shape)
        np.copyto(crop[place], rgb[window], where=(labels[window] == number)[..., None])
    return crops


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


def _resample(
    rgb: NDArray[np.uint8], labels: NDArray[np.integer], scale: float
) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """Resample a plane (Pillow's bilinear filter widens when shrinking, so nothing aliases) and its labels."""
    height, width = (max(1, round(n * scale)) for n in labels.shape)
    small = np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR))
    rows = _nearest(height, labels.shape[0])
    columns = _nearest(width, labels.shape[1])
    return small, labels[np.ix_(rows, columns)]


def _nearest(n_new: int, n_old: int) -> NDArray[np.intp]:
    """Return for each new pixel the old one in which its centre lies."""
    return ((np.arange(n_new) + 0.5) * n_old / n_new).astype(np.intp)


def _window(
    box: Sequence[tuple[float, float]], size: int, shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where the cell's part of the crop lies in the plane, and where in the crop."""
    window, place = [], []
    for (start, stop), length in zip(box, shape, strict=True):
        first = int((start + stop - size) // 2)
        # Rescaled labels can reach a pixel further.
        inside = slice(max(first, 0, floor(start) - 1), max(min(first + size, length, ceil(stop) + 1), 0))
        window.append(inside)
        place.append(slice(inside.start - first, inside.stop - first))
    return tuple(window), tuple(place)
