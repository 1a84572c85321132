"""Label images as TIFF."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["labels_tiff", "write_labels"]


def write_labels(labels: NDArray[np.integer], path: Path) -> None:
    """Write labels as TIFF; see `labels_tiff`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(labels_tiff(labels))


def labels_tiff(labels: NDArray[np.integer]) -> bytes:
    """Return labels as a compressed TIFF, in the smallest unsigned type that holds them (at least 16 bits)."""
    import tifffile

    dtype = np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
    file = io.BytesIO()
    tifffile.imwrite(
        file, labels.astype(dtype), compression="zlib", photometric="minisblack", metadata=None, software=False
    )
    return file.getvalue()
