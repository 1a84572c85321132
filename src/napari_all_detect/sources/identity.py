"""Whether an input is still what it was: at a glance, and for certain."""

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.digest import file_digest
from napari_all_detect.params import TILE_PX, TILED_FROM_PX
from napari_all_detect.sources.places import is_remote
from napari_all_detect.windows import Pixels

__all__ = ["identity", "stamp"]


def stamp(path: Path) -> dict[str, int | str]:
    """Return what shows at a glance that a source has not changed since: sizes and times, no content.

    Of a file its size and time of change; of a zarr store a digest over those of all its files, but for the labels and
    tables that lie in it; of what is not on this machine nothing.
    """
    if is_remote(path):
        return {}
    try:
        if path.is_file():
            facts = path.stat()
            return {"bytes": facts.st_size, "modified_ns": facts.st_mtime_ns}
        return {"listing": _listing(path)} if path.is_dir() else {}
    except OSError:
        return {}


def identity(path: Path, pixels: Pixels) -> dict[str, int | str]:
    """Return what a plane was scored from: a file's size and SHA-256; of other sources that of the pixels.

    Parameters
    ----------
    path : Path
    pixels : Pixels
        As read from there: at once or by tiles, however wide, the digest is the same.
    """
    if not is_remote(path) and path.is_file():
        facts = path.stat()
        return {"bytes": facts.st_size, "sha256": _sha256(path, facts.st_size, facts.st_mtime_ns)}
    digest = hashlib.sha256()
    for rows in _bands(pixels):
        digest.update(rows.data)
    return {"pixels_sha256": digest.hexdigest()}


def _bands(pixels: Pixels) -> Iterator[NDArray[np.uint8]]:
    """Yield a plane's rows from top to bottom, no more at once than there are pixels in a plane that is read whole.

    They are read by parts, since that takes more memory than the pixels do; and their number is a power of two, as the
    edges of chunks are, so that few chunks are read more than once.
    """
    height, width = pixels.shape[:2]
    n_rows = max(1, min(TILE_PX, 2 ** (TILED_FROM_PX // width).bit_length() // 2))
    band = np.empty((min(n_rows, height), width, 3), np.uint8)
    for top in range(0, height, n_rows):
        rows = band[: height - top]
        for left in range(0, width, TILE_PX):
            columns = slice(left, min(left + TILE_PX, width))
            rows[:, columns] = pixels[slice(top, top + len(rows)), columns]
        yield rows


@lru_cache(maxsize=64)
def _sha256(path: Path, n_bytes: int, modified_ns: int) -> str:
    """Return a file's digest; size and time only say which content is meant, as a stack's file is asked about often."""
    return file_digest(path)


def _listing(store: Path) -> str:
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(store):
        folders[:] = sorted(name for name in folders if name not in ("labels", "tables"))
        for name in sorted(files):
            facts = Path(folder, name).stat()
            relative = os.path.relpath(Path(folder, name), store)
            digest.update(f"{relative}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
