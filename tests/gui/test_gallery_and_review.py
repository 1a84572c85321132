import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_all_detect._napari.layer_link import attach
from napari_all_detect._napari.qt.cell_gallery import ROW


def opened(make_napari_viewer, name, results=None, shape=(64, 64)):
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-all-detect", name)
    if results is not None:
        attach(viewer.add_labels(np.zeros(shape, int)), results)
    return viewer, widget


def squares(n, side=320):
    """Label n squares of 6 px."""
    labels = np.zeros((side, side), int)
    for k in range(n):
        y, x = divmod(k, side // 10)
        labels[10 * y : 10 * y + 6, 10 * x : 10 * x + 6] = k + 1
    return labels


def test_the_gallery_turns_pages_and_goes_to_cells(make_napari_viewer, scored_rows):
    results = scored_rows(squares(250))
    viewer, gallery = opened(make_napari_viewer, "Cell gallery", results, (320, 320))
    assert gallery.pictures.count() == 100
    assert gallery.place.text() == "page 1 of 3"
    shown = [gallery.pictures.item(k).data(ROW) for k in range(100)]
    assert results.table["p_all"].iloc[shown].is_monotonic_decreasing
    gallery.turn(2)
    assert gallery.pictures.count() == 50
    assert not gallery.after.isEnabled()
    gallery.pictures.setCurrentRow(3)
    row = gallery.pictures.item(3).data(ROW)
    assert results.selected.tolist() == [row]
    assert viewer.scene.camera.center[1:] == pytest.approx(results.position(row))
    assert f"Cell {results.table['label'][row]}" in gallery.facts.text()
    gallery.order.setCurrentText("P(ALL), low to high")
    assert gallery.place.text() == "page 1 of 3"
    flagged = [gallery.pictures.item(k).text() for k in range(100) if gallery.pictures.item(k).data(ROW) == 0]
    assert all("⚑" in text for text in flagged)


def test_the_gallery_without_scores_or_crops_says_so(make_napari_viewer):
    _, gallery = opened(make_napari_viewer, "Cell gallery")
    assert "open Score cells" in gallery.place.text()
    assert not gallery.explain_button.isEnabled()


def test_a_review_by_keyboard(make_napari_viewer, scored_rows, qtbot, tmp_path):
    results = scored_rows(squares(12))
    _, review = opened(make_napari_viewer, "Review", results, (320, 320))
    first = review.reviewer.current
    for key in (Qt.Key.Key_A, Qt.Key.Key_H, Qt.Key.Key_U, Qt.Key.Key_Backspace):
        qtbot.keyClick(review, key)
    assert sorted(results.verdicts.tolist()) == [""] * 10 + ["ALL", "Hem"]
    assert results.verdicts[first] == "ALL"
    assert review.progress.text() == "2 of 12 cells judged"
    assert "Agreement with the calls on 2 cells" in review.agreement.text()
    assert results.selected.tolist() == [review.reviewer.current]
    assert "P(ALL)" not in review.call.text()
    review.show_call.setChecked(True)
    assert "P(ALL)" in review.call.text()
    review.save(tmp_path)
    assert {path.parent.name for path in tmp_path.glob("*/*.png")} == {"all", "hem"}
