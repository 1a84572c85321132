"""The crops of cells whose scores were read from a file: cut again when they are looked at. No Qt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.crops import center_crop

__all__ = ["CropsOnDemand", "CutPlane"]


@dataclass(frozen=True, eq=False)
class CutPlane:
    """What a plane's crops are cut from.

    Attributes
    ----------
    rgb : (H, W, 3) uint8 array-like
        Numpy or dask; read when it is needed, and of it no more than is.
    labels : (H, W) integer
    scale : float
        By which the plane was rescaled.
    """

    rgb: Any
    labels: NDArray[np.integer]
    scale: float


class CropsOnDemand:
    """Stands for (N, s, s, 3) uint8 crops.

    Parameters
    ----------
    planes : sequence of CutPlane
    place : (N,) int
        Which plane each cell is in.
    numbers : (N,) int
        Its label there.
    boxes : (N, 4) int
        Its bounding box: y0, x0, y1, x1.
    size : int
        s.
    """

    def __init__(
        self,
        planes: Sequence[CutPlane],
        place: NDArray[np.integer],
        numbers: NDArray[np.integer],
        boxes: NDArray[np.integer],
        size: int,
    ) -> None:
        self._planes, self._place, self._numbers, self._boxes, self._size = planes, place, numbers, boxes, size
        self._cut: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """Return one crop of a number, crops of a slice or an array of numbers."""
        if isinstance(rows, int | np.integer):
            return self._crop(int(rows))
        some = [self._crop(int(k)) for k in np.arange(len(self))[rows]]
        return np.stack(some) if some else np.zeros((0, self._size, self._size, 3), np.uint8)

    def _crop(self, row: int) -> NDArray[np.uint8]:
        if row not in self._cut:
            plane = self._planes[self._place[row]]
            if plane.scale == 1.0:
                self._cut[row] = self._cut_alone(row, plane)
            else:
                self._cut_together(plane, int(self._place[row]))
        return self._cut[row]

    def _cut_alone(self, row: int, plane: CutPlane) -> NDArray[np.uint8]:
        """Cut a cell out of a region that holds it and its crop."""
        region = []
        for start, stop, length in zip(self._boxes[row, :2], self._boxes[row, 2:], plane.labels.shape, strict=True):
            first = int((start + stop - self._size) // 2)
            region.append(slice(max(0, min(first, int(start))), min(length, max(first + self._size, int(stop)))))
        where = tuple(region)
        cell = (plane.labels[where] == self._numbers[row]).astype(np.uint8)
        crops = center_crop(np.asarray(plane.rgb[where]), cell, self._size)
        return crops[0] if len(crops) else np.zeros((self._size, self._size, 3), np.uint8)

    def _cut_together(self, plane: CutPlane, place: int) -> None:
        """Cut all cells of a plane, which is rescaled as a whole."""
        crops = center_crop(np.asarray(plane.rgb), plane.labels, self._size, plane.scale)
        numbers = np.flatnonzero(np.bincount(plane.labels.ravel())[1:]) + 1
        for row in np.flatnonzero(self._place == place):
            at = int(np.searchsorted(numbers, self._numbers[row]))
            found = at < len(numbers) and numbers[at] == self._numbers[row]
            self._cut[int(row)] = crops[at] if found else np.zeros((self._size, self._size, 3), np.uint8)
