"""Results and their labels layer: colours, features and selection follow. No Qt."""

from copy import deepcopy
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_all_detect._napari.colours import ScoreColormap, colour_levels, palette, shares
from napari_all_detect._napari.results import CellResults

__all__ = ["ATTACHED", "LAYOUT_KEY", "RESULTS_KEY", "attach", "layer_looks", "outline_px", "results_of", "show_cell"]

RESULTS_KEY = "all_detect"
"""Where the results stand in a layer's metadata."""
OUTLINE_KEY = "all_detect_outline_px"
"""Where a layer that is yet to be made says how it will be outlined: napari's readers can't."""
LAYOUT_KEY = "all_detect_layout"
"""Where it says how the image was read that the results are of."""


OUTLINE = 0.08
"""Width of a cell's outline over its diameter."""
LEAST_OUTLINE_PX = 2


class _Attached:
    layer = Signal(object)


ATTACHED = _Attached()
"""Says which layer has just got results, to all widgets of all viewers."""


def attach(layer: Any, results: CellResults) -> None:
    """Give a labels layer its results: they colour it, and its features are their table."""
    layer.metadata = {**layer.metadata, RESULTS_KEY: results}
    _links[layer] = _Link(layer, results)
    ATTACHED.layer.emit(layer)


def layer_looks(results: CellResults, labels: NDArray[np.integer]) -> dict[str, Any]:
    """Return the attributes of a labels layer that is yet to be made, so that it has these results."""
    metadata = {RESULTS_KEY: results, OUTLINE_KEY: outline_px(labels)}
    return {"metadata": metadata, "features": results.features(), "colormap": _colormap(results)}


def results_of(layer: Any) -> CellResults | None:
    """Return the results of a layer, if it has any; those of a duplicated layer begin to live here."""
    results = getattr(layer, "metadata", {}).get(RESULTS_KEY)
    if not isinstance(results, CellResults):
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
    world = layer.data_to_world(results.position(row))
    first = viewer.dims.ndim - len(world)
    # An axis of length 1 is seen from everywhere on it: the channels of the image. Those that span the canvas are seen
    # as a whole, and moving along them would have all layers sliced anew.
    spanned = viewer.dims.displayed[-2:]
    moved = [k for k, n in enumerate(_shape(layer)) if n > 1 and first + k not in spanned]
    viewer.dims.set_point([first + k for k in moved], [world[k] for k in moved])
    camera = viewer.scene.camera
    camera.center = (0.0, *world[-2:])
    camera.zoom = max(camera.zoom, least_zoom)


def _shape(layer: Any) -> tuple[int, ...]:
    return tuple((layer.data[0] if layer.multiscale else layer.data).shape)


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
        layer.contour = layer.contour or layer.metadata.get(OUTLINE_KEY, 0)
        # psygnal holds bound methods weakly: the link goes when its layer does.
        results.changed.connect(self._show_values)
        results.verdicts_changed.connect(self._show_verdicts)
        results.colours_changed.connect(self._show_colours)
        results.selection_changed.connect(self._show_colours)
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
        layer, results = self._layer(), self.results
        if layer is not None:
            layer.colormap = _colormap(results)


def _colormap(results: CellResults) -> ScoreColormap:
    numbers, share = results.rows.numbers, shares(results.table, results.colouring)
    return ScoreColormap(colour_levels(numbers, share, numbers[results.selected]), palette(results.colouring))


_links: "WeakKeyDictionary[Any, _Link]" = WeakKeyDictionary()
