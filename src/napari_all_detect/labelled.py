"""A plane too large for the memory, and its cells: pixels and label images on disk, of which parts are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_all_detect.errors import InputError
from napari_all_detect.params import LARGEST_LABEL
from napari_all_detect.scratch import Scratch

__all__ = [
    "Group",
    "LabelImage",
    "LabelStore",
    "LabelView",
    "Pixels",
    "Window",
    "boxes_of",
    "check_labels",
    "check_range",
    "groups",
    "place_of",
    "tiles",
]

CHUNK_PX = 512
MOST_CELLS = 4096
"""Measured and cut out at once."""

Window = tuple[slice, slice]
"""Rows and columns; both have a start and a stop within the plane."""


class Pixels(Protocol):
    """A plane, or what reads it: (H, W, 3) uint8 of which windows are taken."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width, and perhaps more."""
        ...

    def __getitem__(self, window: Window) -> NDArray[np.uint8]: ...


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


def tiles(shape: Sequence[int], tile_px: int) -> Iterator[Window]:
    """Divide a plane into squares, row by row; those at its right and lower border may be narrower."""
    height, width = shape[:2]
    for y in range(0, height, tile_px):
        for x in range(0, width, tile_px):
            yield slice(y, min(y + tile_px, height)), slice(x, min(x + tile_px, width))


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


class LabelStore:
    """A label image on disk, in a temporary folder.

    Parameters
    ----------
    shape : (int, int)
    nuclei : bool
        Whether nuclei are kept, too.
    """

    def __init__(self, shape: tuple[int, int], nuclei: bool) -> None:
        import zarr

        self._scratch = Scratch()
        self._array: Any = zarr.create_array(
            self._scratch.path, shape=shape, chunks=(CHUNK_PX, CHUNK_PX), dtype="uint32", fill_value=0
        )
        self._has_nuclei = nuclei
        self._places: list[tuple[int, ...]] = []

    def add(self, window: Window, cells: NDArray[np.int32], nuclei: NDArray[np.int32] | None) -> None:
        """Add cells, numbered from 1 on, but for pixels that are another's already.

        Only where clumps were cut do cells lie on others; those of which most would be hidden are left out.
        """
        window, cells, nuclei = _trimmed(window, cells, nuclei)
        held = self._array[window]
        free = (cells > 0) & (held == 0)
        area, left = (np.bincount(cells[part], minlength=int(cells.max()) + 1) for part in (cells > 0, free))
        keep = (2 * left >= area) & (left > 0)
        numbers = np.where(keep, np.cumsum(keep) + len(self._places), 0)
        own = np.where(free, numbers[cells], 0)
        inner = 0 if nuclei is None else nuclei > 0
        self._array[window] = np.where(own > 0, 2 * own + inner, held)
        (top, left_px) = (part.start for part in window)
        first = len(self._places)
        for number, box in enumerate(ndi.find_objects(np.where(own > 0, own - first, 0)), start=first + 1):
            y, x, x_first = place_of(own, box, number)
            self._places.append((top + y, left_px + x, left_px + x_first, top + box[0].stop, left_px + box[1].stop))

    def views(self) -> "tuple[LabelView, LabelView | None, NDArray[np.int64]]":
        """Return the labels, numbered from top to bottom, the nuclei, and the (N, 4) boxes y0, x0, y1, x1."""
        places = np.array(self._places, np.int64).reshape(-1, 5)
        order = np.lexsort(places[:, 2::-1].T)
        numbers = np.zeros(len(places) + 1, np.int32)
        numbers[order + 1] = np.arange(1, len(places) + 1)
        nuclei = LabelView(self, numbers, True) if self._has_nuclei else None
        return LabelView(self, numbers, False), nuclei, places[order][:, [0, 1, 3, 4]]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return int(self._array.shape[0]), int(self._array.shape[1])

    def __getitem__(self, window: Window) -> NDArray[np.uint32]:
        """Return twice the numbers, in the order in which they were added, and one more in nuclei."""
        return np.asarray(self._array[window])


def _trimmed(
    window: Window, cells: NDArray[np.int32], nuclei: NDArray[np.int32] | None
) -> tuple[Window, NDArray[np.int32], NDArray[np.int32] | None]:
    """Leave away what lies beyond the outermost cells."""
    ((y, x),) = ndi.find_objects((cells > 0).astype(np.int8))
    top, left = (part.start for part in window)
    place = slice(top + y.start, top + y.stop), slice(left + x.start, left + x.stop)
    return place, cells[y, x], None if nuclei is None else nuclei[y, x]


@dataclass(frozen=True, eq=False)
class LabelView:
    """A label image in a store, (H, W) int32; index it to read a part."""

    store: LabelStore
    numbers: NDArray[np.int32]
    nuclei: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.store.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Int32."""
        return np.dtype(np.int32)

    def __getitem__(self, window: Window) -> NDArray[np.int32]:
        held = self.store[window]
        labels = self.numbers[held >> 1]
        return np.where(held & 1, labels, 0) if self.nuclei else labels

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:, :].astype(dtype or np.int32)


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
