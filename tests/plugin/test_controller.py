"""The controller with the real scoring process and the shipped bundle, no window."""

import os
import threading
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from napari.layers._layer_actions import _duplicate_layer
from PIL import Image as Picture

from napari_all_detect import ScoreParams, SegmentationParams, draw_smear
from napari_all_detect._napari.cells.layer_link import attach, results_of
from napari_all_detect._napari.files.exporting import Exported, export, smear_of
from napari_all_detect._napari.files.reading import read_zarr
from napari_all_detect._napari.files.verdicts import save_crops
from napari_all_detect._napari.files.writing import write_smear
from napari_all_detect._napari.process import client as process_module
from napari_all_detect._napari.process.client import ScoringProcess
from napari_all_detect._napari.process.messages import Found, Opened
from napari_all_detect._napari.run.controller import Controller
from napari_all_detect._napari.run.task import Task
from napari_all_detect.cli import main
from napari_all_detect.errors import AllDetectError, InputError
from napari_all_detect.params import ReadParams

CLASSICAL = ScoreParams(segmentation=SegmentationParams(method="classical"))
# One batch size for all that needs no other: another one has the networks built anew.
TWO_BY_TWO = replace(CLASSICAL, batch_size=2)


@pytest.fixture(scope="module")
def drawn():
    return draw_smear((224, 288), n_cells=12, seed=3)


@pytest.fixture
def done(loop, controller):
    """Let the controller come to its end."""

    def wait():
        loop.run_until(lambda: not controller.state.busy)
        return controller.state.text

    return wait


class HeldProcess(ScoringProcess):
    """Begins a plane's second batch only when that is cancelled: on a busy machine Cancel comes late."""

    def _begin(self, number):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(process_module, "WORKER", "slow_worker")
            patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
            patch.setenv("SLOW", "held")
            return super()._begin(number)


@pytest.fixture(scope="module")
def held_process():
    process = HeldProcess()
    yield process
    process.end()


@pytest.fixture
def held(viewer, held_process, loop):
    """Return a controller whose runs end by being cancelled, of each plane with two cells at most."""
    controller = Controller(viewer, held_process, loop.call_soon)
    yield controller
    controller.close()


def opened_from(path, layer):
    """Make a layer look as if napari had read it from a file."""
    layer._set_source(layer.source.model_copy(update={"path": str(path)}))
    return layer


