"""Entries of napari's Layers menu: they open *Score cells* and press its button."""

from typing import Any

import napari

from napari_all_detect._napari.settings import PLUGIN
from napari_all_detect._napari.viewers import unwrapped

__all__ = ["find_white_cells", "score_white_cells"]


def find_white_cells(viewer: napari.Viewer) -> None:
    """Find the cells of the active image."""
    _score_cells(viewer).segment()


def score_white_cells(viewer: napari.Viewer) -> None:
    """Score the cells of the active image."""
    _score_cells(viewer).score()


def _score_cells(viewer: napari.Viewer) -> Any:
    """Open the widget, or find it open, and choose the active image in it."""
    viewer = unwrapped(viewer)
    active = viewer.layers.selection.active
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Score cells")
    widget.smear.image.choose(active if active is not None else widget.smear.layer)
    return widget
