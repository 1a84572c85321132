"""The line that says that a layer's cells are not those that were scored any more."""

from functools import partial
from weakref import WeakSet

from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer, Signal

from napari_all_detect._napari.cells.edited import Edits, edits
from napari_all_detect._napari.cells.followed import Followed
from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.qt.bridge import Bridge
from napari_all_detect._napari.qt.layout import Caution

__all__ = ["EditsLine"]

STILL_MS = 400
"""After the last stroke of a brush for so long, cells are counted."""


class EditsLine(Caution):
    """Counts the cells that were erased or drawn since the scores, without keeping the window waiting.

    Parameters
    ----------
    followed : Followed
        Whose layer it watches.
    """

    edited = Signal(object)
    """A layer was edited for the first time since its scores."""

    def __init__(self, followed: Followed) -> None:
        super().__init__()
        self._followed = followed
        self._bridge = Bridge(self)
        self._asked = 0
        self._told: WeakSet[CellResults] = WeakSet()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(STILL_MS)
        self._timer.timeout.connect(self._count)
        followed.layer_changed.connect(self._begin_anew)
        followed.labels_edited.connect(self._count_soon)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._asked += 1
        self.say("")
        self._count_soon()

    def _count_soon(self) -> None:
        self._timer.start()

    def _count(self) -> None:
        results, layer = self._followed.results, self._followed.layer
        if results is None or layer.multiscale:  # napari paints on no pyramid
            return
        self._asked += 1
        asked = self._asked

        def told(found: Edits) -> None:
            if asked == self._asked:  # or it is of another layer, or of a stroke before
                self.say(found.sentence)
                if found.sentence and results not in self._told:
                    self._told.add(results)
                    self.edited.emit(layer)

        self._bridge.work(partial(edits, results, layer.data), told, show_error, finish=False)
