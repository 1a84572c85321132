"""The widget *Score cells* in a real viewer; the networks run in the scoring process."""

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import zarr
from psygnal import EmitLoopError
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QFileDialog, QLabel

from napari_all_detect import ScoreParams, SegmentationParams
from napari_all_detect._napari.cells.layer_link import attach, results_of
from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.layers.metadata_keys import FOUND_IN_KEY, SCORED_ON_KEY
from napari_all_detect._napari.layers.origins import Origin
from napari_all_detect._napari.process.shared import _process
from napari_all_detect._napari.qt import cell_table
from napari_all_detect._napari.qt import score_cells as score_cells_module
from napari_all_detect._napari.qt.edits_line import STILL_MS
from napari_all_detect._napari.qt.layer_name import LayerName
from napari_all_detect._napari.run.progress import RunState
from napari_all_detect.errors import OutputError
from napari_all_detect.samples import draw_smear
from napari_all_detect.trust import FLAGS, Bounds


@pytest.fixture(scope="module")
def drawn():
    return draw_smear((224, 288), n_cells=12, seed=3)


def wait_for_the_end(widget, qtbot):
    qtbot.waitUntil(lambda: not widget.controller.state.busy, timeout=280_000)


def test_the_sample_is_scored_for_real(score_cells, qtbot, tmp_path):
    viewer, widget = score_cells(show=True)
    viewer.open_sample("napari-all-detect", "smear")
    smear = viewer.layers["smear (drawn)"]
    widget.smear.image.choose(smear)
    widget.smear.planes.setCurrentIndex(0)
    widget.score_button.click()
    assert not widget.score_button.isEnabled()
    assert widget.cancel_button.isEnabled()
    widget.score_button.click()
    wait_for_the_end(widget, qtbot)
    layer = viewer.layers["smear (drawn) cells"]
    results = results_of(layer)
    assert len(viewer.layers) == 3
    assert len(results) >= 25
    assert "cells scored" in widget.status.text()
    assert "lite-" in widget.running_on.text()
    assert "cpu" in widget.running_on.text()
    assert widget.table.model.rowCount() == len(results)
    # Cells of both kinds stand out in their colours on the canvas.
    layer.contour, layer.opacity = 0, 1
    viewer.fit_to_view()
    shown = viewer.screenshot(canvas_only=True, flash=False)[..., :3].reshape(-1, 3).astype(int)
    extremes = [results.table["p_all"].argmax(), results.table["p_all"].argmin()]
    for rgba in layer.colormap.map(results.rows.numbers[extremes]):
        assert (np.abs(shown - np.rint(255 * rgba[:3])).max(axis=1) <= 3).sum() > 100
    widget.table.export(tmp_path / "cells.csv")
    qtbot.waitUntil(widget.table.export_button.isEnabled)
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == len(results) + 1


def test_closing_the_viewer_in_mid_run_leaves_nothing_behind(score_cells, qtbot, drawn):
    viewer, widget = score_cells()
    viewer.add_image(drawn.rgb)
    widget.score_button.click()
    qtbot.waitUntil(lambda: _process.running)
    controller = widget.controller
    viewer.close()
    qtbot.waitUntil(lambda: not _process.running)
    assert controller.wait(60)


@pytest.fixture
def scored(score_cells, drawn, scored_rows):
    """Return viewer, widget, labels layer with gaps and results that were made up."""
    viewer, widget = score_cells(show=True)
    viewer.add_image(drawn.rgb)
    layer = viewer.add_labels(np.where(drawn.labels > 0, 3 * drawn.labels, 0))
    attach(layer, scored_rows(layer.data))
    viewer.layers.selection.active = layer
    return viewer, widget, layer, results_of(layer)


