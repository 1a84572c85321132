from unittest.mock import MagicMock

import numpy as np
import pytest
from qtpy.QtCore import QRectF
from qtpy.QtGui import QColor, QImage
from qtpy.QtWidgets import QFileDialog

from napari_all_detect._napari.cells.layer_link import attach
from napari_all_detect._napari.cells.summary import N_BINS, Summary
from napari_all_detect._napari.qt.summary_picture import paint_summary


@pytest.fixture
def scored_plot(score_cells, scored_rows):
    """Return the summary of nine made-up cells."""
    viewer, widget = score_cells()
    labels = np.kron(np.arange(10).reshape(2, 5), np.ones((8, 8), int))
    attach(viewer.add_labels(labels), scored_rows(labels))
    return widget.summary


def test_the_plot_is_saved_as_picture_and_as_drawing(scored_plot, tmp_path, notices):
    for name in ("summary.png", "summary.svg", "summary.pdf"):
        scored_plot.save(tmp_path / name)
        assert f"plot written to {tmp_path / name}" in notices[-1]
    picture = QImage(str(tmp_path / "summary.png"))
    assert (picture.width(), picture.height()) == (900, 620)
    colours = {picture.pixelColor(x, y).name() for x in range(0, 900, 5) for y in range(0, 620, 5)}
    # Paper, and bars in more than one colour of the colour bar.
    assert "#ffffff" in colours
    assert len(colours) > 5
    drawing = (tmp_path / "summary.svg").read_text()
    assert drawing.startswith("<?xml")
    assert "P(ALL) of cells, n = 9" in drawing
    assert "95 % interval" in drawing
    assert (tmp_path / "summary.pdf").read_bytes().startswith(b"%PDF-")


def test_bars_fraction_and_interval_lie_where_their_values_are():
    painter, histogram = MagicMock(), np.zeros(N_BINS, np.int64)
    histogram[[2, 19]] = 1, 4
    summary = Summary(5, {"ALL": 4, "Hem": 1, "uncertain": 0}, 0.8, (0.4, 0.95), histogram, {})
    paint_summary(painter, QRectF(0, 0, 900, 620), summary, QColor("black"))
    axis, interval, *_ = (call.args for call in painter.drawLine.call_args_list)
    left, right = (end.x() for end in axis)

    def share(x):
        return (x - left) / (right - left)

    bars = [call.args[0] for call in painter.fillRect.call_args_list]
    assert [share(bar.left()) for bar in bars] == pytest.approx(np.arange(N_BINS) / N_BINS)
    assert [bar.height() / bars[19].height() for bar in bars] == pytest.approx(histogram / 4)
    assert share(painter.drawEllipse.call_args.args[0].center().x()) == pytest.approx(0.8)
    assert [share(interval[0]), share(interval[2])] == pytest.approx([0.4, 0.95], abs=0.01)


@pytest.mark.parametrize(("name", "expected"), [("plot 1.2", "plot 1.2.svg"), ("summary.png", "summary.svg")])
def test_a_plot_gets_the_suffix_of_the_chosen_format(scored_plot, tmp_path, monkeypatch, notices, name, expected):
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / name), "SVG (*.svg)"))
    scored_plot.save_button.click()
    assert [path.name for path in tmp_path.iterdir()] == [expected]
    # Of a file by this name the dialog has not asked.
    (tmp_path / expected).write_text("mine")
    scored_plot.save_button.click()
    assert f"{expected} is there already; choose another name" in notices[-1]
    assert (tmp_path / expected).read_text() == "mine"


def test_what_can_not_be_written_says_so(scored_plot, tmp_path, notices):
    scored_plot.save(tmp_path / "summary.tif")
    assert "expected a name that ends in one of: .png, .svg, .pdf" in notices[-1]
    for name in ("summary.png", "summary.svg", "summary.pdf"):
        scored_plot.save(tmp_path / "no_such_folder" / name)
        assert "can't be written; choose another folder" in notices[-1]
