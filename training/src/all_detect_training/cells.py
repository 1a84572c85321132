"""Cells by class, in memory and on disk."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.atomic import written_atomically
from napari_all_detect.errors import InputError

__all__ = ["Cells", "opened_npz"]


@dataclass(frozen=True)
class Cells:
    """Crops with their class and where they come from.

    Attributes
    ----------
    crops : (N, s, s, 3) uint8
    is_all : (N,) bool
        The class of the image that a cell was found in.
    image : (N,) str
        `<class folder>/<file>`, in the order of the folders' natural sorting.
    diameter_px : (N,) float32
        Of the circle of the same area.
    """

    crops: NDArray[np.uint8]
    is_all: NDArray[np.bool_]
    image: NDArray[np.str_]
    diameter_px: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "Cells":
        return Cells(self.crops[which], self.is_all[which], self.image[which], self.diameter_px[which])

    def save(self, path: Path) -> None:
        """Write to an `.npz` file, whole or not at all."""
        arrays = {name: getattr(self, name) for name in ("crops", "is_all", "image", "diameter_px")}
        with written_atomically(path) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path, *, crops: bool = True) -> "Cells":
        """Read what `save` wrote, or all but its crops, whose sides are then 0; InputError if the file is damaged."""
        with opened_npz(path, "remove it, and the same `all-detect-train fit` reads the images again") as arrays:
            own = {name: arrays[name] for name in ("is_all", "image", "diameter_px")}
            return cls(arrays["crops"] if crops else np.zeros((len(own["image"]), 0, 0, 3), np.uint8), **own)


@contextmanager
def opened_npz(path: Path, remedy: str) -> Iterator[Any]:
    """Open an `.npz` file; what is wrong with it, or with what is read from it, becomes an InputError.

    Parameters
    ----------
    path : Path
    remedy : str
        What to do about a damaged file; the message ends with it.
    """
    try:
        # Opened here, as NumPy leaves a file open that is no archive.
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged ({error}); {remedy}") from error
