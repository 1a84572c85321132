"""The plugin's settings in napari's preferences, declared in the manifest."""

from typing import Any

__all__ = ["PLUGIN", "plugin_settings"]

PLUGIN = "napari-all-detect"


def plugin_settings() -> Any:
    """Return the settings: `bundle`, `engine`, `colours`."""
    from napari.settings import get_plugin_settings

    return get_plugin_settings(PLUGIN).scoring
