"""Stains, lamps and cameras that no data set has: scenes with their absorbed light mixed anew."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_all_detect.segmentation.light import empty_field, relative_light
from napari_all_detect.unet import EMPTY_FIELD

__all__ = ["as_seen", "restain"]


DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Optical density of each byte."""


def restain(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change colours, strength, sharpness, noise and exposure of each picture at random.

    Parameters
    ----------
    rgb : (N, H, W, 3) uint8

    Returns
    -------
    restained : (N, H, W, 3) uint8
        Optical densities are mixed linearly (Beer-Lambert), so that dyes change and shapes stay.
    """
    n = len(rgb)
    density = DENSITY[rgb.reshape(n, -1, 3)] @ _mixing(n, rng)
    light = np.exp(-np.maximum(density, 0)).reshape(rgb.shape)
    blurred = rng.random(n) < 0.3
    sigma = rng.uniform(0.4, 1.3)
    light[blurred] = ndi.gaussian_filter(light[blurred], (0, sigma, sigma, 0))
    light *= np.exp(rng.normal(0, 0.1, (n, 1, 1, 1)))
    light += 0.03 * rng.random((n, 1, 1, 1)) ** 2 * rng.standard_normal(light.shape, np.float32)
    return np.asarray(np.clip(np.rint(255 * light), 0, 255), np.uint8)


def as_seen(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return pictures as the network gets them: light relative to each one's empty field."""
    seen = np.stack([relative_light(picture, empty_field(picture), EMPTY_FIELD) for picture in rgb])
    return (seen / np.float32(EMPTY_FIELD)).astype(np.float32)


def _mixing(n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return for each picture how the densities of red, green and blue make the new ones, (n, 3, 3)."""
    amount = np.where(rng.random((n, 1, 1)) < 0.6, 1.0, 0.25)
    mixing = np.eye(3) + amount * rng.normal(0, 0.16, (n, 3, 3))
    mixing *= np.exp(rng.normal(0, 0.2, (n, 1, 3)) + rng.normal(0, 0.25, (n, 1, 1)))
    grey = 0.6 * rng.random((n, 1, 1)) ** 3 * (rng.random((n, 1, 1)) < 0.4)
    return np.asarray(mixing @ ((1 - grey) * np.eye(3) + grey / 3), np.float32)
