import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect import engines
from napari_all_detect.batch import (
    BatchProgress,
    BatchSummary,
    Failure,
    cutting,
    overlapping,
    running,
    score_batch,
    scoring,
    segment_batch,
)
from napari_all_detect.bundle import load_segmenter
from napari_all_detect.cli import main
from napari_all_detect.engines import open_mapper
from napari_all_detect.errors import BundleError, InputError, MissingDependencyError, OutputError, ParameterError
from napari_all_detect.export.csv import csv_text
from napari_all_detect.params import FORMATS, ClusterParams, OutputParams, ScoreParams, SegmentationParams
from napari_all_detect.pipeline import score_image
from napari_all_detect.segmentation import methods, segment_cells

pytestmark = pytest.mark.usefixtures("reuse_engines")

Pixels = NDArray[np.uint8]
PLANES = [("a.png", "0"), ("b.jpg", "0"), ("stack.tif", "p0"), ("stack.tif", "p1"), ("store.zarr", "0")]


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory, smear: Callable[..., Pixels]) -> Path:
    """A folder with five planes in four formats, and files that are no images."""
    folder = tmp_path_factory.mktemp("good")
    Image.fromarray(smear(1)).save(folder / "a.png")
    Image.fromarray(smear(2)).save(folder / "b.jpg", quality=95)
    tifffile.imwrite(folder / "stack.tif", np.stack([smear(3), smear(4)]), photometric="rgb")
    zarr.create_array(folder / "store.zarr", data=smear(5))
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="session")
def pixels(good: Path, smear: Callable[..., Pixels]) -> dict[tuple[str, str], Pixels]:
    jpeg = np.asarray(Image.open(good / "b.jpg"))
    return dict(zip(PLANES, [smear(1), jpeg, smear(3), smear(4), smear(5)], strict=True))


