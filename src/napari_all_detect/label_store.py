"""A label image on disk, to which cells are added tile by tile, and which is read in parts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_all_detect.labelled import place_of
from napari_all_detect.scratch import Scratch
from napari_all_detect.windows import Window

__all__ = ["LabelStore", "LabelView"]

CHUNK_PX = 512


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
