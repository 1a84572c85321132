"""Which keys napari has for a layer. No Qt."""

from typing import Any

from napari.utils.key_bindings import coerce_keybinding

__all__ = ["has_key"]


def has_key(layer: Any, key: str) -> bool:
    """Return whether a key does something while this layer is active, by default or as the user has set it."""
    keymaps = [layer.keymap, *(getattr(kind, "class_keymap", {}) for kind in type(layer).__mro__)]
    return any(coerce_keybinding(key) in keymap for keymap in keymaps)
