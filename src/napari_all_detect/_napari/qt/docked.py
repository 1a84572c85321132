"""What the plugin's widgets are: docked, and tidy when their dock is closed."""

import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, Signal
from qtpy.QtWidgets import QDockWidget, QWidget

__all__ = ["Docked"]


class Docked(QWidget):
    """A widget that puts its affairs in order once: when its dock is closed, or when it is gone.

    napari closes a dock by taking the widget out of it, and deletes only the dock.
    """

    seen = Signal(bool)
    """The dock comes into sight, or goes out of it: behind another one's tab, too, where Qt calls it visible."""

    def in_the_end(self, *steps: Callable[[], Any]) -> None:
        """Have functions called when the widget is closed; they must not hold it, or it would never be gone."""
        self._finish = weakref.finalize(self, _call_all, steps)
        self._finish.atexit = False
        self.destroyed.connect(self._finish)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Follow the dock that the widget gets; finish when it has lost it."""
        super().changeEvent(event)
        if event.type() != QEvent.Type.ParentChange:
            return
        if isinstance(dock := self.parent(), QDockWidget):
            dock.visibilityChanged.connect(self.seen)
        elif dock is None:
            self._finish()
            # Left to Python, it would live on until its cycles are collected, maybe in a thread that is not Qt's.
            self.deleteLater()


def _call_all(steps: tuple[Callable[[], Any], ...]) -> None:
    for step in steps:
        step()
