"""Label images as TIFF."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_labels"]


def write_labels(labels: NDArray[np.integer], path: Path) -> None:
    """Write labels as a compressed TIFF, in the smallest unsigned type that holds them (at least 16 bits)."""
    import tifffile

    dtype = np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path, labels.astype(dtype), compression="zlib", photometric="minisblack", metadata=None, software=False
    )
