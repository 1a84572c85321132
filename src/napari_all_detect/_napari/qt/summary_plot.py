"""The summary of a layer: a sentence and a small plot that can be saved."""

from pathlib import Path

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QRectF
from qtpy.QtGui import QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_all_detect._napari.cells.followed import Followed
from napari_all_detect._napari.cells.summary import Summary, summarise
from napari_all_detect._napari.qt.file_to_write import file_to_write
from napari_all_detect._napari.qt.layer_name import LayerName
from napari_all_detect._napari.qt.layout import Caution, button, wrapped
from napari_all_detect._napari.qt.summary_picture import PLOT_FORMATS, paint_summary, save_summary
from napari_all_detect.errors import OutputError

__all__ = ["SummaryPlot"]


class SummaryPlot(QWidget):
    """The figures of the layer that is followed.

    Parameters
    ----------
    followed : Followed
    """

    def __init__(self, followed: Followed) -> None:
        super().__init__()
        self._followed = followed
        self.sentence = wrapped()
        self.domain = Caution()
        self.plot = _Plot()
        self.save_button = button("Save plot…", "As PNG, SVG or PDF", self._save)
        layout = QVBoxLayout(self)
        layout.addWidget(LayerName(followed))
        layout.addWidget(self.sentence)
        layout.addWidget(self.domain)
        layout.addWidget(self.plot, stretch=1)
        layout.addWidget(self.save_button)
        layout.addStretch()
        followed.layer_changed.connect(self._show)
        followed.changed.connect(self._show)
        self._show()

    def save(self, path: Path) -> None:
        """Write the plot in the format that the suffix names, dark on white."""
        if self.plot.summary is None:
            return
        try:
            save_summary(self.plot.summary, path)
        except OutputError as error:
            show_error(str(error))
        else:
            show_info(f"plot written to {path}")

    def _save(self) -> None:
        path = file_to_write(self, "Save plot", "summary.png", PLOT_FORMATS)
        if path is not None:
            self.save(path)

    def _show(self) -> None:
        results = self._followed.results
        self.plot.summary = None if results is None else summarise(results)
        self.sentence.setText("No scores yet" if self.plot.summary is None else self.plot.summary.sentence)
        self.domain.say("" if self.plot.summary is None else self.plot.summary.domain_note)
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
