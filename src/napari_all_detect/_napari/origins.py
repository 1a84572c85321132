"""Which image layer cells were found in and scored on: by its identity, as names and sizes repeat. No Qt."""

from dataclasses import dataclass
from typing import Any

__all__ = ["FOUND_IN_KEY", "SCORED_ON_KEY", "Origin", "is_anothers", "origin_of"]

FOUND_IN_KEY = "all_detect_found_in"
"""In a labels layer's metadata: the `Origin` of its cells."""
SCORED_ON_KEY = "all_detect_scored_on"
"""The `Origin` of its scores."""


@dataclass(frozen=True)
class Origin:
    """An image layer: its identity, and the name that it had."""

    unique_id: Any
    name: str

    @classmethod
    def of(cls, image: Any) -> "Origin":
        """Note an image layer."""
        return cls(image.unique_id, image.name)


def origin_of(labels: Any) -> Origin | None:
    """Return the image that labels were scored on last, or else found in; None of labels from elsewhere."""
    origin: Origin | None = labels.metadata.get(SCORED_ON_KEY, labels.metadata.get(FOUND_IN_KEY))
    return origin


def is_anothers(labels: Any, image: Any) -> bool:
    """Return whether labels are known to be another image's."""
    origin = origin_of(labels)
    return origin is not None and origin.unique_id != image.unique_id
