"""Keys of a widget that work in its whole window."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from psygnal import Signal
from qtpy.QtGui import QKeySequence, QShortcut

from napari_all_detect._napari.layers.layer_keys import has_key
from napari_all_detect._napari.qt.docked import Docked

__all__ = ["WindowKeys"]


class WindowKeys:
    """Tells which key is pressed, wherever in the viewer's window and its docks, while a widget is in sight.

    Fields that text is typed in come first, as Qt asks them before; and so does the active layer, if napari has the
    key for it: A selects all points.

    Parameters
    ----------
    viewer : napari.Viewer
    widget : Docked
    keys : iterable of str
    """

    pressed = Signal(str)
    """Holds bound methods weakly, so that the widget can be gone."""

    def __init__(self, viewer: Any, widget: Docked, keys: Iterable[str]) -> None:
        self._viewer = viewer
        self._seen = True
        # The main window's: it shares its shortcuts with docks that float, which are windows with none for it.
        self._shortcuts = {key: QShortcut(QKeySequence(key), viewer.window._qt_window) for key in keys}
        for key, shortcut in self._shortcuts.items():
            widget.destroyed.connect(shortcut.deleteLater)
            shortcut.setAutoRepeat(False)  # one press, one call, however long it is
            shortcut.activated.connect(partial(self.pressed.emit, key))
        widget.seen.connect(self._show)
        viewer.layers.selection.events.active.connect(self._enable)
        self._enable()

    def close(self) -> None:
        """Follow the viewer no more."""
        self._viewer.layers.selection.events.active.disconnect(self._enable)

    def _show(self, seen: bool) -> None:
        self._seen = seen
        self._enable()

    def _enable(self, _: object = None) -> None:
        active = self._viewer.layers.selection.active
        for key, shortcut in self._shortcuts.items():
            shortcut.setEnabled(self._seen and (active is None or not has_key(active, key)))
