"""The summary of a layer: a sentence and a small plot that can be saved."""

from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent
from qtpy.QtWidgets import QFileDialog, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_all_detect._napari.colours import N_LEVELS, ramp
from napari_all_detect._napari.followed import Followed
from napari_all_detect._napari.qt.layout import button
from napari_all_detect._napari.summary import Summary, summarise

__all__ = ["SummaryPlot", "paint_summary"]

SAVED_PX = (900, 620)
LINE_PX = 18


class SummaryPlot(QWidget):
    """The figures of the layer that is followed.

    Parameters
    ----------
    followed : Followed
    """

    def __init__(self, followed: Followed) -> None:
        super().__init__()
        self._followed = followed
        self.sentence = QLabel()
        self.sentence.setWordWrap(True)
        self.plot = _Plot()
        self.save_button = button("Save plot…", "As PNG", self._save)
        layout = QVBoxLayout(self)
        layout.addWidget(self.sentence)
        layout.addWidget(self.plot, stretch=1)
        layout.addWidget(self.save_button)
        layout.addStretch()
        followed.layer_changed.connect(self._show)
        followed.changed.connect(self._show)
        self._show()

    def save(self, path: Path) -> None:
        """Write the plot as a picture, dark on white."""
        if self.plot.summary is None:
            return
        image = QImage(*SAVED_PX, QImage.Format.Format_RGB32)
        image.fill(QColor("white"))
        painter = QPainter(image)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPixelSize(2 * font.pixelSize() if font.pixelSize() > 0 else 22)
        painter.setFont(font)
        paint_summary(painter, QRectF(image.rect()), self.plot.summary, QColor("black"), line_px=2 * LINE_PX)
        painter.end()
        if image.save(str(path)):
            show_info(f"plot written to {path}")
        else:
            show_error(f"{path} can't be written; choose another folder, and a name that ends in .png")

    def _save(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Save plot", "summary.png", "PNG (*.png)")
        if name:
            self.save(Path(name) if Path(name).suffix else Path(f"{name}.png"))

    def _show(self) -> None:
        results = self._followed.results
        self.plot.summary = None if results is None else summarise(results)
        self.sentence.setText("No scores yet" if self.plot.summary is None else self.plot.summary.sentence)
        self.save_button.setEnabled(self.plot.summary is not None)
        self.plot.update()


class _Plot(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self.summary: Summary | None = None
        self.setMinimumHeight(180)
        self.setMaximumHeight(380)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        if self.summary is not None:
            painter = QPainter(self)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            paint_summary(painter, QRectF(self.rect()), self.summary, self.palette().windowText().color())
            painter.end()


def paint_summary(painter: Any, area: QRectF, summary: Summary, ink: QColor, line_px: int = LINE_PX) -> None:
    """Draw the histogram of P(ALL), the fraction with its interval below it, and the flags.

    Parameters
    ----------
    painter : QPainter
    area : QRectF
    summary : Summary
    ink : QColor
        Of texts and axes.
    line_px : int
        Height of a line of text.
    """
    flags = list(summary.flags.items())[:4]
    below = (3 + len(flags)) * line_px
    plot = area.adjusted(2 * line_px, line_px, -line_px, -below - line_px)
    highest = max(1, int(summary.histogram.max()))
    colours, width = ramp("P(ALL)"), plot.width() / len(summary.histogram)
    for k, n in enumerate(summary.histogram.tolist()):
        colour = colours[round((k + 0.5) / len(summary.histogram) * (N_LEVELS - 1))]
        height = plot.height() * n / highest
        bar = QRectF(plot.left() + k * width, plot.bottom() - height, 0.9 * width, height)
        painter.fillRect(bar, QColor.fromRgbF(*map(float, colour)))
    painter.setPen(ink)
    painter.drawLine(plot.bottomLeft(), plot.bottomRight())
    centre = Qt.AlignmentFlag.AlignCenter
    right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
    painter.drawText(QRectF(area.left(), plot.top() - line_px / 2, 1.8 * line_px, line_px), right, str(highest))
    for share in (0.0, 0.5, 1.0):
        x = plot.left() + share * plot.width()
        painter.drawText(QRectF(x - 2 * line_px, plot.bottom(), 4 * line_px, line_px), centre, f"{share:g}")
    y = plot.bottom() + line_px
    painter.drawText(QRectF(plot.left(), y, plot.width(), line_px), centre, f"P(ALL) of {summary.cells} cells")
    _paint_interval(painter, QRectF(plot.left(), y + line_px, plot.width(), 1.5 * line_px), summary, ink)
    for k, (flag, n) in enumerate(flags):
        place = QRectF(plot.left(), y + (2.6 + k) * line_px, plot.width(), line_px)
        painter.drawText(place, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, f"⚑ {flag}: {n}")


def _paint_interval(painter: Any, area: QRectF, summary: Summary, ink: QColor) -> None:
    """Draw the fraction ALL as a point with its interval, on a line from 0 to 1."""
    if np.isnan(summary.fraction_all):
        return
    middle = area.center().y()
    low, point, high = (
        area.left() + share * area.width() for share in (summary.interval[0], summary.fraction_all, summary.interval[1])
    )
    painter.drawLine(int(low), int(middle), int(high), int(middle))
    for end in (low, high):
        painter.drawLine(int(end), int(middle - 4), int(end), int(middle + 4))
    painter.setBrush(ink)
    painter.drawEllipse(QRectF(point - 4, middle - 4, 8, 8))
    text = f"fraction ALL {summary.fraction_all:.2f}"
    side = Qt.AlignmentFlag.AlignVCenter
    where = (
        area.adjusted(0, 0, low - area.right() - 8, 0)
        if point > area.center().x()
        else area.adjusted(high - area.left() + 8, 0, 0, 0)
    )
    side |= Qt.AlignmentFlag.AlignRight if point > area.center().x() else Qt.AlignmentFlag.AlignLeft
    painter.drawText(where, side, text)
