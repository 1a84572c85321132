"""The crops of cells whose scores were read from a file: cut again when they are looked at. No Qt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.crops import center_crop, resampling_px
from napari_all_detect.errors import InputError

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
            self._cut[row] = self._cut_out(row)
        return self._cut[row]

    def _cut_out(self, row: int) -> NDArray[np.uint8]:
        """Cut a cell out of a region that holds all pixels that take part; black if it is not in the labels."""
        plane, corners = self._planes[self._place[row]], self._boxes[row]
        box = tuple(slice(int(start), int(stop)) for start, stop in zip(corners[:2], corners[2:], strict=True))
        around, shape = resampling_px(plane.scale), plane.labels.shape
        y, x = (slice(max(0, s.start - around), min(n, s.stop + around)) for s, n in zip(box, shape, strict=True))
        margins = [(s.start - part.start, part.stop - s.stop) for s, part in zip(box, (y, x), strict=True)]
        cell = np.pad((plane.labels[box] == self._numbers[row]).astype(np.uint8), margins)
        try:
            pixels = np.asarray(plane.rgb[y, x])
        except Exception as error:  # a layer's array may be anything, and on a share that is gone by now
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"the cells' image can't be read any more ({reason}); open it again") from error
        crops = center_crop(
            pixels,
            cell,
            self._size,
            plane.scale,
            origin=(y.start, x.start),
            plane_shape=(shape[0], shape[1]),
        )
        return crops[0] if len(crops) else np.zeros((self._size, self._size, 3), np.uint8)
