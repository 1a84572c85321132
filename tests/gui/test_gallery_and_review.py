from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_all_detect._napari.cells.colours import palette, share_levels, shares
from napari_all_detect._napari.cells.crops_again import CropsOnDemand, CutPlane
from napari_all_detect._napari.cells.heatmap import overlaid, placed_crop
from napari_all_detect._napari.cells.layer_link import attach
from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.qt import cell_gallery
from napari_all_detect._napari.qt.cell_gallery import CROP_PX, ROW
from napari_all_detect._napari.qt.pictures import framed, pixmap
from napari_all_detect.explain import GradCam


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
    # One cell is flagged, the first of the table.
    gallery.order.setCurrentText("P(ALL), high to low")
    texts = {gallery.pictures.item(k).data(ROW): gallery.pictures.item(k).text() for k in range(100)}
    assert [row for row, text in texts.items() if "⚑" in text] == [0]


def test_pictures_are_the_cells_own_and_follow_colours_and_calls(make_napari_viewer, scored_rows):
    results = scored_rows(squares(12))
    _, gallery = opened(make_napari_viewer, "Cell gallery", results, (320, 320))

    def shown():
        items = [gallery.pictures.item(k) for k in range(gallery.pictures.count())]
        return {item.data(ROW): item.icon().pixmap(CROP_PX, CROP_PX).toImage() for item in items}

    for colouring in ("P(ALL)", "call"):
        results.colouring = colouring
        colours = palette(colouring)[share_levels(shares(results.table, colouring)), :3]
        assert len(shown()) == len(results)
        for row, picture in shown().items():
            # The first cell is flagged.
            assert picture == framed(pixmap(results.rows.crops[row], CROP_PX), tuple(colours[row]), row == 0).toImage()
    gallery.calls.setCurrentText("ALL")
    assert sorted(shown()) == np.flatnonzero(results.table["call"] == "ALL").tolist()
    results.threshold = 0.85
    assert list(shown()) == [0]


def test_the_gallery_without_scores_or_crops_says_so(make_napari_viewer):
    _, gallery = opened(make_napari_viewer, "Cell gallery")
    assert "open Score cells" in gallery.place.text()
    assert not gallery.explain_button.isEnabled()


def without_crops(results, crop_size):
    return CellResults(replace(results.rows, crops=None), replace(results.run, crop_size=crop_size))


def test_why_there_are_no_crops_is_told_as_it_is(make_napari_viewer, scored_rows):
    results = scored_rows(squares(4))
    viewer, gallery = opened(make_napari_viewer, "Cell gallery", without_crops(results, 8))
    assert "their image was not there, or not how they were rescaled" in gallery.place.text()
    assert not gallery.before.isEnabled()
    assert not gallery.after.isEnabled()
    attach(viewer.layers[0], without_crops(results, 0))
    assert "tiny-1 is not installed, or was changed" in gallery.place.text()
    results.select([0])
    assert not gallery.explain_button.isEnabled()


class Gone:
    """Stands for an image on a share that is gone."""

    def __getitem__(self, part):
        raise OSError("the share is gone")


