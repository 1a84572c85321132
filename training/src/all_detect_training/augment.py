"""Flips, rotation, zoom and shift (Mondal et al. 2021, section 2.2.2), in one interpolation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["augment", "random_transforms"]


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