def bytes_below(path):
    """Return the content of a file, or of all files of a store by their place in it."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    assert files
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_export_has_the_bytes_of_the_command_line(viewer, controller, done, drawn, tmp_path, reuse_engines):
    path = tmp_path / "smear.png"
    Picture.fromarray(drawn.rgb).save(path)
    formats = "csv,parquet,geojson,h5ad,ome-zarr"
    assert main(["score", str(path), "--out", str(tmp_path / "out"), "--format", formats]) == 0
    assert main(["score", str(path), "--out", str(tmp_path / "strict"), "--threshold", "0.9"]) == 0
    assert controller.score(Task(opened_from(path, viewer.add_image(drawn.rgb)), None, ScoreParams()))
    done()
    layer, results = viewer.layers[-1], results_of(viewer.layers[-1])
    exported = Exported(results, layer.data, smear_of(viewer.layers, layer, results))
    for name in ("cells.csv", "cells.parquet", "geojson/smear.geojson", "cells.h5ad", "ome-zarr/smear.zarr"):
        mine = (tmp_path / "mine").with_suffix(Path(name).suffix)
        export(exported, mine)
        assert bytes_below(mine) == bytes_below(tmp_path / "out" / name), name
    labels = tifffile.imread(tmp_path / "out/labels/smear_labels.tif")
    np.testing.assert_array_equal(viewer.layers[-1].data, labels)
    results.threshold = 0.9
    export(Exported(results, layer.data), tmp_path / "strict.csv")
    assert (tmp_path / "strict.csv").read_bytes() == (tmp_path / "strict/cells.csv").read_bytes()
    assert (tmp_path / "strict.csv").read_bytes() != (tmp_path / "mine.csv").read_bytes()


def test_a_stack_has_the_bytes_of_the_command_line_and_numbers_of_its_own(
    viewer, controller, done, drawn, tmp_path, reuse_engines
):
    stack = np.stack([drawn.rgb, np.full_like(drawn.rgb, 245), drawn.rgb[::-1]])
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, photometric="rgb", resolution=(40000, 40000), resolutionunit="CENTIMETER")
    command = ["score", str(path), "--out", str(tmp_path / "out"), "--segmentation", "classical"]
    command += ["--format", "geojson"]
    assert main(command) == 0
    controller.score(Task(opened_from(path, viewer.add_image(stack)), None, CLASSICAL))
    done()
    layer, results = viewer.layers[-1], results_of(viewer.layers[-1])
    exported = Exported(results, layer.data, smear_of(viewer.layers, layer, results))
    for name, mine in (("cells.csv", "mine.csv"), ("geojson/stack_p2.geojson", "mine_p2.geojson")):
        export(exported, tmp_path / f"mine{Path(name).suffix}")
        assert (tmp_path / mine).read_bytes() == (tmp_path / "out" / name).read_bytes()
    export(exported, tmp_path / "mine.zarr")
    ((levels, *_), _) = read_zarr(tmp_path / "mine_p2.zarr")
    np.testing.assert_array_equal(levels[0], stack[2])
    assert results.table["diameter_um"].notna().all()
    assert layer.data.shape == stack.shape[:3]
    assert set(np.unique(layer.data)) == {0, *results.rows.numbers.tolist()}
    assert len(set(results.rows.numbers.tolist())) == len(results)
    assert set(results.rows.index[:, 0].tolist()) == {0, 2}
    for row in range(len(results)):
        at = tuple(np.rint(results.position(row)).astype(int))
        box = layer.data[at[0], at[1] - 3 : at[1] + 4, at[2] - 3 : at[2] + 4]
        assert results.rows.numbers[row] in box


def test_one_plane_of_a_stack(viewer, controller, done, drawn):
    image = viewer.add_image(np.stack([np.full_like(drawn.rgb, 245), drawn.rgb]))
    controller.score(Task(image, None, TWO_BY_TWO, at=(1,)))
    done()
    layer = viewer.layers[-1]
    assert layer.data.shape == (2, 224, 288)
    assert not layer.data[0].any()
    assert set(results_of(layer).table["plane"]) == {"p1"}
    # The bundle's own error rate called the cells; nobody asked for it, so that it ends with another threshold.
    assert results_of(layer).called_by is not None
    results_of(layer).threshold = 0.4
    assert results_of(layer).called_by is None


def test_labels_with_gaps_are_coloured_where_they_are(viewer, controller, done, drawn):
    numbers = np.unique(drawn.labels)[1:]
    gapped = np.zeros(drawn.labels.shape, np.uint16)
    for new, old in enumerate(numbers):
        gapped[drawn.labels == old] = 5 + 7 * new
    labels = viewer.add_labels(gapped)
    image = viewer.add_image(drawn.rgb)
    totals = set()
    controller.state_changed.connect(lambda state: totals.add(state.total))
    controller.score(Task(image, labels, TWO_BY_TWO))
    done()
    assert totals == {0, len(numbers)}
    assert len(viewer.layers) == 2
    results = results_of(labels)
    assert results.table["label"].tolist() == (5 + 7 * np.arange(len(numbers))).tolist()
    assert len(labels.features) == 5 + 7 * (len(numbers) - 1) + 1
    for row, number in enumerate(results.rows.numbers):
        assert labels.features["p_all"][number] == pytest.approx(results.table["p_all"][row])
        assert labels.features["call"][number] == results.table["call"][row]
    assert pd.isna(labels.features["p_all"][6])
    shown = labels.colormap.map(results.rows.numbers)
    assert not np.allclose(shown, labels.colormap.map(np.array([6]))[0])


def test_verdicts_stay_with_their_cells_when_labels_are_scored_again(viewer, controller, done, drawn):
    image, labels = viewer.add_image(drawn.rgb), viewer.add_labels(drawn.labels)
    controller.score(Task(image, labels, TWO_BY_TWO))
    done()
    first = results_of(labels)
    for row, verdict in enumerate(("ALL", "Hem", "unsure", "Hem", "ALL")):
        first.judge(row, verdict)
    controller.score(Task(image, labels, replace(TWO_BY_TWO, weighting="accuracy")))
    assert "verdicts" not in done()
    again = results_of(labels)
    assert again is not first
    assert again.verdicts.tolist() == first.verdicts.tolist()
    assert labels.features["verdict"][first.rows.numbers[1]] == "Hem"
    # One cell is erased, one has a pixel less, and the numbers of all are others.
    one, two, *_ = first.rows.numbers
    y, x = np.argwhere(drawn.labels == two)[0]
    edited = np.where(drawn.labels == one, 0, drawn.labels)
    edited[y, x] = 0
    labels.data = np.where(edited > 0, edited + 3, 0)
    controller.score(Task(image, labels, TWO_BY_TWO))
    assert done().endswith("; verdicts that could not be kept, as their cells are others now: 2")
    assert results_of(labels).verdicts.tolist() == ["", *first.verdicts.tolist()[2:]]
    # In another image of them, as of a store that was saved and opened again, they are the same cells.
    second, kept = viewer.add_image(drawn.rgb, name="second"), deepcopy(results_of(labels))
    labels = viewer.add_labels(labels.data)
    attach(labels, kept)
    kept.saved_crops.add("one.png")
    controller.score(Task(second, labels, TWO_BY_TWO))
    assert "verdicts" not in done()
    assert results_of(labels).verdicts.tolist() == kept.verdicts.tolist()
    assert results_of(labels).table["image"].tolist() != kept.table["image"].tolist()
    assert results_of(labels).saved_crops == {"one.png"}
    # Where not one is, they stay where they are.
    kept = results_of(labels)
    labels.data = np.roll(labels.data, 1, axis=0)
    controller.score(Task(second, labels, TWO_BY_TWO))
    done()
    assert results_of(labels) is kept
    assert not results_of(viewer.layers[-1]).verdicts.any()


def test_scores_of_another_image_get_a_layer_of_their_own(viewer, controller, done, drawn):
    first, second = viewer.add_image(drawn.rgb, name="first"), viewer.add_image(drawn.rgb, name="second")
    labels = viewer.add_labels(drawn.labels)
    controller.score(Task(first, labels, TWO_BY_TWO))
    done()
    kept = results_of(labels)
    kept.judge(0, "ALL")
    controller.score(Task(second, labels, TWO_BY_TWO))
    done()
    assert results_of(labels) is kept
    added = viewer.layers[-1]
    assert added is not labels
    assert set(results_of(added).table["image"]) == {"second"}
    assert results_of(added).verdicts.tolist() == kept.verdicts.tolist()
    # Each knows its image, though both have one size.
    for layer, image in ((labels, first), (added, second)):
        assert smear_of(viewer.layers, layer, results_of(layer)).image is image
    controller.score(Task(first, labels, TWO_BY_TWO))
    done()
    assert viewer.layers[-1] is added
    # What lies on the image that was scored last is hidden.
    assert [layer.visible for layer in (first, second, labels, added)] == [True, False, True, False]


def test_scores_of_a_copy_that_got_other_pixels_get_a_layer_of_their_own(
    viewer, controller, done, drawn, tmp_path, notices
):
    image, labels = viewer.add_image(drawn.rgb, name="smear"), viewer.add_labels(drawn.labels)
    controller.score(Task(image, labels, TWO_BY_TWO))
    done()
    kept = results_of(labels)
    viewer.layers.selection = {image}
    _duplicate_layer(viewer.layers)
    copy = viewer.layers["smear copy"]
    copy.data = 255 - drawn.rgb
    controller.score(Task(copy, labels, TWO_BY_TWO))
    assert notices[-1].startswith("labels 'Labels' belong to 'smear' and are used on 'smear copy' now.")
    copy.data = drawn.rgb // 2  # while it is scored
    done()
    assert results_of(labels) is kept
    added = viewer.layers[-1]
    assert set(results_of(added).table["image"]) == {"smear copy"}
    assert smear_of(viewer.layers, labels, kept).image is image
    assert smear_of(viewer.layers, added, results_of(added)) is None
    with pytest.raises(InputError, match=r"scored on 'smear', not on the selected 'smear copy'"):
        write_smear(str(tmp_path / "a.zarr"), [one.as_layer_data_tuple() for one in (copy, labels)])


def test_scores_and_verdicts_that_a_cancelled_run_did_not_come_to_stay(viewer, loop, controller, done, held, drawn):
    image, labels = viewer.add_image(drawn.rgb), viewer.add_labels(drawn.labels)
    controller.score(Task(image, labels, TWO_BY_TWO))
    done()
    first = results_of(labels)
    held.score(Task(image, labels, TWO_BY_TWO))
    cancelled_after(held, loop, 2)
    assert results_of(labels) is first
    assert len(results_of(viewer.layers[-1])) == 2 < len(first)
    first.take_verdicts(["ALL"] * len(first))
    held.score(Task(image, labels, TWO_BY_TWO))
    cancelled_after(held, loop, 2)
    assert results_of(labels) is first
    assert results_of(viewer.layers[-1]).verdicts.tolist() == ["ALL"] * 2


def test_verdicts_go_with_a_stack_that_is_scored_again(viewer, controller, done, drawn):
    image = viewer.add_image(np.stack([drawn.rgb, drawn.rgb[::-1]]))
    controller.score(Task(image, None, TWO_BY_TWO))
    done()
    labels = viewer.layers[-1]
    first = results_of(labels)
    first.take_verdicts(["ALL" if k % 2 else "Hem" for k in range(len(first))])
    controller.score(Task(image, labels, TWO_BY_TWO))
    done()
    again = results_of(viewer.layers[-1])
    assert viewer.layers[-1] is not labels
    assert again.verdicts.tolist() == first.verdicts.tolist()


def cancelled_after(controller, loop, n):
    """Press Cancel when n cells are done; wait for the end."""
    pressed = []

    def cancel(state):
        if state.busy and state.done >= n and state.total and not pressed:
            pressed.append(state)
            controller.cancel()

    controller.state_changed.connect(cancel)
    loop.run_until(lambda: not controller.state.busy)
    controller.state_changed.disconnect(cancel)
    assert pressed


def test_cancelling_keeps_what_is_done(viewer, loop, controller, done, held, drawn):
    image = viewer.add_image(drawn.rgb)
    controller.score(Task(image, None, TWO_BY_TWO))
    done()
    whole = results_of(viewer.layers[-1])
    held.score(Task(image, None, TWO_BY_TWO))
    cancelled_after(held, loop, 2)
    layer, part = viewer.layers[-1], results_of(viewer.layers[-1])
    assert f"Cancelled. 2 of {len(whole)} cells scored" in held.state.text
    pd.testing.assert_frame_equal(part.table, whole.table.iloc[:2])
    np.testing.assert_array_equal(part.rows.crops, whole.rows.crops[:2])
    assert part.rows.summary["cells"].tolist() == [2]
    assert layer.data.max() == len(whole)


def test_a_layer_of_cells_is_drawn_once(viewer, controller, done, drawn):
    """Many outlines take napari some tenths of a second."""
    image, pictures = viewer.add_image(drawn.rgb), []

    def watch(event):
        assert not event.value.visible
        event.value.events.set_data.connect(pictures.append)

    viewer.layers.events.inserted.connect(watch)
    controller.score(Task(image, None, TWO_BY_TWO))
    done()
    assert len(pictures) == 1
    assert viewer.layers[-1].visible
    assert viewer.layers[-1].contour


def test_cancelling_in_a_later_plane_keeps_the_planes_before(viewer, loop, controller, done, held, drawn):
    image = viewer.add_image(np.stack([drawn.rgb] * 3))
    labels = viewer.add_labels(np.stack([drawn.labels * (drawn.labels < 2), drawn.labels, drawn.labels]))
    controller.score(Task(image, labels, TWO_BY_TWO, at=(0,)))
    done()
    first = results_of(viewer.layers[-1])
    assert len(first) == 1
    held.score(Task(image, labels, TWO_BY_TWO))
    cancelled_after(held, loop, 3)
    part = results_of(viewer.layers[-1])
    pd.testing.assert_frame_equal(part.table.iloc[:1], first.table)
    assert part.table["plane"].tolist() == ["p0", "p1", "p1"]


class Answers:
    """Stands for the process: finds a square in each plane, can't do with black ones, and scores none."""

    running = True

    def number(self):
        return 1

    def call(self, method, params, given, progress=None, **_):
        if method == "open":
            return Opened("tiny", "tiny-1", 8, (), (), 0.5, "none", "cpu")
        if not given.pixels.rgb.any():
            raise AllDetectError("too dark")
        found = Found(np.pad(np.ones((8, 8), np.int32), ((0, 24), (0, 24))), None)
        if method == "score":
            progress(found)
            raise AllDetectError("not a number")
        return found

    def cancel(self, number):
        pass

    stop = cancel