def test_table_canvas_and_selection_stay_together_when_sorted(scored, qtbot):
    viewer, widget, layer, results = scored
    model, view = widget.table.model, widget.table.view
    model.sort(model.columns.index("p_all"), Qt.SortOrder.DescendingOrder)
    assert results.table["p_all"].iloc[model.order].is_monotonic_decreasing
    view.selectRow(1)
    row = int(model.order[1])
    assert results.selected.tolist() == [row]
    assert viewer.scene.camera.center[1:] == pytest.approx(results.position(row))
    # A click on a cell selects its row, wherever it stands.
    click(viewer, layer, results.position(0))
    assert results.selected.tolist() == [0]
    assert [int(model.order[index.row()]) for index in view.selectionModel().selectedRows()] == [0]
    click(viewer, layer, results.position(2), "Control")
    assert results.selected.tolist() == [0, 2]
    order, header = model.order.tolist(), view.horizontalHeader()
    where = header.sectionViewportPosition(model.columns.index("spread")) + 10
    qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(where, header.height() // 2))
    assert model.order.tolist() != order
    assert sorted(int(model.order[index.row()]) for index in view.selectionModel().selectedRows()) == [0, 2]
    assert results.selected.tolist() == [0, 2]
    assert int(model.order[view.currentIndex().row()]) == 2
    # Another column before it doesn't move the mark to another one.
    results.judge(0, "Hem")
    assert model.columns[view.horizontalHeader().sortIndicatorSection()] == "spread"
    # The background selects nothing anew.
    click(viewer, layer, (0, 0) if not layer.data[0, 0] else (223, 0))
    assert results.selected.tolist() == [0, 2]
    # One that is clicked again is the last; one that is painted is not clicked.
    click(viewer, layer, results.position(0), "Control")
    assert results.selected.tolist() == [2, 0]
    layer.mode = "paint"
    click(viewer, layer, results.position(1))
    assert results.selected.tolist() == [2, 0]


def test_a_listener_that_fails_leaves_the_table_listening(scored, qtbot):
    _, widget, _, results = scored

    def fail():
        raise OSError("gone")

    results.selection_changed.connect(fail)
    with qtbot.captureExceptions() as raised:
        widget.table.view.selectRow(2)
    assert raised[0][0] is EmitLoopError
    results.selection_changed.disconnect(fail)
    results.select([4])
    assert [index.row() for index in widget.table.view.selectionModel().selectedRows()] == [4]


def test_many_rows_are_selected_as_few_runs(scored, qtbot):
    _, widget, _, results = scored
    view, n = widget.table.view, len(results)
    view.selectAll()
    assert sorted(results.selected.tolist()) == list(range(n))
    results.threshold = 0.9
    assert len(view.selectionModel().selection()) == 1
    assert len(view.selectionModel().selectedRows()) == n
    results.select([0, 1, 2, 5, 6, 4])
    assert [(run.top(), run.bottom()) for run in view.selectionModel().selection()] == [(0, 2), (4, 6)]
    assert view.currentIndex().row() == 4
    results.select([])
    assert not view.selectionModel().hasSelection()


def test_a_verdict_touches_its_column_alone(scored):
    _, widget, _, results = scored
    model, told = widget.table.model, []
    results.judge(0, "Hem")
    column = model.columns.index("verdict")
    assert model.index(0, column).data() == "Hem"
    model.modelReset.connect(lambda: told.append("reset"))
    model.dataChanged.connect(lambda first, last: told.append((first.column(), last.column())))
    results.judge(1, "ALL")
    assert told == [(column, column)]
    assert model.index(1, column).data() == "ALL"
    # Where it decides on the order, or nothing is left to show, rows and columns do change.
    model.sort(column, Qt.SortOrder.DescendingOrder)
    results.judge(2, "unsure")
    assert model.order[:3].tolist() == [2, 0, 1]
    results.take_verdicts([""] * len(results))
    assert "verdict" not in model.columns


def test_filters_and_copy(scored):
    _, widget, _, results = scored
    widget.table.calls.setCurrentText("ALL")
    n = (results.table["call"] == "ALL").sum()
    assert widget.table.model.rowCount() == n
    assert widget.table.count.text() == f"{n} of {len(results)} cells"
    widget.table.copy()
    copied = QApplication.clipboard().text().splitlines()
    assert len(copied) == n + 1
    assert copied[0].split("\t")[:3] == ["image", "plane", "label"]
    # A selected cell that the filter hides is not copied in place of those that are seen.
    results.select([int((results.table["call"] == "Hem").argmax())])
    widget.table.copy()
    assert len(QApplication.clipboard().text().splitlines()) == n + 1
    # Those that are seen are copied alone, as they stand.
    model = widget.table.model
    model.sort(model.columns.index("spread"))
    rows = model.order[:3]
    assert rows.tolist() != sorted(rows)
    results.select(sorted(rows))
    widget.table.copy()
    copied = [line.split("\t")[2] for line in QApplication.clipboard().text().splitlines()]
    assert copied == ["label", *map(str, results.table["label"][rows])]
    widget.threshold.setValue(100)
    assert widget.table.model.rowCount() == 0


def test_rows_are_chosen_by_flags_and_probability(scored):
    _, widget, _, results = scored
    table, p_all = widget.table, results.table["p_all"]
    table.flags.setCurrentText("touches_border")
    assert table.model.order.tolist() == [0]
    table.flags.setCurrentText("none")
    assert table.model.order.tolist() == list(range(1, len(results)))
    table.least_p.setValue(0.3)
    assert table.model.order.tolist() == [k for k in range(1, len(results)) if p_all[k] >= 0.3]
    table.most_p.setValue(0.6)
    assert table.model.order.tolist() == [k for k in range(1, len(results)) if 0.3 <= p_all[k] <= 0.6]
    assert 0 < table.model.rowCount() < len(results) - 2


def test_columns_are_few_or_all_and_name_the_planes_of_a_stack(scored):
    _, widget, layer, results = scored
    model = widget.table.model
    few = list(model.columns)
    assert few == ["label", "call", "p_all", "spread", "votes_all", "flags"]
    assert model.index(1, few.index("p_all")).data() == f"{results.table['p_all'][1]:.3f}"
    model.sort(0, Qt.SortOrder.DescendingOrder)
    assert model.order.tolist() == list(range(len(results)))[::-1]
    widget.table.all_columns.setChecked(True)
    assert model.columns == list(results.table.columns)
    widget.table.all_columns.setChecked(False)
    two = replace(results.rows, summary=pd.concat([results.rows.summary] * 2))
    attach(layer, CellResults(two, results.run))
    assert model.columns == ["plane", *few]


def test_flags_can_be_read_in_the_table_wherever_their_column_is(scored):
    _, widget, layer, results = scored
    table, header = widget.table, widget.table.view.horizontalHeader()

    def widths():
        return {name: header.sectionSize(k) for k, name in enumerate(table.model.columns)}

    def needed(text):
        return table.view.fontMetrics().horizontalAdvance(text) + cell_table.BESIDE_PX

    def flagged(flags):
        columns = results.rows.table.assign(flags=[*flags, *[""] * (len(results) - len(flags))])
        attach(layer, CellResults(replace(results.rows, table=columns), results.run))
        return widths()["flags"]

    assert widths()["flags"] >= needed("touches_border")
    results.judge(0, "Hem")  # which puts a column before it
    assert widths()["flags"] >= needed("touches_border")
    # The others take no more room than they need.
    assert {name: widths()[name] for name in ("call", "p_all", "votes_all")} == {
        name: needed(text) for name, text in (("call", "uncertain"), ("p_all", "0.000"), ("votes_all", "votes_all"))
    }
    table.all_columns.setChecked(True)  # the last column has what room is left
    assert flagged(["", "blurred;touches_border"]) == needed("blurred;touches_border")
    assert flagged([";".join(FLAGS)]) == cell_table.MOST_COLUMN_PX
    assert flagged([]) == needed("flags")


def test_tab_leads_out_of_the_table(scored, qtbot):
    viewer, widget, _, _ = scored
    view = widget.table.view
    widget.tabs.setCurrentIndex(1)
    viewer.window.activate()
    qtbot.waitUntil(view.isActiveWindow)
    view.setFocus()
    view.setCurrentIndex(widget.table.model.index(0, 0))
    assert view.hasFocus()
    qtbot.keyClick(view, Qt.Key.Key_Tab)
    assert not view.hasFocus()


def test_an_export_gets_the_suffix_of_the_chosen_format(scored, qtbot, tmp_path, monkeypatch, notices):
    _, widget, _, results = scored
    chosen, proposed = (str(tmp_path / "slide 1.2"), "CSV (*.csv)"), []
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *given: (proposed.append(given[2]), chosen)[1])
    widget.table.export_button.click()
    qtbot.waitUntil(widget.table.export_button.isEnabled)
    assert proposed == ["drawn.png_cells.csv"]
    assert len((tmp_path / "slide 1.2.csv").read_text().splitlines()) == len(results) + 1
    # Of a file by this name the dialog has not asked.
    (tmp_path / "slide 1.2.csv").write_text("mine")
    widget.table.export_button.click()
    qtbot.waitUntil(widget.table.export_button.isEnabled)
    assert "slide 1.2.csv is there already; choose another name" in notices[-1]
    assert (tmp_path / "slide 1.2.csv").read_text() == "mine"


