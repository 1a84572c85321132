"""The picture of a summary: in a window, or in a file as PNG, SVG or PDF."""

from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QMarginsF, QRectF, QSize, QSizeF, Qt
from qtpy.QtGui import QColor, QImage, QPageSize, QPainter, QPdfWriter

from napari_all_detect._napari.cells.colours import N_LEVELS, ramp
from napari_all_detect._napari.cells.summary import Summary
from napari_all_detect.errors import OutputError

__all__ = ["LINE_PX", "PLOT_FORMATS", "paint_summary", "save_summary"]

LINE_PX = 18
SAVED_PX = (900, 620)
PER_INCH = 144
FONT_PX = 24
PLOT_FORMATS = {"PNG": ".png", "SVG": ".svg", "PDF": ".pdf"}


def save_summary(summary: Summary, path: Path) -> None:
    """Write the picture, dark on white, in the format that the suffix names; texts stay texts in SVG and PDF.

    Raises
    ------
    OutputError
        If no format has this suffix, or the file can't be written.
    """
    suffix = path.suffix.lower()
    if suffix not in PLOT_FORMATS.values():
        raise OutputError(f"{path.name}: expected a name that ends in one of: {', '.join(PLOT_FORMATS.values())}")
    canvas = {".png": _image, ".svg": _svg, ".pdf": _pdf}[suffix](path)
    painter = QPainter()
    began = painter.begin(canvas)
    if began:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPixelSize(FONT_PX)
        painter.setFont(font)
        area = QRectF(0, 0, *SAVED_PX)
        painter.fillRect(area, QColor("white"))
        paint_summary(painter, area, summary, QColor("black"), line_px=2 * LINE_PX)
        painter.end()
    if not began or (isinstance(canvas, QImage) and not canvas.save(str(path))):
        raise OutputError(f"{path} can't be written; choose another folder")


def _image(path: Path) -> QImage:
    return QImage(*SAVED_PX, QImage.Format.Format_RGB32)


def _svg(path: Path) -> Any:
    from qtpy.QtSvg import QSvgGenerator

    canvas = QSvgGenerator()
    canvas.setFileName(str(path))
    canvas.setSize(QSize(*SAVED_PX))
    canvas.setViewBox(QRectF(0, 0, *SAVED_PX))
    canvas.setTitle("P(ALL) of cells")
    return canvas


def _pdf(path: Path) -> QPdfWriter:
    canvas = QPdfWriter(str(path))
    canvas.setResolution(PER_INCH)
    inches = QSizeF(*(side / PER_INCH for side in SAVED_PX))
    canvas.setPageSize(QPageSize(inches, QPageSize.Unit.Inch))
    canvas.setPageMargins(QMarginsF(0, 0, 0, 0))
    return canvas


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
    below = (4 + len(flags)) * line_px
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
    painter.drawText(QRectF(area.left(), plot.bottom() - line_px / 2, 1.8 * line_px, line_px), right, "0")
    for share in (0.0, 0.5, 1.0):
        x = plot.left() + share * plot.width()
        painter.drawText(QRectF(x - 2 * line_px, plot.bottom(), 4 * line_px, line_px), centre, f"{share:g}")
    y = plot.bottom() + line_px
    painter.drawText(QRectF(plot.left(), y, plot.width(), line_px), centre, f"P(ALL) of cells, n = {summary.cells}")
    _paint_interval(painter, QRectF(plot.left(), y + line_px, plot.width(), 1.5 * line_px), summary, ink, line_px)
    for k, (flag, n) in enumerate(flags):
        place = QRectF(plot.left(), y + (3.3 + k) * line_px, plot.width(), line_px)
        painter.drawText(place, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, f"⚑ {flag}: {n}")


def _paint_interval(painter: Any, area: QRectF, summary: Summary, ink: QColor, line_px: int) -> None:
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
    low_text, high_text = (f"{100 * end:.0f}" for end in summary.interval)
    text = f"fraction ALL {100 * summary.fraction_all:.0f} % (95 % interval {low_text} to {high_text} %)"
    below = QRectF(area.left(), area.bottom() - line_px / 3, area.width(), line_px)
    painter.drawText(below, Qt.AlignmentFlag.AlignCenter, text)
