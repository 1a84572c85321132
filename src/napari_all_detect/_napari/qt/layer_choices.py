"""Combo boxes of layers that follow the viewer."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

from napari.layers import Labels
from qtpy.QtWidgets import QComboBox
from superqt.utils import signals_blocked

from napari_all_detect._napari.layers.origins import is_anothers, origin_of

__all__ = ["CellsChoice", "LayerChoice"]

FIND_CELLS = "Find cells"


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

    def __init__(self, viewer: Any, accepts: Callable[[Any], bool], nothing: str | None = None) -> None:
        super().__init__()
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
        with signals_blocked(self):
            self.clear()
            if self._nothing is not None:
                self.addItem(self._nothing, None)
            for layer in layers:
                self.addItem(layer.name, layer)
                layer.events.name.connect(self._update)
            self.choose(chosen)
        if before != [self.itemData(k) for k in range(self.count())] or chosen is not self.layer:
            self.currentIndexChanged.emit(self.currentIndex())


class CellsChoice(LayerChoice):
    """Lets the user choose labels for an image, and comes back to them with the image.

    Labels of another image can be chosen, but are not left standing when the image changes.

    Parameters
    ----------
    viewer : ViewerModel
    image : LayerChoice
    """

    def __init__(self, viewer: Any, image: LayerChoice) -> None:
        super().__init__(viewer, lambda layer: isinstance(layer, Labels), FIND_CELLS)
        self._image = image
        self._image_before: Callable[[], Any] = lambda: None
        self._chosen: WeakKeyDictionary[Any, Callable[[], Any]] = WeakKeyDictionary()
        image.currentIndexChanged.connect(self._follow_image)
        self._follow_image()

    def propose(self, labels: Any) -> None:
        """Choose labels that were found; for their own image, if another one is chosen by now."""
        image = self._image.layer
        if image is None or not is_anothers(labels, image):
            self.choose(labels)
            return
        for other in self._viewer.layers:
            if not is_anothers(labels, other):
                self._chosen[other] = ref(labels)

    def propose_edited(self, labels: Any) -> None:
        """Choose scored cells that were edited, unless others are chosen or nobody knows which image they are of."""
        if self.layer is None and origin_of(labels) is not None:
            self.propose(labels)

    def _follow_image(self, *_: object) -> None:
        image, before = self._image.layer, self._image_before()
        if image is None or image is before:
            return
        if before is not None:
            self._chosen[before] = _held_weakly(self.layer)
        self._image_before = ref(image)
        if image in self._chosen:
            self.choose(self._chosen[image]())
        elif self.layer is not None and is_anothers(self.layer, image):
            self.choose(None)


def _held_weakly(layer: Any) -> Callable[[], Any]:
    return (lambda: None) if layer is None else ref(layer)