@pytest.fixture
def answered(viewer, loop):
    controller = Controller(viewer, Answers(), loop.call_soon)
    yield controller
    controller.close()


def test_a_plane_that_fails_spoils_no_other(viewer, loop, answered, notices):
    stack = np.zeros((3, 32, 32, 3), np.uint8)
    stack[1] = 200
    answered.opened = "a bundle"
    assert answered.segment(Task(viewer.add_image(stack), None, CLASSICAL))
    loop.run_until(lambda: not answered.state.busy)
    assert viewer.layers[-1].data.any(axis=(1, 2)).tolist() == [False, True, False]
    assert notices == ["plane p0: too dark (1 more)"]
    # A notification is gone after some seconds.
    assert answered.state.text == "1 cell found. Failed: plane p0: too dark (1 more)"
    assert viewer.layers[-1].contour == 2
    # What runs the networks is still there.
    assert answered.opened == "a bundle"


def test_cells_of_which_none_was_scored_get_no_scores(viewer, loop, answered, results):
    segmented = []
    answered.segmented.connect(segmented.append)
    image = viewer.add_image(np.full((32, 32, 3), 200, np.uint8))
    answered.score(Task(image, None, CLASSICAL))
    loop.run_until(lambda: not answered.state.busy)
    assert answered.state.text == "0 of 1 cell scored. Failed: not a number"
    (labels,) = segmented
    assert results_of(labels) is None
    # Scores that are there stay.
    attach(labels, results([[0.9] * 3]))
    kept = results_of(labels)
    answered.score(Task(image, labels, CLASSICAL))
    loop.run_until(lambda: not answered.state.busy)
    assert results_of(labels) is kept
    assert list(viewer.layers) == [image, labels]


