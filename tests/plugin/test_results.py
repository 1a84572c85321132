from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from napari.layers._layer_actions import _convert_to_image, _duplicate_layer

from napari_all_detect._napari.cells.colours import ScoreColormap
from napari_all_detect._napari.cells.edited import edits
from napari_all_detect._napari.cells.followed import Followed
from napari_all_detect._napari.cells.layer_link import attach, outline_px, results_of, show_cell
from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.cells.same_cells import keep_verdicts
from napari_all_detect._napari.layers.metadata_keys import SCORED_ON_KEY
from napari_all_detect._napari.layers.origins import Origin
from napari_all_detect.trust import Bounds

VOTES = [[0.9, 0.8, 0.7], [0.1, 0.2, 0.6], [0.4, 0.5, 0.6]]


@pytest.fixture
def scored(results):
    """Return a layer with three cells and its results."""
    found = results(VOTES)
    labels = np.zeros((30, 12), int)
    for k in range(3):
        labels[10 * k : 10 * k + 4, 5:9] = k + 1
    layer = Labels(labels, scale=(0.5, 0.5))
    attach(layer, found)
    return layer, found


def shown(texts):
    """Return texts with nothing where none is, which pandas 2 and 3 mark in different ways."""
    return texts.fillna("").tolist()


def test_calls_and_votes_follow_the_threshold(results):
    found = results(VOTES)
    assert found.table["call"].tolist() == ["ALL", "Hem", "ALL"]
    found.threshold = 0.75
    assert found.table["call"].tolist() == ["ALL", "Hem", "Hem"]
    assert found.table["votes_all"].tolist() == [2, 0, 0]
    found.threshold = 0.5
    scored = results(VOTES).table
    pd.testing.assert_frame_equal(found.table.astype(scored.dtypes), scored)


def test_what_fast_calls_left_open_at_another_threshold_is_uncertain(results):
    nan = np.nan
    found = results(
        [[0.9, 0.9, nan], [0.9, 0.9, 0.9]], p_all=[0.9, 0.9], call="ALL", least_p_all=[0.6, 0.9], most_p_all=[1.0, 0.9]
    )
    found.threshold = 0.55
    assert (found.table["call"].tolist(), found.n_left_open) == (["ALL", "ALL"], 0)
    found.threshold = 0.7
    assert (found.table["call"].tolist(), deepcopy(found).n_left_open) == (["uncertain", "ALL"], 1)
    assert found.table["votes_all"].tolist() == [2, 3]
    found.restore_calls()
    assert found.n_left_open == 0
    # With an error rate, it is its bounds between which a call is open.
    found.run = replace(found.run, bounds=Bounds(0.2, 0.65))
    found.threshold = 0.55
    assert (found.table["call"].tolist(), found.n_left_open) == (["uncertain", "ALL"], 1)


def test_uncertain_calls_come_back_on_request(results):
    found = results(VOTES, call=["ALL", "Hem", "uncertain"])
    found.threshold = 0.75
    assert found.table["call"].tolist() == ["ALL", "Hem", "Hem"]
    found.restore_calls()
    assert found.table["call"].tolist() == ["ALL", "Hem", "uncertain"]
    assert found.threshold == 0.5


def test_an_error_rate_that_was_asked_for_holds_at_another_threshold(results):
    found = results(VOTES)
    found.run = replace(found.run, bounds=Bounds(0.2, 0.6))
    found.threshold = 0.55
    assert found.table["call"].tolist() == ["ALL", "uncertain", "uncertain"]


def test_a_changed_value_tells_and_an_equal_one_does_not(results):
    found, told = results(VOTES), []
    found.changed.connect(lambda: told.append("changed"))
    found.verdicts_changed.connect(lambda: told.append("verdicts"))
    found.colours_changed.connect(lambda: told.append("colours"))
    found.selection_changed.connect(lambda: told.append("selection"))
    found.threshold = found.threshold
    found.colouring = found.colouring
    found.select([])
    assert told == []
    found.threshold = 0.2
    found.colouring = "spread"
    found.select([1])
    found.judge(0, "Hem")
    assert told == ["changed", "colours", "selection", "verdicts"]


