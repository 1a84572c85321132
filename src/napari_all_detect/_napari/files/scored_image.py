"""Whether an image is still the one that a run scored, by what its record says. No Qt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_all_detect._napari.files.pyramid import OpenedSmear
from napari_all_detect.digest import file_digest
from napari_all_detect.sources.identity import identity, stamp
from napari_all_detect.sources.plane import readable

__all__ = ["Patience", "is_as_scored"]


@dataclass
class Patience:
    """For how many pixels of stores the window may wait, all that are opened at once together: two or three seconds."""

    left_px: int = 2**24

    def suffices(self, n_px: int) -> bool:
        """Return whether so many may be read, and count them."""
        enough = n_px <= self.left_px
        self.left_px -= n_px if enough else 0
        return enough


def is_as_scored(
    entry: Mapping[str, Any], smear: OpenedSmear, level: int, planes: Sequence[str], patience: Patience
) -> bool | None:
    """Compare an image that was opened with the one that was scored.

    It is the same if sizes and times of its files are. If they were touched or copied since, a file is compared by its
    content, a store by its pixels, unless these are too many.

    Parameters
    ----------
    entry : mapping
        The image's entry in `run.json`.
    smear : OpenedSmear
    level : int
        The one that was scored.
    planes : sequence of str
        The names of its planes, in order.
    patience : Patience

    Returns
    -------
    same : bool or None
        None if that can't be told.

    Raises
    ------
    InputError
        If it can't be read.
    """
    with readable(smear.path, "an image"):
        now = stamp(smear.path)
        if now and now.items() <= entry.items():
            return True
        if "bytes" in entry and entry["bytes"] != now.get("bytes"):
            return False
        if "bytes" in now:
            return file_digest(smear.path) == entry["sha256"] if "sha256" in entry else None
        pixels, known = smear.arrays[level], entry.get("pixels_sha256", {})
        if not known.keys() >= set(planes) or not patience.suffices(pixels[..., 0].size):
            return None
        each = pixels.reshape((-1, *pixels.shape[-3:]))
        return all(
            identity(smear.path, np.asarray(plane))["pixels_sha256"] == known[name]
            for name, plane in zip(planes, each, strict=True)
        )
