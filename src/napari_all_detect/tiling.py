"""The cells of a plane, held in memory or, where it is taken in tiles, on disk: found, measured, cut out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect import table
from napari_all_detect.crops import center_crop, resampling_px
from napari_all_detect.label_store import LabelStore
from napari_all_detect.labelled import Group, LabelImage, boxes_of, groups
from napari_all_detect.scratch import Scratch
from napari_all_detect.segmentation import ON_BLACK, Find, find_whole
from napari_all_detect.segmentation.tiles import find_in_tiles
from napari_all_detect.sources import RgbPlane, TiledPlane

__all__ = ["TiledCells", "WholeCells", "find_in_plane", "find_tiled", "given_tiled", "read_crops"]

Labels = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class WholeCells:
    """Cells of a plane in memory.

    Attributes
    ----------
    rgb : (H, W, 3) uint8
    labels : (H, W) int32
    nuclei : (H, W) int32 or None
    notes : tuple of str
        As of `TiledCells`.
    """

    rgb: NDArray[np.uint8]
    labels: Labels
    nuclei: Labels | None
    notes: tuple[str, ...] = ()

    def measure(self, pixel_size_um: float | None) -> dict[str, Any]:
        """Return the columns of `table.geometry`."""
        return table.geometry(self.labels, pixel_size_um, self.nuclei)

    def cut(self, size: int, scale: float) -> NDArray[np.uint8]:
        """Return the crops."""
        return center_crop(self.rgb, self.labels, size, scale)


@dataclass(frozen=True, eq=False)
class TiledCells:
    """Cells of a plane of which parts are read.

    Attributes
    ----------
    plane : TiledPlane
    labels : LabelImage
    nuclei : LabelImage or None
    numbers : (N,) int
        The cells' numbers in the label image, ascending.
    boxes : (N, 4) int
        y0, x0, y1, x1 of each.
    notes : tuple of str
        What is different from cells found in the whole plane, and whether that was taken for cells on black.
    """

    plane: TiledPlane
    labels: LabelImage
    nuclei: LabelImage | None
    numbers: NDArray[np.int64]
    boxes: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    def measure(self, pixel_size_um: float | None) -> dict[str, Any]:
        """Return the columns of `table.geometry`."""
        none = np.zeros((1, 1), np.int32)
        columns: dict[str, Any] = table.geometry(none, pixel_size_um, None if self.nuclei is None else none)
        columns = {name: np.zeros(len(self.numbers), values.dtype) for name, values in columns.items()}
        for group, labels in self._groups():
            nuclei = None if self.nuclei is None else np.where(self.nuclei[group.window] > 0, labels, 0)
            origin = group.window[0].start, group.window[1].start
            for name, values in table.geometry(labels, pixel_size_um, nuclei, origin).items():
                columns[name][group.rows] = values
        return columns | {"label": self.numbers}

    def cut(self, size: int, scale: float) -> NDArray[np.uint8]:
        """Return the crops, mapped from a file that goes when nothing refers to them any more."""
        shape = len(self.numbers), size, size, 3
        if not shape[0]:
            return np.zeros(shape, np.uint8)
        scratch = Scratch()
        with (scratch.path / "crops").open("wb") as file:
            for group, labels in self._groups():
                window, labels = _widened(group, labels, resampling_px(scale), self.plane.shape)
                origin = window[0].start, window[1].start
                crops = center_crop(
                    self.plane[window], labels, size, scale, origin=origin, plane_shape=self.plane.shape
                )
                for row, crop in zip(group.rows.tolist(), crops, strict=True):
                    file.seek(row * crop.nbytes)
                    file.write(crop.tobytes())
        mapped = np.memmap(scratch.path / "crops", np.uint8, "r", shape=shape)
        scratch.stay_with(mapped.base)
        return mapped

    def _groups(self) -> Iterator[tuple[Group, Labels]]:
        """Yield the cells that lie together, and their labels, numbered from 1 on in that group."""
        local = np.zeros(int(self.numbers.max(initial=0)) + 1, np.int32)
        for group in groups(self.boxes, self.plane.tile_px):
            numbers = self.numbers[group.rows]
            local[numbers] = np.arange(1, len(numbers) + 1)
            labels = self.labels[group.window]
            yield group, np.where(labels < len(local), local[np.minimum(labels, len(local) - 1)], 0)
            local[numbers] = 0


def read_crops(crops: NDArray[np.uint8], rows: slice) -> NDArray[np.uint8]:
    """Return some of a plane's crops; those in a file are read, as what is mapped would stay in memory."""
    if not isinstance(crops, np.memmap) or crops.filename is None:
        return crops[rows]
    rows = slice(*rows.indices(len(crops))[:2])
    shape = rows.stop - rows.start, *crops.shape[1:]
    offset = rows.start * crops[0].nbytes
    return np.fromfile(crops.filename, np.uint8, int(np.prod(shape)), offset=offset).reshape(shape)


def _widened(group: Group, labels: Labels, by: int, shape: tuple[int, int]) -> tuple[tuple[slice, slice], Labels]:
    """Return a group's window and labels with a margin, as far as the plane reaches."""
    before = [min(by, part.start) for part in group.window]
    after = [min(by, n - part.stop) for part, n in zip(group.window, shape, strict=True)]
    rows, columns = (
        slice(part.start - b, part.stop + a) for part, b, a in zip(group.window, before, after, strict=True)
    )
    return (rows, columns), np.pad(labels, list(zip(before, after, strict=True)))


def find_in_plane(plane: RgbPlane | TiledPlane, find: Find) -> WholeCells | TiledCells:
    """Find the cells of a plane, and their nuclei: tile by tile if it is read by parts.

    Parameters
    ----------
    plane : RgbPlane or TiledPlane
    find : callable
        Finds the cells, and if told so nuclei, of a view.
    """
    if isinstance(plane, TiledPlane):
        return find_tiled(plane, find)
    found = find_whole(plane.rgb, find, nuclei=True)
    notes = (ON_BLACK,) if found.on_black and found.cells.any() else ()
    return WholeCells(plane.rgb, found.cells, found.nuclei, notes)


def find_tiled(plane: TiledPlane, find: Find) -> TiledCells:
    """Find the cells of a plane tile by tile; see `find_in_plane`."""
    store: LabelStore | None = None
    whole, on_black = True, False
    for tile in find_in_tiles(plane, plane.tiles, find):
        store = store or LabelStore(plane.shape, tile.nuclei is not None)
        store.add(tile.window, tile.cells, tile.nuclei)
        whole, on_black = whole and tile.whole, on_black or tile.on_black
    labels, nuclei, boxes = (store or LabelStore(plane.shape, True)).views()
    cut = () if whole else ("clumps of cells that reach far beyond a tile were cut",)
    notes = (*cut, *((ON_BLACK,) if on_black else ()))
    return TiledCells(plane, labels, nuclei, np.arange(1, len(boxes) + 1), boxes, notes)


def given_tiled(plane: TiledPlane, labels: LabelImage, nuclei: LabelImage | None = None) -> TiledCells:
    """Take the cells of a label image; see `labelled.boxes_of` for what is refused."""
    numbers, boxes = boxes_of(labels, plane.tiles, 3 * plane.tile_px)
    return TiledCells(plane, labels, nuclei, numbers, boxes)
