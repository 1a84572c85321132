"""Which scored layer the widgets of a viewer show: the active one, one of the active image, or the last. No Qt."""

from typing import Any

from napari.layers import Image
from psygnal import Signal

from napari_all_detect._napari.cells.layer_link import ATTACHED, results_of
from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.layers.metadata_keys import SCORED_ON_KEY

__all__ = ["Followed"]

PASSED_ON = ("changed", "verdicts_changed", "colours_changed", "selection_changed")


class Followed:
    """Follows the viewer to a scored layer and passes on what happens to its results.

    Parameters
    ----------
    viewer : ViewerModel
    """

    layer_changed = Signal()
    """Another layer, other results, or none."""
    renamed = Signal()
    labels_edited = Signal()
    """Cells may have been erased or drawn."""
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
        ATTACHED.connect(self._follow)
        self._follow()

    def close(self) -> None:
        """Follow no more: the widgets that listen are gone."""
        layers = self.viewer.layers
        for events in (layers.selection.events.active, layers.events.removed, layers.events.inserted):
            events.disconnect(self._follow)
        ATTACHED.disconnect(self._follow)
        self._show(None, None)

    def _follow(self, event: object = None) -> None:
        layers = self.viewer.layers
        active = layers.selection.active
        known = [*([self.layer] if self.layer in layers else []), *reversed(layers)]
        of_active = [one for one in known if _is_of(one, active)]
        layer = next((one for one in [active, *of_active, *known] if results_of(one) is not None), None)
        results = None if layer is None else results_of(layer)
        if layer is self.layer and results is self.results:
            return
        self._show(layer, results)
        self.layer_changed.emit()

    def _show(self, layer: Any, results: CellResults | None) -> None:
        if self.results is not None:
            for name in PASSED_ON:
                getattr(self.results, name).disconnect(getattr(self, name))
        if self.layer is not None:
            self.layer.events.name.disconnect(self._tell_name)
            for event in _edited_events(self.layer):
                event.disconnect(self._tell_edits)
        self.layer, self.results = layer, results
        if layer is not None:
            layer.events.name.connect(self._tell_name)
            for event in _edited_events(layer):
                event.connect(self._tell_edits)
        if results is not None:
            for name in PASSED_ON:
                getattr(results, name).connect(getattr(self, name))

    def _tell_name(self, event: object = None) -> None:
        self.renamed.emit()

    def _tell_edits(self, event: object = None) -> None:
        self.labels_edited.emit()


def _is_of(layer: Any, image: Any) -> bool:
    """Return whether a layer's cells were scored on an image; those that were read without one tell its name alone."""
    results = results_of(layer) if isinstance(image, Image) else None
    if results is None:
        return False
    origin = layer.metadata.get(SCORED_ON_KEY)
    if origin is not None:
        return bool(origin.is_of(image))
    return len(results) > 0 and bool(results.table["image"].iloc[0] == image.name)


def _edited_events(layer: Any) -> tuple[Any, ...]:
    """Return what a layer emits when its labels have been painted, and when they are undone or replaced."""
    return layer.events.paint, layer.events.set_data
