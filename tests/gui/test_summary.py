import numpy as np
import pytest
from qtpy.QtGui import QImage

from napari_all_detect._napari.layer_link import attach


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


def test_what_can_not_be_written_says_so(scored_plot, tmp_path, notices):
    scored_plot.save(tmp_path / "summary.tif")
    assert "expected a name that ends in one of: .png, .svg, .pdf" in notices[-1]
    for name in ("summary.png", "summary.svg", "summary.pdf"):
        scored_plot.save(tmp_path / "no_such_folder" / name)
        assert "can't be written; choose another folder" in notices[-1]
