"""A plane segmented tile by tile: each cell once, and as in the whole plane.

What becomes of a pixel depends on what it hangs together with, not on how far off that ends. So each tile is looked at
with a margin, and with a wider one where anything that reaches into the tile also reaches the margin's end. A cell is
the tile's in which its first pixel lies: all tiles agree on that.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_all_detect.labelled import place_of
from napari_all_detect.segmentation import Find, surveyed
from napari_all_detect.segmentation.view import Found, View
from napari_all_detect.windows import Pixels, Window

__all__ = ["TileCells", "find_in_tiles"]

LEAST_MARGIN_PX, MARGIN = 64, 1 / 8
"""Of a tile's width, or so many pixels: more than most clumps of cells reach beyond a tile."""

WIDEST_MARGIN_PX, WIDEST_MARGIN = 1024, 1 / 2
"""Likewise, what a margin is widened to at most: a clump that reaches further is cut there."""


@dataclass(frozen=True, eq=False)
class TileCells:
    """The cells of a tile.

    Attributes
    ----------
    window : (slice, slice)
        Where they lie in the plane; it may reach beyond the tile.
    cells : (h, w) int32
        From 1 on, in no order.
    nuclei : (h, w) int32 or None
        The same numbers where the nuclei are.
    whole : bool
        Whether all that the tile's cells hang together with was seen.
    on_black : bool
        Whether the plane is taken for cells cut out on black.
    """

    window: Window
    cells: NDArray[np.int32]
    nuclei: NDArray[np.int32] | None
    whole: bool
    on_black: bool


def find_in_tiles(plane: Pixels, tiles: list[Window], find: Find) -> Iterator[TileCells]:
    """Yield the cells of each tile that has some.

    Parameters
    ----------
    plane : Pixels
    tiles : list of (slice, slice)
        Into which the plane is divided.
    find : callable
        Finds the cells of a view, and their nuclei if told so: they are asked for.
    """
    survey = surveyed(plane, find)
    if not survey.closed:
        find(View.whole(plane, survey), True)
        survey.close()
    for tile in tiles:
        reach = _reaches(tile)
        while True:
            window = _widened(tile, reach, plane.shape, survey.block_px)
            found = find(View(plane, window, survey), True)
            unfinished = _unfinished(found, tile, window, plane.shape)
            wider = _wider(reach, unfinished, _widest(tile))
            if wider == reach:
                break
            reach = wider
        cells = _owned(found.cells, tile, window) if found.cells.any() else found.cells
        if cells.any():
            inner = None if found.nuclei is None else np.where(found.nuclei > 0, cells, 0)
            yield TileCells(window, cells, inner, unfinished == ((0, 0), (0, 0)), found.on_black)


Ends = tuple[tuple[int, int], tuple[int, int]]
"""A number for each side: above, below; left, right."""


def _reaches(tile: Window) -> Ends:
    edge = max(part.stop - part.start for part in tile)
    margin = max(LEAST_MARGIN_PX, round(MARGIN * edge))
    return (margin, margin), (margin, margin)


def _widest(tile: Window) -> int:
    edge: int = max(part.stop - part.start for part in tile)
    return max(WIDEST_MARGIN_PX, round(WIDEST_MARGIN * edge))


def _wider(reach: Ends, unfinished: Ends, widest: int) -> Ends:
    """Double the margins that did not suffice."""
    (above, below), (left, right) = (
        tuple(min(2 * margin, widest) if more else margin for margin, more in zip(*axis, strict=True))
        for axis in zip(reach, unfinished, strict=True)
    )
    return (above, below), (left, right)


def _widened(tile: Window, reach: Ends, shape: tuple[int, ...], block_px: int) -> Window:
    """Return a tile with its margins, which begins where pixels of the plane and of its reduced copy do together."""
    rows, columns = (
        slice(max(0, part.start - before) // block_px * block_px, min(n, part.stop + after))
        for part, (before, after), n in zip(tile, reach, shape[:2], strict=True)
    )
    return rows, columns


def _unfinished(found: Found, tile: Window, window: Window, shape: tuple[int, ...]) -> Ends:
    """Return on which sides something that reaches into the tile may go on beyond the window; 1 or 0."""
    if not found.involved.any():
        return (0, 0), (0, 0)
    grown = ndi.maximum_filter(found.involved.astype(np.uint8), 2 * found.reach_px + 1, mode="constant")
    regions, n = ndi.label(grown, np.ones((3, 3)))
    inner = []
    for part, outer, small in zip(tile, window, regions.shape, strict=True):
        scale = small / (outer.stop - outer.start)
        inner.append(
            slice(int((part.start - outer.start) * scale), int(np.ceil((part.stop - outer.start) * scale)) + 1)
        )
    reaching = np.zeros(n + 1, bool)
    reaching[regions[tuple(inner)]] = True
    reaching[0] = False
    (top, bottom), (left, right) = (
        (part.start > 0, part.stop < length) for part, length in zip(window, shape[:2], strict=True)
    )
    return (
        (int(top and reaching[regions[0]].any()), int(bottom and reaching[regions[-1]].any())),
        (int(left and reaching[regions[:, 0]].any()), int(right and reaching[regions[:, -1]].any())),
    )


def _owned(cells: NDArray[np.int32], tile: Window, window: Window) -> NDArray[np.int32]:
    """Keep the cells whose first pixel, from the top and then from the left, lies in the tile."""
    (top, left), (rows, columns) = (part.start for part in window), tile
    keep = np.zeros(int(cells.max(initial=0)) + 1, bool)
    for number, box in enumerate(ndi.find_objects(cells), start=1):
        if box is not None:
            y, _, x = place_of(cells, box, number)
            keep[number] = rows.start <= top + y < rows.stop and columns.start <= left + x < columns.stop
    return np.asarray(np.where(keep, np.cumsum(keep), 0)[cells], np.int32)
