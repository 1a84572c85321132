"""Stores are opened without being read; nothing here runs a network."""

import json

import napari
import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Image, Labels

from napari_all_detect import draw_smear, table
from napari_all_detect._napari.cells.crops_again import CropsOnDemand, CutPlane
from napari_all_detect._napari.cells.layer_link import results_of
from napari_all_detect._napari.files.pyramid import open_smear
from napari_all_detect._napari.files.reading import get_reader
from napari_all_detect._napari.files.saved import run_by_record
from napari_all_detect._napari.files.writing import write_cells
from napari_all_detect._napari.layers.axes import layout_of
from napari_all_detect._napari.layers.planes import layer_planes
from napari_all_detect._napari.notified import notified
from napari_all_detect.crops import center_crop
from napari_all_detect.errors import InputError
from napari_all_detect.export.ome_zarr import LabelledPlane, add_labels
from napari_all_detect.params import ReadParams
from napari_all_detect.sources import find_images, open_planes
from napari_all_detect.trust import Bounds


@pytest.fixture(scope="module")
def drawn():
    return draw_smear((224, 288), n_cells=12, seed=3)


def write_image(path, pixels, axes="tczyx", pixel_size_um=0.25, levels=2, colours=("FF0000", "00FF00", "0000FF")):
    """Write an OME-Zarr image whose levels are every second pixel of the one before."""
    from ngio import create_ome_zarr_from_array

    container = create_ome_zarr_from_array(
        path,
        pixels,
        pixelsize=pixel_size_um,
        axes_names=list(axes),
        levels=levels,
        ngff_version="0.5",
        consolidation_mode="auto",
    )
    container.set_channel_colors(colours[: pixels.shape[axes.index("c")]])


def read(path):
    return get_reader(str(path))(str(path))


def test_a_pyramid_is_opened_without_its_values(tmp_path, drawn):
    path = tmp_path / "smear.zarr"
    write_image(path, np.moveaxis(drawn.rgb, -1, 0)[None, :, None])
    for file in path.rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            file.write_bytes(b"damaged")
    ((levels, options, kind),) = read(path)
    assert [level.shape for level in levels] == [(224, 288, 3), (112, 144, 3)]
    assert (kind, options["rgb"], options["multiscale"], options["name"]) == ("image", True, True, "smear")
    assert options["scale"] == pytest.approx((0.25, 0.25))
    with pytest.raises(Exception):  # noqa: B017 - whatever the codec says
        levels[1].compute()


def test_null_stands_for_no_transformations(tmp_path, drawn):
    path = tmp_path / "smear.zarr"
    write_image(path, np.moveaxis(drawn.rgb, -1, 0)[None, :, None])
    facts = json.loads((path / "zarr.json").read_text())
    facts["attributes"]["ome"]["multiscales"][0]["coordinateTransformations"] = None
    (path / "zarr.json").write_text(json.dumps(facts))
    ((_, options, _),) = read(path)
    assert options["scale"] == pytest.approx((0.25, 0.25))


