"""Whether an input is still what it was: at a glance, and for certain."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from napari_all_detect.digest import file_digest
from napari_all_detect.sources.places import is_remote
from napari_all_detect.sources.rgb import RgbPlane
from napari_all_detect.sources.tiled import TiledPlane

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


def identity(path: Path, pixels: RgbPlane | TiledPlane) -> dict[str, int | str]:
    """Return what a plane was scored from: a file's size and SHA-256; of other sources that of the pixels.

    Parameters
    ----------
    path : Path
    pixels : RgbPlane or TiledPlane
        As read from there; the digest of one that is read by tiles is that of one tile after the other.
    """
    if not is_remote(path) and path.is_file():
        facts = path.stat()
        return {"bytes": facts.st_size, "sha256": _sha256(path, facts.st_size, facts.st_mtime_ns)}
    digest = hashlib.sha256()
    for part in [pixels.rgb] if isinstance(pixels, RgbPlane) else (pixels[tile] for tile in pixels.tiles):
        digest.update(np.ascontiguousarray(part).data)
    return {"pixels_sha256": digest.hexdigest()}


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
