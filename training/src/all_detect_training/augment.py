"""Flips, rotation, zoom and shift (Mondal et al. 2021, section 2.2.2), in one interpolation; and other stains."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["augment", "jitter_stain", "random_transforms"]


def random_transforms(
    n: int, size: int, rng: np.random.Generator, *, rotation_degrees: float, zoom: float, shift: float
) -> NDArray[np.float32]:
    """Draw affine maps from the pixels of an augmented crop to those of the crop.

    Parameters
    ----------
    n, size : int
        Number of crops, and their side in pixels.
    rng : numpy.random.Generator
    rotation_degrees : float
        Angles are uniform in +- this.
    zoom, shift : float
        Magnification is uniform in 1 +- `zoom`, the shift on each axis in +- `shift` of the side.

    Returns
    -------
    transforms : (n, 8) float32
        As `keras.ops.image.affine_transform` takes them: x_in = a0 x + a1 y + a2, y_in = a3 x + a4 y + a5.
    """
    angle = np.deg2rad(rng.uniform(-rotation_degrees, rotation_degrees, n))
    scale = 1 / rng.uniform(1 - zoom, 1 + zoom, n)
    flip_x, flip_y = rng.choice([-1.0, 1.0], (2, n))
    xx, xy = scale * np.cos(angle) * flip_x, -scale * np.sin(angle)
    yx, yy = scale * np.sin(angle) * flip_x, scale * np.cos(angle)
    xy, yy = xy * flip_y, yy * flip_y
    centre = (size - 1) / 2
    dx, dy = rng.uniform(-shift, shift, (2, n)) * size
    # The crop's centre stays in place, but for the shift.
    x0 = centre - (xx + xy) * centre + dx
    y0 = centre - (yx + yy) * centre + dy
    zero = np.zeros(n)
    return np.stack([xx, xy, x0, yx, yy, y0, zero, zero], axis=-1).astype(np.float32)


def augment(crops: Any, transforms: NDArray[np.float32]) -> Any:
    """Apply the maps to (N, s, s, 3) crops; what comes from outside a crop is black, like its background."""
    import keras

    return keras.ops.image.affine_transform(
        keras.ops.cast(crops, "float32"),
        transforms,
        interpolation="bilinear",
        fill_mode="constant",
        fill_value=0.0,
        data_format="channels_last",
    )


def jitter_stain(crops: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Stain each crop a little otherwise, as another laboratory, lamp or camera would.

    Optical densities are parted into methyl blue, eosin and what is left; of each the amount is multiplied by 1 +-
    `strength` and `strength` at most is added or taken away (Tellez et al., Med. Image Anal. 58 (2019) 101544).

    Parameters
    ----------
    crops : (N, s, s, 3) uint8
        Cells on black, which stays black.
    strength : float
        In [0, 1); 0 changes nothing and draws no number.
    rng : numpy.random.Generator

    Returns
    -------
    jittered : (N, s, s, 3) uint8
    """
    if strength == 0:
        return crops
    from skimage.color import bex_from_rgb, rgb_from_bex

    amounts = -np.log((crops.astype(np.float32) + 1) / 256) @ bex_from_rgb.astype(np.float32)
    factor, offset = rng.uniform(-strength, strength, (2, len(crops), 1, 1, 3)).astype(np.float32)
    density = (amounts * (1 + factor) + offset) @ rgb_from_bex.astype(np.float32)
    # 1 at least: 0 is background.
    jittered = np.rint(256 * np.exp(-density) - 1).clip(1, 255)
    return np.where(crops.any(axis=-1, keepdims=True), jittered, 0).astype(np.uint8)