def test_a_stack_in_time_and_depth_keeps_its_axes(tmp_path, drawn):
    small = drawn.rgb[:64, :64]
    stack = np.stack([np.stack([small, small // 2]), np.stack([255 - small, small // 3])])
    write_image(tmp_path / "stack.zarr", np.moveaxis(stack, -1, 1))
    ((levels, options, _),) = read(tmp_path / "stack.zarr")
    np.testing.assert_array_equal(levels[0].compute(), stack)
    assert options["units"] == ("pixel", "pixel", "micrometer", "micrometer")
    assert options["axis_labels"] == ("t", "z", "y", "x")
    image = Image(levels, **options)
    names = [plane.source.plane for plane in layer_planes(image)]
    assert names == ["t0_z0", "t0_z1", "t1_z0", "t1_z1"]
    np.testing.assert_array_equal(layer_planes(image)[3].read().pixels.rgb, stack[1, 1])


def test_wider_values_become_8_bit_plane_by_plane(tmp_path, drawn):
    wide = np.moveaxis(drawn.rgb[:64, :64], -1, 0).astype(np.uint16) * 257
    write_image(tmp_path / "wide.zarr", wide, axes="cyx")
    (file,) = find_images([tmp_path / "wide.zarr"])
    smear = open_smear(file)
    assert smear.arrays[0].dtype == np.uint8
    np.testing.assert_array_equal(smear.arrays[0].compute(), drawn.rgb[:64, :64])


def test_scores_of_a_coarser_level_lie_where_its_pixels_are(tmp_path, drawn, results):
    path = tmp_path / "smear.zarr"
    write_image(path, np.moveaxis(drawn.rgb, -1, 0), axes="cyx")
    coarse = np.ascontiguousarray(drawn.labels[::2, ::2])
    numbers = np.unique(coarse)[1:]
    found = results(np.full((len(numbers), 3), 0.9), numbers, **table.geometry(coarse, 0.5))
    add_labels(path, [LabelledPlane({}, coarse, found.table)], level="1")
    (_, _, _), (labels, options, _) = read(path)
    np.testing.assert_array_equal(labels, coarse)
    layer = Labels(labels, **options)
    assert layer.scale.tolist() == [0.5, 0.5]
    # The centre of a coarse pixel is that of the two by two that it covers.
    np.testing.assert_allclose(layer.translate, [0.125, 0.125])
    assert results_of(layer).table["p_all"].tolist() == found.table["p_all"].tolist()
    assert layer.contour == 2


def test_the_only_image_of_a_collection_is_opened(tmp_path, drawn, results):
    zarr.create_group(tmp_path / "slide.zarr", attributes={"ome": {"version": "0.5", "bioformats2raw.layout": 3}})
    write_image(tmp_path / "slide.zarr/0", np.moveaxis(drawn.rgb, -1, 0)[None, :, None])
    numbers = np.unique(drawn.labels)[1:]
    found = results(np.full((len(numbers), 3), 0.9), numbers, **table.geometry(drawn.labels, 0.25))
    add_labels(tmp_path / "slide.zarr/0", [LabelledPlane({}, drawn.labels, found.table)])
    (pixels, options, _), (labels, _, _) = read(tmp_path / "slide.zarr")
    assert options["name"] == "slide"
    np.testing.assert_array_equal(np.asarray(pixels[0]).reshape(drawn.rgb.shape), drawn.rgb)
    np.testing.assert_array_equal(np.asarray(labels).reshape(drawn.labels.shape), drawn.labels)
    write_image(tmp_path / "slide.zarr/1", np.moveaxis(drawn.rgb, -1, 0)[None, :, None])
    assert get_reader(str(tmp_path / "slide.zarr")) is None


def test_grey_stores_and_plates_are_left_to_others(tmp_path):
    write_image(tmp_path / "grey.zarr", np.zeros((1, 64, 64), np.uint8), axes="cyx")
    assert get_reader(str(tmp_path / "grey.zarr")) is None
    zarr.save_array(tmp_path / "plain.zarr", np.zeros((20, 30, 3), np.uint8))
    ((pixels, options, _),) = read(tmp_path / "plain.zarr")
    assert options["rgb"]
    assert pixels.shape == (20, 30, 3)
    zarr.save_array(tmp_path / "first.zarr", np.zeros((3, 20, 30), np.uint8))
    ((pixels, _, _),) = read(tmp_path / "first.zarr")
    assert pixels.shape == (20, 30, 3)


def test_planes_of_which_there_are_labels_are_opened_alone(tmp_path, drawn):
    stack = np.stack([drawn.rgb, 255 - drawn.rgb, drawn.rgb[::-1]])
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="rgb")
    (file,) = find_images([tmp_path / "stack.tif"])
    names = [plane.plane for plane in open_planes(file)]
    np.testing.assert_array_equal(open_smear(file, [names[2], names[0]]).arrays[0], stack[[2, 0]])
    with pytest.raises(InputError, match=r"stack\.tif: another image by now; score it again"):
        open_smear(file, [names[0], "p7"])
    with tifffile.TiffWriter(tmp_path / "stack.tif") as pages:
        for page in (drawn.rgb, drawn.rgb[1:]):
            pages.write(page, photometric="rgb", metadata=None)
    with pytest.raises(InputError, match=r"stack\.tif: planes that had one size have several by now"):
        open_smear(file, names[:2])


@pytest.mark.parametrize("scale", [1.0, 0.5, 1.7])
def test_crops_are_cut_again_as_they_were(drawn, scale):
    labels = np.where(drawn.labels > 0, 3 * drawn.labels, 0)
    numbers = np.unique(labels)[1:]
    boxes = table.geometry(labels, None)
    sides = np.stack([boxes[f"bbox_{side}"] for side in ("y0", "x0", "y1", "x1")], axis=1)
    expected = center_crop(drawn.rgb, labels, 24, scale)
    place = np.zeros(len(numbers), int)
    crops = CropsOnDemand([CutPlane(drawn.rgb, labels, scale)], place, numbers, sides, 24)
    np.testing.assert_array_equal(crops[3], expected[3])
    np.testing.assert_array_equal(crops[1:3], expected[1:3])
    np.testing.assert_array_equal(crops[:], expected)
    assert len(crops) == len(expected)


@pytest.mark.parametrize("scale", [1.0, 0.5, 1.7])
def test_cells_are_cut_out_without_reading_the_rest_of_the_plane(drawn, scale):
    read = []

    class Lazy:
        def __getitem__(self, region):
            read.append(drawn.rgb[region].size)
            return drawn.rgb[region]

    numbers = np.unique(drawn.labels)[1:]
    boxes = table.geometry(drawn.labels, None)
    sides = np.stack([boxes[f"bbox_{side}"] for side in ("y0", "x0", "y1", "x1")], axis=1)
    place = np.zeros(len(numbers), int)
    labels = drawn.labels.copy()
    crops = CropsOnDemand([CutPlane(Lazy(), labels, scale)], place, numbers, sides, 24)
    expected = center_crop(drawn.rgb, drawn.labels, 24, scale)
    np.testing.assert_array_equal(crops[2:4], expected[2:4])
    assert len(read) == 2
    assert max(read) < drawn.rgb.size / 20
    # What was painted in the layer since is no part of the cell that was scored.
    labels[np.pad(drawn.labels, ((0, 40), (0, 0)))[40:] == numbers[5]] = numbers[5]
    assert crops[5].shape == (24, 24, 3)
    labels[labels == numbers[6]] = 0
    assert not crops[6].any()


def test_an_error_rate_that_was_asked_for_holds_after_opening_again():
    run = {
        "bundle": {
            "name": "gone",
            "version": "1",
            "digest": "0" * 64,
            "member_weights": {"vgg16": 1.0},
            "threshold": 0.5,
            "bounds": {"least_all": 0.25, "most_hem": 0.75},
        },
        "parameters": {"bundle": "gone", "weighting": None, "error_rate": 0.02},
        "engine": "keras",
        "device": "cpu",
    }
    asked = run_by_record(run)
    assert asked.bounds == asked.called_by == Bounds(0.25, 0.75)
    # The bundle's own rate called the cells, too, but ends where the threshold is moved.
    run["parameters"]["error_rate"] = None
    own = run_by_record(run)
    assert (own.bounds, own.called_by) == (None, Bounds(0.25, 0.75))
    run["bundle"]["bounds"] = None
    assert run_by_record(run).called_by is None


def test_errors_of_readers_and_writers_are_one_notification(tmp_path, notices, monkeypatch):
    for name in ("cells.csv", "images.csv", "run.json"):
        (tmp_path / name).write_text("label\n")
    with pytest.raises(InputError, match="not a table"):
        read(tmp_path)
    monkeypatch.setattr(napari, "current_viewer", object)
    assert read(tmp_path) == [(None,)]
    assert "cells.csv: not a table that all-detect wrote" in notices[-1]
    assert write_cells(str(tmp_path / "x.csv"), None, {"name": "cells", "metadata": {}}) == [str(tmp_path / "x.csv")]
    assert "labels 'cells' have no scores; score their image first" in notices[-1]
    assert len(notices) == 2
    assert not (tmp_path / "x.csv").exists()


def test_errors_that_nobody_thought_of_are_notifications_too(tmp_path, notices, monkeypatch, capsys):
    @notified(lambda path: "instead")
    def fails(path):
        return json.loads(path)

    with pytest.raises(ValueError, match="Expecting value"):
        fails("no JSON")
    monkeypatch.setattr(napari, "current_viewer", object)
    assert fails("no JSON") == "instead"
    assert notices[-1].startswith("JSONDecodeError: Expecting value")
    assert "\n" not in notices[-1]
    assert "Traceback" in capsys.readouterr().err  # for whoever is asked for a report


@pytest.mark.parametrize("level", [0, 1])
def test_planes_are_what_the_command_line_reads_at_each_level(tmp_path, drawn, level):
    path = tmp_path / "smear.zarr"
    # 225 pixels are no whole number of coarse ones: the pixel size is the metadata's, not the shapes' ratio.
    odd = np.pad(drawn.rgb, ((0, 1), (0, 0), (0, 0)), mode="edge")
    write_image(path, np.moveaxis(np.stack([odd, 255 - odd]), -1, 0), axes="czyx")
    ((levels, options, _),) = read(path)
    image = Image(levels, **options)
    reading = ReadParams(level=level)
    mine = layer_planes(image, layout_of(image, reading))
    theirs = open_planes(find_images([path])[0], reading)
    assert [p.source for p in mine] == theirs
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one.read().pixels.rgb, other.read().rgb)


@pytest.mark.parametrize("channels", [None, (0, 1, 2), (3, 1, 0), (1,)])
def test_channels_of_a_store_are_counted_as_in_its_file(tmp_path, channels):
    values = np.random.default_rng(0).integers(0, 255, (4, 64, 64), dtype=np.uint8)
    write_image(tmp_path / "four.zarr", values, axes="cyx", colours=("0000FF", "00FF00", "FFFFFF", "FF0000"))
    ((levels, options, _),) = read(tmp_path / "four.zarr")
    image = Image(levels, **options)
    np.testing.assert_array_equal(levels[0], np.moveaxis(values[[3, 1, 0]], 0, -1))
    if channels == (0, 1, 2):
        with pytest.raises(
            InputError, match=r"shows the channels \(3, 1, 0\) of its file; .*--channels 0,1,2 and open"
        ):
            layout_of(image, ReadParams(channels=channels))
        return
    (mine,) = layer_planes(image, layout_of(image, ReadParams(channels=channels)))
    (theirs,) = open_planes(find_images([tmp_path / "four.zarr"])[0], ReadParams(channels=channels))
    np.testing.assert_array_equal(mine.read().pixels.rgb, theirs.read().rgb)


def test_planes_of_a_grey_stack_are_what_the_command_line_reads(tmp_path, drawn):
    path = tmp_path / "stack.tif"
    stack = np.moveaxis(np.stack([drawn.rgb, 255 - drawn.rgb]), -1, 1)
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "TCYX"})
    image = Image(stack, rgb=False)
    image._set_source(image.source.model_copy(update={"path": str(path)}))
    theirs = open_planes(find_images([path])[0])
    mine = layer_planes(image)
    assert [p.source for p in mine] == theirs
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one.read().pixels.rgb, other.read().rgb)
