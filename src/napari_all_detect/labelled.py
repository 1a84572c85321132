"""Label images of which parts are read: what is expected of them, and where their cells lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_all_detect.errors import InputError
from napari_all_detect.params import LARGEST_LABEL
from napari_all_detect.windows import Window

__all__ = ["Group", "LabelImage", "boxes_of", "check_labels", "check_range", "groups", "place_of"]

MOST_CELLS = 4096
"""Measured and cut out at once."""


class LabelImage(Protocol):
    """An (H, W) label image, or what reads it, of which windows are taken."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Some type of whole numbers."""
        ...

    def __getitem__(self, window: Window) -> NDArray[Any]: ...


def place_of(labels: NDArray[np.integer], box: tuple[slice, ...], number: int) -> tuple[int, int, int]:
    """Return by what cells are ordered, wherever they are found: top and left of a label's box, then its first pixel.

    That pixel, the leftmost of the top row, is no other label's: by it all tiles agree on whose a cell is.

    Examples
    --------
    >>> labels = np.array([[0, 0, 0], [0, 0, 5], [0, 5, 5]])
    >>> place_of(labels, (slice(1, 3), slice(1, 3)), 5)
    (1, 1, 2)
    """
    y, x = (side.start for side in box)
    return y, x, x + int((labels[box][0] == number).argmax())


@dataclass(frozen=True, eq=False)
class Group:
    """Cells that are measured and cut out together.

    Attributes
    ----------
    window : (slice, slice)
        In which all of them lie.
    rows : (n,) int
        Their places among the plane's cells, ascending.
    """

    window: Window
    rows: NDArray[np.intp]


def groups(boxes: NDArray[np.int64], tile_px: int) -> Iterator[Group]:
    """Gather cells by the tile in which their boxes begin.

    Parameters
    ----------
    boxes : (N, 4) int
        y0, x0, y1, x1.
    tile_px : int
    """
    tile = boxes[:, :2] // tile_px
    order = np.lexsort((np.arange(len(boxes)), tile[:, 1], tile[:, 0]))
    starts = np.flatnonzero(np.any(np.diff(tile[order], axis=0, prepend=-1), axis=1))
    for rows in np.split(order, starts[1:]):
        for first in range(0, len(rows), MOST_CELLS):
            some = rows[first : first + MOST_CELLS]
            (y0, x0), (y1, x1) = boxes[some, :2].min(axis=0).tolist(), boxes[some, 2:].max(axis=0).tolist()
            yield Group((slice(y0, y1), slice(x0, x1)), some)


def check_labels(labels: LabelImage, shape: tuple[int, ...]) -> None:
    """Raise InputError unless labels are whole numbers, for an image of this height and width."""
    if labels.shape != shape:
        raise InputError(f"the labels' shape is {labels.shape}, the image's {shape}; expected the same")
    if labels.dtype.kind not in "iub":
        raise InputError(f"labels are {labels.dtype}; expected whole numbers, 0 for background")


def check_range(labels: NDArray[np.integer | np.bool_]) -> None:
    """Raise InputError unless the numbers of a label image are in the range that cells may have."""
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high > LARGEST_LABEL:
        raise InputError(f"labels run from {low} to {high}; expected 0 to {LARGEST_LABEL}: number the cells from 1")


def boxes_of(labels: LabelImage, tiles: list[Window], widest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers in a label image, ascending, and their (N, 4) boxes.

    Raises
    ------
    InputError
        If numbers are out of range, or one lies in places too far apart to be read at once.
    """
    found: dict[int, list[int]] = {}
    for window in tiles:
        part = labels[window]
        if not part.any():
            continue
        check_range(part)
        values, inverse = np.unique(part, return_inverse=True)
        (y, x) = (side.start for side in window)
        there = ndi.find_objects(inverse.reshape(part.shape).astype(np.int32) + (values[0] != 0))
        for number, box in zip(values[values > 0].tolist(), there, strict=True):
            new = y + box[0].start, x + box[1].start, y + box[0].stop, x + box[1].stop
            old = found.get(number, new)
            found[number] = [*map(min, old[:2], new[:2]), *map(max, old[2:], new[2:])]
    numbers = np.array(sorted(found), np.int64)
    boxes = np.array([found[number] for number in numbers.tolist()], np.int64).reshape(-1, 4)
    extent = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    if extent.max(initial=0) > widest:
        raise InputError(
            f"label {numbers[extent.argmax()]} is {extent.max()} pixels long, more than a tile with its margins "
            f"({widest}); expected a number for each cell, or larger tiles: --tile-size"
        )
    return numbers, boxes