def test_cells_of_several_planes_are_told_apart_by_their_names(results):
    found = results(VOTES, plane=["t0", "t0", "t1"], label=[1, 2, 1])
    assert found.name_of(2) == "1"
    found.rows = replace(found.rows, summary=pd.concat([found.rows.summary] * 2))
    assert [found.name_of(row) for row in range(3)] == ["1 of t0", "2 of t0", "1 of t1"]


def test_features_stand_at_their_labels_and_agree_with_the_table(results):
    found = results(VOTES, numbers=np.array([2, 3, 7]))
    features = found.features()
    assert len(features) == 8
    assert features["p_all"][[2, 3, 7]].tolist() == pytest.approx(found.table["p_all"].tolist())
    assert features["call"][[2, 3, 7]].tolist() == found.table["call"].tolist()
    assert features.loc[[0, 1, 4, 5, 6]].drop(columns="verdict").isna().all(axis=None)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_other_colours_of_small_numbers_find_no_outlines_anew(results, dtype):
    labels = np.zeros((30, 12), dtype)
    labels[0:4, 5:9] = 1
    layer, sliced = Labels(labels), []
    layer.contour = 2
    attach(layer, found := results(VOTES[:1]))
    layer.events.set_data.connect(lambda _: sliced.append(layer.colormap))
    before, thumbnail = layer.colormap.map(1), layer.thumbnail.copy()
    found.select([0])
    assert not np.allclose(layer.colormap.map(1), before)
    assert not np.array_equal(layer.thumbnail, thumbnail)
    assert len(sliced) == (dtype is np.int32)
    found.threshold = 0.3  # of which P(ALL) knows nothing
    assert len(sliced) == (dtype is np.int32)


def test_the_layer_follows(scored):
    layer, found = scored
    before = layer.colormap.map(np.arange(4))
    found.select([1])
    assert not np.allclose(layer.colormap.map(np.arange(4))[2], before[2])
    found.select([])
    np.testing.assert_array_equal(layer.colormap.map(np.arange(4)), before)
    found.threshold = 0.75
    assert shown(layer.features["call"]) == ["", "ALL", "Hem", "Hem"]


def test_outlines_are_as_wide_as_suits_the_cells_and_the_user(scored):
    layer, found = scored
    one = np.zeros((400, 400), int)
    one[:100, :100] = 7
    assert outline_px(one) == 8
    assert outline_px(layer.data) == outline_px(0 * one) == 2
    layer.contour = 5
    pictures = []
    layer.events.set_data.connect(pictures.append)
    attach(layer, deepcopy(found))
    assert layer.contour == 5
    assert len(pictures) == 1  # with the colours, not once more for outlines that stay


def test_a_verdict_reaches_the_layer_without_a_new_table(scored):
    layer, found = scored
    table, told = layer.features, []
    layer.events.features.connect(lambda: told.append("features"))
    found.judge(1, "Hem")
    assert layer.features is table
    assert shown(layer.features["verdict"]) == ["", "", "Hem", ""]
    assert told == ["features"]
    # As if another plugin had measured something.
    layer.features = pd.DataFrame({"area": [0, 1]})
    found.judge(0, "ALL")
    assert shown(layer.features["verdict"]) == ["", "ALL", "Hem", ""]
    assert "p_all" in layer.features


def test_the_status_bar_says_the_score(scored):
    layer, _ = scored
    status = layer.get_status((0.5, 3.0), world=True)
    assert "call: ALL" in str(status)
    assert "p_all: 0.8" in str(status)
    assert "call" not in str(layer.get_status((2.5, 3.0), world=True))


def test_a_duplicated_layer_has_results_of_its_own(scored):
    layer, found = scored
    found.judge(0, "ALL")
    found.colouring = "call"
    other = Labels(layer.data, metadata=deepcopy(layer.metadata))
    mine = results_of(other)
    assert mine is not found
    assert mine.verdicts.tolist() == ["ALL", "", ""]
    assert mine.colouring == "call"
    mine.saved_crops.add("one.png")
    assert not found.saved_crops
    mine.threshold = 0.75
    assert found.threshold == 0.5
    assert layer.features["call"].tolist()[1:] == ["ALL", "Hem", "ALL"]
    assert other.features["call"].tolist()[1:] == ["ALL", "Hem", "Hem"]


