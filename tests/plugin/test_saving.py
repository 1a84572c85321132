"""What is saved opens again with scores and colours."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import zarr
from imageio.v3 import imread
from napari.layers import Image, Labels
from napari.layers._source import layer_source
from PIL import Image as Picture

from napari_all_detect import ScoreParams, SegmentationParams, draw_smear
from napari_all_detect._napari.cells.layer_link import attach, results_of
from napari_all_detect._napari.files.reading import get_reader
from napari_all_detect._napari.files.scored_image import Patience
from napari_all_detect._napari.files.writing import write_cells, write_smear
from napari_all_detect._napari.layers.axes import pixel_size_um
from napari_all_detect._napari.layers.metadata_keys import SCORED_ON_KEY
from napari_all_detect._napari.layers.origins import Origin, is_anothers
from napari_all_detect._napari.layers.planes import layer_planes
from napari_all_detect._napari.run.task import Task
from napari_all_detect.cli import main
from napari_all_detect.errors import InputError
from napari_all_detect.export.csv import csv_text
from napari_all_detect.sources import ImageFile, open_planes


@pytest.fixture(scope="module")
def drawn():
    return draw_smear((224, 288), n_cells=12, seed=3)


@pytest.fixture
def scored(viewer, controller, loop, drawn):
    """Score a smear; return its image and its labels layer."""
    image = viewer.add_image(drawn.rgb, name="smear", scale=(0.25, 0.25), units=("um", "um"))
    controller.score(Task(image, None, ScoreParams(batch_size=2)))
    loop.run_until(lambda: not controller.state.busy)
    return image, viewer.layers[-1]


def read(path):
    return get_reader(str(path))(str(path))


def test_an_ome_zarr_opens_with_scores_colours_verdicts_and_crops(scored, tmp_path):
    image, layer = scored
    results = results_of(layer)
    results.threshold = 0.7
    results.judge(1, "Hem")
    path = str(tmp_path / "smear.zarr")
    assert write_smear(path, [image.as_layer_data_tuple(), layer.as_layer_data_tuple()]) == [path]
    (levels, placed, _), (labels, options, kind) = read(path)
    np.testing.assert_array_equal(levels[0], image.data)
    assert placed["rgb"]
    assert placed["scale"] == pytest.approx((0.25, 0.25))
    opened = Labels(labels, **options)
    again = results_of(opened)
    assert kind == "labels"
    assert labels.dtype == layer.data.dtype == np.uint16
    np.testing.assert_array_equal(labels, layer.data)
    assert csv_text(again.table) == csv_text(results.table)
    pd.testing.assert_frame_equal(again.table.astype(results.table.dtypes), results.table)
    assert (again.threshold, again.verdicts.tolist()) == (0.7, results.verdicts.tolist())
    assert again.run.weights == results.run.weights
    np.testing.assert_array_equal(again.rows.crops[:], results.rows.crops)
    shown = np.arange(layer.data.max() + 1)
    np.testing.assert_array_equal(opened.colormap.map(shown), layer.colormap.map(shown))
    assert opened.features["call"].tolist() == layer.features["call"].tolist()


@pytest.mark.parametrize("rescale", ["auto", "none", 0.7])
def test_crops_are_cut_as_they_were_at_whatever_scale(viewer, controller, loop, drawn, tmp_path, rescale):
    enlarged = drawn.rgb[:112, :144].repeat(2, axis=0).repeat(2, axis=1)  # the default changes this plane alone
    image = viewer.add_image(np.stack([drawn.rgb, enlarged]), name="large")
    segmentation = SegmentationParams(method="classical")
    controller.score(Task(image, None, ScoreParams(batch_size=2, rescale=rescale, segmentation=segmentation)))
    loop.run_until(lambda: not controller.state.busy)
    layer, results = viewer.layers[-1], results_of(viewer.layers[-1])
    path = tmp_path / "large.zarr"
    write_smear(str(path), [image.as_layer_data_tuple(), layer.as_layer_data_tuple()])

    def opened():
        _, (labels, options, _) = read(path)
        return results_of(Labels(labels, **options)).rows

    np.testing.assert_array_equal(opened().crops[:], results.rows.crops)
    assert opened().summary["rescale"].tolist() == results.rows.summary["rescale"].tolist()
    # Stores of earlier versions did not say: the default is taken where the cells show that it was.
    store = zarr.open_group(path, mode="r+")
    facts = dict(store.attrs["all_detect"])
    del facts["rescale"]
    store.attrs["all_detect"] = facts
    if rescale == "auto":
        np.testing.assert_array_equal(opened().crops[:], results.rows.crops)
    else:
        assert opened().crops is None


def test_a_stack_is_one_ome_zarr_with_its_planes(viewer, controller, loop, drawn, tmp_path):
    stack = np.stack([drawn.rgb, np.full_like(drawn.rgb, 245), drawn.rgb[::-1]])
    image = viewer.add_image(stack, name="stack")
    params = ScoreParams(batch_size=2, segmentation=SegmentationParams(method="classical"))
    controller.score(Task(image, None, params))
    loop.run_until(lambda: not controller.state.busy)
    layer, results = viewer.layers[-1], results_of(viewer.layers[-1])
    path = str(tmp_path / "stack.zarr")
    write_smear(path, [image.as_layer_data_tuple(), layer.as_layer_data_tuple()])
    (levels, placed, _), (labels, options, _) = read(path)
    assert "units" not in placed  # they were not known
    np.testing.assert_array_equal(levels[0], stack)
    np.testing.assert_array_equal(labels, layer.data)
    again = results_of(Labels(labels, **options))
    assert csv_text(again.table) == csv_text(results.table)
    np.testing.assert_array_equal(again.rows.index, results.rows.index)
    np.testing.assert_array_equal(again.rows.numbers, results.rows.numbers)
    np.testing.assert_array_equal(again.rows.crops[:], results.rows.crops)


@pytest.mark.parametrize(
    ("axes", "sides", "names"),
    [
        (["t"], [2], ["t0", "t1"]),
        (["z"], [2], ["z0", "z1"]),
        (None, [2], ["p0", "p1"]),
        (["t", "z"], [2, 1], ["t0", "t1"]),
        (["t", "z"], [2, 2], ["t0_z0", "t0_z1", "t1_z0", "t1_z1"]),
        (["T", "Z"], [2, 2], ["T0_Z0", "T0_Z1", "T1_Z0", "T1_Z1"]),
    ],
)
def test_a_stack_is_saved_along_the_axes_that_it_has(viewer, controller, loop, drawn, tmp_path, axes, sides, names):
    smears = [drawn.rgb, np.full_like(drawn.rgb, 245), drawn.rgb[::-1], drawn.rgb[:, ::-1]]
    pixels = np.stack(smears[: len(names)]).reshape(*sides, *drawn.rgb.shape)
    image = viewer.add_image(pixels, axis_labels=axes and (*axes, "y", "x"))
    controller.score(Task(image, None, ScoreParams(batch_size=2, segmentation=SegmentationParams(method="classical"))))
    loop.run_until(lambda: not controller.state.busy)
    layer = viewer.layers[-1]
    assert results_of(layer).rows.summary["plane"].tolist() == names
    assert layer.axis_labels == (*(axes or ["p"]), "y", "x")
    assert viewer.dims.axis_labels == layer.axis_labels
    path = str(tmp_path / "stack.zarr")
    write_smear(path, [image.as_layer_data_tuple(), layer.as_layer_data_tuple()])
    (levels, placed, _), (labels, options, _) = read(path)
    long = [axis.lower() for axis, n in zip(axes or ["z"], sides, strict=True) if n > 1]
    assert placed["axis_labels"] == options["axis_labels"] == (*long, "y", "x")
    np.testing.assert_array_equal(np.asarray(levels[0]).reshape(pixels.shape), pixels)
    np.testing.assert_array_equal(np.asarray(labels).reshape(layer.data.shape), layer.data)
    again, results = results_of(Labels(labels, **options)), results_of(layer)
    assert csv_text(again.table) == csv_text(results.table)
    np.testing.assert_array_equal(again.rows.index, results.rows.index[:, [n > 1 for n in sides]])


@pytest.mark.parametrize(("scale", "units"), [(0.25, "um"), (1.0, "pixel")])
def test_a_smear_is_saved_where_it_lies(viewer, results, notices, tmp_path, scale, units):
    place = {"scale": (scale,) * 2, "units": (units,) * 2}
    image = viewer.add_image(np.full((30, 12, 3), 200, np.uint8), rgb=True, translate=(100.0, -40.0), **place)
    labels = np.zeros((30, 12), int)
    labels[0:4, 5:9] = 1
    layer = viewer.add_labels(labels)
    found = results(np.full((1, 3), 0.9))
    found.rows.summary["pixel_size_um"] = scale if units == "um" else np.nan
    attach(layer, found)
    write_smear(str(tmp_path / "moved.zarr"), [image.as_layer_data_tuple(), layer.as_layer_data_tuple()])
    for _, options, _ in read(tmp_path / "moved.zarr"):
        np.testing.assert_allclose(options["translate"], (100.0, -40.0))
        np.testing.assert_allclose(options["scale"], (scale, scale))
    assert notices == []
    image.rotate = 30
    write_smear(str(tmp_path / "turned.zarr"), [image.as_layer_data_tuple(), layer.as_layer_data_tuple()])
    assert notices == ["OME-Zarr can't say that 'Image' is rotated, sheared or mirrored; it is saved upright"]


def test_of_a_file_that_napari_shows_in_part_all_is_saved(viewer, results, drawn, tmp_path):
    Picture.fromarray(drawn.rgb).convert("CMYK").save(tmp_path / "inks.jpg")
    with layer_source(path=str(tmp_path / "inks.jpg")):
        image = viewer.add_image(imread(tmp_path / "inks.jpg"), rgb=True)
    layer = viewer.add_labels(np.pad(np.ones((4, 4), int), ((0, 220), (0, 284))))
    attach(layer, results(np.full((1, 3), 0.9)))
    layer.metadata[SCORED_ON_KEY] = Origin.of(image)
    write_smear(str(tmp_path / "inks.zarr"), [image.as_layer_data_tuple(), layer.as_layer_data_tuple()])
    (levels, *_), _ = read(tmp_path / "inks.zarr")
    (plane,) = open_planes(ImageFile(tmp_path / "inks.jpg", "inks.jpg"))
    np.testing.assert_array_equal(levels[0], plane.read().rgb)


def test_a_scale_that_is_not_saved_is_told(viewer, results, notices, tmp_path):
    image = viewer.add_image(np.full((30, 12, 3), 200, np.uint8), rgb=True, scale=(0.25, 0.5), units=("um", "um"))
    layer = viewer.add_labels(np.pad(np.ones((4, 4), int), ((0, 26), (5, 3))))
    attach(layer, results(np.full((1, 3), 0.9)))
    write_smear(str(tmp_path / "oblong.zarr"), [image.as_layer_data_tuple(), layer.as_layer_data_tuple()])
    assert notices == ["the scale of 'Image' is no pixel size in micrometers; it is saved with pixels of 1"]


def test_a_results_folder_opens_each_image_with_its_scores(tmp_path, drawn, reuse_engines):
    import tifffile

    (tmp_path / "smears").mkdir()
    Picture.fromarray(drawn.rgb).save(tmp_path / "smears/-a.png")
    stack = np.stack([drawn.rgb, drawn.rgb[::-1]])
    tifffile.imwrite(tmp_path / "smears/b.tif", stack, photometric="rgb")
    damaged = (tmp_path / "smears/-a.png").read_bytes()[:2000]
    (tmp_path / "smears/b.png").write_bytes(damaged)  # in no table, but labels of `b` could have been its
    out = tmp_path / "out"
    assert main(["score", str(tmp_path / "smears"), "--out", str(out), "--segmentation", "classical"]) == 3
    layers = read(out)
    assert [(options["name"], kind) for _, options, kind in layers] == [
        ("-a.png", "image"),
        ("-a.png cells", "labels"),
        ("b.tif", "image"),
        ("b.tif cells", "labels"),
    ]
    np.testing.assert_array_equal(layers[2][0], stack)
    # Of images that lie on each other, the last is seen.
    assert [options.get("visible", True) for _, options, _ in layers] == [False, False, True, True]
    images = [Image(data, **options) for data, options, kind in layers if kind == "image"]
    cells = [Labels(data, **options) for data, options, kind in layers if kind == "labels"]
    assert [[is_anothers(layer, image) for image in images] for layer in cells] == [[False, True], [True, False]]
    found = [results_of(layer) for layer in cells]
    table = pd.concat([one.table for one in found], ignore_index=True)
    assert csv_text(table) == (out / "cells.csv").read_text()
    assert all(len(one.rows.crops) == len(one) for one in found)
    assert set(np.unique(layers[3][0])) == {0, *found[1].rows.numbers.tolist()}
    assert [options["name"] for _, options, _ in read(out / "run.json")] == [o["name"] for _, o, _ in layers]
    # Without the images, or with another bundle by now, what there is still opens.
    (tmp_path / "smears").rename(tmp_path / "moved")
    # The stack is another one by now, whose planes differ in size.
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        for page in (drawn.rgb, drawn.rgb[1:]):
            file.write(page, photometric="rgb", metadata=None)
    # One lies beside the results by now, until another image has its name.
    for pixels, kinds in ((drawn.rgb, ["image", "labels", "labels"]), (drawn.rgb[1:], ["labels", "labels"])):
        Picture.fromarray(pixels).save(tmp_path / "-a.png")
        assert [kind for _, _, kind in read(out)] == kinds
    run = json.loads((out / "run.json").read_text())
    run["parameters"]["reading"]["channels"] = [2, 1, 0]
    (out / "run.json").write_text(json.dumps(run))
    Picture.fromarray(drawn.rgb).save(tmp_path / "-a.png")
    np.testing.assert_array_equal(read(out)[0][0], drawn.rgb[..., ::-1])
    (tmp_path / "-a.png").unlink()
    run["bundle"]["digest"] = "0" * 64
    (out / "run.json").write_text(json.dumps(run))
    labels_only = read(out)
    assert [kind for _, _, kind in labels_only] == ["labels", "labels"]
    assert results_of(Labels(labels_only[0][0], **labels_only[0][1])).rows.crops is None


def kinds_and_crops(layers):
    """Return what the layers are, and whether the crops of the cells are known."""
    cells = [results_of(Labels(data, **options)) for data, options, kind in layers if kind == "labels"]
    return [kind for _, _, kind in layers], [found.rows.crops is not None for found in cells]


def test_an_image_that_took_the_place_of_the_scored_one_is_not_opened(notices, tmp_path, drawn, reuse_engines):
    """Its name and size are the same, and uncompressed its bytes are as many."""
    place, out = tmp_path / "day1/smear.bmp", tmp_path / "day2/out"
    place.parent.mkdir()
    Picture.fromarray(drawn.rgb).save(place)
    assert main(["score", str(place), "--out", str(out), "--segmentation", "classical"]) == 0
    assert kinds_and_crops(read(out)) == (["image", "labels"], [True])
    place.touch()
    assert kinds_and_crops(read(out)) == (["image", "labels"], [True])
    assert notices == []
    Picture.fromarray(drawn.rgb[::-1]).save(place)
    assert kinds_and_crops(read(out)) == (["labels"], [False])
    assert notices == [
        f"opened without their image: {place} is not the image that was scored; bring that back and open the results "
        "again"
    ]
    # The one of then lies beside the results.
    Picture.fromarray(drawn.rgb).save(tmp_path / "day2/smear.bmp")
    layers = read(out)
    np.testing.assert_array_equal(layers[0][0], drawn.rgb)
    assert kinds_and_crops(layers) == (["image", "labels"], [True])
    place.unlink()
    Picture.fromarray(drawn.rgb[:, ::-1]).save(tmp_path / "day2/smear.bmp")
    assert kinds_and_crops(read(out)) == (["labels"], [False])
    (tmp_path / "day2/smear.bmp").unlink()
    assert kinds_and_crops(read(out)) == (["labels"], [False])
    assert [notice.partition(": ")[2].partition(";")[0] for notice in notices[1:]] == [
        f"{tmp_path / 'day2/smear.bmp'} is not the image that was scored",
        f"{place} is not there any more",
    ]


def test_a_store_is_compared_by_its_pixels_where_they_are_not_too_many(
    notices, tmp_path, drawn, reuse_engines, monkeypatch
):
    place, out = tmp_path / "stack.zarr", tmp_path / "out"
    stack = np.stack([drawn.rgb, drawn.rgb[::-1]])
    zarr.save_array(place, stack)
    assert main(["score", str(place), "--out", str(out), "--segmentation", "classical"]) == 0
    place.rename(tmp_path / "moved.zarr")
    zarr.save_array(place, stack)  # as a copy has other times
    assert kinds_and_crops(read(out)) == (["image", "labels"], [True])
    assert notices == []
    with monkeypatch.context() as small:
        small.setattr(Patience, "suffices", lambda self, n_px: n_px <= 1000)
        assert kinds_and_crops(read(out)) == (["image", "labels"], [True])
        assert notices.pop() == (
            f"look whether the outlines fit: it can't be told whether {place} is still the image that was scored, as "
            "that takes too long or the run noted too little"
        )
        # None of its files changed.
        shutil.rmtree(place)
        (tmp_path / "moved.zarr").rename(place)
        assert kinds_and_crops(read(out)) == (["image", "labels"], [True])
        assert notices == []
    shutil.rmtree(place)
    zarr.save_array(place, stack[::-1])
    assert kinds_and_crops(read(out)) == (["labels"], [False])
    assert f"{place} is not the image that was scored" in notices.pop()


def test_what_a_run_noted_too_little_of_is_opened_with_a_word(notices, tmp_path, drawn, reuse_engines):
    Picture.fromarray(drawn.rgb).save(tmp_path / "a.bmp")
    out = tmp_path / "out"
    assert main(["score", str(tmp_path / "a.bmp"), "--out", str(out), "--segmentation", "classical"]) == 0
    run = json.loads((out / "run.json").read_text())
    del run["images"][0]["sha256"]
    (out / "run.json").write_text(json.dumps(run))
    (tmp_path / "a.bmp").touch()
    assert kinds_and_crops(read(out)) == (["image", "labels"], [True])
    assert "it can't be told whether" in notices.pop()
    Picture.fromarray(drawn.rgb[:, :-4]).save(tmp_path / "a.bmp")
    assert kinds_and_crops(read(out)) == (["labels"], [False])


def test_pages_of_two_sizes_open_as_two_layers_in_the_units_of_all(notices, tmp_path, drawn, reuse_engines):
    import tifffile

    Picture.fromarray(drawn.rgb).save(tmp_path / "a.png")
    Picture.fromarray(drawn.rgb).save(tmp_path / "b.png", dpi=(101600, 101600))
    pages, tag = [drawn.rgb, drawn.rgb[:180]], {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        for page in pages:
            file.write(page, resolution=(40000, 40000), resolutionunit="CENTIMETER", **tag)
    out = tmp_path / "out"
    command = ["score", *(str(tmp_path / name) for name in ("a.png", "b.png", "two.tif")), "--out", str(out)]
    assert main([*command, "--segmentation", "classical"]) == 0
    layers = read(out)
    names = ["a.png", "b.png", "two.tif p0", "two.tif p1"]
    assert [options["name"] for _, options, _ in layers] == [f"{n}{more}" for n in names for more in ("", " cells")]
    images = [Image(data, **options) for data, options, kind in layers if kind == "image"]
    cells = [Labels(data, **options) for data, options, kind in layers if kind == "labels"]
    # The size of one is not known: napari compares layers in one unit.
    assert {str(unit) for layer in (*images, *cells) for unit in layer.units} == {"pixel"}
    assert {scale for layer in (*images, *cells) for scale in layer.scale} == {1.0}
    files = [ImageFile(tmp_path / name, name) for name in ("a.png", "b.png", "two.tif")]
    theirs = [plane for file in files for plane in open_planes(file)]
    assert [layer_planes(image)[0].source for image in images] == theirs
    assert [pixel_size_um(image) for image in images] == pytest.approx([None, 0.25, 0.25, 0.25])
    assert csv_text(pd.concat([results_of(one).table for one in cells])) == (out / "cells.csv").read_text()
    for image, page in zip(images[2:], pages, strict=True):
        np.testing.assert_array_equal(image.data, page)
    # What is gone of one image costs no other, and without the first all sizes are known.
    (out / "labels/a_labels.tif").unlink()
    rest = read(out)
    assert [options["name"] for _, options, _ in rest] == [options["name"] for _, options, _ in layers[2:]]
    assert all(options["units"] == ("micrometer", "micrometer") for _, options, _ in rest)
    assert len(notices) == 1
    assert notices[0].startswith("left out: ")
    assert "no label image for a.png" in notices[0]
    for left in (out / "labels").iterdir():
        left.unlink()
    with pytest.raises(InputError, match=r"no label image for a\.png"):
        read(out)


def test_the_table_of_a_layer_is_written_as_csv(scored, tmp_path):
    _, layer = scored
    write_cells(str(tmp_path / "cells.csv"), layer.data, layer._get_state() | {"metadata": layer.metadata})
    assert (tmp_path / "cells.csv").read_text() == csv_text(results_of(layer).table)
    with pytest.raises(InputError, match="no scores"):
        write_cells(str(tmp_path / "none.csv"), layer.data, {"name": "x", "metadata": {}})


def test_a_damaged_results_folder_says_which_file(tmp_path, results):
    found = results([[0.9, 0.8, 0.7]])
    (tmp_path / "cells.csv").write_text(csv_text(found.table))
    (tmp_path / "images.csv").write_text(csv_text(found.rows.summary))
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"run\.json: can't be understood"):
        read(tmp_path)
    (tmp_path / "cells.csv").write_text("label\n1\n")
    with pytest.raises(InputError, match=r"cells\.csv: not a table"):
        read(tmp_path)


def test_other_folders_are_left_to_other_readers(tmp_path):
    assert get_reader(str(tmp_path)) is None
    assert get_reader([str(tmp_path)]) is None
    grey = tmp_path / "grey.zarr"
    zarr.save_array(grey, np.zeros((20, 30), np.uint8))
    assert get_reader(str(grey)) is None


def test_an_image_of_a_plate_keeps_its_name_and_place(tmp_path, drawn, reuse_engines):
    plate = {"version": "0.4", "rows": [{"name": "A"}], "columns": [{"name": "1"}]}
    plate["wells"] = [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}]
    group = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2, attributes={"plate": plate})
    group.create_group("A/1", attributes={"well": {"images": [{"path": "0"}], "version": "0.4"}})
    axes = [{"name": "c", "type": "channel"}, *({"name": name, "type": "space"} for name in "yx")]
    scales = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}]
    field = group.create_group("A/1/0")
    field.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": scales}]
    field.create_array("0", data=np.moveaxis(drawn.rgb, -1, 0))
    out = tmp_path / "out"
    assert main(["score", str(tmp_path / "plate.zarr"), "--out", str(out), "--segmentation", "classical"]) == 0
    (data, options, _), _ = read(out)
    (plane,) = layer_planes(Image(data, **options))
    source = plane.read()
    row = pd.read_csv(out / "images.csv", dtype=str).iloc[0]
    assert (source.image, source.well, source.field) == (row["image"], row["well"], row["field"])
    assert source.well == "A1"


def test_the_window_waits_for_so_many_pixels_of_all_images_together():
    patience = Patience(10)
    assert [patience.suffices(n_px) for n_px in (6, 5, 4, 1)] == [True, False, True, False]
