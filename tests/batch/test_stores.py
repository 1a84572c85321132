"""Stores at scale: plates, stacks, servers; and what is written back into them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect import retrying
from napari_all_detect.batch import containers, score_batch
from napari_all_detect.cli import main
from napari_all_detect.errors import MissingDependencyError, OutputError
from napari_all_detect.params import OutputParams, ReadParams, ScoreParams, SegmentationParams
from napari_all_detect.sources import find_images

ngio = pytest.importorskip("ngio")
pytestmark = pytest.mark.usefixtures("reuse_engines")

Pixels = NDArray[np.uint8]
Content = Callable[[Path], dict[str, bytes]]
ZARR = OutputParams(formats=("csv", "ome-zarr"))


@pytest.fixture
def params(duo_bundle: Path) -> ScoreParams:
    return ScoreParams(bundle=str(duo_bundle), segmentation=SegmentationParams(method="classical"))


@pytest.fixture
def store(tmp_path: Path, smear: Callable[..., Pixels]) -> Path:
    """A z-stack of three smears in two levels, of 0.25 and 0.5 um."""
    pixels = np.stack([smear(seed, (192, 192), 6) for seed in range(3)])
    ngio.create_ome_zarr_from_array(
        tmp_path / "in" / "stack.zarr",
        np.ascontiguousarray(np.moveaxis(pixels, 3, 0)),
        pixelsize=0.25,
        axes_names=list("czyx"),
        levels=2,
        ngff_version="0.5",
        consolidation_mode="auto",
    )
    return tmp_path / "in" / "stack.zarr"


def cells_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "cells.csv", keep_default_na=False)


def test_labels_and_table_go_into_the_image(store: Path, tmp_path: Path, params: ScoreParams) -> None:
    assert score_batch([store], tmp_path / "out", params, ZARR).exit_status == 0
    assert not (tmp_path / "out/ome-zarr").exists()
    cells = cells_of(tmp_path / "out")
    container = ngio.open_ome_zarr_container(store)
    table = container.get_feature_table("all_detect").dataframe
    assert table.index.tolist() == list(range(1, len(cells) + 1))
    for name in ("plane", "label", "p_all", "call"):
        column = {"label": "label_in_plane"}.get(name, name)
        assert table[column].astype(str).tolist() == cells[name].astype(table[column].dtype).astype(str).tolist()
    written = container.get_label("all_detect").get_as_numpy()
    own = [tifffile.imread(tmp_path / f"out/labels/stack_z{z}_labels.tif") for z in range(3)]
    assert ((written > 0) == (np.stack(own) > 0)).all()
    areas = np.bincount(written.ravel())[1:]
    assert areas.tolist() == cells["area_px"].tolist()


def test_it_is_the_same_image_afterwards(store: Path, tmp_path: Path, params: ScoreParams, content: Content) -> None:
    before = content(store)
    score_batch([store], tmp_path / "first", params, ZARR)
    after = content(store)
    assert {name: after[name] for name in before} == before
    score_batch([store], tmp_path / "second", params)
    assert (tmp_path / "first/cells.csv").read_bytes() == (tmp_path / "second/cells.csv").read_bytes()
    # Its labels are no other input, either: a run can be gone on with.
    (tmp_path / "first/units").mkdir()
    score_batch([store], tmp_path / "first", params, OutputParams(formats=ZARR.formats, resume=True))
    assert (tmp_path / "first/cells.csv").read_bytes() == (tmp_path / "second/cells.csv").read_bytes()


def test_labels_of_an_earlier_run_are_not_silently_replaced(
    store: Path, tmp_path: Path, params: ScoreParams, capsys: pytest.CaptureFixture[str]
) -> None:
    score_batch([store], tmp_path / "first", params, ZARR)
    with pytest.raises(OutputError, match=r"stack\.zarr holds labels all_detect of an earlier run already; add --over"):
        score_batch([store], tmp_path / "second", params, ZARR)
    again = ["score", "--from-run", str(tmp_path / "first/run.json"), "--out", str(tmp_path / "third")]
    assert main(again) == 1
    assert "of an earlier run already; add --overwrite to replace them" in capsys.readouterr().err
    assert main([*again, "--overwrite"]) == 0
    formats = OutputParams(formats=ZARR.formats, overwrite=True)
    assert score_batch([store], tmp_path / "second", params, formats).exit_status == 0


def test_an_image_that_cannot_be_written_to_gets_one_beside(
    store: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch, content: Content
) -> None:
    monkeypatch.setattr(containers.os, "access", lambda path, mode: False)
    before = content(store)
    score_batch([store], tmp_path / "out", params, ZARR)
    assert content(store) == before
    names = sorted(path.name for path in (tmp_path / "out/ome-zarr").iterdir())
    assert names == ["stack_z0.zarr", "stack_z1.zarr", "stack_z2.zarr"]
    container = ngio.open_ome_zarr_container(tmp_path / "out/ome-zarr/stack_z1.zarr")
    assert container.get_image().pixel_size.yx == (0.25, 0.25)
    own = tifffile.imread(tmp_path / "out/labels/stack_z1_labels.tif")
    np.testing.assert_array_equal(container.get_label("all_detect").get_as_numpy(), own)


def test_the_level_reaches_the_table_and_the_labels(store: Path, tmp_path: Path, duo_bundle: Path) -> None:
    options = ["--bundle", str(duo_bundle), "--segmentation", "classical", "--level", "1"]
    options += ["--format", "ome-zarr,geojson"]
    assert main(["score", str(store), "--out", str(tmp_path / "out"), *options]) == 0
    images = pd.read_csv(tmp_path / "out/images.csv")
    assert images["pixel_size_um"].tolist() == [0.5] * 3
    label = ngio.open_ome_zarr_container(store).get_label("all_detect")
    assert label.shape == (3, 96, 96)
    assert label.pixel_size.yx == (0.5, 0.5)
    # QuPath counts in pixels of the finest level.
    cells = pd.read_csv(tmp_path / "out/cells.csv").query("plane == 'z2'")
    (path,) = (tmp_path / "out/geojson").glob("*z2.geojson")
    features = json.loads(path.read_text())["features"]
    assert len(features) == len(cells) > 0
    for feature, (_, row) in zip(features, cells.iterrows(), strict=True):
        corners = np.array(feature["geometry"]["coordinates"][0])
        box = [2 * row[f"bbox_{end}"] for end in ("x0", "y0", "x1", "y1")]
        assert [*corners.min(axis=0), *corners.max(axis=0)] == box
        assert feature["geometry"]["plane"] == {"c": -1, "z": 2, "t": 0}


def test_the_bundle_s_pixel_size_chooses_the_level(
    store: Path, tmp_path: Path, params: ScoreParams, make_bundle: Callable[..., Path]
) -> None:
    crop = {"size": 40, "background": "black", "pixel_size_um": 0.5, "cell_diameter_px": 30.0}
    bundle = make_bundle(tmp_path / "bundle", crop=crop)
    params = ScoreParams(bundle=str(bundle), reading=ReadParams(level="auto"), segmentation=params.segmentation)
    score_batch([store], tmp_path / "out", params)
    assert pd.read_csv(tmp_path / "out/images.csv")["pixel_size_um"].tolist() == [0.5] * 3


def test_wells_and_fields_are_columns(tmp_path: Path, params: ScoreParams, smear: Callable[..., Pixels]) -> None:
    wells = [("A", "01", "0"), ("A", "01", "1"), ("C", "12", "0")]
    images = [ngio.ImageInWellPath(row=row, column=column, path=field) for row, column, field in wells]
    plate = ngio.create_empty_plate(tmp_path / "plate.zarr", name="p", images=images)
    for seed, (row, column, field) in enumerate(wells):
        pixels = np.ascontiguousarray(np.moveaxis(smear(seed), 2, 0))
        store = plate.get_image_store(row, column, field)
        ngio.create_ome_zarr_from_array(
            store, pixels, pixelsize=0.25, axes_names=list("cyx"), levels=1, consolidation_mode="auto"
        )
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("image,sample\nplate.zarr/C,patient\nplate.zarr/A/01,control\n")
    output = OutputParams(samples=str(sheet), formats=("csv", "ome-zarr"))
    score_batch([tmp_path / "plate.zarr"], tmp_path / "out", params, output)
    summary = pd.read_csv(tmp_path / "out/images.csv", dtype={"field": str})
    assert summary[["well", "field"]].to_numpy().tolist() == [["A01", "0"], ["A01", "1"], ["C12", "0"]]
    cells = pd.read_csv(tmp_path / "out/cells.csv", dtype={"field": str})
    assert cells.groupby(["image", "well", "field"], sort=False).size().reset_index().drop(
        columns=0
    ).to_numpy().tolist() == [
        ["plate.zarr/A/01/0", "A01", "0"],
        ["plate.zarr/A/01/1", "A01", "1"],
        ["plate.zarr/C/12/0", "C12", "0"],
    ]
    samples = pd.read_csv(tmp_path / "out/samples.csv")
    assert samples[["sample", "images"]].to_numpy().tolist() == [["patient", 1], ["control", 2]]
    assert samples["fraction_all_low"].notna().tolist() == [False, True]
    # ngio finds what was written in each field of the plate.
    for row, column, field in wells:
        container = ngio.open_ome_zarr_plate(tmp_path / "plate.zarr").get_image(row, column, field)
        own = cells[(cells["well"] == row + column) & (cells["field"] == field)]
        assert container.get_feature_table("all_detect").dataframe["call"].tolist() == own["call"].tolist()


def test_a_sheet_alone_says_what_is_scored(tmp_path: Path, params: ScoreParams, smear: Callable[..., Pixels]) -> None:
    for seed, name in enumerate(("a.png", "day1/a.png", "day1/b.png", "unlisted.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(smear(seed)).save(tmp_path / name)
    (tmp_path / "sheet.csv").write_text("image,sample\nday1,S1\na.png,S2\nmissing.png,S3\n")
    summary = score_batch([], tmp_path / "out", params, OutputParams(samples=str(tmp_path / "sheet.csv")))
    images = pd.read_csv(tmp_path / "out/images.csv")
    assert images["image"].tolist() == ["day1/a.png", "day1/b.png", "a.png"]
    assert [failure.input for failure in summary.failures] == ["missing.png"]
    samples = pd.read_csv(tmp_path / "out/samples.csv")
    assert samples[["sample", "images"]].to_numpy().tolist() == [["S1", 2], ["S2", 1]]


class Moody(SimpleHTTPRequestHandler):
    """Serves a folder; one answer of five to a GET is that it is too busy, if told so."""

    moody = False
    refused = 0
    random = Random(1)

    def do_GET(self) -> None:
        if self.moody and self.random.random() < 0.2:
            Moody.refused += 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def remote(store: Path, smear: Callable[..., Pixels], serve: Callable[[Any], str]) -> str:
    """Serve the stack and a picture of each other format over HTTP; return the URL of their folder."""
    Image.fromarray(smear(7)).save(store.parent / "a.png")
    tifffile.imwrite(store.parent / "b.tif", np.stack([smear(8), smear(9)]), photometric="rgb")
    return serve(partial(Moody, directory=str(store.parent)))


def test_over_http_it_is_the_same(
    remote: str, store: Path, tmp_path: Path, params: ScoreParams, content: Content
) -> None:
    names = ["a.png", "b.tif", "stack.zarr"]
    summary = score_batch([f"{remote}/{name}" for name in names], tmp_path / "far", params)
    assert summary.failures == ()
    score_batch([store.parent / name for name in names], tmp_path / "near", params)
    assert content(tmp_path / "far") == content(tmp_path / "near")
    record = json.loads((tmp_path / "far/run.json").read_text())
    assert record["inputs"] == [f"{remote}/{name}" for name in names]
    assert set(record["images"][2]["pixels_sha256"]) == {"z0", "z1", "z2"}


def test_chunks_that_are_missing_are_noted(
    remote: str, store: Path, tmp_path: Path, params: ScoreParams, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near, far and in tiles alike; the server is asked for nothing more, and another level does not count."""
    asked: list[str] = []
    monkeypatch.setattr(Moody, "log_request", lambda handler, *_: asked.append(handler.path))
    for lost in ("0/c/1/0/0/0", "1/c/0/0/0/0"):
        (store / lost).unlink()
    assert score_batch([f"{remote}/stack.zarr"], tmp_path / "far", params).exit_status == 0
    assert asked.count("/stack.zarr/0/c/1/0/0/0") == 3  # by each plane once
    score_batch([store], tmp_path / "near", params)
    assert content(tmp_path / "far") == content(tmp_path / "near")
    score_batch([store], tmp_path / "tiled", replace(params, reading=ReadParams(tile_size_px=256)))
    assert (tmp_path / "tiled/images.csv").read_bytes() == (tmp_path / "near/images.csv").read_bytes()
    images = pd.read_csv(tmp_path / "near/images.csv", keep_default_na=False)
    assert images["notes"].tolist() == ["1 of 2 chunks missing in the store: black there"] * 3


