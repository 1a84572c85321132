"""The line that says which layer a widget is of."""

from qtpy.QtCore import Qt
from superqt import QElidingLabel

from napari_all_detect._napari.cells.followed import Followed

__all__ = ["LayerName"]


class LayerName(QElidingLabel):
    """Names the layer that is followed: as much of it as there is room for, and all of it as a tooltip.

    Parameters
    ----------
    followed : Followed
    """

    def __init__(self, followed: Followed) -> None:
        super().__init__()
        self._followed = followed
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setElideMode(Qt.TextElideMode.ElideMiddle)
        font = self.font()
        font.setBold(True)
        self.setFont(font)
        followed.layer_changed.connect(self._name)
        followed.renamed.connect(self._name)
        self._name()

    def _name(self) -> None:
        layer = self._followed.layer
        self.setText("" if layer is None else layer.name)
        self.setToolTip("" if layer is None else f"What is shown here is of the layer {layer.name!r}")
