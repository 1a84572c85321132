"""Pieces of a clump that are one cell after all: lobes, dents and bumps."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["join_broad_necks"]

Labels = NDArray[np.int32]


def join_broad_necks(pieces: Labels, depth: NDArray[np.floating], neck_share: float) -> Labels:
    """Join neighbours whose common border is nearly as deep as the shallower of them.

    Parameters
    ----------
    pieces : (H, W) int32
        Watershed basins of `-depth`.
    depth : (H, W) float
        Distance to the outline of what they are pieces of.
    neck_share : float
        Depth of the border, over that of the shallower piece, from which they are one.

    Returns
    -------
    joined : (H, W) int32
        Numbers of those that went up in others are missing.
    """
    width = np.zeros(pieces.max(initial=0) + 1, depth.dtype)
    np.maximum.at(width, pieces.ravel(), depth.ravel())
    owner = np.arange(len(width))
    for (one, other), neck in sorted(_necks(pieces, depth).items(), key=lambda item: -item[1]):
        a, b = owner[one], owner[other]
        if a != b and neck >= neck_share * min(width[a], width[b]):
            width[a] = max(width[a], width[b])
            owner[owner == b] = a
    return np.asarray(owner[pieces], np.int32)


def _necks(pieces: Labels, depth: NDArray[np.floating]) -> dict[tuple[int, int], float]:
    """Return for each pair of neighbours the greatest depth on the border between them."""
    necks: dict[tuple[int, int], float] = {}
    for here, there in (np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1]):
        border = (pieces[here] != pieces[there]) & (pieces[here] > 0) & (pieces[there] > 0)
        ends = np.sort([pieces[here][border], pieces[there][border]], axis=0)
        depths = np.minimum(depth[here][border], depth[there][border])
        for one, other, value in zip(*ends.tolist(), depths.tolist(), strict=True):
            necks[one, other] = max(value, necks.get((one, other), 0.0))
    return necks