def test_pixels_that_take_long_are_not_waited_for_when_cancelled(viewer, loop, answered):
    dask = pytest.importorskip("dask.array")
    go_on = threading.Event()

    def slow(block):
        go_on.wait(120)
        return block

    image = viewer.add_image(np.zeros((64, 64, 3), np.uint8))
    image._data = dask.zeros((64, 64, 3), dtype=np.uint8).map_blocks(slow, meta=np.zeros((0, 0, 0), np.uint8))
    answered.segment(Task(image, None, CLASSICAL))
    answered.cancel()
    try:
        loop.run_until(lambda: not answered.state.busy, seconds=60)
        assert answered.state.text == "Cancelled. Nothing was done"
    finally:
        go_on.set()


def test_what_was_found_just_before_closing_is_not_added(viewer, loop, answered):
    image = viewer.add_image(np.full((32, 32, 3), 200, np.uint8))
    answered.segment(Task(image, None, CLASSICAL))
    assert answered.wait(60)
    answered.close()
    loop.run_until(loop._calls.empty)
    assert list(viewer.layers) == [image]


def test_one_press_ends_what_does_not_stop_and_keeps_the_cells_done(viewer, loop, drawn, monkeypatch):
    # As if each batch after the first took longer than is waited for.
    monkeypatch.setattr(process_module, "WORKER", "slow_worker")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    process = ScoringProcess()
    controller = Controller(viewer, process, loop.call_soon)
    image = viewer.add_image(drawn.rgb)
    controller.score(Task(image, None, TWO_BY_TWO))
    cancelled_after(controller, loop, 2)
    assert not process.running
    layer, part = viewer.layers[-1], results_of(viewer.layers[-1])
    assert len(part) == 2
    assert f"Cancelled. 2 of {layer.data.max()} cells scored" in controller.state.text
    controller.close()


