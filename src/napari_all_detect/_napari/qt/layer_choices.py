"""Combo boxes of layers that follow the viewer."""

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QComboBox, QWidget

__all__ = ["LayerChoice"]


class LayerChoice(QComboBox):
    """Lets the user choose among the viewer's layers of a kind.

    Parameters
    ----------
    viewer : ViewerModel
    accepts : callable
        Which layers can be chosen.
    nothing : str, optional
        What stands first for none of them.
    """

    def __init__(
        self, viewer: Any, accepts: Callable[[Any], bool], nothing: str | None = None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._accepts, self._nothing = viewer, accepts, nothing
        viewer.layers.events.inserted.connect(self._update)
        viewer.layers.events.removed.connect(self._update)
        viewer.layers.events.reordered.connect(self._update)
        self._update()

    def close_choices(self) -> None:
        """Follow the viewer no more."""
        layers = self._viewer.layers
        for event in (layers.events.inserted, layers.events.removed, layers.events.reordered):
            event.disconnect(self._update)
        for layer in layers:
            layer.events.name.disconnect(self._update)

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self.currentData()

    def choose(self, layer: Any) -> None:
        """Choose a layer, or None."""
        self.setCurrentIndex(max(0, next((k for k in range(self.count()) if self.itemData(k) is layer), 0)))

    def _update(self, event: object = None) -> None:
        chosen, before = self.layer, [self.itemData(k) for k in range(self.count())]
        for layer in {*before, *self._viewer.layers} - {None}:
            layer.events.name.disconnect(self._update)
        layers = [layer for layer in reversed(self._viewer.layers) if self._accepts(layer)]
        self.blockSignals(True)
        self.clear()
        if self._nothing is not None:
            self.addItem(self._nothing, None)
        for layer in layers:
            self.addItem(layer.name, layer)
            layer.events.name.connect(self._update)
        self.choose(chosen)
        self.blockSignals(False)
        if before != [self.itemData(k) for k in range(self.count())] or chosen is not self.layer:
            self.currentIndexChanged.emit(self.currentIndex())
