"""Results and their labels layer: colours, features and selection follow. No Qt."""

from copy import deepcopy
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from psygnal import SignalInstance

from napari_all_detect._napari.cells.colours import DRAWN_BYTES, ScoreColormap, colour_levels, palette, shares
from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.layers.metadata_keys import OUTLINE_KEY, RESULTS_KEY, SHAPE_KEY
from napari_all_detect._napari.layers.viewers import finest

__all__ = ["ATTACHED", "attach", "layer_looks", "outline_px", "results_in", "results_of", "show_cell"]

OUTLINE = 0.08
"""Width of a cell's outline over its diameter."""
LEAST_OUTLINE_PX = 2


ATTACHED = SignalInstance((object,), name="attached")
"""Says which layer has just got results, to all widgets of all viewers."""


def attach(layer: Any, results: CellResults) -> None:
    """Give a labels layer its results: they colour it, and its features are their table."""
    layer.metadata = {**layer.metadata, RESULTS_KEY: results, SHAPE_KEY: _shape(layer)}
    _links[layer] = _Link(layer, results)
    ATTACHED.emit(layer)


def layer_looks(results: CellResults, labels: NDArray[np.integer]) -> dict[str, Any]:
    """Return the attributes of a labels layer that is yet to be made, so that it has these results."""
    metadata = {RESULTS_KEY: results, SHAPE_KEY: labels.shape, OUTLINE_KEY: outline_px(labels)}
    return {"metadata": metadata, "features": results.features(), "colormap": _colormap(results)}


def results_in(metadata: dict[str, Any], shape: tuple[int, ...]) -> CellResults | None:
    """Return the results in the metadata of labels of this shape, unless they are of labels of another shape."""
    results = metadata.get(RESULTS_KEY)
    return results if isinstance(results, CellResults) and metadata.get(SHAPE_KEY, shape) == shape else None


def results_of(layer: Any) -> CellResults | None:
    """Return the results of a labels layer, if it has any; those of a duplicated layer begin to live here."""
    results = results_in(layer.metadata, _shape(layer)) if isinstance(layer, Labels) else None
    if results is None:
        return None
    if layer not in _links:
        if any(link.results is results for link in _links.values()):  # napari copies the data alone
            results = deepcopy(results)
            layer.metadata = {**layer.metadata, RESULTS_KEY: results}
        _links[layer] = _Link(layer, results)
    return results


def show_cell(viewer: Any, layer: Any, row: int, least_zoom: float = 0.0) -> None:
    """Move the viewer to a cell."""
    results = results_of(layer)
    if results is None:
        return
    first = viewer.dims.ndim - layer.ndim
    place = (*viewer.dims.point[:first], *layer.data_to_world(results.position(row)))
    # An axis of length 1 is seen from everywhere on it: the channels of the image. Those that span the canvas are seen
    # as a whole, and moving along them would have all layers sliced anew.
    spanned = viewer.dims.displayed[-2:]
    moved = [axis for axis, n in enumerate(_shape(layer), first) if n > 1 and axis not in spanned]
    viewer.dims.set_point(moved, [place[axis] for axis in moved])
    camera = viewer.scene.camera
    camera.center = (0.0, *(place[axis] for axis in spanned))
    camera.zoom = max(camera.zoom, least_zoom)


def _shape(layer: Any) -> tuple[int, ...]:
    return tuple(finest(layer).shape)


def outline_px(labels: NDArray[np.integer]) -> int:
    """Return how wide the outlines of cells are drawn, so that they can be seen and leave the cells to be seen."""
    areas = np.bincount(labels.ravel())[1:]
    areas = areas[areas > 0]
    return max(LEAST_OUTLINE_PX, round(OUTLINE * float(np.median(areas)) ** 0.5)) if len(areas) else LEAST_OUTLINE_PX


class _Link:
    """Brings what changes in the results into the layer."""

    def __init__(self, layer: Any, results: CellResults) -> None:
        self._layer: ReferenceType[Any] = ref(layer)
        self.results = results
        self._colormap: ScoreColormap | None = None  # its own: layers that napari duplicates share one
        if not layer.contour and OUTLINE_KEY in layer.metadata:  # napari draws all outlines anew
            layer.contour = layer.metadata[OUTLINE_KEY]
        # psygnal holds bound methods weakly: the link goes when its layer does.
        results.changed.connect(self._show_values)
        results.verdicts_changed.connect(self._show_verdicts)
        results.colours_changed.connect(self._show_colours)
        results.selection_changed.connect(self._show_colours)
        layer.events.colormap.connect(self._keep_colours)
        self._show_values()

    def _show_values(self) -> None:
        layer = self._layer()
        if layer is not None:
            layer.features = self.results.features()
            self._show_colours()

    def _show_verdicts(self) -> None:
        layer, verdicts = self._layer(), self.results.verdict_feature()
        if layer is None:
            return
        if len(layer.features) == len(verdicts):
            # In place: a new table is checked and indexed by napari as a whole.
            layer.features["verdict"] = verdicts
            layer.events.features()
        else:  # another plugin has put its own there
            layer.features = self.results.features()

    def _show_colours(self) -> None:
        layer, colormap = self._layer(), _colormap(self.results)
        if layer is None or (layer.colormap is self._colormap and colormap.looks_like(layer.colormap)):
            return
        self._colormap = colormap
        # Or napari's *show selected* would end with the colours before.
        colormap.use_selection, colormap.selection = layer.show_selected_label, layer.selected_label
        if layer.dtype.itemsize > DRAWN_BYTES or not isinstance(layer.colormap, ScoreColormap):
            layer.colormap = colormap
            return
        # What is drawn are the numbers, and they stay: napari, unless it is held back, would find all outlines anew.
        with layer._block_refresh():
            layer.colormap = colormap
        layer._update_thumbnail()

    def _keep_colours(self, event: object = None) -> None:
        """Take the colours back that napari's *Shuffle colors* replaced: the colour bar would lie."""
        layer = self._layer()
        if layer is not None and not isinstance(layer.colormap, ScoreColormap) and results_of(layer) is self.results:
            self._show_colours()


def _colormap(results: CellResults) -> ScoreColormap:
    numbers, share = results.rows.numbers, shares(results.table, results.colouring)
    return ScoreColormap(colour_levels(numbers, share, numbers[results.selected]), palette(results.colouring))


_links: "WeakKeyDictionary[Any, _Link]" = WeakKeyDictionary()
