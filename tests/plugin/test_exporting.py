"""What is written of a scored layer, whatever became of its labels; nothing here runs a network."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from napari.layers import Image, Labels

from napari_all_detect._napari.cells.layer_link import results_of
from napari_all_detect._napari.cells.results import CellResults, Rows
from napari_all_detect._napari.files.exporting import (
    EXPORT_FORMATS,
    Exported,
    Smear,
    copied_text,
    export,
    proposed_name,
    smear_of,
)
from napari_all_detect._napari.files.file_names import with_suffix
from napari_all_detect._napari.files.reading import read_zarr
from napari_all_detect._napari.files.writing import write_cells, write_smear
from napari_all_detect._napari.layers.axes import Layout
from napari_all_detect._napari.layers.metadata_keys import LAYOUT_KEY, RESULTS_KEY, SCORED_ON_KEY
from napari_all_detect._napari.layers.origins import Origin, is_anothers
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.export.csv import csv_text
from napari_all_detect.trust import Bounds

VOTES = [[0.9, 0.9, 0.9], [0.4, 0.5, 0.5], [0.1, 0.1, 0.1], [0.7, 0.7, 0.7]]
RGB = np.random.default_rng(0).integers(0, 255, (40, 16, 3), dtype=np.uint8)


@pytest.fixture
def labels():
    """The squares of `make_results`, numbered from 1."""
    drawn = np.zeros((40, 16), np.int32)
    for k in range(len(VOTES)):
        drawn[10 * k : 10 * k + 4, 5:9] = k + 1
    return drawn


def exported(results, labels):
    return Exported(results, labels, Smear(Image(RGB, rgb=True), Layout()))


@pytest.mark.parametrize("suffix", [known.suffix for known in EXPORT_FORMATS])
@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ((2, 4), "cells 2, 4 were erased or redrawn since the scores; score the labels again"),
        ((4,), "cell 4 was erased or redrawn since the scores; score the labels again"),
    ],
)
def test_cells_that_were_erased_are_named(results, labels, tmp_path, suffix, gone, message):
    edited = np.where(np.isin(labels, gone), 0, labels)
    with pytest.raises(InputError, match=message):
        export(exported(results(VOTES), edited), tmp_path / f"cells{suffix}")
    layers = Image(RGB, rgb=True), Labels(edited, metadata={RESULTS_KEY: results(VOTES)})
    with pytest.raises(InputError, match=message):
        write_smear(str(tmp_path / "all.zarr"), [layer.as_layer_data_tuple() for layer in layers])
    with pytest.raises(InputError, match=message):
        write_cells(str(tmp_path / "all.csv"), *layers[1].as_layer_data_tuple()[:2])
    assert not list(tmp_path.iterdir())


def test_a_cell_that_was_redrawn_is_not_the_one_that_was_scored(results, labels, tmp_path):
    labels[24, 5] = 3
    with pytest.raises(InputError, match="cell 3 was erased or redrawn"):
        export(exported(results(VOTES), labels), tmp_path / "cells.geojson")
    assert not list(tmp_path.iterdir())


def test_of_many_cells_that_were_erased_some_are_named(results, tmp_path):
    many = results(np.full((30, 3), 0.9))
    with pytest.raises(InputError, match=r"cells 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 20 more were erased"):
        export(Exported(many, np.zeros((300, 16), np.int32)), tmp_path / "cells.geojson")


@pytest.fixture
def stacked(results, labels):
    """Return what is exported of a stack of two planes, `0` and `1`."""
    one, rows = results(VOTES), results(VOTES).rows
    table = pd.concat([rows.table, rows.table.assign(plane="1")], ignore_index=True)
    index = np.repeat([[0], [1]], len(VOTES), axis=0)
    both = CellResults(Rows(table, np.arange(1, 9), index, None, rows.summary), one.run)
    return Exported(both, np.stack([labels, np.where(labels > 0, labels + 4, 0)]))


def test_a_cell_that_moved_to_another_plane_is_not_in_its_own(stacked, tmp_path):
    export(stacked, tmp_path / "cells.geojson")
    with pytest.raises(InputError, match=r"cells 1, 2, 3, 4, 5, 6, 7, 8 were erased"):
        export(replace(stacked, labels=stacked.labels[::-1]), tmp_path / "moved.geojson")


def test_no_file_is_replaced_but_the_one_that_was_named(stacked, tmp_path):
    first, second = (tmp_path / f"cells_{k}.geojson" for k in (0, 1))
    assert export(stacked, tmp_path / "cells.geojson") == [first, second]
    first.unlink()
    second.write_text("mine")
    with pytest.raises(OutputError, match=r"cells_1\.geojson is there already; choose another name"):
        export(stacked, tmp_path / "cells.geojson")
    assert second.read_text() == "mine"
    assert not first.exists()
    for _ in range(2):
        assert export(stacked, tmp_path / "cells.csv") == [tmp_path / "cells.csv"]
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError, match=r"folder\.csv is there already"):
        export(stacked, tmp_path / "folder.csv")


def test_without_a_cell_there_is_no_plane_to_write(results, labels, tmp_path):
    empty = exported(results(np.zeros((0, 3))), np.zeros_like(labels))
    with pytest.raises(OutputError, match=r"there is no cell to write to cells\.geojson; CSV and Parquet hold"):
        export(empty, tmp_path / "cells.geojson")
    assert len(export(empty, tmp_path / "cells.csv")) == 1


def test_cells_that_were_not_scored_disturb_nothing(results, labels, tmp_path):
    more = labels.copy()
    more[36:, 12:] = 9
    export(exported(results(VOTES), labels), tmp_path / "a.geojson")
    export(exported(results(VOTES), more), tmp_path / "b.geojson")
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()


def test_a_store_whose_labels_lack_cells_opens_without_scores(results, labels, tmp_path, notices):
    import zarr

    export(exported(results(VOTES), labels), tmp_path / "a.zarr")
    zarr.open_group(tmp_path / "a.zarr", path="labels/all_detect", mode="r+")["0"][labels == 2] = 0
    (pixels, told, _), (read, options, kind) = read_zarr(tmp_path / "a.zarr")
    assert kind == "labels"
    for image, foreign in ((Image(pixels, **told), False), (Image(RGB, rgb=True), True)):
        assert is_anothers(Labels(read, **options), image) == foreign
    assert set(np.unique(read)) == {0, 1, 3, 4}
    assert RESULTS_KEY not in options["metadata"]
    assert "1 of 4 cells of its table are not in its labels; scores are left out" in notices[0]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError("the disk is gone"), "the disk is gone"),
    ],
)
def test_what_keeps_a_file_from_being_written_is_said(results, labels, tmp_path, monkeypatch, error, reason):
    def fails(*_):
        raise error

    broken = [replace(known, write=fails) for known in EXPORT_FORMATS]
    monkeypatch.setattr("napari_all_detect._napari.files.exporting.EXPORT_FORMATS", broken)
    with pytest.raises(OutputError, match=rf"can't be written \({reason}\); choose another folder"):
        export(exported(results(VOTES), labels), tmp_path / "cells.csv")


def test_a_point_in_a_name_is_no_suffix():
    named = {
        ("a/slide 1.2", ".csv"): "a/slide 1.2.csv",
        ("a/slide_cells.csv", ".geojson"): "a/slide_cells.geojson",  # as proposed
        ("a/mine.csv", ".geojson"): "a/mine.csv",
        ("slide", ".h5ad"): "slide.h5ad",
        ("slide 1.2.CSV", ".h5ad"): "slide 1.2.CSV",
    }
    known = [known.suffix for known in EXPORT_FORMATS]
    for (name, suffix), expected in named.items():
        assert with_suffix(Path(name), suffix, known, "slide_cells.csv") == Path(expected)


def test_the_name_that_is_proposed_is_the_images(results):
    assert proposed_name(results(VOTES)) == "drawn.png_cells.csv"
    assert proposed_name(results(VOTES, image="day 1/smear: B")) == "day-1-smear-B_cells.csv"
    assert proposed_name(results(np.zeros((0, 3)))) == "image_cells.csv"


def test_capitals_in_a_suffix_say_the_same(results, labels, tmp_path):
    for name in ("cells.csv", "CELLS.CSV"):
        export(exported(results(VOTES), labels), tmp_path / name)
    assert (tmp_path / "CELLS.CSV").read_bytes() == (tmp_path / "cells.csv").read_bytes()


def test_pixels_are_those_of_the_image_of_the_table_as_it_was_read(results, labels):
    own, other = Image(RGB, rgb=True, name="drawn.png"), Image(255 - RGB, rgb=True, name="other.png")
    known = Layout(channels=(2, 1, 0))
    layer = Labels(labels, metadata={LAYOUT_KEY: known})
    for layers in ([own, other, layer], [other, own, layer]):
        smear = smear_of(layers, layer, results(VOTES))
        assert (smear.image, smear.layout) == (own, known)
    # One that was renamed since is better than none.
    assert smear_of([other, layer], layer, results(VOTES)).image is other
    assert smear_of([layer], layer, results(VOTES)) is None


def test_the_image_that_was_scored_is_known_whatever_it_is_called(results, labels, tmp_path):
    own, other = Image(RGB, rgb=True, name="drawn.png"), Image(255 - RGB, rgb=True, name="drawn.png")
    layer = Labels(labels, metadata={SCORED_ON_KEY: Origin.of(own)})
    own.name = "another name"
    assert smear_of([other, own, layer], layer, results(VOTES)).image is own
    gone = smear_of([other, layer], layer, results(VOTES))
    with pytest.raises(InputError, match=r"the one that the cells were scored on is not open"):
        export(Exported(results(VOTES), labels, gone), tmp_path / "cells.zarr")


def test_cells_that_were_read_know_the_image_that_was_read_with_them(results, labels, tmp_path):
    saved_as_store(results(VOTES), labels, tmp_path / "a.zarr")
    images, cells = [], []
    for _ in range(2):
        (pixels, shown, _), (data, scored, _) = read_zarr(tmp_path / "a.zarr")
        images.append(Image(pixels, **shown))
        cells.append(Labels(data, **scored))
    for own, other, layer in zip(images, reversed(images), cells, strict=True):
        assert (is_anothers(layer, own), is_anothers(layer, other)) == (False, True)
        assert smear_of([*images, *cells], layer, results_of(layer)).image is own


def test_cells_are_saved_with_the_image_that_was_scored_alone(results, labels, tmp_path):
    own, other = (Image(RGB, rgb=True, name=name) for name in ("own", "other"))
    layer = Labels(labels, metadata={RESULTS_KEY: results(VOTES), SCORED_ON_KEY: Origin.of(own)})
    for known in (False, True):  # the other one has an identity, too, once it was scored
        if known:
            Origin.of(other)
        with pytest.raises(InputError, match=r"scored on 'own', not on the selected 'other'; select the image"):
            write_smear(str(tmp_path / "a.zarr"), [one.as_layer_data_tuple() for one in (other, layer)])
    assert not (tmp_path / "a.zarr").exists()
    write_smear(str(tmp_path / "a.zarr"), [one.as_layer_data_tuple() for one in (own, layer)])
    assert (tmp_path / "a.zarr").exists()


def test_a_copy_is_the_same_image_and_a_plane_of_a_stack_another():
    stack = Image(np.stack([RGB, RGB]), rgb=True)
    origin = Origin.of(stack)
    copy, plane = (Image(data, rgb=True, metadata=dict(stack.metadata)) for data in (stack.data, RGB))
    assert origin.is_of(copy)
    assert not origin.is_of(plane)
    # Scored itself, it is one of its own.
    assert Origin.of(plane).is_of(plane)
    assert not Origin.of(plane).is_of(stack)


def saved_as_store(found, labels, path, **metadata):
    layer = Labels(labels, metadata={RESULTS_KEY: found, **metadata})
    write_smear(str(path), [one.as_layer_data_tuple() for one in (Image(RGB, rgb=True), layer)])
    (levels, _, _), (data, options, _) = read_zarr(path)
    return np.asarray(levels[0]), Labels(data, **options)


@pytest.mark.parametrize("asked", [None, Bounds(0.3, 0.6)])
def test_bounds_channels_threshold_and_notes_stay_in_a_store(results, labels, tmp_path, asked):
    found, bounds = results(VOTES), Bounds(0.3, 0.6)
    found.run = replace(found.run, threshold=0.55, bounds=asked, called_by=bounds)
    found.restore_calls()
    found.rows = replace(found.rows, summary=found.rows.summary.assign(notes="no_pixel_size"))
    rgb, layer = saved_as_store(found, labels, tmp_path / "a.zarr", **{LAYOUT_KEY: Layout(channels=(2, 1, 0))})
    np.testing.assert_array_equal(rgb, RGB[..., ::-1])
    again = results_of(layer)
    assert (again.threshold, again.run.bounds, again.called_by) == (0.55, asked, bounds)
    assert again.rows.summary["notes"].tolist() == ["no_pixel_size"]


def exported_as_store(found, labels, path):
    export(exported(found, labels), path)
    _, (data, options, _) = read_zarr(path)
    return None, Labels(data, **options)


@pytest.mark.parametrize("write", [saved_as_store, exported_as_store])
@pytest.mark.parametrize("asked", [None, Bounds(0.3, 0.6)])
@pytest.mark.parametrize("threshold", [0.8, 0.5])
def test_a_store_knows_the_calls_of_scoring_when_the_threshold_was_moved(
    results, labels, tmp_path, write, asked, threshold
):
    found, bounds = results(VOTES, call=["ALL", "uncertain", "Hem", "ALL"]), Bounds(0.3, 0.6)
    found.run = replace(found.run, bounds=asked, called_by=bounds)
    scored = csv_text(found.table)
    found.threshold = 0.8
    found.threshold = threshold
    _, layer = write(found, labels, tmp_path / "a.zarr")
    again = results_of(layer)
    assert csv_text(again.table) == csv_text(found.table)
    assert (again.threshold, again.called_by) == (threshold, asked)
    again.restore_calls()
    assert csv_text(again.table) == scored
    assert (again.threshold, again.called_by, again.run.bounds) == (0.5, bounds, asked)


def test_a_pyramid_of_labels_is_saved_and_a_store_is_not_written_over(results, labels, tmp_path):
    pyramid = [labels, labels[::2, ::2]]
    _, layer = saved_as_store(results(VOTES), pyramid, tmp_path / "a.zarr")
    np.testing.assert_array_equal(layer.data, labels)
    for write in (
        lambda path: saved_as_store(results(VOTES), labels, path),
        lambda path: export(exported(results(VOTES), labels), path),
    ):
        with pytest.raises(OutputError, match=r"a\.zarr is there already; choose another name"):
            write(tmp_path / "a.zarr")
    with pytest.raises(InputError, match=r"shape \(2, 2, 40, 16\), with planes not called t0_z0; expected"):
        saved_as_store(results(VOTES), np.zeros((2, 2, 40, 16), int), tmp_path / "b.zarr")


def test_an_exported_store_has_the_pixel_size(results, labels, tmp_path):
    found = results(VOTES)
    found.rows = replace(found.rows, summary=found.rows.summary.assign(pixel_size_um=0.25))
    export(exported(found, labels), tmp_path / "a.zarr")
    for _, options, _ in read_zarr(tmp_path / "a.zarr"):
        assert options["scale"] == (0.25, 0.25)
        assert options["units"] == ("micrometer", "micrometer")


def test_a_store_that_was_broken_off_leaves_nothing(results, labels, tmp_path, monkeypatch):
    """Half of one would open as an image without cells, and block the next try."""
    given, path = exported(results(VOTES), labels), tmp_path / "cells.zarr"
    with monkeypatch.context() as broken:
        broken.setattr("napari_all_detect.export.ome_zarr.add_labels", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export(given, path)
    assert list(tmp_path.iterdir()) == []
    export(given, path)
    assert [one.name for one in tmp_path.iterdir()] == ["cells.zarr"]


def test_what_is_copied_runs_no_formula_in_a_spreadsheet():
    rows = pd.DataFrame({"image": ["=1+2.png", "a.png"], "in_domain": [True, False]})
    assert copied_text(rows) == "image\tin_domain\n'=1+2.png\tTRUE\na.png\tFALSE\n"
