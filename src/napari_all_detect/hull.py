"""How many pixels the convex hulls of cells have: scikit-image's `area_convex`, counted in whole numbers.

scikit-image fills an image of each hull, which takes most of the time of measuring a cell; here both sides of all hulls
are followed down their rows at once. The numbers are the same, pixel for pixel.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["hull_areas"]

Ints = NDArray[np.intp]


def hull_areas(masks: Sequence[NDArray[np.bool_]]) -> Ints:
    """Count the pixels whose centres lie in or on the convex hull of each mask's pixels.

    The hull is that of the middles of the pixels' edges, as in `skimage.morphology.convex_hull_image`.

    Parameters
    ----------
    masks : sequence of (h, w) bool
        In each at least one pixel is set.

    Returns
    -------
    areas : (N,) int

    Examples
    --------
    >>> hull_areas([np.array([[1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], bool), np.eye(3, dtype=bool)])
    array([10,  3])
    """
    if not masks:
        return np.zeros(0, np.intp)
    rows, first, last = zip(*map(_ends, masks), strict=True)
    n_rows = np.array([one[-1] + 1 for one in rows])
    # The right side is the left one of the mirror image.
    found = _first_in_hull([*rows, *rows], [*first, *(-one for one in last)], np.tile(n_rows, 2))
    left, right = np.add.reduceat(found, _begins(np.tile(n_rows, 2))[:-1]).reshape(2, -1)
    return np.asarray(n_rows - left - right)


def _ends(mask: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Return the rows of a mask, from the first on, and the first and last pixel in each."""
    (rows,) = np.nonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    return rows - rows[0], first, mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)


def _begins(lengths: Ints) -> Ints:
    """Return where parts of these lengths begin if they are one after the other, and where the last ends."""
    return np.concatenate([[0], np.cumsum(lengths)])


def _first_in_hull(rows: Sequence[Ints], first: Sequence[Ints], n_rows: Ints) -> Ints:
    """Return the hull's first pixel in each row from the first to the last, of one side after the other."""
    # In half pixels: the middle of a pixel's left edge, and between two rows those of upper and lower edges.
    begin = _begins(2 * n_rows + 1)
    side = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
    y, x = begin[side] + 2 * np.concatenate(rows), np.concatenate(first)
    left = np.full(begin[-1], np.iinfo(np.intp).max)
    for offset, there in ((0, 2 * x), (2, 2 * x), (1, 2 * x - 1)):
        left[y + offset] = np.minimum(left[y + offset], there)
    (points,) = np.nonzero(left < np.iinfo(np.intp).max)
    corner_y, corner_x = _convex(points, left[points], np.searchsorted(begin, points, "right"))
    wanted = np.concatenate([at + np.arange(1, 2 * n, 2) for at, n in zip(begin, n_rows, strict=False)])
    after = np.searchsorted(corner_y, wanted)
    y0, y1, x0, x1 = corner_y[after - 1], corner_y[after], corner_x[after - 1], corner_x[after]
    return np.asarray(-((-(x0 * (y1 - y0) + (x1 - x0) * (wanted - y0))) // (2 * (y1 - y0))))


def _convex(y: Ints, x: Ints, side: Ints) -> tuple[Ints, Ints]:
    """Return the corners of the convex line to the left of each side's points, which are sorted by y.

    A point that does not lie to the left of the line between its neighbours is no corner, whatever else is none: such
    points are dropped until there are no more.
    """
    while True:
        (y0, y1, y2), (x0, x1, x2) = ((of[:-2], of[1:-1], of[2:]) for of in (y, x))
        inner = (side[:-2] == side[1:-1]) & (side[1:-1] == side[2:])
        keep = np.ones(len(y), bool)
        keep[1:-1] = ~inner | ((x1 - x0) * (y2 - y0) < (x2 - x0) * (y1 - y0))
        if keep.all():
            return y, x
        y, x, side = y[keep], x[keep], side[keep]
