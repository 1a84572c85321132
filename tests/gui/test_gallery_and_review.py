from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_all_detect._napari.layer_link import attach
from napari_all_detect._napari.qt.cell_gallery import ROW
from napari_all_detect._napari.results import CellResults


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


def test_members_that_did_not_run_are_a_dash_and_disturb_nothing(score_cells, scored_rows):
    viewer, widget = score_cells()
    labels = squares(6)
    scored = scored_rows(labels)
    cells = scored.rows.table.copy()
    # As fast calls leave a cell whose call two members settled.
    cells.loc[2, ["p_all_three", "spread"]] = np.nan
    cells.loc[2, "members_run"] = 2
    results = CellResults(replace(scored.rows, table=cells), scored.run)
    layer = viewer.add_labels(labels)
    attach(layer, results)
    _, gallery = viewer.window.add_plugin_dock_widget("napari-all-detect", "Cell gallery")
    for order in ("spread, high to low", "P(ALL), high to low"):
        gallery.order.setCurrentText(order)
        assert gallery.pictures.count() == 6
    gallery.order.setCurrentText("spread, high to low")
    assert gallery.pictures.item(5).data(ROW) == 2  # what has no value comes last
    results.select([2])
    assert "spread –" in gallery.facts.text()
    assert "<td>three&nbsp;</td><td>–</td>" in gallery.facts.text()
    widget.colouring.setCurrentText("spread")
    shown = layer.colormap.map(np.array([3, 4]))
    assert not np.allclose(shown[0], shown[1])
    model = widget.table.model
    model.sort(model.columns.index("spread"), Qt.SortOrder.DescendingOrder)
    assert int(model.order[-1]) == 2
    assert model.index(5, model.columns.index("spread")).data() == ""
    results.threshold = 0.9
    assert len(model.order) == 6
