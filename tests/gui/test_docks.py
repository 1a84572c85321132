"""What holds of all docks: they fit the screen, and say what everything in them is for."""

import pytest
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QSlider, QTabBar, QTableView
from superqt import QCollapsible

from napari_all_detect._napari.cells.layer_link import attach
from napari_all_detect.samples import draw_smear

PLUGIN = "napari-all-detect"
DOCKS = ("Score cells", "Cell gallery", "Review")


@pytest.fixture
def docked(make_napari_viewer, scored_rows):
    """Open a viewer with scored cells and all docks, and return it with their widgets."""
    viewer = make_napari_viewer(show=True)
    drawn = draw_smear((224, 288), n_cells=12, seed=3)
    viewer.add_image(drawn.rgb)
    attach(viewer.add_labels(drawn.labels), scored_rows(drawn.labels))
    return viewer, [viewer.window.add_plugin_dock_widget(PLUGIN, name)[1] for name in DOCKS]


def test_three_docks_leave_the_window_smaller_than_its_screen(docked, qtbot):
    viewer, (score, gallery, review) = docked
    score.findChild(QCollapsible).expand(animate=False)
    gallery.pictures.setCurrentRow(0)
    review.judge("ALL")
    qtbot.wait(50)
    window = viewer.window._qt_window
    assert window.minimumSizeHint().height() <= window.screen().availableGeometry().height()
    # Where there is no room, they scroll, and what is in them stays large enough to be read.
    score.tabs.setCurrentIndex(1)
    rows = score.table.view.viewport().height() // score.table.view.verticalHeader().defaultSectionSize()
    assert rows >= 5
    assert gallery.large.height() >= 128
    assert review.picture.height() >= 128


def test_all_that_can_be_pressed_or_typed_in_says_what_it_is_for(docked):
    _, widgets = docked
    kinds = (QAbstractButton, QSlider, QAbstractSpinBox, QComboBox, QLineEdit)
    parts = [part for widget in widgets for kind in kinds for part in widget.findChildren(kind)]
    assert len(parts) > 40
    assert [part for part in parts if not part.toolTip() and not _says_it_itself(part)] == []


def _says_it_itself(part):
    """Return whether a part is Advanced, or of Qt's making: a number's line, the arrows of tabs, a table's corner."""
    heading = isinstance(part, QAbstractButton) and part.text() == "Advanced"
    return heading or isinstance(part.parent(), QAbstractSpinBox | QTabBar | QTableView)