def test_an_export_does_not_keep_the_window_waiting(scored, qtbot, tmp_path, monkeypatch, notices):
    _, widget, layer, results = scored
    go_on, written, before = threading.Event(), [], layer.data.copy()

    def slow(exported, path):
        go_on.wait(120)
        written.append(exported)
        return [path.with_name(f"cells_{plane}.geojson") for plane in ("p0", "p1")]

    monkeypatch.setattr(cell_table, "export", slow)
    widget.table.export(tmp_path / "cells.geojson")
    assert not widget.table.export_button.isEnabled()
    widget.threshold.setValue(100)  # shows the table anew
    layer.data[:] = 0
    assert widget.table.export_button.text() == "Exporting…"
    assert not widget.table.export_button.isEnabled()
    go_on.set()
    qtbot.waitUntil(widget.table.export_button.isEnabled)
    assert f"{len(results)} cells written to {tmp_path / 'cells_p0.geojson'} and 1 more beside it" in notices[-1]
    # What was there when the button was pressed.
    assert "ALL" in set(written[0].results.table["call"])
    np.testing.assert_array_equal(written[0].labels, before)


@pytest.mark.parametrize(
    ("error", "told"),
    [(OutputError("choose another folder"), "choose another folder"), (KeyError("x"), "KeyError: 'x'")],
)
def test_an_export_that_fails_says_so(scored, qtbot, tmp_path, monkeypatch, notices, error, told):
    _, widget, _, _ = scored

    def fail(*_):
        raise error

    monkeypatch.setattr(cell_table, "export", fail)
    widget.table.export(tmp_path / "cells.csv")
    qtbot.waitUntil(widget.table.export_button.isEnabled)
    assert told in notices[-1]


