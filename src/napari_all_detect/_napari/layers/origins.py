"""Which image cells were found in and scored on: by an identity, as names and sizes repeat. No Qt."""

from dataclasses import dataclass
from typing import Any

from napari_all_detect._napari.layers.metadata_keys import FOUND_IN_KEY, IDENTITY_KEY, SCORED_ON_KEY
from napari_all_detect._napari.layers.viewers import finest

__all__ = ["Origin", "is_anothers", "origin_of"]


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
        identity = _identity(image)
        image.metadata[IDENTITY_KEY] = identity, tuple(finest(image).shape)
        path = image.source.path
        return cls(identity, image.name, None if path is None else str(path))

    def is_of(self, image: Any) -> bool:
        """Return whether a layer has this image."""
        return bool(self.identity == _identity(image))


def origin_of(labels: Any) -> Origin | None:
    """Return the image that labels were scored on last, or else found in; None of labels from elsewhere."""
    origin: Origin | None = labels.metadata.get(SCORED_ON_KEY, labels.metadata.get(FOUND_IN_KEY))
    return origin


def is_anothers(labels: Any, image: Any) -> bool:
    """Return whether labels are known to be another image's."""
    origin = origin_of(labels)
    return origin is not None and not origin.is_of(image)


def _identity(image: Any) -> Any:
    identity, shape = image.metadata.get(IDENTITY_KEY, (None, None))
    return image.unique_id if identity is None or shape != tuple(finest(image).shape) else identity
