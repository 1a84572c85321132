"""Which image cells were found in and scored on: by an identity, as names and sizes repeat. No Qt."""

from dataclasses import dataclass
from typing import Any

__all__ = ["FOUND_IN_KEY", "IDENTITY_KEY", "SCORED_ON_KEY", "Origin", "is_anothers", "origin_of"]

FOUND_IN_KEY = "all_detect_found_in"
"""In a labels layer's metadata: the `Origin` of its cells."""
SCORED_ON_KEY = "all_detect_scored_on"
"""The `Origin` of its scores."""
IDENTITY_KEY = "all_detect_identity"
"""In an image layer's metadata: its identity, and the shape of the layer that has it.

It goes along to copies and into what writers are given. A plane that napari cuts out of a stack gets it too, but has
another shape, and is another image.
"""


@dataclass(frozen=True)
class Origin:
    """An image: its identity, and the name that it had."""

    identity: Any
    name: str

    @classmethod
    def of(cls, image: Any) -> "Origin":
        """Note an image layer; its metadata have its identity from then on."""
        identity = _identity(image)
        image.metadata[IDENTITY_KEY] = identity, _shape(image)
        return cls(identity, image.name)

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
    return image.unique_id if identity is None or shape != _shape(image) else identity


def _shape(layer: Any) -> tuple[int, ...]:
    return tuple((layer.data[0] if layer.multiscale else layer.data).shape)
