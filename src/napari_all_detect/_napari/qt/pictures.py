"""Arrays as pictures of Qt's."""

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen, QPixmap
from qtpy.QtWidgets import QSizePolicy, QWidget

__all__ = ["Picture", "framed", "pixmap"]

FRAME_PX = 3
LEAST_PX = 128


class Picture(QWidget):
    """A square that shows a crop as large as there is room.

    Parameters
    ----------
    most_px : int
        Its largest side.
    """

    def __init__(self, most_px: int) -> None:
        super().__init__()
        self.crop: NDArray[np.uint8] | None = None
        self.setMinimumSize(LEAST_PX, LEAST_PX)
        self.setMaximumSize(most_px, most_px)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def show_crop(self, crop: NDArray[np.uint8] | None) -> None:
        """Show an (s, s, 3) uint8 array, or nothing."""
        self.crop = crop
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw the crop."""
        if self.crop is not None:
            painter = QPainter(self)
            painter.drawPixmap(QPoint(0, 0), pixmap(self.crop, min(self.width(), self.height())))
            painter.end()


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