def test_a_second_run_is_not_begun(viewer, controller, done, drawn):
    task = Task(viewer.add_image(drawn.rgb), None, TWO_BY_TWO)
    assert controller.score(task)
    assert not controller.score(task)
    assert not controller.segment(task)
    done()
    assert len(viewer.layers) == 2


def test_progress_names_the_wait_the_cells_and_the_end(viewer, controller, done, drawn):
    states = []
    controller.state_changed.connect(states.append)
    controller.score(Task(viewer.add_image(drawn.rgb), None, TWO_BY_TWO))
    done()
    texts = [state.text for state in states]
    n = len(results_of(viewer.layers[-1]))
    assert any("Loading the networks of lite" in text for text in texts)
    assert f"2 of {n} cells" in texts
    assert [s.done for s in states if s.total] == sorted(s.done for s in states if s.total)
    assert max(s.done for s in states) == n
    assert not states[-1].busy
    assert f"{n} cells scored" in states[-1].text


def test_a_layer_deleted_meanwhile_costs_nothing_else(viewer, controller, done, drawn):
    image, labels = viewer.add_image(drawn.rgb), viewer.add_labels(drawn.labels)
    controller.score(Task(image, labels, TWO_BY_TWO))
    viewer.layers.clear()
    done()
    assert [type(layer).__name__ for layer in viewer.layers] == ["Labels"]
    assert len(results_of(viewer.layers[0])) == drawn.labels.max()


