"""The viewer itself, from what napari hands to plugins. No Qt."""

from typing import Any

__all__ = ["unwrapped"]


def unwrapped(viewer: Any) -> Any:
    """Return the viewer behind napari's proxy.

    The proxy wraps each layer anew whenever it is asked for one, so that a layer would not be identical to itself, and
    a weak reference to it would die at once.
    """
    return getattr(viewer, "__wrapped__", viewer)
