"""From the working thread into Qt's."""

from collections.abc import Callable

from qtpy.QtCore import QObject, Qt, Signal

__all__ = ["Bridge"]


class Bridge(QObject):
    """Has functions called in the thread that made it."""

    _called = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._called.connect(self._call, Qt.ConnectionType.QueuedConnection)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call a function soon; not at all if the widget is gone by then."""
        try:
            self._called.emit(call)
        except RuntimeError:  # Qt has deleted this object together with its widget
            return

    def _call(self, call: Callable[[], None]) -> None:
        call()