def test_segmenting_first_gives_the_same_labels_and_the_same_table(viewer, controller, done, drawn):
    image = viewer.add_image(drawn.rgb, scale=(0.25, 0.25), units=("um", "um"))
    segmented = []
    controller.segmented.connect(segmented.append)
    learned = replace(TWO_BY_TWO, segmentation=SegmentationParams())
    controller.segment(Task(image, None, learned))
    done()
    controller.score(Task(image, None, learned))
    done()
    at_once = results_of(viewer.layers[-1])
    np.testing.assert_array_equal(segmented[0].data, viewer.layers[-1].data)
    assert segmented[0].scale.tolist() == [0.25, 0.25]
    assert at_once.table["area_um2"].notna().all()
    assert at_once.table["nc_ratio"].notna().any()
    controller.score(Task(image, segmented[0], learned))
    done()
    pd.testing.assert_frame_equal(results_of(segmented[0]).table, at_once.table)
    # A cell that was erased has no row; what is left of its neighbour keeps its nucleus.
    segmented[0].data = np.where(segmented[0].data == 1, 0, segmented[0].data)
    controller.score(Task(image, segmented[0], learned))
    done()
    table = results_of(segmented[0]).table
    assert table["nucleus_area_px"].tolist() == at_once.table["nucleus_area_px"].tolist()[1:]


def test_a_grey_stack_of_three_channels_is_scored_plane_by_plane(viewer, controller, done, drawn):
    stack = np.moveaxis(np.stack([drawn.rgb, np.full_like(drawn.rgb, 245)]), -1, 1)
    rgb, grey = viewer.add_image(drawn.rgb), viewer.add_image(stack, rgb=False)
    controller.score(Task(rgb, None, TWO_BY_TWO))
    done()
    expected = results_of(viewer.layers[-1]).table
    controller.score(Task(grey, None, TWO_BY_TWO))
    done()
    layer, results = viewer.layers[-1], results_of(viewer.layers[-1])
    assert layer.data.shape == (2, 1, 224, 288)
    assert results.table["p_all"].tolist() == expected["p_all"].tolist()
    assert results.position(3)[:2] == (0, 0)
    assert layer.data[tuple(np.rint(results.position(3)).astype(int))] == results.rows.numbers[3]


def test_the_level_that_is_chosen_is_scored(viewer, controller, done, drawn):
    levels = [np.repeat(np.repeat(drawn.rgb, 2, axis=0), 2, axis=1), drawn.rgb]
    image = viewer.add_image(levels, multiscale=True, scale=(0.125, 0.125), units=("um", "um"))
    controller.score(Task(image, None, replace(TWO_BY_TWO, reading=ReadParams(level=1))))
    done()
    layer, table = viewer.layers[-1], results_of(viewer.layers[-1]).table
    assert layer.data.shape == drawn.labels.shape
    np.testing.assert_allclose(table["diameter_um"], 0.25 * table["diameter_px"], rtol=1e-6)
    np.testing.assert_allclose(layer.data_to_world((-0.5, -0.5)), image.data_to_world((-0.5, -0.5)))


def test_labels_that_were_found_in_another_image_are_a_warning(viewer, controller, done, drawn, notices):
    first, second = viewer.add_image(drawn.rgb, name="first"), viewer.add_image(drawn.rgb[::-1], name="second")
    controller.segment(Task(first, None, TWO_BY_TWO))
    done()
    labels = viewer.layers[-1]
    controller.segment(Task(first, labels, TWO_BY_TWO))
    done()
    assert not notices
    controller.segment(Task(second, labels, TWO_BY_TWO))
    done()
    assert len(notices) == 1
    assert "belong to 'first' and are used on 'second' now" in notices[0]
    # Without scores they stay the first one's, too.
    controller.score(Task(second, labels, TWO_BY_TWO))
    done()
    assert results_of(labels) is None
    assert set(results_of(viewer.layers[-1]).table["image"]) == {"second"}
    controller.score(Task(first, labels, TWO_BY_TWO))
    done()
    assert set(results_of(labels).table["image"]) == {"first"}
    assert len(notices) == 2