@pytest.fixture
def bad(tmp_path: Path, smear: Callable[..., Pixels]) -> Path:
    """A folder with one image that can be scored among five files that can't."""
    folder = tmp_path / "bad"
    folder.mkdir()
    Image.fromarray(smear(1)).save(folder / "fine.png")
    (folder / "text.png").write_text("I am no picture")
    (folder / "cut.png").write_bytes((folder / "fine.png").read_bytes()[:8000])
    (folder / "empty.png").touch()
    tifffile.imwrite(
        folder / "two.tif", np.zeros((20, 30, 2), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    return folder


@pytest.fixture
def params(duo_bundle: Path) -> ScoreParams:
    return ScoreParams(bundle=str(duo_bundle))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def table(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, keep_default_na=False)


def run_record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return record


def rows_of(folder: Path, image: str, plane: str = "0") -> str:
    """Return a plane's lines of `cells.csv`, as they are."""
    lines = (folder / "cells.csv").read_bytes().decode("utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith(f"{image},{plane},"))


def test_a_folder_of_all_formats(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    out = tmp_path / "new" / "out"
    summary = score_batch([good], out, params)
    cells, images = table(out / "cells.csv"), table(out / "images.csv")
    assert list(zip(images["image"], images["plane"], strict=True)) == PLANES
    assert list(dict.fromkeys(zip(cells["image"], cells["plane"], strict=True))) == PLANES
    assert summary == BatchSummary(
        out,
        planes=5,
        cells=len(cells),
        called_all=int((cells["call"] == "ALL").sum()),
        called_hem=int((cells["call"] == "Hem").sum()),
        uncertain=0,
        out_of_domain=0,
        failures=(),
    )
    assert summary.exit_status == 0
    assert min(summary.called_all, summary.called_hem) > 0
    assert (out / "failures.csv").read_text() == "input,stage,reason\n"
    assert sorted(content(out)) == [
        "cells.csv",
        "failures.csv",
        "images.csv",
        "labels/a_labels.tif",
        "labels/b_labels.tif",
        "labels/stack_p0_labels.tif",
        "labels/stack_p1_labels.tif",
        "labels/store_labels.tif",
        "report.html",
        "run.json",
    ]


def test_images_csv_sums_up_cells_csv(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    score_batch([good], tmp_path / "out", params)
    cells, images = table(tmp_path / "out/cells.csv"), table(tmp_path / "out/images.csv")
    for row in images.itertuples():
        own = cells[(cells["image"] == row.image) & (cells["plane"] == row.plane)]
        n_all = (own["call"] == "ALL").sum()
        assert (row.cells, row.all, row.hem, row.uncertain) == (len(own), n_all, len(own) - n_all, 0)
        assert row.fraction_all == pytest.approx(n_all / len(own), rel=1e-6)
        assert row.mean_p_all == pytest.approx(own["p_all"].mean(), rel=1e-6)
        assert row.median_diameter_px == pytest.approx(own["diameter_px"].median(), rel=1e-6)
        assert (row.rescale, row.notes) == (1.0, "")


def test_label_images_hold_the_cells_of_the_table(
    good: Path, tmp_path: Path, params: ScoreParams, pixels: dict[tuple[str, str], Pixels]
) -> None:
    score_batch([good], tmp_path / "out", params)
    cells = table(tmp_path / "out/cells.csv")
    names = ["a", "b", "stack_p0", "stack_p1", "store"]
    for (image, plane), name in zip(PLANES, names, strict=True):
        labels = tifffile.imread(tmp_path / f"out/labels/{name}_labels.tif")
        assert labels.dtype == np.uint16
        np.testing.assert_array_equal(labels, segment_cells(pixels[image, plane]))
        own = cells[(cells["image"] == image) & (cells["plane"] == plane)]
        assert own["label"].tolist() == list(range(1, labels.max() + 1))
        assert own["area_px"].tolist() == np.bincount(labels.ravel())[1:].tolist()


@pytest.mark.parametrize(("threads", "waiting", "processes"), [(1, 0, 0), (2, 8, 0), (1, 2, 1)])
def test_the_same_bytes_by_every_way_in(
    good: Path,
    tmp_path: Path,
    params: ScoreParams,
    pixels: dict[tuple[str, str], Pixels],
    threads: int,
    waiting: int,
    processes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cutting, "THREADS", threads)
    monkeypatch.setattr(overlapping, "WAITING", waiting)
    score_batch([good], tmp_path / "out", params, cluster=ClusterParams(segmentation_processes=processes))
    assert main(["score", str(good), "--out", str(tmp_path / "cli"), "--bundle", params.bundle]) == 0
    whole = (tmp_path / "out/cells.csv").read_bytes()
    assert (tmp_path / "cli/cells.csv").read_bytes() == whole
    header = whole.decode("utf-8").splitlines(keepends=True)[0]
    expected = header
    for image, plane in PLANES:
        own = score_image(pixels[image, plane], bundle=params.bundle).table.assign(image=image, plane=plane)
        assert csv_text(own) == header + rows_of(tmp_path / "out", image, plane)
        assert len(own) > 0
        expected += csv_text(own, header=False)
    assert whole.decode("utf-8") == expected


def test_the_same_bytes_alone_and_among_others_and_twice(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    for name, inputs in {"all": [good], "again": [good], "one": [good / "b.jpg"], "two": [good / "stack.tif"]}.items():
        score_batch(inputs, tmp_path / name, params)
    all_files, again = content(tmp_path / "all"), content(tmp_path / "again")
    timed = {"run.json", "report.html"}
    assert {name: all_files[name] for name in all_files.keys() - timed} == {
        name: again[name] for name in again.keys() - timed
    }
    assert rows_of(tmp_path / "one", "b.jpg") == rows_of(tmp_path / "all", "b.jpg") != ""
    for plane in ("p0", "p1"):
        assert rows_of(tmp_path / "two", "stack.tif", plane) == rows_of(tmp_path / "all", "stack.tif", plane) != ""


def test_new_networks_give_the_same_bytes(
    good: Path, tmp_path: Path, params: ScoreParams, engines: dict[Any, Any]
) -> None:
    score_batch([good / "a.png"], tmp_path / "first", params)
    engines.clear()
    score_batch([good / "a.png"], tmp_path / "second", params)
    assert rows_of(tmp_path / "first", "a.png") == rows_of(tmp_path / "second", "a.png") != ""


def test_bad_files_spoil_no_other(bad: Path, good: Path, tmp_path: Path, params: ScoreParams) -> None:
    summary = score_batch([bad, tmp_path / "not there.png"], tmp_path / "out", params)
    assert summary.exit_status == 3
    failures = table(tmp_path / "out/failures.csv")
    stages = dict(zip(failures["input"], failures["stage"], strict=True))
    assert stages.pop("two.tif") in ("open", "read")
    assert stages == {"text.png": "open", "empty.png": "open", "not there.png": "open", "cut.png": "read"}
    reasons = dict(zip(failures["input"], failures["reason"], strict=True))
    assert "not an image" in reasons["text.png"]
    assert "empty" in reasons["empty.png"]
    assert "no such file" in reasons["not there.png"]
    assert "can't be read" in reasons["cut.png"]
    assert "channels" in reasons["two.tif"]
    assert not any("\n" in reason for reason in reasons.values())
    assert {(f.input, f.stage, f.reason) for f in summary.failures} == set(failures.itertuples(index=False, name=None))
    score_batch([good / "a.png"], tmp_path / "alone", params)
    alone = rows_of(tmp_path / "alone", "a.png")
    assert rows_of(tmp_path / "out", "fine.png") == alone.replace("a.png", "fine.png") != ""
    assert table(tmp_path / "out/images.csv")["image"].tolist() == ["fine.png"]
    assert [p.name for p in (tmp_path / "out/labels").iterdir()] == ["fine_labels.tif"]


def test_nothing_that_can_be_scored(bad: Path, tmp_path: Path, params: ScoreParams) -> None:
    summary = score_batch([bad / "text.png", bad / "cut.png"], tmp_path / "out", params)
    assert (summary.exit_status, summary.planes, summary.cells) == (1, 0, 0)
    assert len(table(tmp_path / "out/failures.csv")) == 2
    assert len(table(tmp_path / "out/cells.csv")) == 0
    assert run_record(tmp_path / "out")["status"] == "complete"


def test_one_path_is_a_list_of_one_and_none_is_refused(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    assert score_batch(good / "a.png", tmp_path / "one", params).planes == 1
    assert segment_batch(str(good / "a.png"), tmp_path / "labels", params.segmentation).planes == 1
    refused: list[tuple[Any, str]] = [
        ([], "there are no inputs"),
        ("", "an input is empty"),
        (["a.png", ""], "an input is empty"),
        (b"a.png", "an input is b'a.png'; expected a path"),
        (["a.png", None], "an input is None; expected a path"),
        (None, "an input is None; expected a path"),
    ]
    for inputs, words in refused:
        with pytest.raises(ParameterError, match=words):
            score_batch(inputs, tmp_path / "none", params)
        with pytest.raises(ParameterError, match=words):
            segment_batch(inputs, tmp_path / "none", params.segmentation)
    assert not (tmp_path / "none").exists()


def test_an_empty_name_of_a_folder_is_refused(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for work in (score_batch, segment_batch):
        with pytest.raises(ParameterError, match=r"out is empty; expected a folder, such as \. for the one"):
            work(good, "")
    assert not list(tmp_path.iterdir())


def test_an_image_without_cells_is_done(tmp_path: Path, params: ScoreParams) -> None:
    Image.fromarray(np.full((60, 60, 3), 235, np.uint8)).save(tmp_path / "blank.png")
    summary = score_batch([tmp_path / "blank.png"], tmp_path / "out", params)
    assert (summary.exit_status, summary.planes, summary.cells) == (0, 1, 0)
    assert len((tmp_path / "out/cells.csv").read_text().splitlines()) == 1
    row = (tmp_path / "out/images.csv").read_text().splitlines()[1]
    assert row.startswith("blank.png,0,0,0,0,0,0,,,,,1.0,")


def test_the_record_of_the_run(
    good: Path, tmp_path: Path, duo_bundle: Path, pixels: dict[tuple[str, str], Pixels]
) -> None:
    params = ScoreParams(bundle=str(duo_bundle), weighting="f1", threshold=0.6, batch_size=8)
    score_batch([good], tmp_path / "out", params, OutputParams(overwrite=True))
    record = run_record(tmp_path / "out")
    assert record["status"] == "complete"
    assert record["inputs"] == [str(good)]
    facts = (duo_bundle / "bundle.json").read_bytes()
    members = json.loads(facts)["members"]
    assert record["bundle"] == {
        "name": "duo",
        "version": "0.1",
        "digest": hashlib.sha256(facts).hexdigest(),
        "weights": {
            m["name"]: hashlib.sha256((duo_bundle / m["weights_file"]).read_bytes()).hexdigest() for m in members
        },
        "weighting": "f1",
        "member_weights": {"vgg16": pytest.approx(0.95), "mobilenet": pytest.approx(0.65)},
        "temperature": 1.0,
        "threshold": 0.6,
        "bounds": None,
        "research_use_only": True,
    }
    identities = {image["image"]: image for image in record["images"]}
    assert list(identities) == ["a.png", "b.jpg", "stack.tif", "store.zarr"]
    for name in ("a.png", "b.jpg", "stack.tif"):
        data = (good / name).read_bytes()
        assert identities[name] == {
            "image": name,
            "path": str(good / name),
            "planes": 2 if name == "stack.tif" else 1,
            "bytes": len(data),
            "modified_ns": (good / name).stat().st_mtime_ns,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    store = identities["store.zarr"]
    assert set(store) == {"image", "path", "planes", "listing", "pixels_sha256"}
    assert store["pixels_sha256"] == {"0": hashlib.sha256(pixels["store.zarr", "0"].tobytes()).hexdigest()}
    parameters = record["parameters"]
    assert (parameters["weighting"], parameters["batch_size"], parameters["overwrite"]) == ("f1", 8, True)
    assert parameters["segmentation"] == {"method": "learned", "cell_diameter_px": None}
    shipped = load_segmenter("cells")
    assert record["segmentation"] == {"method": "learned", "bundle": shipped.label, "digest": shipped.digest}
    assert set(record["versions"]) == {"python", "napari-all-detect", "keras", "numpy", "scikit-image", "pandas"}
    assert record["engine"].startswith("openvino ")
    assert set(record["precision"]["members"].values()) == {"fp32"}
    assert "bundles tune" in record["precision"]["why"]
    assert record["device"] in ("cpu", "gpu")
    assert set(record["seconds"]) == {"load", "score"}
    assert record["created"].endswith("+00:00")


def test_results_are_refused_and_stay_as_they_are(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    score_batch([good / "a.png"], tmp_path / "out", params)
    before = content(tmp_path / "out")
    with pytest.raises(OutputError, match=r"holds results already \(cells.csv, .*--overwrite"):
        score_batch([good / "b.jpg"], tmp_path / "out", params)
    assert content(tmp_path / "out") == before


def test_results_are_refused_before_anything_is_loaded(
    good: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.json").touch()
    monkeypatch.setattr(scoring, "open_scorer", lambda _: pytest.fail("the bundle was loaded"))
    with pytest.raises(OutputError, match=r"\(run.json\)"):
        score_batch([good], tmp_path, params)


def test_overwriting_replaces_results_and_nothing_else(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    out = tmp_path / "out"
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("image,sample\na.png,one\n")
    score_batch([good / "a.png"], out, params, OutputParams(samples=str(sheet), formats=("csv", "parquet")))
    (out / "mine.txt").write_text("keep")
    (out / "labels/mine.tif").write_text("keep")
    assert {"samples.csv", "cells.parquet", "labels/a_labels.tif"} < set(content(out))
    score_batch([good / "b.jpg"], out, params, OutputParams(overwrite=True))
    assert set(content(out)) == {
        *("cells.csv", "images.csv", "failures.csv", "run.json", "report.html", "labels/b_labels.tif"),
        *("mine.txt", "labels/mine.tif"),
    }
    assert set(table(out / "cells.csv")["image"]) == {"b.jpg"}
    assert (out / "labels/mine.tif").read_text() == "keep"


def test_overwriting_with_a_bundle_that_fails_loses_nothing(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    score_batch([good / "a.png"], tmp_path, params)
    before = content(tmp_path)
    with pytest.raises(BundleError):
        score_batch([good / "a.png"], tmp_path, ScoreParams(bundle="nowhere"), OutputParams(overwrite=True))
    assert content(tmp_path) == before


@pytest.mark.parametrize("option", ["labels", "samples"])
def test_what_the_run_reads_is_not_overwritten(good: Path, tmp_path: Path, params: ScoreParams, option: str) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("image,sample\na.png,one\n")
    score_batch([good / "a.png"], tmp_path / "out", params, OutputParams(samples=str(sheet)))
    before = content(tmp_path)
    needed = {"labels": tmp_path / "out/labels", "samples": tmp_path / "out/samples.csv"}[option]
    if option == "samples":
        needed.write_text("image,sample\na.png,one\n")
        before = content(tmp_path)
    with pytest.raises(OutputError, match="is among the results that would be replaced"):
        score_batch([good / "a.png"], tmp_path / "out", params, OutputParams(overwrite=True, **{option: str(needed)}))
    assert content(tmp_path) == before


def test_an_output_folder_that_is_a_file(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="can't be written to"):
        score_batch([good / "a.png"], tmp_path / "out", params)
    assert (tmp_path / "out").read_text() == "mine"


def test_parquet_holds_the_same_cells(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    score_batch([good], tmp_path, params, OutputParams(formats=("parquet",)))
    cells = pd.read_parquet(tmp_path / "cells.parquet")
    assert csv_text(cells) == (tmp_path / "cells.csv").read_text()
    assert cells["p_all"].dtype == np.float32


def test_every_format_holds_the_same_cells(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    anndata, ngio = pytest.importorskip("anndata"), pytest.importorskip("ngio")
    score_batch([good], tmp_path, params, OutputParams(formats=FORMATS))
    cells = table(tmp_path / "cells.csv")
    adata = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert adata.obs["p_all"].tolist() == cells["p_all"].astype(np.float32).tolist()
    for (image, plane), name in zip(PLANES, ["a", "b", "stack_p0", "stack_p1", "store"], strict=True):
        own = cells[(cells["image"] == image) & (cells["plane"] == plane)]
        features = json.loads((tmp_path / f"geojson/{name}.geojson").read_text())["features"]
        assert [feature["name"] for feature in map(itemgetter("properties"), features)] == own["label"].astype(
            str
        ).tolist()
        assert all("nucleusGeometry" in feature for feature in features)
        container = ngio.open_ome_zarr_container(tmp_path / f"ome-zarr/{name}.zarr")
        labels = tifffile.imread(tmp_path / f"labels/{name}_labels.tif")
        np.testing.assert_array_equal(container.get_label("all_detect").get_as_numpy(), labels)
        assert container.get_feature_table("all_detect").dataframe["call"].tolist() == own["call"].tolist()


def test_parquet_without_pyarrow_is_refused_before_anything_is_deleted(
    good: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cells.csv").write_text("old")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'napari-all-detect\[parquet\]'"):
        score_batch([good], tmp_path, params, OutputParams(formats=("parquet",), overwrite=True))
    assert content(tmp_path) == {"cells.csv": b"old"}


def test_labels_from_segment_give_the_same_rows(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    summary = segment_batch([good], tmp_path / "segmented")
    assert sorted(content(tmp_path / "segmented")) == [
        *("a_labels.tif", "b_labels.tif", "stack_p0_labels.tif", "stack_p1_labels.tif", "store_labels.tif")
    ]
    score_batch([good], tmp_path / "found", params)
    score_batch([good], tmp_path / "given", params, OutputParams(labels=str(tmp_path / "segmented")))
    found, given = content(tmp_path / "found"), content(tmp_path / "given")
    assert found.keys() == given.keys()
    assert {name for name in found if found[name] != given[name]} == {"run.json", "report.html", "cells.csv"}
    of_nuclei = ["nc_ratio", "nucleus_area_px", "nucleus_lobes"]
    found_rows, given_rows = (table(tmp_path / name / "cells.csv") for name in ("found", "given"))
    pd.testing.assert_frame_equal(found_rows.drop(columns=of_nuclei), given_rows.drop(columns=of_nuclei))
    assert (given_rows[of_nuclei] == "").all(axis=None)
    assert (found_rows["nucleus_lobes"] != "").all()
    assert summary.cells == len(found_rows)


def test_labels_that_do_not_fit_fail_for_their_image_only(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    given = tmp_path / "given"
    given.mkdir()
    labels = np.zeros((144, 176), np.uint16)
    labels[20:50, 30:60] = 300
    tifffile.imwrite(given / "a_labels.tif", labels)
    tifffile.imwrite(given / "b_labels.tif", labels[:50])
    tifffile.imwrite(given / "stack_p0_labels.tif", labels.astype(np.float32))
    (given / "stack_p1_labels.tif").write_text("no image")
    summary = score_batch([good], tmp_path / "out", params, OutputParams(labels=str(given)))
    assert summary.exit_status == 3
    cells, failures = table(tmp_path / "out/cells.csv"), table(tmp_path / "out/failures.csv")
    assert cells[["image", "label", "area_px"]].to_numpy().tolist() == [["a.png", 300, 900]]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/labels/a_labels.tif"), labels)
    assert failures["input"].tolist() == ["b.jpg", "stack.tif [p0]", "stack.tif [p1]", "store.zarr"]
    reasons = failures["reason"].tolist()
    assert "(50, 176), the image's (144, 176)" in reasons[0]
    assert "float32" in reasons[1]
    assert "can't be read as label image" in reasons[2]
    assert "no label image for store.zarr; expected for instance store_labels.tif" in reasons[3]
    assert failures["stage"].tolist()[1:] == ["labels"] * 3


def test_one_label_image_is_for_one_image(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    out, labels = tmp_path / "out", tmp_path / "labels.tif"
    tifffile.imwrite(labels, np.zeros((144, 176), np.uint16))
    score_batch([good / "a.png"], out, params)
    before = content(out)
    output = OutputParams(labels=str(labels), overwrite=True)
    with pytest.raises(InputError, match=r"labels.tif is one label image, the inputs are 2 images; expected a label"):
        score_batch([good / "stack.tif", tmp_path / "not_there_yet.png"], out, params, output)
    assert content(out) == before
    assert score_batch([good / "stack.tif"], out, params, output).planes == 2


def test_samples_sum_up_their_images(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("image,sample,subject\nstack.tif,S1,P1\nb.jpg,S2,P1\na.png,S1,P1\nother.png,S3,P2\n")
    score_batch([good], tmp_path / "out", params, OutputParams(samples=str(sheet)))
    cells, samples = table(tmp_path / "out/cells.csv"), table(tmp_path / "out/samples.csv")
    assert samples[["sample", "subject", "images"]].to_numpy().tolist() == [["S1", "P1", 3], ["S2", "P1", 1]]
    subjects = table(tmp_path / "out/subjects.csv")
    assert subjects[["subject", "samples", "images"]].to_numpy().tolist() == [["P1", 2, 4]]
    assert subjects["cells"][0] == samples["cells"].sum()
    for row, images in zip(samples.itertuples(), [{"stack.tif", "a.png"}, {"b.jpg"}], strict=True):
        own = cells[cells["image"].isin(images)]
        n_all = (own["call"] == "ALL").sum()
        assert (row.cells, row.all, row.hem) == (len(own), n_all, len(own) - n_all)
        assert row.mean_p_all == pytest.approx(own["p_all"].mean(), rel=1e-6)
        assert row.fraction_all == pytest.approx(n_all / len(own), rel=1e-6)


def test_a_sheet_that_cannot_be_used_is_refused_first(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    (tmp_path / "sheet.csv").write_text("picture,sample\na.png,one\n")
    with pytest.raises(InputError, match="no column image"):
        score_batch([good], tmp_path / "out", params, OutputParams(samples=str(tmp_path / "sheet.csv")))
    assert not (tmp_path / "out").exists()


class Recorder(BatchProgress):
    def __init__(self) -> None:
        self.planned, self.n_cells, self.planes = -1, 0, 0
        self.failures: list[Failure] = []

    def start(self, planes: int) -> None:
        self.planned = planes

    def cells(self, n: int) -> None:
        self.n_cells += n

    def plane(self) -> None:
        self.planes += 1

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure)


def test_progress_is_told(bad: Path, good: Path, tmp_path: Path, params: ScoreParams) -> None:
    progress = Recorder()
    summary = score_batch([good, bad], tmp_path / "out", params, progress=progress)
    opened = 6 + ("read" in [f.stage for f in summary.failures if f.input == "two.tif"])
    assert progress.planned == progress.planes == opened + 1  # and cut.png
    assert progress.n_cells == summary.cells
    assert tuple(progress.failures) == summary.failures
    assert len(progress.failures) == 4


class Stopping(BatchProgress):
    """Stops the run when the second plane is done."""

    def __init__(self, error: type[BaseException]) -> None:
        self.done, self.error = 0, error

    def plane(self) -> None:
        self.done += 1
        if self.done == 2:
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_keeps_what_is_done(
    good: Path, tmp_path: Path, params: ScoreParams, error: type[BaseException]
) -> None:
    score_batch([good], tmp_path / "whole", params)
    with pytest.raises(error):
        score_batch([good], tmp_path / "out", params, OutputParams(formats=("parquet",)), Stopping(error))
    assert run_record(tmp_path / "out")["status"] == "interrupted"
    assert table(tmp_path / "out/images.csv")["image"].tolist() == ["a.png", "b.jpg"]
    whole = (tmp_path / "whole/cells.csv").read_bytes()
    part = (tmp_path / "out/cells.csv").read_bytes()
    assert whole.startswith(part)
    assert set(table(tmp_path / "out/cells.csv")["image"]) == {"a.png", "b.jpg"}
    assert sorted(p.name for p in (tmp_path / "out/labels").iterdir()) == ["a_labels.tif", "b_labels.tif"]


def test_a_run_is_interrupted_while_it_reports_bad_files(bad: Path, tmp_path: Path, params: ScoreParams) -> None:
    class StopAtFailure(BatchProgress):
        def failed(self, failure: Failure) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_batch([bad], tmp_path / "out", params, progress=StopAtFailure())
    assert run_record(tmp_path / "out")["status"] == "interrupted"


def test_the_record_says_running_meanwhile(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    seen = []

    class Looking(BatchProgress):
        def plane(self) -> None:
            seen.append((run_record(tmp_path / "out")["status"], len(table(tmp_path / "out/images.csv"))))

    score_batch([good], tmp_path / "out", params, progress=Looking())
    assert seen == [("running", n) for n in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize("threads", [1, 3])
def test_work_is_begun_only_a_few_planes_ahead(threads: int) -> None:
    begun: list[int] = []
    results = running.in_order(lambda n: begun.append(n) or n * n, range(50), Event(), threads)
    for i, (item, result) in enumerate(results):
        assert (item, result) == (i, i * i)
        assert len(begun) <= i + threads
    assert sorted(begun) == list(range(50))


def test_names_that_would_run_as_formulas_are_quoted(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    (tmp_path / "=1+1,x.png").write_bytes((good / "a.png").read_bytes())
    (tmp_path / "@bad.png").touch()
    score_batch([tmp_path / "=1+1,x.png", tmp_path / "@bad.png"], tmp_path / "out", params)
    rows = list(csv.reader(io.StringIO((tmp_path / "out/cells.csv").read_text())))
    assert {row[0] for row in rows[1:]} == {"'=1+1,x.png"}
    assert (tmp_path / "out/failures.csv").read_text().splitlines()[1].startswith("'@bad.png,open,")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name")
def test_a_name_that_is_no_text_is_written_escaped(good: Path, tmp_path: Path, params: ScoreParams) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in (b"caf\xe9.png", b"none\xe9.png"):
        Path(os.fsdecode(os.fsencode(images) + b"/" + name)).touch()
    Path(os.fsdecode(os.fsencode(images) + b"/caf\xe9.png")).write_bytes((good / "a.png").read_bytes())
    assert score_batch([images], tmp_path / "out", params).exit_status == 3
    assert set(table(tmp_path / "out/cells.csv")["image"]) == {"caf\\udce9.png"}
    assert table(tmp_path / "out/failures.csv")["input"].tolist() == ["none\\udce9.png"]


def test_segmenting(good: Path, bad: Path, tmp_path: Path, pixels: dict[tuple[str, str], Pixels]) -> None:
    progress = Recorder()
    summary = segment_batch([good / "a.png", good / "stack.tif", bad], tmp_path / "out", progress=progress)
    assert summary.exit_status == 3
    assert (summary.planes, len(summary.failures)) == (4, 4)
    expected = segment_cells(pixels["stack.tif", "p1"])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/stack_p1_labels.tif"), expected)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("a_labels.tif", "stack_p0_labels.tif", "stack_p1_labels.tif", "fine_labels.tif")
    }
    assert progress.n_cells == summary.cells > 12
    assert sorted(f.input for f in progress.failures) == ["cut.png", "empty.png", "text.png", "two.tif"]


def test_segmenting_takes_the_diameter(good: Path, tmp_path: Path, pixels: dict[tuple[str, str], Pixels]) -> None:
    params = SegmentationParams(cell_diameter_px=60.0)
    segment_batch([good / "a.png"], tmp_path, params)
    labels = tifffile.imread(tmp_path / "a_labels.tif")
    np.testing.assert_array_equal(labels, segment_cells(pixels["a.png", "0"], params))


def test_segmenting_takes_the_pixel_size_of_the_file(tmp_path: Path, smear: Callable[..., Pixels]) -> None:
    """At half a micrometre white cells are 24 px wide."""
    for name, um in (("plain", None), ("sized", 0.5)):
        resolution = {} if um is None else {"resolution": (1e4 / um, 1e4 / um), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(tmp_path / f"{name}.tif", smear(3), photometric="rgb", **resolution)
    params = SegmentationParams(method="classical")
    segment_batch([tmp_path / "plain.tif", tmp_path / "sized.tif"], tmp_path / "out", params)
    for name, pixel_size_um in (("plain", None), ("sized", 0.5)):
        expected = segment_cells(smear(3), params, pixel_size_um=pixel_size_um)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"out/{name}_labels.tif"), expected)
    assert (segment_cells(smear(3), params) != segment_cells(smear(3), params, pixel_size_um=0.5)).any()


@pytest.mark.parametrize("scoring", [False, True], ids=["segment", "score"])
def test_the_network_that_finds_cells_is_built_once(
    good: Path, tmp_path: Path, params: ScoreParams, scoring: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def counted(bundle: Any, *where: str) -> Any:
        built.append(bundle.label)
        return open_mapper(bundle, *where)

    monkeypatch.setattr(engines, "open_mapper", counted)
    methods._mapper.cache_clear()
    if scoring:
        score_batch([good], tmp_path / "out", params)
    else:
        segment_batch([good], tmp_path / "out")
    methods._mapper.cache_clear()
    assert len(built) == 1


@pytest.mark.parametrize("scoring", [False, True], ids=["segment", "score"])
def test_a_method_of_another_package_that_fails_spoils_no_other_plane(
    good: Path, tmp_path: Path, params: ScoreParams, scoring: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(rgb: Pixels, diameter: float | None) -> Pixels:
        if (rgb == tifffile.imread(good / "stack.tif")[0]).all():
            raise RuntimeError("too\ncrowded")
        return np.ones(rgb.shape[:2], np.uint8)

    class Entry:
        name, value, dist = "odd", "package:find", None

        def load(self) -> Any:
            return find

    monkeypatch.setattr(methods, "entry_points", lambda group: [Entry()])
    segmentation = SegmentationParams(method="odd")
    if scoring:
        summary = score_batch([good], tmp_path / "out", replace(params, segmentation=segmentation))
        assert run_record(tmp_path / "out")["segmentation"] == {"method": "odd"}
    else:
        summary = segment_batch([good], tmp_path / "out", segmentation, nuclei=True)
        assert not list((tmp_path / "out").glob("*_nuclei.tif"))
    assert (summary.planes, summary.cells, summary.exit_status) == (4, 4, 3)
    (failure,) = summary.failures
    assert (failure.input, failure.stage) == ("stack.tif [p0]", "score" if scoring else "segment")
    assert failure.reason == "segmentation 'odd' failed: RuntimeError: too\ncrowded"


def test_segmenting_overwrites_only_when_told(good: Path, tmp_path: Path) -> None:
    (tmp_path / "b_labels.tif").write_text("mine")
    with pytest.raises(OutputError, match=r"holds b_labels\.tif already; .* --overwrite"):
        segment_batch([good], tmp_path)
    assert content(tmp_path) == {"b_labels.tif": b"mine"}
    segment_batch([good], tmp_path, overwrite=True)
    assert tifffile.imread(tmp_path / "b_labels.tif").max() > 0


def test_the_same_names_in_two_folders_stay_apart(
    tmp_path: Path, params: ScoreParams, smear: Callable[..., Pixels]
) -> None:
    for seed, day in enumerate(("day1", "day2")):
        (tmp_path / "in" / day).mkdir(parents=True)
        Image.fromarray(smear(seed + 1)).save(tmp_path / "in" / day / "a.png")
    score_batch([tmp_path / "in"], tmp_path / "out", params)
    assert table(tmp_path / "out/images.csv")["image"].tolist() == ["day1/a.png", "day2/a.png"]
    for day in ("day1", "day2"):
        labels = tifffile.imread(tmp_path / f"out/labels/{day}/a_labels.tif")
        np.testing.assert_array_equal(labels, segment_cells(np.asarray(Image.open(tmp_path / f"in/{day}/a.png"))))
    score_batch([tmp_path / "in/day1"], tmp_path / "out", params, OutputParams(overwrite=True))
    assert not (tmp_path / "out/labels/day2/a_labels.tif").exists()
