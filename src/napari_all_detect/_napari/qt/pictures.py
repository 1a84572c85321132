"""Arrays as pictures of Qt's."""

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPixmap

__all__ = ["framed", "pixmap"]

FRAME_PX = 3


def pixmap(rgb: NDArray[np.uint8], side_px: int) -> QPixmap:
    """Return an (s, s, 3) uint8 array as a picture of this side, its pixels enlarged smoothly."""
    rgb = np.ascontiguousarray(rgb)
    height, width, _ = rgb.shape
    image = QImage(rgb.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    smooth = Qt.TransformationMode.SmoothTransformation
    return QPixmap.fromImage(image).scaled(side_px, side_px, Qt.AspectRatioMode.KeepAspectRatio, smooth)


def framed(picture: QPixmap, rgb: tuple[float, float, float], flagged: bool = False) -> QPixmap:
    """Draw a frame in the colour of the cell around its picture; a dotted one around a flagged cell."""
    painter = QPainter(picture)
    style = Qt.PenStyle.DotLine if flagged else Qt.PenStyle.SolidLine
    painter.setPen(QPen(QColor.fromRgbF(*map(float, rgb)), 2 * FRAME_PX, style))
    painter.drawRect(picture.rect())
    painter.end()
    return picture