@pytest.mark.parametrize(
    ("make_layers", "params", "expected"),
    [
        (lambda v: (v.add_image(np.zeros((64, 64))), None), ScoreParams(), "is grey"),
        (
            lambda v: (v.add_image(np.zeros((64, 64, 3), np.uint8)), v.add_labels(np.zeros((32, 64), int))),
            ScoreParams(),
            "choose the labels of this image",
        ),
        (
            lambda v: (v.add_image(np.full((64, 64, 3), 240, np.uint8)), None),
            TWO_BY_TWO,
            "No white cell",
        ),
        (
            lambda v: (v.add_image(np.zeros((64, 64, 3), np.uint8)), None),
            ScoreParams(bundle="no_such"),
            "no_such",
        ),
    ],
)
def test_bad_input_is_one_notification_and_no_layer_is_lost(
    viewer, controller, done, notices, make_layers, params, expected
):
    image, labels = make_layers(viewer)
    before = list(viewer.layers)
    controller.score(Task(image, labels, params))
    done()
    assert len(notices) == 1
    assert expected in notices[0]
    assert "\n" not in notices[0]
    assert list(viewer.layers) == before
    assert not controller.state.busy


def test_a_press_that_is_refused_leaves_no_result_of_the_run_before(viewer, loop, answered, notices):
    answered.segment(Task(viewer.add_image(np.full((32, 32, 3), 200, np.uint8)), None, CLASSICAL))
    loop.run_until(lambda: not answered.state.busy)
    assert answered.state.text == "1 cell found"
    assert not answered.segment(Task(viewer.add_image(np.zeros((32, 32))), None, CLASSICAL))
    assert answered.state.text == f"Not started: {notices[-1]}"
    assert "is grey" in answered.state.text


def test_pixels_that_cannot_be_computed(viewer, controller, done, notices):
    dask = pytest.importorskip("dask.array")

    def broken(block):
        raise OSError("the disk is gone")

    pixels = dask.zeros((64, 64, 3), dtype=np.uint8).map_blocks(
        broken, dtype=np.uint8, meta=np.zeros((0, 0, 0), np.uint8)
    )
    image = viewer.add_image(np.zeros((64, 64, 3), np.uint8))
    image._data = pixels
    controller.score(Task(image, None, TWO_BY_TWO))
    done()
    assert len(notices) == 1
    assert "the disk is gone" in notices[0]


def test_nothing_comes_after_closing(viewer, loop, drawn):
    controller = Controller(viewer, ScoringProcess(), loop.call_soon)
    image = viewer.add_image(drawn.rgb)
    controller.score(Task(image, None, TWO_BY_TWO))
    controller.close()
    assert controller.wait(30)
    loop.run_until(loop._calls.empty)
    assert list(viewer.layers) == [image]


def test_crops_of_planes_that_are_not_scored_again_stay(viewer, controller, done, drawn, tmp_path):
    """What a new layer does not hold has not lost its verdict."""
    image = viewer.add_image(np.stack([drawn.rgb, drawn.rgb[::-1]]))
    controller.score(Task(image, None, TWO_BY_TWO))
    done()
    labels = viewer.layers[-1]
    first = results_of(labels)
    first.take_verdicts(["ALL"] * len(first))
    saved = save_crops(first, tmp_path)
    controller.score(Task(image, labels, TWO_BY_TWO, (0,)))
    done()
    assert save_crops(results_of(viewer.layers[-1]), tmp_path) == saved == {"ALL": len(first), "Hem": 0}


def test_verdicts_stay_where_an_axis_of_one_plane_comes_or_goes(viewer, controller, done, drawn):
    image, labels = viewer.add_image(drawn.rgb), viewer.add_labels(drawn.labels)
    controller.score(Task(image, labels, TWO_BY_TWO))
    done()
    results_of(labels).take_verdicts(["ALL"] * len(results_of(labels)))
    controller.score(Task(viewer.add_image(drawn.rgb[None]), labels, TWO_BY_TWO))
    assert "verdicts" not in done()
    assert set(results_of(viewer.layers[-1]).verdicts) == {"ALL"}
