"""Which image cells were found in and scored on: by an identity, as names and sizes repeat. No Qt."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4
from weakref import ref

import numpy as np
from dask.base import is_dask_collection

from napari_all_detect._napari.layers.metadata_keys import FOUND_IN_KEY, IDENTITY_KEY, PIXELS_KEY, SCORED_ON_KEY
from napari_all_detect._napari.layers.viewers import finest

__all__ = ["Origin", "identified", "is_anothers", "origin_of"]


@dataclass(frozen=True)
class Origin:
    """An image: its identity, and the name that it had."""

    identity: Any
    name: str
    file: str | None = None
    """Where napari's own reader has read it; writers are not told."""

    @classmethod
    def of(cls, image: Any) -> "Origin":
        """Note an image layer; its metadata have its identity from then on."""
        identity, pixels = _identity(image), finest(image)
        if identity is None:
            identity = uuid4()
            image.metadata.update(identified(identity, pixels))
        path = image.source.path
        return cls(identity, image.name, None if path is None else str(path))

    def is_of(self, image: Any) -> bool:
        """Return whether a layer has this image."""
        return bool(self.identity == _identity(image))

    def name_beside(self, image: Any) -> str:
        """Return how the image is told from a layer that is another one, though perhaps of the same name."""
        return repr(self.name) if self.name != image.name else f"{self.name!r} as it was before"


def identified(identity: Any, pixels: Any) -> dict[str, Any]:
    """Return what the metadata of a layer say that has this identity as long as it has these pixels."""
    return {IDENTITY_KEY: (identity, tuple(pixels.shape)), PIXELS_KEY: _held(pixels)}


def origin_of(labels: Any) -> Origin | None:
    """Return the image that labels were scored on last, or else found in; None of labels from elsewhere."""
    origin: Origin | None = labels.metadata.get(SCORED_ON_KEY, labels.metadata.get(FOUND_IN_KEY))
    return origin


def is_anothers(labels: Any, image: Any) -> bool:
    """Return whether labels are known to be another image's."""
    origin = origin_of(labels)
    return origin is not None and not origin.is_of(image)


def _identity(image: Any) -> Any:
    """Return the identity that a layer's metadata have, None if it is not that of the pixels that the layer has now."""
    if IDENTITY_KEY not in image.metadata:
        return None
    identity, shape = image.metadata[IDENTITY_KEY]
    now = finest(image)
    if shape != tuple(now.shape):
        return None
    before = image.metadata[PIXELS_KEY]()
    if before is not now:
        if not _are_equal(before, now):
            return None
        image.metadata[PIXELS_KEY] = _held(now)  # a copy is compared once
    return identity


def _are_equal(before: Any, now: Any) -> bool:
    """Return whether pixels are known to be the same without computing them: dask's names say what is computed."""
    if isinstance(before, np.ndarray) and isinstance(now, np.ndarray):
        return all(map(np.array_equal, before, now))
    return is_dask_collection(before) and is_dask_collection(now) and bool(before.name == now.name)


def _held(pixels: Any) -> Callable[[], Any]:
    try:
        return ref(pixels)
    except TypeError:  # there are arrays that can't be
        return lambda: pixels