def test_a_layer_that_napari_duplicates_has_results_of_its_own(scored):
    layer, found = scored
    viewer = ViewerModel()
    viewer.add_layer(layer)
    viewer.layers.selection.active = layer
    _duplicate_layer(viewer.layers)
    (other,) = (one for one in viewer.layers if one is not layer)
    results_of(other).judge(0, "ALL")
    assert results_of(other) is results_of(other)
    assert results_of(other).verdicts[0] == "ALL"
    assert results_of(layer) is found
    assert not found.verdicts.any()


def test_results_are_of_labels_of_their_shape_alone(scored):
    layer, _ = scored
    viewer = ViewerModel()
    followed = Followed(viewer)
    viewer.add_layer(layer)
    cropped = viewer.add_labels(layer.data[:20], metadata=dict(layer.metadata))
    viewer.layers.selection.active = cropped
    assert results_of(cropped) is None
    assert followed.layer is layer
    # napari converts whatever is selected, and metadata go along.
    viewer.layers.selection.active = layer
    _convert_to_image(viewer.layers)
    assert followed.results is None
    viewer.add_image(np.zeros((4, 4)))
    assert layer not in viewer.layers


def test_colours_that_napari_shuffled_come_back(scored):
    layer, _ = scored
    before = layer.colormap.map(np.arange(4))
    layer.new_colormap()
    assert isinstance(layer.colormap, ScoreColormap)
    np.testing.assert_array_equal(layer.colormap.map(np.arange(4)), before)
    layer.show_selected_label, layer.selected_label = True, 2
    layer.new_colormap()
    assert layer.colormap.map(np.arange(4)).any(axis=1).tolist() == [False, False, True, False]


@pytest.mark.parametrize("known", [True, False])
def test_the_layer_that_is_followed_is_one_of_the_active_image(results, known):
    viewer, told = ViewerModel(), []
    followed = Followed(viewer)
    images = [viewer.add_image(np.zeros((30, 12, 3)), name=name) for name in "ABC"]
    layers = []
    for image in images[:2]:
        layer = viewer.add_labels(np.zeros((30, 12), int))
        layer.metadata = {SCORED_ON_KEY: Origin.of(image)} if known else {}
        attach(layer, results(VOTES, image=image.name))
        layers.append(layer)
    for image, layer in zip([*images, images[0]], [*layers, layers[1], layers[0]], strict=True):
        viewer.layers.selection.active = image
        assert followed.layer is layer
        assert followed.results is results_of(layer)
    # Of two that were scored on it, the one that is looked at stays.
    older = layers[0]
    newer = viewer.add_labels(np.zeros((30, 12), int), metadata=dict(older.metadata))
    assert followed.layer is newer
    viewer.layers.selection.active = older
    viewer.layers.selection.active = images[0]
    assert followed.layer is older
    followed.renamed.connect(lambda: told.append(followed.layer.name))
    newer.name = "not shown"
    older.name = "shown"
    assert told == ["shown"]


def test_strokes_undone_and_not_are_told_and_counted(scored):
    layer, found = scored
    viewer, told = ViewerModel(), []
    followed = Followed(viewer)
    viewer.add_layer(layer)
    followed.labels_edited.connect(lambda: told.append(layer))

    def counted():
        assert told
        told.clear()
        return edits(found, layer.data).sentence

    layer.data_setitem(np.nonzero(layer.data == 2), 0)
    assert counted() == "1 cell erased or redrawn since the scores: score the labels again"
    layer.data_setitem((np.array([28, 29]), np.array([0, 11])), np.array([8, 9]))
    assert counted() == ("1 cell erased or redrawn since the scores, 2 cells without scores: score the labels again")
    layer.undo()
    layer.undo()
    assert counted() == ""
    layer.data = np.zeros_like(layer.data)
    assert counted().startswith("3 cells erased")


def test_the_viewer_goes_to_a_cell(scored):
    layer, _ = scored
    viewer = ViewerModel()
    viewer.add_layer(layer)
    show_cell(viewer, layer, 2, least_zoom=5)
    assert viewer.scene.camera.center[1:] == pytest.approx((0.5 * 21.5, 0.5 * 6.5))
    assert viewer.scene.camera.zoom >= 5


