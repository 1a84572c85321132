"""Shapes and textures that look grown rather than drawn: wobbly outlines and smooth noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Outline",
    "Window",
    "coverage",
    "random_outline",
    "relative_radius",
    "smooth_noise",
    "window_around",
]

Floats = NDArray[np.float32]
Window = tuple[slice, slice]


@dataclass(frozen=True)
class Outline:
    """A closed curve around a centre: its radius is a Fourier series of the angle.

    Attributes
    ----------
    radius_px : float
        Mean radius.
    waves : tuple of (int, float, float)
        Terms (order, amplitude relative to the radius, phase in radians). Order 2 makes it oval.
    """

    radius_px: float
    waves: tuple[tuple[int, float, float], ...] = ()

    @property
    def reach_px(self) -> float:
        """No point of the curve is farther from the centre than this."""
        return self.radius_px * (1 + sum(amplitude for _, amplitude, _ in self.waves))

    def radius_at(self, angle: Floats) -> Floats:
        """Return the radius in pixels at each angle (radians, counted from +x towards +y)."""
        wobble = np.ones_like(angle)
        for order, amplitude, phase in self.waves:
            wobble += np.float32(amplitude) * np.cos(order * angle + np.float32(phase))
        return np.float32(self.radius_px) * wobble


def random_outline(rng: np.random.Generator, radius_px: float, *, oval: float, rough: float) -> Outline:
    """Return an outline of a given mean radius.

    Parameters
    ----------
    rng : Generator
        Source of chance.
    radius_px : float
        Mean radius, above 0.
    oval, rough : float
        Largest relative amplitudes of order 2, and of the orders 3 to 6 together. Their sum stays below 1, so
        that the curve does not cross itself.

    Examples
    --------
    >>> round_cell = random_outline(np.random.default_rng(0), 10.0, oval=0.0, rough=0.0)
    >>> round_cell.reach_px
    10.0
    """
    orders = np.arange(2, 7)
    largest = np.concatenate([[oval], rough * np.array([0.4, 0.3, 0.2, 0.1])])
    amplitudes = largest * rng.uniform(0.2, 1.0, orders.size)
    phases = rng.uniform(0, 2 * np.pi, orders.size)
    waves = zip(orders.tolist(), amplitudes.tolist(), phases.tolist(), strict=True)
    return Outline(radius_px, tuple(waves))


def window_around(y_px: float, x_px: float, reach_px: float, shape: tuple[int, int]) -> Window:
    """Return the part of an image within `reach_px` (and 2 pixels) of a point; empty if that is outside."""
    top, left = int(np.floor(y_px - reach_px)) - 2, int(np.floor(x_px - reach_px)) - 2
    bottom, right = int(np.ceil(y_px + reach_px)) + 3, int(np.ceil(x_px + reach_px)) + 3
    rows = slice(max(top, 0), max(min(bottom, shape[0]), 0))
    columns = slice(max(left, 0), max(min(right, shape[1]), 0))
    return rows, columns


def relative_radius(outline: Outline, y_px: float, x_px: float, window: Window) -> Floats:
    """Return each pixel's distance from the centre over the curve's radius in that direction.

    0 is the centre, 1 the outline; the shape is that of the window.
    """
    rows, columns = window
    dy = (np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(y_px))[:, None]
    dx = (np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(x_px))[None, :]
    relative: Floats = np.hypot(dy, dx) / outline.radius_at(np.arctan2(dy, dx))
    return relative


def coverage(relative: Floats, radius_px: float) -> Floats:
    """Return how much of each pixel lies inside an outline, 0 to 1: a soft edge one pixel wide."""
    inside: Floats = np.clip((1 - relative) * np.float32(radius_px) + np.float32(0.5), 0, 1)
    return inside


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma_px: float) -> Floats:
    """Return noise of mean about 0 and standard deviation about 1 whose grains are some `sigma_px` wide.

    Examples
    --------
    >>> noise = smooth_noise(np.random.default_rng(0), (64, 64), sigma_px=2.0)
    >>> bool(0.8 < noise.std() < 1.2), noise.dtype
    (True, dtype('float32'))
    """
    from scipy import ndimage

    noise = rng.standard_normal(shape, dtype=np.float32)
    ndimage.gaussian_filter(noise, sigma_px, output=noise, mode="wrap")
    # Along each axis the filter averages about 2 sqrt(pi) sigma values, but no more than there are.
    averaged = np.clip(2 * np.sqrt(np.pi) * sigma_px, 1, np.maximum(shape, 1))
    return noise * np.float32(np.sqrt(averaged.prod()))
