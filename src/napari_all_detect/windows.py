"""Planes of which parts are read, as they may be too large for the memory."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pixels", "Window", "tiles"]

Window = tuple[slice, slice]
"""Rows and columns; both have a start and a stop within the plane."""


class Pixels(Protocol):
    """A plane, or what reads it: (H, W, 3) uint8 of which windows are taken."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width, and perhaps more."""
        ...

    def __getitem__(self, window: Window) -> NDArray[np.uint8]: ...


def tiles(shape: Sequence[int], tile_px: int) -> Iterator[Window]:
    """Divide a plane into squares, row by row; those at its right and lower border may be narrower."""
    height, width = shape[:2]
    for y in range(0, height, tile_px):
        for x in range(0, width, tile_px):
            yield slice(y, min(y + tile_px, height)), slice(x, min(x + tile_px, width))
