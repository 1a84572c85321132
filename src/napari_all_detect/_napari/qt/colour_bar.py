"""The colour bar."""

from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QLinearGradient, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_all_detect._napari.cells.colours import COLOURINGS, ramp, ticks

__all__ = ["ColourBar"]

BAR_PX = 14
MARGIN_PX = 24
"""On both sides, so that the texts at the ends have room."""


class ColourBar(QWidget):
    """Shows which colour stands for which value."""

    def __init__(self) -> None:
        super().__init__()
        self._colouring = COLOURINGS[0]
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(BAR_PX + 22)

    def show_colouring(self, colouring: str) -> None:
        """Show the bar of another colouring."""
        self._colouring = colouring
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw bar and marks."""
        painter = QPainter(self)
        width = self.width() - 2 * MARGIN_PX
        gradient = QLinearGradient(MARGIN_PX, 0, MARGIN_PX + width, 0)
        colours = ramp(self._colouring)
        for k in range(0, len(colours), 10):
            gradient.setColorAt(k / (len(colours) - 1), QColor.fromRgbF(*map(float, colours[k])))
        gradient.setColorAt(1, QColor.fromRgbF(*map(float, colours[-1])))
        painter.fillRect(QRectF(MARGIN_PX, 0, width, BAR_PX), gradient)
        painter.setPen(self.palette().windowText().color())
        for share, text in ticks(self._colouring):
            x = MARGIN_PX + share * width
            painter.drawText(QRectF(x - 40, BAR_PX, 80, 20), Qt.AlignmentFlag.AlignCenter, text)
        painter.end()