def test_a_folder_that_a_server_lists(remote: str, store: Path) -> None:
    far, near = ([file.image for file in find_images([place])] for place in (remote, store.parent))
    assert far == near == ["a.png", "b.tif", "stack.zarr"]


def test_a_server_that_fails_now_and_then(
    remote: str, store: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch, content: Content
) -> None:
    monkeypatch.setattr(retrying, "DELAYS_S", (0.0,) * 30)
    monkeypatch.setattr(Moody, "moody", True)
    inputs = [f"{remote}/{name}" for name in ("a.png", "b.tif", "stack.zarr")]
    summary = score_batch(inputs, tmp_path / "far", params)
    assert summary.failures == ()
    assert Moody.refused > 5
    monkeypatch.setattr(Moody, "moody", False)
    score_batch(inputs, tmp_path / "calm", params)
    assert content(tmp_path / "far") == content(tmp_path / "calm")


def test_what_is_not_on_the_server(
    remote: str, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "DELAYS_S", (0.0,))
    inputs = [f"{remote}/none.png", f"{remote}/none.zarr", "http://127.0.0.1:9/none.png"]
    summary = score_batch([*inputs, f"{remote}/a.png"], tmp_path / "out", params)
    assert summary.planes == 1
    assert [failure.stage for failure in summary.failures] == ["open"] * 3
    assert all("no such file" in failure.reason for failure in summary.failures[:2])
    assert "the disk or server failed" in summary.failures[2].reason


def test_a_url_without_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, params: ScoreParams) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'napari-all-detect\[remote\]'"):
        score_batch(["http://127.0.0.1:9/a.png"], tmp_path / "out", params)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A local S3 server with a bucket; s3fs finds it by the environment."""
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("smears")
    yield "s3://smears"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_over_s3_it_is_the_same(
    bucket: str, store: Path, tmp_path: Path, params: ScoreParams, smear: Callable[..., Pixels], content: Content
) -> None:
    import s3fs

    Image.fromarray(smear(7)).save(store.parent / "a.png")
    s3fs.S3FileSystem().put(str(store.parent), "smears/day", recursive=True)
    assert [file.image for file in find_images([f"{bucket}/day"])] == ["a.png", "stack.zarr"]
    assert [file.image for file in find_images([f"{bucket}/*/*.png"])] == ["a.png"]
    summary = score_batch([f"{bucket}/day/a.png", f"{bucket}/day/stack.zarr"], tmp_path / "far", params)
    assert summary.failures == ()
    score_batch([store.parent / "a.png", store], tmp_path / "near", params)
    assert content(tmp_path / "far") == content(tmp_path / "near")
