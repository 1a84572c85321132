"""Which scored layer the widgets of a viewer show: the active one, or else the last that was. No Qt."""

from typing import Any

from psygnal import Signal

from napari_all_detect._napari.layer_link import ATTACHED, results_of
from napari_all_detect._napari.results import CellResults

__all__ = ["Followed"]


class Followed:
    """Follows the viewer to a scored layer and passes on what happens to its results.

    Parameters
    ----------
    viewer : ViewerModel
    """

    layer_changed = Signal()
    """Another layer, other results, or none."""
    changed = Signal()
    """The same results: calls are others."""
    verdicts_changed = Signal()
    colours_changed = Signal()
    selection_changed = Signal()

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.layer: Any = None
        self.results: CellResults | None = None
        # Both hold bound methods weakly, so that nothing keeps a closed widget alive.
        viewer.layers.selection.events.active.connect(self._follow)
        viewer.layers.events.removed.connect(self._follow)
        viewer.layers.events.inserted.connect(self._follow)
        ATTACHED.layer.connect(self._follow)
        self._follow()

    def close(self) -> None:
        """Follow no more: the widgets that listen are gone."""
        layers = self.viewer.layers
        for events in (layers.selection.events.active, layers.events.removed, layers.events.inserted):
            events.disconnect(self._follow)
        ATTACHED.layer.disconnect(self._follow)
        self._show(None, None)
        for signal in (self.layer_changed, self.changed, self.verdicts_changed, self.colours_changed):
            signal.disconnect()
        self.selection_changed.disconnect()

    def _follow(self, event: object = None) -> None:
        layers = self.viewer.layers
        active = layers.selection.active
        candidates = [active, self.layer if self.layer in layers else None, *reversed(layers)]
        layer = next((one for one in candidates if one is not None and results_of(one) is not None), None)
        results = None if layer is None else results_of(layer)
        if results is self.results:
            self.layer = layer
            return
        self._show(layer, results)
        self.layer_changed.emit()

    def _show(self, layer: Any, results: CellResults | None) -> None:
        if self.results is not None:
            self.results.changed.disconnect(self._tell_change)
            self.results.verdicts_changed.disconnect(self._tell_verdicts)
            self.results.colours_changed.disconnect(self._tell_colours)
            self.results.selection_changed.disconnect(self._tell_selection)
        self.layer, self.results = layer, results
        if results is not None:
            results.changed.connect(self._tell_change)
            results.verdicts_changed.connect(self._tell_verdicts)
            results.colours_changed.connect(self._tell_colours)
            results.selection_changed.connect(self._tell_selection)

    def _tell_change(self) -> None:
        self.changed.emit()

    def _tell_verdicts(self) -> None:
        self.verdicts_changed.emit()

    def _tell_colours(self) -> None:
        self.colours_changed.emit()

    def _tell_selection(self) -> None:
        self.selection_changed.emit()