def test_a_pyramid_of_labels_is_exported(score_cells, scored_rows, drawn, qtbot, tmp_path, notices):
    viewer, widget = score_cells()
    layer = viewer.add_labels([drawn.labels, drawn.labels[::2, ::2]], multiscale=True)
    attach(layer, scored_rows(drawn.labels))
    widget.table.export(tmp_path / "cells.geojson")
    qtbot.waitUntil(widget.table.export_button.isEnabled)
    assert "cells written" in notices[-1]
    assert len(json.loads((tmp_path / "cells.geojson").read_text())["features"]) == drawn.labels.max()
    viewer.layers.selection.active = layer
    click(viewer, layer, results_of(layer).position(1))
    assert results_of(layer).selected.tolist() == [1]
    click(viewer, layer, (-5, -5))
    assert results_of(layer).selected.tolist() == [1]


def test_new_scores_have_the_colours_that_were_chosen(score_cells, scored_rows, drawn):
    viewer, widget = score_cells()
    widget.colouring.setCurrentText("call")
    layer = viewer.add_labels(drawn.labels)
    attach(layer, scored_rows(drawn.labels))
    widget.controller.scored.emit(layer)
    assert results_of(layer).colouring == widget.colouring.currentText() == "call"


def test_cells_out_of_the_domain_are_told_beside_the_calls(scored):
    _, widget, layer, results = scored
    widget.tabs.setCurrentIndex(1)
    assert not widget.domain.isVisible()
    table = results.rows.table.assign(flags=["out_of_domain", *results.rows.table["flags"][1:]])
    attach(layer, CellResults(replace(results.rows, table=table), results.run))
    assert widget.domain.isVisible()
    assert f"out_of_domain: 1 of {len(table)} cells" in widget.domain.text()
    assert widget.summary.domain.text() == widget.domain.text()


def test_what_is_noted_on_the_image_is_told(scored):
    _, widget, layer, results = scored
    widget.tabs.setCurrentIndex(1)
    assert not widget.notes.isVisible()
    summary = results.rows.summary.assign(notes="scaled to 8 bits;cells are 3 um wide: is that right?")
    attach(layer, CellResults(replace(results.rows, summary=summary), results.run))
    assert widget.notes.isVisible()
    assert "scaled to 8 bits; cells are 3 um wide: is that right?" in widget.notes.text()


def test_calls_by_an_error_rate_say_so_until_the_threshold_is_moved(scored):
    _, widget, layer, results = scored
    assert not widget.called_by.isVisibleTo(widget.tabs)
    attach(layer, CellResults(results.rows, replace(results.run, called_by=Bounds(0.4, 0.7))))
    assert widget.called_by.text() == "By the error rate: Hem below 0.400, ALL above 0.700, uncertain between them."
    widget.tabs.setCurrentIndex(1)
    assert widget.called_by.isVisible()
    widget.threshold.setValue(60)
    assert not widget.called_by.isVisible()
    widget.restore_button.click()
    assert widget.called_by.isVisible()


def test_cells_that_fast_calls_left_open_are_told_where_the_threshold_is_moved(scored):
    _, widget, layer, results = scored
    table = results.rows.table.assign(least_p_all=0.0, most_p_all=1.0)
    attach(layer, CellResults(replace(results.rows, table=table), results.run))
    widget.tabs.setCurrentIndex(1)
    assert not widget.called_by.isVisible()
    widget.threshold.setValue(60)
    assert widget.called_by.text().endswith(f"leave open at this threshold, now uncertain: {len(table)}.")
    assert widget.called_by.isVisible()


