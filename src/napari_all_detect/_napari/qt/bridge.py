"""From the working thread into Qt's."""

import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakSet

from qtpy.QtCore import QCoreApplication, QObject, Qt, Signal

from napari_all_detect._napari.process.messages import unforeseen
from napari_all_detect.errors import AllDetectError

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

    def work(
        self, slow: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[str], None], finish: bool = True
    ) -> None:
        """Call a slow function in a thread, then `done` with what it returns or `failed` with what went wrong.

        It is finished even if napari is closed meanwhile, so that no file is left half written; unless it need not be.
        """

        def run() -> None:
            try:
                answer = slow()
            except AllDetectError as error:
                self.call_soon(partial(failed, str(error)))
            except Exception as error:  # noqa: BLE001 - a thread that ends without a word would leave the button waiting
                traceback.print_exc()
                self.call_soon(partial(failed, unforeseen(error)))
            else:
                self.call_soon(partial(done, answer))

        thread = threading.Thread(target=run, daemon=not finish)
        if finish:
            _finish_before_the_end(thread)
        thread.start()

    def _call(self, call: Callable[[], None]) -> None:
        call()


_working: WeakSet[threading.Thread] = WeakSet()
_waiting: WeakSet[QCoreApplication] = WeakSet()


def _finish_before_the_end(thread: threading.Thread) -> None:
    """Have Qt wait for a thread: once Python itself ends, libraries that use pools of threads can't write any more."""
    application = QCoreApplication.instance()
    if application is not None and application not in _waiting:
        application.aboutToQuit.connect(_finish)
        _waiting.add(application)
    _working.add(thread)


def _finish() -> None:
    for thread in list(_working):
        if thread.is_alive():
            thread.join()