def test_going_to_a_cell_slices_anew_only_where_its_plane_is_another(results):
    found = results(VOTES)
    found.rows = replace(found.rows, index=np.array([[0], [1], [1]]))
    viewer, moved = ViewerModel(), []
    layer = viewer.add_labels(np.zeros((2, 30, 12), int), scale=(5, 1, 1))
    attach(layer, found)
    viewer.dims.events.point.connect(lambda event: moved.append(viewer.dims.point[0]))
    for row in range(3):
        show_cell(viewer, layer, row)
    assert moved == [5.0]
    viewer.dims.ndisplay = 3
    show_cell(viewer, layer, 0)
    viewer.dims.ndisplay = 2
    assert viewer.dims.point[0] == 0


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (2, 1, 0)])
def test_the_viewer_goes_to_a_cell_however_the_axes_are_turned(results, order):
    found, viewer = results(VOTES), ViewerModel()
    viewer.add_image(np.zeros((5, 40, 12)))
    layer = viewer.add_labels(np.zeros((40, 12), int), scale=(0.5, 3))
    attach(layer, found)
    viewer.dims.order = order
    viewer.dims.set_point(0, 4)
    show_cell(viewer, layer, 2)
    place = (4, 0.5 * 21.5, 3 * 6.5)
    assert viewer.scene.camera.center[1:] == pytest.approx([place[axis] for axis in order[1:]])


def test_widgets_follow_the_active_scored_layer(results):
    viewer, told = ViewerModel(), []
    followed = Followed(viewer)
    followed.layer_changed.connect(lambda: told.append("layer"))
    followed.changed.connect(lambda: told.append("changed"))
    first, second = (viewer.add_labels(np.zeros((30, 12), int)) for _ in range(2))
    assert followed.results is None
    for layer in (first, second):
        attach(layer, results(VOTES))
    viewer.layers.selection.active = first
    # Whoever goes to the image stays with the cells that were looked at last.
    viewer.add_image(np.zeros((30, 12)))
    assert followed.layer is first
    results_of(second).threshold = 0.1
    results_of(first).threshold = 0.1
    viewer.layers.remove(first)
    assert followed.layer is second
    viewer.layers.remove(second)
    assert followed.results is None
    assert told.count("changed") == 1
    followed.close()
    viewer.add_layer(first)
    assert followed.results is None


def test_two_viewers_follow_their_own(results):
    viewers = [ViewerModel(), ViewerModel()]
    followed = [Followed(viewer) for viewer in viewers]
    attach(viewers[0].add_labels(np.zeros((30, 12), int)), results(VOTES))
    assert followed[0].results is not None
    assert followed[1].results is None


def test_few_cells_with_high_numbers_need_no_table_of_empty_rows(results):
    numbers = np.array([7, 300_000, 4_000_000])
    found = results(VOTES, numbers)
    features = found.features()
    assert len(features) == 4
    layer = Labels(np.repeat(np.append(0, numbers), 4).reshape(4, 4).astype(np.int32))
    attach(layer, found)
    found.threshold = 0.75
    status = layer.get_status((2, 1), view_direction=None, dims_displayed=[0, 1], world=True)
    assert "label: 3e+05, call: Hem" in status["value"] or "label: 300000, call: Hem" in status["value"]
    assert layer.get_status((0, 1), view_direction=None, dims_displayed=[0, 1], world=True)["value"].startswith("0")


def test_features_follow_threshold_and_verdicts_and_are_made_once(results):
    found = results(VOTES)
    before = found.features()
    found.threshold = 0.75
    found.judge(0, "Hem")
    after = found.features()
    assert shown(after["call"]) == ["", "ALL", "Hem", "Hem"]
    assert shown(after["verdict"]) == ["", "Hem", "", ""]
    assert list(after.columns) == list(before.columns)
    assert after["p_all"].equals(before["p_all"])
    fresh = results(VOTES)
    fresh.threshold = 0.75
    fresh.judge(0, "Hem")
    pd.testing.assert_frame_equal(after, fresh.features())


@pytest.mark.parametrize("index", [[[0, 0], [1, 0]], [[0, 0], [0, 1]]])
def test_verdicts_are_found_again_where_an_axis_of_length_1_came(results, index):
    scored = results(VOTES[:2])
    before, after = (CellResults(replace(scored.rows, index=np.array(at)), scored.run) for at in ([[0], [1]], index))
    before.judge(1, "ALL")
    assert keep_verdicts(before, after) == 0
    assert after.verdicts.tolist() == ["", "ALL"]
