"""A plane too large to be read at once: its shape, and any part of it when that is needed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import InputError, StoreError
from napari_all_detect.retrying import with_retries
from napari_all_detect.sources.rgb import RgbPlane, as_rgb, extremes, overall
from napari_all_detect.windows import Window, tiles

__all__ = ["TiledPlane", "of_plane", "open_tiled"]


@dataclass(frozen=True, eq=False)
class TiledPlane:
    """A plane of which parts are read.

    Attributes
    ----------
    shape : (int, int)
        Height and width.
    tile_px : int
        How wide the tiles are in which it is to be taken.
    reader : callable
        Returns a window of it, (h, w, 3) uint8; index the plane instead.
    noted : callable
        Returns the notes; see there.

    Examples
    --------
    >>> plane = open_tiled(np.zeros((300, 500), np.uint16).__getitem__, (300, 500), 256, "drawn")
    >>> plane[100:200, 250:500].shape, [tile[1].stop for tile in plane.tiles]
    ((100, 250, 3), [256, 500, 256, 500])
    """

    shape: tuple[int, int]
    tile_px: int
    reader: Callable[[Window], NDArray[np.uint8]]
    noted: Callable[[], tuple[str, ...]] = tuple

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the values, and what was missing in the parts read so far, as for `RgbPlane`."""
        return self.noted()

    def __getitem__(self, window: Window) -> NDArray[np.uint8]:
        rows, columns = window
        return self.reader((slice(*rows.indices(self.shape[0])[:2]), slice(*columns.indices(self.shape[1])[:2])))

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: all of it at once, if there is memory for it."""
        return self[:, :]

    @property
    def tiles(self) -> list[Window]:
        """The windows into which it is divided, row by row."""
        return list(tiles(self.shape, self.tile_px))


def open_tiled(
    read: Callable[[Window], NDArray[np.generic]], shape: tuple[int, int], tile_px: int, name: str
) -> TiledPlane:
    """Open a plane for reading by parts.

    Values other than 8-bit colours are read once as a whole, tile by tile: how they are brought to 8 bits depends on
    the least and the greatest of them all.

    Of a disk or server that fails each part is asked for again, after the waits of `retrying`. The first pixel is not:
    without it nothing is opened, and that is for the caller to try again.

    Parameters
    ----------
    read : callable
        Returns a window of what `as_rgb` takes; a StoreError may be over the next time.
    shape : (int, int)
    tile_px : int
    name : str
        What the error messages call the image.

    Raises
    ------
    InputError
        If the values can't be used, as `as_rgb` says, or can't be read.
    """

    def asked(window: Window) -> NDArray[np.generic]:
        try:
            return with_retries(partial(read, window), StoreError)
        except StoreError as error:
            raise InputError(str(error)) from error  # asked for often enough: a StoreError is tried again by callers

    corner = read((slice(0, 1), slice(0, 1)))
    known = extremes(corner, name)
    if corner.dtype != np.uint8 or len(known) > 1:
        known = reduce(overall, (extremes(asked(window), name) for window in tiles(shape, tile_px)))

    def converted(window: Window) -> NDArray[np.uint8]:
        return as_rgb(asked(window), name, known).rgb

    notes = as_rgb(corner, name, known).notes
    return TiledPlane(shape, tile_px, converted, lambda: notes)


def of_plane(plane: RgbPlane, tile_px: int) -> TiledPlane:
    """Take a plane that was read at once in tiles."""
    shape = plane.rgb.shape[0], plane.rgb.shape[1]
    return TiledPlane(shape, tile_px, plane.rgb.__getitem__, lambda: plane.notes)
