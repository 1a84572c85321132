"""Clumps cut at their necks, but for the broad ones: lobes, dents and bumps are one cell."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from napari_all_detect.segmentation.depth import depth_within

__all__ = ["cut_at_necks", "cut_at_waists", "join_broad_necks", "join_lobes"]

WAIST = 0.8
"""Pieces of a clump are one cell where the neck between them is at least this share of the smaller one's width."""

Labels = NDArray[np.int32]


def cut_at_waists(mask: NDArray[np.bool_], diameter: float) -> Labels:
    """Cut clumps by their outline alone.

    Parameters
    ----------
    mask : (H, W) bool
    diameter : float
        Of a typical cell, in pixels.

    Returns
    -------
    pieces : (H, W) int32
        Numbers from 1 on, not all of them in use.
    """
    depth = ndi.gaussian_filter(depth_within(mask), 0.05 * diameter)
    return cut_at_necks(mask, depth, min_distance=0.3 * diameter, neck_share=WAIST)


def cut_at_necks(
    mask: NDArray[np.bool_],
    depth: NDArray[np.floating],
    *,
    min_distance: float,
    neck_share: float,
    least_depth: float | None = None,
) -> Labels:
    """Cut a mask into pieces around its deepest points.

    Parameters
    ----------
    mask : (H, W) bool
    depth : (H, W) float
        How deep a pixel lies in what it is part of.
    min_distance : float
        Between deepest points, in pixels.
    neck_share : float
        See `join_broad_necks`.
    least_depth : float, optional
        Regions that get no deeper are dropped.

    Returns
    -------
    pieces : (H, W) int32
        Numbers from 1 on, not all of them in use.
    """
    distance = max(1, round(min_distance))
    inside = np.where(mask, depth, 0)
    peaks = peak_local_max(inside, min_distance=distance, threshold_abs=least_depth, exclude_border=False)
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return join_broad_necks(_flooded(mask, depth, markers), depth, neck_share)


def _flooded(mask: NDArray[np.bool_], depth: NDArray[np.floating], markers: Labels) -> Labels:
    """Give each pixel of a region to one of its markers: by a watershed where there are several, which is rare.

    Region by region, what becomes of one depends on no other: where depths are the same, their order in the watershed's
    queue decides, and that would.
    """
    regions, n = ndi.label(mask)
    largest = np.zeros(n + 1, np.int32)
    np.maximum.at(largest, regions[markers > 0], markers[markers > 0])
    basins = largest[regions]
    several = np.bincount(regions[markers > 0], minlength=n + 1) > 1
    for number, box in enumerate(ndi.find_objects(regions), start=1):
        if several[number]:
            own = regions[box] == number
            flooded = watershed(-depth[box], np.where(own, markers[box], 0), mask=own)
            basins[box][own] = flooded[own]
    return np.asarray(basins, np.int32)


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
    width = _greatest(pieces, depth)
    owner = np.arange(len(width))
    for (one, other), neck in _widest_first(pieces, depth):
        a, b = owner[one], owner[other]
        if a != b and neck >= neck_share * min(width[a], width[b]):
            width[a] = max(width[a], width[b])
            owner[owner == b] = a
    return np.asarray(owner[pieces], np.int32)


def join_lobes(pieces: Labels, depth: NDArray[np.floating], whole: NDArray[np.bool_], neck_share: float) -> Labels:
    """Give each piece that is no cell by itself to the whole one with which it shares its deepest neck.

    Parameters
    ----------
    pieces, depth
        As for `join_broad_necks`.
    whole : (n + 1,) bool
        By number: whether the piece can stand alone.
    neck_share : float
        Depth of the neck, over that of the shallower piece, from which it goes to the other.

    Returns
    -------
    joined : (H, W) int32
        Numbers of those that went up in others are missing.
    """
    width = _greatest(pieces, depth)
    owner = np.arange(len(width))
    for pair, neck in _widest_first(pieces, depth):
        lobe, cell = sorted(pair, key=lambda number: whole[number])
        if whole[cell] and not whole[lobe] and owner[lobe] == lobe and neck >= neck_share * min(width[[lobe, cell]]):
            owner[lobe] = cell
    return np.asarray(owner[pieces], np.int32)


def _greatest(pieces: Labels, depth: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the greatest depth of each number."""
    greatest = np.zeros(pieces.max(initial=0) + 1, depth.dtype)
    np.maximum.at(greatest, pieces.ravel(), depth.ravel())
    return greatest


def _widest_first(pieces: Labels, depth: NDArray[np.floating]) -> list[tuple[tuple[int, int], float]]:
    """Return the pairs of neighbours with the depth of the neck between them, the deepest first."""
    return sorted(_necks(pieces, depth).items(), key=lambda item: -item[1])


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
