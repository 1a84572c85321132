"""Label images as TIFF."""

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_all_detect.labelled import LabelImage
from napari_all_detect.windows import tiles

__all__ = ["labels_tiff", "write_labels"]

TILE_PX = 512


def write_labels(labels: LabelImage, path: Path) -> None:
    """Write labels as TIFF; see `labels_tiff`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(labels_tiff(labels))


def labels_tiff(labels: LabelImage) -> bytes:
    """Return labels as a compressed TIFF.

    Those in memory come in the smallest unsigned type that holds them (at least 16 bits); those that are read by parts
    in 32 bits as a tiled BigTIFF, of which never more than a tile is unpacked.
    """
    import tifffile

    file = io.BytesIO()
    facts: dict[str, Any] = {"compression": "zlib", "photometric": "minisblack", "metadata": None, "software": False}
    if isinstance(labels, np.ndarray):
        dtype = np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
        tifffile.imwrite(file, labels.astype(dtype), **facts)
    else:
        tile = (TILE_PX, TILE_PX)
        tifffile.imwrite(
            file, _tiles(labels), shape=labels.shape, dtype="<u4", tile=tile, bigtiff=True, byteorder="<", **facts
        )
    return file.getvalue()


def _tiles(labels: LabelImage) -> Iterator[bytes]:
    """Yield the tiles, packed. Most of a slide's are empty: those are packed once."""
    empty = zlib.compress(bytes(4 * TILE_PX**2))
    for window in tiles(labels.shape, TILE_PX):
        part = labels[window]
        if part.any():
            yield zlib.compress(np.pad(part.astype("<u4"), [(0, TILE_PX - n) for n in part.shape]).tobytes())
        else:
            yield empty
