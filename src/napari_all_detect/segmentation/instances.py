"""Maps of what is cell, nucleus and core -> one label per cell, at the plane's own resolution."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from skimage.filters import gaussian
from skimage.segmentation import expand_labels

from napari_all_detect.labelled import place_of
from napari_all_detect.segmentation.grid import stretch
from napari_all_detect.segmentation.necks import cut_at_necks, join_lobes

__all__ = ["HALF", "enlarge", "expected_share", "in_one_piece", "keep_only", "part"]

HALF = 128
"""Even odds, in the bytes of a map."""

LEAST_CORE = 0.45
"""What gets no deeper than this share of a cell's depth is no cell."""

NECK = 0.75
"""Pieces of a clump are one cell where the neck between them is at least this share of the smaller one's depth."""

LOBE_NECK = 0.5
"""A piece without a nucleus is a part of the cell beside it from this share on: cytoplasm has lobes of its own."""

LEAST_AREA = 0.12
"""Smaller than this share of a typical cell is debris."""

LEAST_NUCLEUS = 0.08
"""A white cell's nucleus takes at least this share of it."""

GROWN = 2
"""Pixels of the maps by which labels overlap the outlines that are found at the plane's resolution."""

Labels = NDArray[np.int32]
Window = tuple[slice, ...]
Maps = NDArray[np.uint8]


def part(maps: Maps, diameter: float) -> Labels:
    """Part what touches, at the maps' resolution.

    Parameters
    ----------
    maps : (h, w, 3) uint8
        Probabilities of cell, nucleus and core, times 255.
    diameter : float
        Of a typical cell, in pixels of the maps.

    Returns
    -------
    pieces : (h, w) int32
        Consecutive from 1, without what is too small for a white cell or has no nucleus.
    """
    inside = maps[..., 0] >= HALF
    core = gaussian(maps[..., 2], 0.04 * diameter, preserve_range=True).astype(np.float32) / 255
    pieces = cut_at_necks(inside, core, min_distance=0.15 * diameter, neck_share=NECK, least_depth=LEAST_CORE)
    nuclei = maps[..., 1] >= HALF
    pieces = join_lobes(pieces, core, _has_nucleus(pieces, nuclei), LOBE_NECK)
    large = _area(pieces) >= LEAST_AREA * np.pi / 4 * diameter**2 * expected_share(pieces)
    return keep_only(pieces, large & _has_nucleus(pieces, nuclei))


def _has_nucleus(pieces: Labels, nuclei: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell for each number whether enough of the piece is nucleus."""
    area = _area(pieces)
    return np.asarray(np.bincount(pieces[nuclei], minlength=len(area)) >= LEAST_NUCLEUS * area)


def _area(pieces: Labels) -> NDArray[np.intp]:
    return np.bincount(pieces.ravel())


def expected_share(pieces: Labels) -> NDArray[np.float64]:
    """Return for each number how much of a cell can be expected: half of it where the border cuts it."""
    share = np.ones(pieces.max(initial=0) + 1)
    for edge in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
        share[edge] = 0.5
    return share


def keep_only(pieces: Labels, keep: NDArray[np.bool_]) -> Labels:
    """Drop the numbers that are not to be kept, and number the others anew."""
    kept = keep & (np.arange(len(keep)) > 0)
    return np.asarray(np.where(kept, np.cumsum(kept), 0)[pieces], np.int32)


def enlarge(pieces: Labels, outline: NDArray[np.uint8], shape: tuple[int, int], ratio: Fraction) -> Labels:
    """Bring labels to the plane's resolution, with smooth outlines, in one piece each and without holes.

    Parameters
    ----------
    pieces : (h, w) int32
    outline : (h, w) uint8
        The probability of cell, times 255.
    shape : (int, int)
        Height and width of the plane.
    ratio : Fraction
        Pixels of the plane that are one of the pieces.

    Returns
    -------
    cells : (H, W) int32
        Consecutive from top to bottom.
    """
    inside = stretch(outline, shape, ratio) >= HALF
    labels, share = np.zeros(shape, np.int32), np.zeros(shape, np.uint8)
    for number, box in enumerate(ndi.find_objects(pieces), start=1):
        if box is not None:
            window, member = _membership(pieces, number, box, ratio, shape)
            if not member.size:
                continue
            wins = inside[window] & (member > share[window])
            labels[window][wins] = number
            share[window][wins] = member[wins]
    return in_one_piece(labels)


def _membership(
    labels: Labels, number: int, box: Window, ratio: Fraction, shape: tuple[int, int]
) -> tuple[Window, NDArray[np.uint8]]:
    """Return where one label's surroundings lie in the plane, and how much of it each pixel there is (0 to 255)."""
    small = _widened(box, GROWN + 1, labels.shape)
    (rows, top, bottom), (columns, left, right) = (
        _in_plane(part, ratio, n) for part, n in zip(small, shape, strict=True)
    )
    size = columns.stop - columns.start, rows.stop - rows.start
    if min(size) <= 0:
        return (rows, columns), np.zeros((0, 0), np.uint8)
    own = Image.fromarray(np.where(_grown(labels, small) == number, 255, 0).astype(np.uint8))
    return (rows, columns), np.asarray(own.resize(size, Image.Resampling.BILINEAR, box=(left, top, right, bottom)))


def _in_plane(part: slice, ratio: Fraction, n: int) -> tuple[slice, float, float]:
    """Return where a part of an axis lies in the plane, and from where to where that is in it, in its own pixels.

    In whole numbers: what a label becomes depends on nothing but its surroundings, not on where they lie in the plane.
    """
    p, q = ratio.as_integer_ratio()
    start, stop = -(-part.start * p // q), min(n, (2 * part.stop * p + q) // (2 * q))
    first, last = start * q - part.start * p, stop * q - part.start * p
    return slice(start, stop), max(first, 0) / p, min(last, (part.stop - part.start) * p) / p


def _grown(labels: Labels, window: Window) -> Labels:
    """Return a window of the labels, each a little larger: what lies beside it takes part."""
    around = _widened(window, GROWN, labels.shape)
    grown = expand_labels(labels[around], GROWN)
    return np.asarray(
        grown[tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(window, around, strict=True))]
    )


def _widened(window: Window, margin: int, shape: tuple[int, ...]) -> Window:
    return tuple(slice(max(0, s.start - margin), min(n, s.stop + margin)) for s, n in zip(window, shape, strict=True))


def in_one_piece(labels: Labels) -> Labels:
    """Keep the largest part of each label, fill its holes, and number them from top to bottom."""
    boxes = [(box, number) for number, box in enumerate(ndi.find_objects(labels), start=1) if box is not None]
    largest = np.zeros_like(labels)
    for box, number in boxes:
        parts, n = ndi.label(labels[box] == number)
        mask = parts == np.bincount(parts.ravel())[1:].argmax() + 1 if n > 1 else parts > 0
        largest[box][mask] = number
    boxes = [(box, number) for number, box in enumerate(ndi.find_objects(largest), start=1) if box is not None]
    whole = np.zeros_like(labels)
    ordered = sorted(boxes, key=lambda item: place_of(largest, *item))
    for new, (box, number) in enumerate(ordered, start=1):
        filled = ndi.binary_fill_holes(largest[box] == number)
        whole[box][filled & ((largest[box] == 0) | (largest[box] == number))] = new
    return whole
