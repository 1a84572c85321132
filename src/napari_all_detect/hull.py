"""How many pixels the convex hull of a cell has: scikit-image's `area_convex`, counted in whole numbers.

scikit-image fills an image of each hull, which takes most of the time of measuring a cell; here the hull's two sides
are followed down the rows. The number is the same, pixel for pixel.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["hull_area"]


def hull_area(mask: NDArray[np.bool_]) -> int:
    """Count the pixels whose centres lie in or on the convex hull of a mask's pixels.

    The hull is that of the middles of the pixels' edges, as in `skimage.morphology.convex_hull_image`.

    Parameters
    ----------
    mask : (h, w) bool
        At least one pixel is set.

    Examples
    --------
    >>> hull_area(np.array([[1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], bool))
    10
    >>> hull_area(np.eye(3, dtype=bool))
    3
    """
    (rows,) = np.nonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    # The right side is the left one of the mirror image.
    return int((1 - _first_in_hull(rows, first) - _first_in_hull(rows, -last)).sum())


def _first_in_hull(rows: NDArray[np.intp], first: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the hull's first pixel in each row from the first to the last, of those of the mask in some of them."""
    # In half pixels: the middle of a pixel's left edge, and between two rows those of upper and lower edges.
    top = 2 * int(rows[0]) - 1
    left = np.full(2 * int(rows[-1]) + 2 - top, np.iinfo(np.intp).max)
    for offset, x in ((0, 2 * first), (2, 2 * first), (1, 2 * first - 1)):
        at = 2 * rows - 1 + offset - top
        left[at] = np.minimum(left[at], x)
    (y,) = np.nonzero(left < np.iinfo(np.intp).max)
    corner_y, corner_x = _convex(y.tolist(), left[y].tolist())
    wanted = np.arange(1, len(left), 2)
    after = np.searchsorted(corner_y, wanted)
    y0, y1, x0, x1 = corner_y[after - 1], corner_y[after], corner_x[after - 1], corner_x[after]
    return np.asarray(-((-(x0 * (y1 - y0) + (x1 - x0) * (wanted - y0))) // (2 * (y1 - y0))))


def _convex(ys: list[int], xs: list[int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the corners of the convex line to the left of points that are sorted by y (Andrew 1979)."""
    corners: list[tuple[int, int]] = []
    for y, x in zip(ys, xs, strict=True):
        while len(corners) > 1:
            (y0, x0), (y1, x1) = corners[-2:]
            if (x1 - x0) * (y - y0) < (x - x0) * (y1 - y0):
                break
            corners.pop()
        corners.append((y, x))
    found = np.array(corners, np.intp)
    return found[:, 0], found[:, 1]