def test_an_image_that_is_gone_is_told_and_disturbs_no_other_widget(score_cells, scored_rows):
    viewer, widget = score_cells()
    labels, scored = squares(6), scored_rows(squares(6))
    boxes = scored.rows.table[["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]].to_numpy()
    crops = CropsOnDemand([CutPlane(Gone(), labels, 1.0)], np.zeros(6, int), scored.rows.numbers, boxes, 8)
    results = CellResults(replace(scored.rows, crops=crops), scored.run)
    attach(viewer.add_labels(labels), results)
    gallery, review = (
        viewer.window.add_plugin_dock_widget("napari-all-detect", name)[1] for name in ("Cell gallery", "Review")
    )
    widget.table.view.selectRow(3)
    assert results.selected.tolist() == [3]
    assert gallery.pictures.count() == 0
    assert "Cell 4" in gallery.facts.text()
    for line in (gallery.place, review.call):
        assert "the cells' image can't be read any more (OSError: the share is gone); open it again" in line.text()
    gallery.explain()
    assert gallery.explain_button.text() == "Grad-CAM"


@pytest.fixture
def answers(monkeypatch):
    """Answer for the networks: what a gallery asks for arrives when it is called."""
    asked = []

    def work(bridge, ask, done, failed, finish):
        _, _, crops, weights = ask.args
        heat = crops[..., 0] / np.float32(255)
        members = np.stack([heat / (k + 2) for k in range(len(weights))], axis=1)
        asked.append(lambda: done(GradCam(members, heat)))

    monkeypatch.setattr(cell_gallery.Bridge, "work", work)
    return asked


def test_a_heat_map_is_shown_on_its_own_layer_alone(make_napari_viewer, scored_rows, answers):
    first, second = scored_rows(squares(4)), scored_rows(squares(4))
    viewer, gallery = opened(make_napari_viewer, "Cell gallery", first)
    other = viewer.add_labels(squares(4))
    viewer.layers.selection.active = viewer.layers[0]
    attach(other, second)
    first.select([1])
    second.select([1])
    gallery.explain()
    assert not gallery.explain_button.isEnabled()
    viewer.layers.selection.active = other
    answers[0]()
    assert gallery.followed.results is second
    np.testing.assert_array_equal(gallery.large.crop, second.rows.crops[1])
    assert not gallery.in_place_button.isEnabled()
    assert gallery.explain_button.isEnabled()
    viewer.layers.selection.active = viewer.layers[0]
    assert gallery.in_place_button.isEnabled()
    assert not np.array_equal(gallery.large.crop, first.rows.crops[1])
    first.select([2])
    assert not gallery.in_place_button.isEnabled()


def test_heat_is_that_of_the_cell_and_of_the_network_that_are_chosen(make_napari_viewer, scored_rows, answers):
    results = scored_rows(squares(4))
    viewer, gallery = opened(make_napari_viewer, "Cell gallery", results)
    results.select([2])
    gallery.explain()
    answers[0]()
    crop, layer = results.rows.crops[2], viewer.layers[0]
    for name, part in (("ensemble", 1), ("one", 2), ("three", 4)):
        gallery.member.setCurrentText(name)
        heat = crop[..., 0] / np.float32(255) / part
        np.testing.assert_array_equal(gallery.large.crop, overlaid(crop, heat))
        gallery.show_in_place()
        np.testing.assert_array_equal(viewer.layers[-1].data, heat)
        assert viewer.layers[-1].name == f"Grad-CAM {name}, cell 3"
        assert viewer.layers.selection.active is layer


TURNED = {"scale": (5, 0.5, 0.25), "translate": (1, 20, 30), "shear": (0, 0, 0.3)}


@pytest.mark.parametrize(
    "place",
    [
        TURNED | {"rotate": (0, 0, 30)},
        TURNED | {"affine": [[1, 0, 0, 2], [0, 0.8, -0.6, 20], [0, 0.6, 0.8, 5], [0, 0, 0, 1]]},
    ],
)
def test_heat_covers_its_cell_on_its_plane_however_the_image_lies(make_napari_viewer, scored_rows, answers, place):
    labels = squares(4, 64)
    results = scored_rows(labels)
    results = CellResults(replace(results.rows, index=np.array([[0], [0], [2], [2]])), results.run)
    viewer, gallery = opened(make_napari_viewer, "Cell gallery")
    layer = viewer.add_labels(np.stack([labels] * 3), **place)
    attach(layer, results)
    results.select([3])
    gallery.explain()
    answers[0]()
    gallery.show_in_place()
    heat = viewer.layers[-1]
    assert heat.data.shape == (1, 8, 8)
    y_px, x_px, pixel_px = placed_crop(results, 3)
    for k, m in ((0, 0), (0, 7), (7, 3)):
        there = layer.data_to_world((2, y_px + k * pixel_px, x_px + m * pixel_px))
        np.testing.assert_allclose(heat.data_to_world((0, k, m)), there, atol=1e-9)


def test_a_review_by_keyboard(make_napari_viewer, scored_rows, qtbot, tmp_path):
    results = scored_rows(squares(12))
    viewer, review = opened(make_napari_viewer, "Review", results, (320, 320))
    canvas = canvas_with_the_keyboard(viewer, qtbot)
    first = review.reviewer.current
    for key in (Qt.Key.Key_A, Qt.Key.Key_H, Qt.Key.Key_U, Qt.Key.Key_K):
        qtbot.keyClick(canvas, key)
    assert sorted(results.verdicts.tolist()) == [""] * 10 + ["ALL", "Hem"]
    assert results.verdicts[first] == "ALL"
    assert review.progress.text() == "2 of 12 cells judged"
    assert "Agreement with the calls on 2 cells" in review.agreement.text()
    assert results.selected.tolist() == [review.reviewer.current]
    np.testing.assert_array_equal(review.picture.crop, results.rows.crops[review.reviewer.current])
    assert "P(ALL)" not in review.call.text()
    review.show_call.setChecked(True)
    assert "P(ALL)" in review.call.text()
    review.save(tmp_path)
    assert {path.parent.name for path in tmp_path.glob("*/*.png")} == {"all", "hem"}


def test_keys_are_the_reviews_while_it_is_in_sight_and_nobody_types(make_napari_viewer, scored_rows, qtbot):
    results = scored_rows(squares(12))
    viewer, review = opened(make_napari_viewer, "Review", results, (320, 320))
    dock, score = viewer.window.add_plugin_dock_widget("napari-all-detect", "Score cells")
    canvas = canvas_with_the_keyboard(viewer, qtbot)

    def judged_by(key, widget):
        before = review.reviewer.n_judged
        qtbot.keyClick(widget, key)
        return review.reviewer.n_judged - before

    for widget in (canvas, score.table.view, score.table.calls):
        assert judged_by(Qt.Key.Key_A, widget) == 1
    for field in (score.table.least_p, score.smear.channels.native):
        field.setFocus()
        assert judged_by(Qt.Key.Key_A, field) == 0
    assert score.smear.channels.native.text() == "a"
    # A selects all points, napari says; of the others it knows nothing.
    points = viewer.add_points([[10, 10], [30, 30]])
    assert judged_by(Qt.Key.Key_A, canvas) == 0
    qtbot.waitUntil(lambda: len(points.selected_data) == 2)
    assert judged_by(Qt.Key.Key_H, canvas) == 1
    viewer.layers.selection.active = viewer.layers[0]
    viewer.window._qt_window.tabifyDockWidget(review.parent(), dock)
    dock.raise_()
    qtbot.waitUntil(lambda: review.visibleRegion().isEmpty())
    assert judged_by(Qt.Key.Key_A, canvas) == 0
    review.parent().raise_()
    qtbot.waitUntil(lambda: not review.visibleRegion().isEmpty())
    assert judged_by(Qt.Key.Key_A, canvas) == 1
    # A dock that floats is a window of its own, with the same keys.
    review.parent().setFloating(True)
    canvas = canvas_with_the_keyboard(viewer, qtbot)
    assert judged_by(Qt.Key.Key_A, canvas) == 1
    review.parent().activateWindow()
    qtbot.waitUntil(review.isActiveWindow)
    assert judged_by(Qt.Key.Key_A, review.save_button) == 1


def canvas_with_the_keyboard(viewer, qtbot):
    """Make the viewer's window the active one; keys are pressed on what is returned."""
    canvas = viewer.window._qt_viewer.canvas.native
    viewer.window.activate()
    qtbot.waitUntil(canvas.isActiveWindow)
    canvas.setFocus()
    return canvas


def test_what_is_selected_is_shown_and_judged(make_napari_viewer, scored_rows):
    results = scored_rows(squares(12))
    viewer, review = opened(make_napari_viewer, "Review", results, (320, 320))
    first = review.reviewer.current
    review.judge("ALL")
    upcoming = review.reviewer.current
    results.select([upcoming, first])
    np.testing.assert_array_equal(review.picture.crop, results.rows.crops[first])
    assert review.call.text() == f"Cell {results.table['label'][first]}, judged ALL"
    review.judge("Hem")
    assert results.verdicts[first] == "Hem"
    assert results.selected.tolist() == [upcoming]
    np.testing.assert_array_equal(review.picture.crop, results.rows.crops[upcoming])
    assert viewer.scene.camera.center[1:] == pytest.approx(results.position(upcoming))


def test_agreement_is_a_table_of_verdicts_by_calls(make_napari_viewer, scored_rows):
    results = scored_rows(squares(12))
    _, review = opened(make_napari_viewer, "Review", results, (320, 320))
    results.take_verdicts(["ALL"] * len(results))
    n_all, text = (results.table["call"] == "ALL").sum(), review.agreement.text()
    assert 0 < n_all < 12
    assert f"<td>you: ALL</td><td align=right>{12 - n_all}</td><td align=right>{n_all}</td>" in text
    assert "<td>you: Hem</td><td align=right>0</td><td align=right>0</td>" in text
    assert "on 12 cells: kappa 0.00" in text
    results.threshold = 0.0
    assert "kappa not defined yet" in review.agreement.text()
    results.select([])
    assert review.progress.text() == "12 of 12 cells judged"
    assert review.call.text() == "All cells are judged; select one to judge it again"
    assert not any(widget.isEnabled() for widget in review.buttons.values())


@pytest.mark.parametrize("selected", [[], [3], [3, 5]])
def test_a_review_shows_on_the_canvas_where_it_begins(make_napari_viewer, scored_rows, selected):
    results = scored_rows(squares(12))
    viewer = make_napari_viewer(show=True)
    layer = viewer.add_labels(squares(12))
    attach(layer, results)
    results.select(selected)
    _, review = viewer.window.add_plugin_dock_widget("napari-all-detect", "Review")
    # With the cell that is selected, the last of several.
    begins = selected or [review.reviewer.order[0]]
    assert results.selected.tolist() == begins
    assert review.reviewer.current == begins[-1]
    assert viewer.scene.camera.center[1:] == pytest.approx(results.position(review.reviewer.current))


def test_out_of_sight_a_review_leads_nowhere_until_it_is_seen(make_napari_viewer, scored_rows, qtbot):
    viewer, review = opened(make_napari_viewer, "Review", scored_rows(squares(12)), (320, 320))
    dock, _ = viewer.window.add_plugin_dock_widget("napari-all-detect", "Score cells")
    canvas_with_the_keyboard(viewer, qtbot)
    with qtbot.waitSignal(review.seen, check_params_cb=lambda seen: not seen):
        viewer.window._qt_window.tabifyDockWidget(review.parent(), dock)
        dock.raise_()
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 7, 7), 0.5
    results = scored_rows(squares(12))
    attach(viewer.add_labels(np.zeros((320, 320), int)), results)
    assert review.reviewer.results is results
    assert (viewer.scene.camera.center, viewer.scene.camera.zoom) == ((0, 7, 7), 0.5)
    assert len(results.selected) == 0
    with qtbot.waitSignal(review.seen):
        review.parent().raise_()
    assert results.selected.tolist() == [review.reviewer.current]
    assert viewer.scene.camera.center[1:] == pytest.approx(results.position(review.reviewer.current))
    # Seen before, it stays where the user has gone since.
    viewer.scene.camera.center = (0, 7, 7)
    for raised in (dock, review.parent()):
        with qtbot.waitSignal(review.seen):
            raised.raise_()
    assert viewer.scene.camera.center == (0, 7, 7)


def test_back_is_there_while_a_verdict_can_be_taken_back(make_napari_viewer, scored_rows):
    first, second = scored_rows(squares(12)), scored_rows(squares(12))
    viewer, review = opened(make_napari_viewer, "Review", first)
    layer, other = viewer.layers[0], viewer.add_labels(squares(12))
    viewer.layers.selection.active = layer
    attach(other, second)
    assert not review.back_button.isEnabled()
    judged = review.reviewer.current
    review.judge("ALL")
    assert review.back_button.isEnabled()
    viewer.layers.selection.active = other
    assert review.reviewer.results is second
    assert not review.back_button.isEnabled()
    viewer.layers.selection.active = layer
    review.back_button.click()
    assert first.verdicts[judged] == ""
    assert review.reviewer.current == judged
    assert not review.back_button.isEnabled()
    # Scored anew, the layer has nothing to take back.
    review.judge("ALL")
    attach(layer, scored_rows(squares(12)))
    assert not review.back_button.isEnabled()


def test_cells_without_crops_are_judged_on_the_canvas(make_napari_viewer, scored_rows):
    _, review = opened(make_napari_viewer, "Review", without_crops(scored_rows(squares(4)), 0))
    assert review.picture.crop is None
    assert review.call.text().startswith("Cell ")


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
