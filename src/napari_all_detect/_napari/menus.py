"""Entries of napari's Layers menu: they open *Score cells* and press its button."""

from typing import Any

import napari
from napari.layers import Image, Labels

from napari_all_detect._napari.layers.axes import fitting
from napari_all_detect._napari.layers.origins import is_anothers, origin_of
from napari_all_detect._napari.layers.viewers import unwrapped
from napari_all_detect._napari.settings import PLUGIN

__all__ = ["find_white_cells", "score_white_cells"]


def find_white_cells(viewer: napari.Viewer) -> None:
    """Find the cells of the active image."""
    _score_cells(viewer).segment()


def score_white_cells(viewer: napari.Viewer) -> None:
    """Score the cells of the active image, or the active cells if they can be its."""
    widget, active = _score_cells(viewer), unwrapped(viewer).layers.selection.active
    if isinstance(active, Labels) and active.visible and _may_be_of(active, widget.smear.layer):
        widget.cells.choose(active)
    widget.score()


def _score_cells(viewer: napari.Viewer) -> Any:
    """Open the widget, or find it open, and choose the active image in it, or that of the active cells."""
    viewer = unwrapped(viewer)
    image = _image_of(viewer.layers, viewer.layers.selection.active)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Score cells")
    if image is not None:
        widget.smear.image.choose(image)
    return widget


def _image_of(layers: Any, layer: Any) -> Image | None:
    """Return a layer that is an image, or the image that a layer's cells are known to be of; else None."""
    if layer is None or isinstance(layer, Image):
        return layer
    origin = origin_of(layer)
    images = [] if origin is None else [one for one in layers if isinstance(one, Image) and origin.is_of(one)]
    return next(iter(images), None)


def _may_be_of(cells: Labels, image: Image | None) -> bool:
    """Return whether cells are not known to be another image's, and have its size."""
    return image is not None and not is_anothers(cells, image) and fitting(image, tuple(cells.data.shape)) is not None
