"""Whether an image is still the one that a run scored, by what its record says. No Qt."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_all_detect._napari.files.pyramid import OpenedSmear
from napari_all_detect.digest import file_digest
from napari_all_detect.params import TILED_FROM_PX
from napari_all_detect.sources.identity import identity, stamp
from napari_all_detect.sources.plane import readable

__all__ = ["is_as_scored"]


def is_as_scored(entry: Mapping[str, Any], smear: OpenedSmear, level: int, planes: Sequence[str]) -> bool | None:
    """Compare an image that was opened with the one that was scored.

    It is the same if sizes and times of its files are. If they were touched or copied since, a file is compared by its
    content, a store by its pixels, unless these are more than are read of a plane at once.

    Parameters
    ----------
    entry : mapping
        The image's entry in `run.json`.
    smear : OpenedSmear
    level : int
        The one that was scored.
    planes : sequence of str
        The names of its planes, in order.

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
        return _is_as_scored(entry, smear, level, planes)


def _is_as_scored(entry: Mapping[str, Any], smear: OpenedSmear, level: int, planes: Sequence[str]) -> bool | None:
    now = stamp(smear.path)
    if now and now.items() <= entry.items():
        return True
    if "bytes" in entry and entry["bytes"] != now.get("bytes"):
        return False
    if "bytes" in now:
        return file_digest(smear.path) == entry["sha256"] if "sha256" in entry else None
    pixels, known = smear.arrays[level], entry.get("pixels_sha256", {})
    if pixels[..., 0].size > TILED_FROM_PX or not known.keys() >= set(planes):
        return None
    each = pixels.reshape((-1, *pixels.shape[-3:]))
    return all(
        identity(smear.path, np.asarray(plane))["pixels_sha256"] == known[name]
        for name, plane in zip(planes, each, strict=True)
    )