def test_colours_and_threshold_are_live(scored):
    _, widget, layer, results = scored
    before = layer.colormap.map(results.rows.numbers)
    widget.colouring.setCurrentText("call")
    assert results.colouring == "call"
    calls = layer.colormap.map(results.rows.numbers)
    assert len(np.unique(calls, axis=0)) == 2
    assert not np.allclose(before, calls)
    assert widget.colour_bar._colouring == "call"
    widget.threshold.setValue(0)
    assert set(results.table["call"]) == {"ALL"}
    assert f": {len(results)} ALL, 0 Hem; 100.0 % ALL" in widget.summary.sentence.text()
    assert len(np.unique(layer.colormap.map(results.rows.numbers), axis=0)) == 1
    assert widget.threshold_text.text() == "0.00"


def test_the_layer_that_is_shown_is_named(scored):
    _, widget, layer, _ = scored
    (in_summary,) = widget.summary.findChildren(LayerName)
    widget.tabs.setCurrentIndex(1)
    layer.name = "patient A cells, scored on the second day"
    for line in (widget.shown, in_summary):
        assert line.text() == layer.name
        assert layer.name in line.toolTip()
    widget.shown.resize(80, 20)
    assert "…" in QLabel.text(widget.shown)


def test_cells_that_were_erased_or_drawn_are_told_at_the_table(scored, qtbot):
    viewer, widget, layer, results = scored
    widget.tabs.setCurrentIndex(1)
    line, other = widget.table.edits, viewer.add_labels(layer.data.copy())
    attach(other, CellResults(results.rows, results.run))
    viewer.layers.selection.active = layer
    layer.data_setitem(np.nonzero(layer.data == 3), 0)
    qtbot.waitUntil(line.isVisible)
    assert "1 cell erased or redrawn since the scores: score the labels again" in line.text()
    viewer.layers.selection.active = other
    assert not line.isVisible()
    viewer.layers.selection.active = layer
    qtbot.waitUntil(line.isVisible)
    layer.undo()
    qtbot.waitUntil(lambda: not line.isVisible())


def test_cells_that_were_edited_are_proposed_once_for_each_scoring(scored, scored_rows, qtbot, monkeypatch):
    viewer, widget, layer, _ = scored
    line, cells, begun = widget.table.edits, widget.cells, []
    monkeypatch.setattr(widget.controller, "score", begun.append)
    layer.metadata[SCORED_ON_KEY] = Origin.of(widget.smear.layer)
    qtbot.wait(2 * STILL_MS)
    assert cells.layer is None

    def edit(number):
        told = line.text()
        layer.data_setitem(np.nonzero(layer.data == number), 0)
        qtbot.waitUntil(lambda: line.text() not in ("", told))

    edit(3)
    assert cells.layer is layer
    widget.score()
    assert begun[-1].labels is layer
    # Who wants to find cells anew all the same can.
    cells.choose(None)
    edit(6)
    viewer.layers.selection.active = viewer.add_labels(layer.data.copy())
    viewer.layers.selection.active = layer
    qtbot.wait(2 * STILL_MS)
    assert cells.layer is None
    widget.score()
    assert begun[-1].labels is None
    attach(layer, scored_rows(layer.data))
    qtbot.waitUntil(lambda: line.text() == "")
    assert cells.layer is None
    edit(9)
    assert cells.layer is layer


@pytest.mark.parametrize("known", [True, False], ids=["others are chosen", "nobody knows of which image they are"])
def test_edited_cells_are_not_proposed_where(known, scored, qtbot):
    viewer, widget, layer, _ = scored
    if known:
        layer.metadata[SCORED_ON_KEY] = Origin.of(widget.smear.layer)
        widget.cells.choose(viewer.add_labels(layer.data.copy()))
        viewer.layers.selection.active = layer
    chosen = widget.cells.layer
    layer.data_setitem(np.nonzero(layer.data == 3), 0)
    qtbot.waitUntil(lambda: widget.table.edits.text() != "")
    assert widget.cells.layer is chosen
    assert (chosen is not None) == known


