"""The viewer itself, from what napari hands to plugins, and what its layers hold. No Qt."""

from typing import Any

__all__ = ["finest", "unwrapped"]


def finest(layer: Any) -> Any:
    """Return the array of an image or labels layer, of its finest level if it has several."""
    return layer.data[0] if layer.multiscale else layer.data


def unwrapped(viewer: Any) -> Any:
    """Return the viewer behind napari's proxy.

    The proxy wraps each layer anew whenever it is asked for one, so that a layer would not be identical to itself, and
    a weak reference to it would die at once.
    """
    return getattr(viewer, "__wrapped__", viewer)