def test_edited_cells_are_proposed_for_their_own_image(scored, drawn, qtbot):
    viewer, widget, layer, _ = scored
    (own,) = (one for one in viewer.layers if one is not layer)
    layer.metadata[SCORED_ON_KEY] = Origin.of(own)
    widget.smear.image.choose(viewer.add_image(drawn.rgb // 2))
    viewer.layers.selection.active = layer
    layer.data_setitem(np.nonzero(layer.data == 3), 0)
    qtbot.waitUntil(lambda: widget.table.edits.text() != "")
    assert widget.cells.layer is None
    widget.smear.image.choose(own)
    assert widget.cells.layer is layer


def test_cells_that_were_erased_in_a_zarr_array_are_told_too(scored, qtbot):
    viewer, widget, layer, results = scored
    widget.tabs.setCurrentIndex(1)
    stored = viewer.add_labels(zarr.array(layer.data))
    attach(stored, CellResults(results.rows, results.run))
    viewer.layers.selection.active = stored
    stored.data_setitem(np.nonzero(layer.data == 3), 0)
    qtbot.waitUntil(widget.table.edits.isVisible)
    assert "1 cell erased or redrawn" in widget.table.edits.text()


def test_deleting_the_scored_layer_empties_the_widget(scored):
    viewer, widget, layer, _ = scored
    viewer.layers.remove(layer)
    assert widget.table.model.rowCount() == 0
    assert not widget.table.export_button.isEnabled()
    assert "No scores yet" in widget.summary.sentence.text()
    assert widget.shown.text() == ""


def test_two_viewers_show_their_own(scored, score_cells):
    _, first, _, results = scored
    _, second = score_cells()
    assert first.table.model.rowCount() == len(results)
    assert second.table.model.rowCount() == 0
    assert second.smear.image.count() == 0


def test_without_an_image_the_button_says_what_to_do(score_cells, notices):
    _, widget = score_cells()
    widget.score()
    assert len(notices) == 1
    assert "open a stained smear first" in notices[0]


def test_cells_are_found_anew_whatever_labels_are_chosen(score_cells, drawn, monkeypatch):
    viewer, widget = score_cells()
    viewer.add_image(drawn.rgb)
    labels, begun = viewer.add_labels(drawn.labels), []
    monkeypatch.setattr(widget.controller, "segment", begun.append)
    monkeypatch.setattr(widget.controller, "score", begun.append)
    widget.cells.choose(labels)
    widget.segment()
    widget.score()
    assert [task.labels for task in begun] == [None, labels]


def test_a_picture_that_napari_takes_for_a_stack_says_what_to_do(score_cells, notices):
    viewer, widget = score_cells()
    narrow = viewer.add_image(np.zeros((30, 200, 3), np.uint8), name="strip")
    assert not narrow.rgb
    widget.score()
    assert "layer 'strip' of shape (30, 200, 3) is a stack to napari" in notices[-1]
    assert "viewer.add_image(viewer.layers['strip'].data, rgb=True)" in notices[-1]


def test_a_bad_number_is_refused_with_its_range(score_cells, drawn, notices):
    viewer, widget = score_cells()
    viewer.add_image(drawn.rgb)
    widget.score_fields["pixel_size_um"].value = "1e9"
    widget.score()
    assert len(notices) == 1
    assert "pixel_size_um" in notices[0]
    assert not widget.controller.state.busy


def test_the_form_shows_the_parameters_defaults(score_cells, drawn):
    viewer, widget = score_cells()
    assert widget.params() == ScoreParams()
    viewer.add_image(drawn.rgb, scale=(0.25, 0.25), units=("um", "um"))
    assert "0.25" in widget.score_fields["pixel_size_um"].native.placeholderText()
    widget.score_fields["batch_size"].value = "7"
    widget.score_fields["weighting"].value = "auc"
    widget.segmentation_fields["cell_diameter_px"].value = "40"
    segmentation = SegmentationParams(cell_diameter_px=40.0)
    assert widget.params() == ScoreParams(batch_size=7, weighting="auc", segmentation=segmentation)


def test_the_pixel_size_that_is_shown_follows_the_image(score_cells, drawn):
    viewer, widget = score_cells()
    first = viewer.add_image(drawn.rgb)
    levels = [drawn.rgb, drawn.rgb[::2, ::2]]
    second = viewer.add_image(levels, multiscale=True, scale=(0.1, 0.1), units=("um", "um"))
    shown = widget.score_fields["pixel_size_um"].native.placeholderText
    assert shown() == "0.1 (of the image)"
    widget.smear.levels.setCurrentIndex(1)
    second.scale = (0.2, 0.2)
    assert shown() == "0.2 (of the image)"
    assert "0.4 µm" in widget.smear.levels.currentText()
    second.affine = np.diag([2, 2, 1])
    assert shown() == "0.4 (of the image)"
    second.units = ("pixel", "pixel")
    assert shown() == "unknown"
    widget.smear.image.choose(first)
    second.units = ("um", "um")
    assert shown() == "unknown"
    first.scale, first.units = (0.5, 0.5), ("um", "um")
    assert shown() == "0.5 (of the image)"


def test_the_form_begins_with_the_settings(score_cells, monkeypatch):
    settings = SimpleNamespace(bundle="mine", engine="keras", colours="spread")
    monkeypatch.setattr(score_cells_module, "plugin_settings", lambda: settings)
    _, widget = score_cells()
    assert (widget.params().bundle, widget.params().engine) == ("mine", "keras")
    assert widget.colouring.currentText() == "spread"


def test_the_form_shows_how_a_run_stands_and_takes_what_it_found(score_cells, drawn):
    viewer, widget = score_cells()
    widget.controller.state_changed.emit(RunState(True, "5 of 20 cells", 5, 20))
    assert (widget.progress.value(), widget.progress.maximum()) == (5, 20)
    assert widget.status.text() == "5 of 20 cells"
    found, _ = (viewer.add_labels(drawn.labels) for _ in range(2))
    assert widget.cells.layer is None
    widget.controller.segmented.emit(found)
    assert widget.cells.layer is found


def test_labels_of_another_image_are_not_proposed(score_cells, drawn):
    viewer, widget = score_cells()
    first, second = (viewer.add_image(drawn.rgb, name=name) for name in ("first", "second"))
    found, more = (viewer.add_labels(drawn.labels, metadata={FOUND_IN_KEY: Origin.of(first)}) for _ in range(2))
    own = viewer.add_labels(drawn.labels, metadata={FOUND_IN_KEY: Origin.of(second)})
    free = viewer.add_labels(drawn.labels)
    # While the first was segmented, the user has gone to the second; of a third the image is gone.
    of_none = viewer.add_labels(drawn.labels, metadata={FOUND_IN_KEY: Origin("removed", "third")})
    for labels in (found, of_none):
        widget.controller.segmented.emit(labels)
        assert widget.cells.layer is None
    viewer.layers.selection.active = first
    assert widget.cells.layer is found
    viewer.layers.selection.active = second
    assert widget.cells.layer is None
    # They can be chosen all the same, and stay while that image does.
    widget.cells.choose(more)
    viewer.add_labels(drawn.labels)
    viewer.layers.selection.active = viewer.layers["second"]
    assert widget.cells.layer is more
    viewer.layers.selection.active = first
    assert widget.cells.layer is found
    viewer.layers.selection.active = second
    assert widget.cells.layer is more
    viewer.layers.remove(more)
    assert widget.cells.layer is None
    # Drawn by hand, they are of whatever image they are chosen for.
    widget.cells.choose(free)
    third = viewer.add_image(drawn.rgb)
    assert widget.smear.layer is third
    assert widget.cells.layer is free
    widget.cells.choose(own)
    viewer.add_image(drawn.rgb)
    assert widget.cells.layer is None


def test_planes_can_be_chosen_of_a_stack_only(score_cells, drawn):
    viewer, widget = score_cells(show=True)
    viewer.add_image(drawn.rgb)
    assert not widget.smear.planes.isVisibleTo(widget)
    stack = viewer.add_image(np.stack([drawn.rgb, drawn.rgb, drawn.rgb]), scale=(5, 1, 1))
    widget.smear.image.choose(stack)
    assert widget.smear.planes.isVisibleTo(widget)
    viewer.dims.set_point(0, 10)
    assert widget.task().at == (2,)
    # Beside an image that has more axes, and goes further along those that both have.
    viewer.add_image(np.zeros((2, 9, 8, 8)), scale=(1, 5, 1, 1))
    for place, plane in ((5, 1), (40, 2)):
        viewer.dims.set_point(1, place)
        assert widget.task().at == (plane,)
    widget.smear.planes.setCurrentText("All planes")
    assert widget.task().at is None


def test_the_plane_that_is_shown_is_told_at_the_finest_level(score_cells):
    viewer, widget = score_cells()
    stack = np.zeros((6, 64, 64, 3), np.uint8)
    viewer.add_image([stack, stack[::2, ::2, ::2]], multiscale=True, rgb=True)
    viewer.dims.set_point(0, 5)
    for level in range(3):  # the last is `auto`
        widget.smear.levels.setCurrentIndex(level)
        assert widget.task().at == (5,)


def test_channels_that_are_typed_make_a_stack_of_what_was_none(score_cells, notices):
    viewer, widget = score_cells(show=True)
    smear = widget.smear
    smear.image.choose(viewer.add_image(np.zeros((4, 5, 64, 64), np.uint8), rgb=False))
    assert not smear.planes.isVisibleTo(widget)
    for typed, shown in (("0,1,2", True), ("0,1,", False), ("0,1,3", True)):
        smear.channels.value = typed
        assert [box.isVisibleTo(widget) for box in (smear.planes, smear.axis)] == [shown, shown]
    smear.axis.setCurrentIndex(1)
    smear.planes.setCurrentText("All planes")
    smear.channels.value = "2,1,0"
    assert (widget.task().channel_axis, widget.task().at) == (0, None)
    assert not notices


def test_the_image_is_the_smear_that_the_user_goes_to(score_cells, drawn):
    viewer, widget = score_cells()
    first, second = (viewer.add_image(drawn.rgb) for _ in range(2))
    assert widget.smear.image.layer is second
    viewer.layers.selection.active = first
    assert widget.smear.image.layer is first
    first.name = "another name"
    assert widget.smear.image.currentText() == "another name"
    viewer.add_image(drawn.rgb[..., 0], name="grey")
    assert widget.smear.image.layer is first
    viewer.layers.remove(first)
    assert widget.smear.image.layer is not first


def test_the_card_and_the_research_line_are_there(score_cells):
    _, widget = score_cells()
    widget.card_button.click()
    assert "lite" in widget._card_dialog.findChild(object, "card").toPlainText()


def click(viewer, layer, place, *modifiers):
    """Press the mouse on the canvas at a place in the layer's data."""

    event = SimpleNamespace(
        position=layer.data_to_world(place), view_direction=None, dims_displayed=[0, 1], modifiers=modifiers
    )
    for callback in viewer.mouse_drag_callbacks:
        callback(viewer, event)


def test_one_press_of_cancel_ends_even_the_loading_of_networks(score_cells, qtbot, drawn):
    viewer, widget = score_cells()
    image = viewer.add_image(drawn.rgb)
    widget.score_button.click()
    qtbot.waitUntil(lambda: _process.running)
    widget.cancel_button.click()
    assert "Cancelling" in widget.status.text()
    wait_for_the_end(widget, qtbot)
    assert "Cancelled" in widget.status.text()
    assert widget.score_button.isEnabled()
    assert list(viewer.layers) == [image]


def test_channels_and_levels_are_asked_for_where_there_is_a_choice(score_cells, drawn):
    viewer, widget = score_cells(show=True)
    smear = widget.smear
    viewer.add_image(drawn.rgb)
    assert not any(box.isVisibleTo(widget) for box in (smear.axis, smear.levels, smear.planes))
    grey = viewer.add_image(np.zeros((3, 3, 32, 32), np.uint8), rgb=False)
    smear.image.choose(grey)
    assert smear.axis.isVisibleTo(widget)
    assert smear.planes.isVisibleTo(widget)
    viewer.dims.set_point(0, 2)
    assert (widget.task().channel_axis, widget.task().at) == (1, (2, 0))
    smear.axis.setCurrentIndex(1)
    viewer.dims.set_point(1, 1)
    assert (widget.task().channel_axis, widget.task().at) == (0, (1,))
    levels = [drawn.rgb, drawn.rgb[::2, ::2]]
    pyramid = viewer.add_image(levels, multiscale=True, scale=(0.25, 0.25), units=("um", "um"))
    smear.image.choose(pyramid)
    assert [smear.levels.itemText(k) for k in range(2)] == [
        "0: 288 × 224, 0.25 µm a pixel",
        "1: 144 × 112, 0.5 µm a pixel",
    ]
    smear.levels.setCurrentIndex(1)
    assert widget.params().reading.level == 1
    smear.levels.setCurrentIndex(2)
    assert widget.params().reading.level == "auto"
    # What comes beside it, a heat map say, leaves the choice as it is; a new image begins anew.
    viewer.add_labels(drawn.labels)
    viewer.add_image(np.zeros((9, 9)), name="heat")
    assert smear.layer is pyramid
    assert widget.params().reading.level == "auto"
    smear.image.choose(viewer.add_image(levels, multiscale=True))
    assert widget.params().reading.level == 0
    # Each has its own when the user comes back.
    smear.image.choose(pyramid)
    assert widget.params().reading.level == "auto"
    smear.image.choose(grey)
    assert widget.task().channel_axis == 0
    smear.planes.setCurrentText("All planes")
    smear.image.choose(pyramid)
    smear.image.choose(grey)
    assert widget.task().at is None


def test_channels_that_are_no_numbers_are_refused(score_cells, drawn, notices):
    viewer, widget = score_cells()
    viewer.add_image(drawn.rgb)
    widget.smear.channels.value = "red"
    assert widget.task() is None
    assert "channels is 'red'; expected numbers from 0: 0,1,2" in notices[-1]
