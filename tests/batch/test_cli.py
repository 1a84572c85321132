import argparse
import html
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect import __version__
from napari_all_detect.bundle import load_segmenter
from napari_all_detect.bundle.places import builtin_root
from napari_all_detect.cli import main, scoring
from napari_all_detect.cli.options import add_params, params_of
from napari_all_detect.params import (
    ClusterParams,
    ExplainParams,
    OutputParams,
    Params,
    ReadParams,
    ScoreParams,
    SegmentationParams,
)
from napari_all_detect.samples import draw_smear
from napari_all_detect.segmentation import segment_cells
from napari_all_detect.tiling import TiledCells, find_tiled

pytestmark = pytest.mark.usefixtures("reuse_engines")

RESEARCH_USE = "For research use only. Not for diagnosis or any clinical decision."
OF_NUCLEI = ["nc_ratio", "nucleus_area_px", "nucleus_lobes"]


class Ran(NamedTuple):
    status: int
    out: list[str]
    err: list[str]


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `all-detect` in this process."""

    def run_main(*arguments: Any) -> Ran:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ran(status, printed.out.splitlines(), printed.err.splitlines())

    return run_main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the bundles of whoever runs the tests out."""
    monkeypatch.setenv("ALL_DETECT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def image(tmp_path: Path, smear: Callable[..., NDArray[np.uint8]]) -> Path:
    Image.fromarray(smear(3)).save(tmp_path / "smear.png")
    return tmp_path / "smear.png"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def duo_copy(duo_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(duo_bundle, tmp_path / "copy"))


def cells_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "cells.csv", keep_default_na=False)


def assert_refused(ran: Ran, status: int, *texts: str) -> None:
    """Check that there is one line of error after what was said on the way, and nothing on standard output."""
    assert ran.status == status
    assert ran.out == []
    errors = [line for line in ran.err if line.startswith("all-detect: ")]
    assert errors == ran.err[-1:]
    assert not any("Traceback" in line for line in ran.err)
    for text in texts:
        assert text in errors[0]


def test_scoring(run: Run, image: Path, out: Path, duo_bundle: Path) -> None:
    ran = run("score", image, "--out", out, "--bundle", duo_bundle)
    cells = cells_of(out)
    n_all, n_hem = ((cells["call"] == call).sum() for call in ("ALL", "Hem"))
    assert ran.status == 0
    assert ran.out == [
        f"{len(cells)} cells in 1 images: {n_all} ALL, {n_hem} Hem",
        f"results: {out}",
        RESEARCH_USE,
    ]
    assert ran.err[0] == f"loading the networks of {duo_bundle} ..."
    bar = ran.err[-1]
    assert "1/1" in bar
    assert f"{len(cells)} cells," in bar
    assert "cells/s" in bar


def test_some_inputs_fail(run: Run, image: Path, out: Path, duo_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("I am no picture")
    (tmp_path / "empty.png").touch()
    inputs = [image, tmp_path / "text.png", tmp_path / "empty.png"]
    ran = run("score", *inputs, "--out", out, "--bundle", duo_bundle)
    assert ran.status == 3
    assert ran.out[1] == "2 inputs failed"
    assert ran.out[-1] == RESEARCH_USE
    told = [line for line in ran.err if " failed (open): " in line]
    assert [line.split(" failed")[0].split("\r")[-1].strip() for line in told] == ["text.png", "empty.png"]
    assert len((out / "failures.csv").read_text().splitlines()) == 3
    assert set(cells_of(out)["image"]) == {"smear.png"}


def test_all_inputs_fail(run: Run, out: Path, duo_bundle: Path, tmp_path: Path) -> None:
    ran = run("score", tmp_path / "no.png", tmp_path / "nor this", "--out", out, "--bundle", duo_bundle)
    assert ran.status == 1
    assert ran.out[:2] == ["0 cells in 0 images: 0 ALL, 0 Hem", "2 inputs failed"]
    assert "no such file" in (out / "failures.csv").read_text()


BAD_USAGE = [
    ([], "required"),
    (["score"], "required"),
    (["score", "x.png"], "--out"),
    (["score", "--out", "o"], "INPUT"),
    (["blame"], "invalid choice"),
    (["bundles"], "ACTION"),
    (["sample"], "DIR"),
    (["score", "x.png", "--out", "o", "--unheard-of"], "unrecognized"),
    (["score", "x.png", "--out", "o", "--weighting", "best"], "'kappa', 'accuracy', 'auc', 'f1', 'equal'"),
    (["score", "x.png", "--out", "o", "--threshold", "high"], "invalid float"),
    (["score", "x.png", "--out", "o", "--batch-size", "2.5"], "invalid int"),
    (["score", "x.png", "--out", "o", "--device", "tpu"], "invalid choice"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD_USAGE)
def test_bad_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--threshold", "1.01", "threshold is 1.01; expected 0 to 1"),
        ("--threshold", "-0.5", "threshold is -0.5; expected 0 to 1"),
        ("--threshold", "nan", "threshold is nan"),
        ("--pixel-size", "0", "expected 0.001 to 100"),
        ("--pixel-size", "inf", "pixel_size_um is inf"),
        ("--rescale", "some", "rescale is 'some'; expected none, auto"),
        ("--rescale", "0", "0.01 to 100"),
        ("--rescale", "nan", "rescale is nan"),
        ("--batch-size", "0", "expected 1 to 4096"),
        ("--cell-diameter", "7", "expected 8 to 2000"),
        ("--format", "csv,xlsx", "format is 'xlsx'; expected one of: csv, parquet"),
        ("--format", "", "format is ''; expected one of: csv, parquet"),
    ],
)
def test_a_value_out_of_range(run: Run, image: Path, out: Path, option: str, value: str, said: str) -> None:
    assert_refused(run("score", image, "--out", out, option, value), 2, said)
    assert not out.exists()


def test_help_names_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["score", "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in ("--weighting", "--labels", "--pixel-size UM", "--rescale none|auto|FACTOR", "--threshold P"):
        assert option in text
    for option in ("--engine", "--device", "--samples CSV", "--overwrite", "--format csv,parquet", "--out DIR"):
        assert option in text
    assert "(default: auto)" in text
    assert "(default: lite)" in text
    assert "--segmentation NAME|PATH" in text
    assert "(default: learned)" in text
    assert RESEARCH_USE in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert (stopped.value.code, capsys.readouterr().out) == (0, f"all-detect {__version__}\n")


def test_an_unknown_bundle(run: Run, image: Path, out: Path, duo_bundle: Path) -> None:
    run("bundles", "install", duo_bundle)
    ran = run("score", image, "--out", out, "--bundle", "nowhere")
    assert_refused(ran, 1, "no bundle is named 'nowhere'; installed: ", "duo")
    assert not out.exists()


def test_a_bundle_whose_digest_is_wrong(run: Run, image: Path, out: Path, duo_copy: Path) -> None:
    with (duo_copy / "members/vgg16.weights.h5").open("ab") as file:
        file.write(b"x")
    ran = run("score", image, "--out", out, "--bundle", duo_copy)
    assert_refused(ran, 1, "members/vgg16.weights.h5 has SHA-256 ", "the file was damaged or changed")
    assert not out.exists()


def test_a_gpu_that_is_not_there(
    run: Run, image: Path, out: Path, duo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: [])
    ran = run("score", image, "--out", out, "--bundle", duo_bundle, "--device", "gpu")
    assert_refused(ran, 1, "pip install 'napari-all-detect[gpu]'")
    assert not out.exists()


def test_results_are_refused_then_overwritten(run: Run, image: Path, out: Path, duo_bundle: Path) -> None:
    run("score", image, "--out", out, "--bundle", duo_bundle)
    (out / "mine.txt").write_text("keep")
    (out / "cells.csv").write_text("edited")
    assert_refused(run("score", image, "--out", out, "--bundle", duo_bundle), 1, "holds results already", "--overwrite")
    assert (out / "cells.csv").read_text() == "edited"
    assert run("score", image, "--out", out, "--bundle", duo_bundle, "--overwrite").status == 0
    assert len(cells_of(out)) > 0
    assert (out / "mine.txt").read_text() == "keep"


def test_an_output_folder_below_a_file(run: Run, image: Path, duo_bundle: Path) -> None:
    ran = run("score", image, "--out", image / "out", "--bundle", duo_bundle)
    assert_refused(ran, 1, "can't be written to")
    assert_refused(run("segment", image, "--out", image / "out"), 1, "Not a directory")


def test_an_error_is_one_line_whatever_the_name(run: Run, image: Path, tmp_path: Path, duo_bundle: Path) -> None:
    folder = tmp_path / "two\nlines"
    folder.mkdir()
    (folder / "cells.csv").touch()
    assert_refused(run("score", image, "--out", folder, "--bundle", duo_bundle), 1, "two lines holds results")


def test_options_reach_the_table(run: Run, image: Path, tmp_path: Path, duo_bundle: Path) -> None:
    def table(name: str, *options: Any) -> pd.DataFrame:
        # A pixel size would say how wide cells are, too.
        always = ["--out", tmp_path / name, "--bundle", duo_bundle, "--cell-diameter", 32]
        assert run("score", image, *always, *options).status == 0
        return cells_of(tmp_path / name)

    equal = table("equal", "--weighting", "equal")
    np.testing.assert_allclose(equal["p_all"], (equal["p_all_vgg16"] + equal["p_all_mobilenet"]) / 2, atol=1e-6)
    kappa = table("kappa")
    mean = (0.9 * kappa["p_all_vgg16"] + 0.2 * kappa["p_all_mobilenet"]) / 1.1
    np.testing.assert_allclose(kappa["p_all"], mean, atol=1e-6)
    median = kappa["p_all"].median()
    middle = table("middle", "--threshold", median)
    assert set(middle["call"]) == {"ALL", "Hem"}
    assert ((middle["call"] == "ALL") == (middle["p_all"] >= median)).all()
    assert set(table("low", "--threshold", "0")["call"]) == {"ALL"}
    assert set(table("high", "--threshold", "1")["call"]) == {"Hem"}
    micro = table("micro", "--pixel-size", "0.5", "--rescale", "none")
    np.testing.assert_allclose(micro["area_um2"], micro["area_px"] * 0.25, rtol=1e-6)
    np.testing.assert_allclose(micro["p_all"], kappa["p_all"], atol=1e-6)
    assert (kappa["area_um2"] == "").all()
    half = table("half", "--rescale", "0.5")
    assert pd.read_csv(tmp_path / "half/images.csv")["rescale"].tolist() == [0.5]
    assert np.abs(half["p_all"] - kappa["p_all"]).max() > 1e-3
    batches = table("batches", "--batch-size", "2")
    np.testing.assert_allclose(batches["p_all"], kappa["p_all"], atol=1e-6)


def test_formats_labels_and_samples(run: Run, image: Path, tmp_path: Path, duo_bundle: Path) -> None:
    (tmp_path / "sheet.csv").write_text("image,sample\nsmear.png,S1\n")
    assert run("segment", image, "--out", tmp_path / "labels").status == 0
    options = ["--labels", tmp_path / "labels", "--samples", tmp_path / "sheet.csv", "--format", "csv,parquet"]
    assert run("score", image, "--out", tmp_path / "out", "--bundle", duo_bundle, *options).status == 0
    run("score", image, "--out", tmp_path / "plain", "--bundle", duo_bundle)
    out, plain = cells_of(tmp_path / "out"), cells_of(tmp_path / "plain")
    assert json.loads((tmp_path / "out/run.json").read_text())["segmentation"] is None
    assert (out[OF_NUCLEI] == "").all(axis=None)
    pd.testing.assert_frame_equal(out.drop(columns=OF_NUCLEI), plain.drop(columns=OF_NUCLEI))
    n_cells = len(out)
    assert len(pd.read_parquet(tmp_path / "out/cells.parquet")) == n_cells > 0
    assert pd.read_csv(tmp_path / "out/samples.csv")["cells"].tolist() == [n_cells]
    assert not (tmp_path / "plain/samples.csv").exists()


def test_a_sheet_that_is_not_there(run: Run, image: Path, out: Path, duo_bundle: Path) -> None:
    ran = run("score", image, "--out", out, "--bundle", duo_bundle, "--samples", "none.csv")
    assert_refused(ran, 1, "none.csv: no sample sheet that can be read")


def test_what_lasts_with_many_planes_is_told(
    run: Run, image: Path, out: Path, duo_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copy(image, tmp_path / "second.png")
    formats = ("parquet", "h5ad", "ome-zarr")
    command = ["score", image, tmp_path / "second.png", "--out", out, "--bundle", duo_bundle]
    (tmp_path / "sheet.csv").write_text("image,sample\nsmear.png,S\n")
    options = ["--samples", tmp_path / "sheet.csv", "--format", ",".join(formats)]

    def stop(self: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scoring._Bar, "plane", stop)
        assert run(*command, *options).status == 130
    ran = run(*command, *options, "--resume")
    assert ran.status == 0
    assert ran.err[1] == "1 of 2 planes are done already: their rows come first"
    told = re.findall("writing ([^],]+)", "".join(ran.err))
    files = ["cells.parquet", "cells.h5ad", "ome-zarr 0/2", "ome-zarr 1/2", "samples.csv", "report.html"]
    assert list(dict.fromkeys(told)) == files
    assert "writing" not in ran.err[-1].rpartition("\r")[2]


def test_interrupting(
    run: Run, image: Path, out: Path, duo_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(self: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring._Bar, "plane", stop)
    shutil.copy(image, tmp_path / "second.png")
    ran = run("score", image, tmp_path / "second.png", "--out", out, "--bundle", duo_bundle)
    assert_refused(ran, 130, "interrupted; what was done so far is in the output folder")
    assert set(cells_of(out)["image"]) == {"smear.png"}
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"


def test_segmenting(run: Run, image: Path, out: Path) -> None:
    ran = run("segment", image, "--out", out)
    labels = tifffile.imread(out / "smear_labels.tif")
    np.testing.assert_array_equal(labels, segment_cells(np.asarray(Image.open(image))))
    assert ran == (0, [f"{labels.max()} cells in 1 images", f"results: {out}"], ran.err)
    assert "1/1" in ran.err[-1]
    assert_refused(run("segment", image, "--out", out), 1, "holds smear_labels.tif already")
    assert run("segment", image, "--out", out, "--overwrite", "--cell-diameter", "60").status == 0
    assert run("segment", image, image.parent / "none.png", "--out", out, "--overwrite").status == 3
    assert run("segment", image.parent / "none.png", "--out", out).status == 1
    assert_refused(run("segment", image, "--out", out, "--cell-diameter", "1"), 2, "expected 8 to 2000")


@pytest.mark.parametrize("method", ["learned", "classical"])
def test_segmenting_nuclei_too(run: Run, image: Path, tmp_path: Path, method: str) -> None:
    options = ["--segmentation", method]
    assert run("segment", image, "--out", tmp_path / "plain", *options).status == 0
    ran = run("segment", image, "--out", tmp_path / "both", "--nuclei", *options)
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["smear_labels.tif"]
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["smear_labels.tif", "smear_nuclei.tif"]
    cells, nuclei = (tifffile.imread(tmp_path / f"both/smear_{name}.tif") for name in ("labels", "nuclei"))
    params = SegmentationParams(method=method)
    expected = segment_cells(np.asarray(Image.open(image)), params, nuclei=True)
    np.testing.assert_array_equal(cells, expected[0])
    np.testing.assert_array_equal(nuclei, expected[1])
    assert nuclei.dtype == np.uint16
    assert 0 < np.count_nonzero(nuclei) < np.count_nonzero(cells)
    assert (tmp_path / "plain/smear_labels.tif").read_bytes() == (tmp_path / "both/smear_labels.tif").read_bytes()
    assert ran.out[0] == f"{cells.max()} cells in 1 images"


def test_nuclei_that_are_there_are_replaced_only_when_told(run: Run, image: Path, out: Path) -> None:
    out.mkdir()
    (out / "smear_nuclei.tif").write_bytes(b"drawn by hand")
    assert_refused(run("segment", image, "--out", out, "--nuclei"), 1, "holds smear_nuclei.tif already", "--overwrite")
    assert (out / "smear_nuclei.tif").read_bytes() == b"drawn by hand"
    assert run("segment", image, "--out", out).status == 0
    assert (out / "smear_nuclei.tif").read_bytes() == b"drawn by hand"
    assert run("segment", image, "--out", out, "--nuclei", "--overwrite").status == 0
    assert tifffile.imread(out / "smear_nuclei.tif").any()


@pytest.mark.parametrize("method", ["learned", "classical"])
def test_scoring_by_another_segmentation(run: Run, image: Path, out: Path, duo_bundle: Path, method: str) -> None:
    ran = run("score", image, "--out", out, "--bundle", duo_bundle, "--segmentation", method)
    assert ran.status == 0
    params = SegmentationParams(method=method)
    cells, nuclei = segment_cells(np.asarray(Image.open(image)), params, nuclei=True)
    np.testing.assert_array_equal(tifffile.imread(out / "labels/smear_labels.tif"), cells)
    table = pd.read_csv(out / "cells.csv")
    assert table["label"].tolist() == list(range(1, cells.max() + 1))
    assert table["nucleus_area_px"].tolist() == np.bincount(nuclei.ravel(), minlength=cells.max() + 1)[1:].tolist()
    np.testing.assert_allclose(
        table["nc_ratio"], table["nucleus_area_px"] / (table["area_px"] - table["nucleus_area_px"]), rtol=1e-5
    )
    assert table["nucleus_lobes"].between(1, 5).all()
    record = json.loads((out / "run.json").read_text())
    assert record["parameters"]["segmentation"]["method"] == method
    assert record["segmentation"]["method"] == method
    assert set(record["segmentation"]) == ({"method", "bundle", "digest"} if method == "learned" else {"method"})


def test_segmenting_by_a_bundle_that_was_installed(
    run: Run, image: Path, tmp_path: Path, duo_bundle: Path, home: Path
) -> None:
    folder = Path(shutil.copytree(builtin_root() / "cells", tmp_path / "copy"))
    facts = json.loads((folder / "bundle.json").read_text()) | {"name": "finder", "version": "9"}
    (folder / "bundle.json").write_text(json.dumps(facts))
    ran = run("bundles", "install", folder)
    assert ran == (0, [f"finder-9 is installed in {home / 'bundles/finder'}; use it with --segmentation finder"], [])
    for name in ("learned", "finder", folder):
        assert run("segment", image, "--out", tmp_path / Path(name).name, "--segmentation", name).status == 0
    written = [(tmp_path / f"{name}/smear_labels.tif").read_bytes() for name in ("learned", "finder", "copy")]
    assert written[0] == written[1] == written[2]
    run("score", image, "--out", tmp_path / "scored", "--bundle", duo_bundle, "--segmentation", "finder")
    record = json.loads((tmp_path / "scored/run.json").read_text())
    assert record["segmentation"] == {
        "method": "finder",
        "bundle": "finder-9",
        "digest": load_segmenter("finder").digest,
    }


@pytest.mark.parametrize("command", ["score", "segment"])
def test_an_empty_output_folder(
    run: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(command, image, "--out", ""), 2, "out is empty; expected a folder, such as .")
    assert [path.name for path in tmp_path.iterdir()] == [image.name]


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("best", 2, "segmentation is 'best'; expected one of: learned, classical"),
        ("", 2, "segmentation is ''; expected one of: learned, classical"),
        ("lite", 1, "scores cells, it does not find them; use it with --bundle"),
        ("no/such/bundle", 1, "no/such/bundle: no such file"),
    ],
)
def test_a_segmentation_that_is_none(
    run: Run, image: Path, out: Path, duo_bundle: Path, name: str, status: int, said: str
) -> None:
    ran = run("score", image, "--out", out, "--bundle", duo_bundle, "--segmentation", name)
    assert_refused(ran, status, said)
    assert_refused(run("segment", image, "--out", out, "--segmentation", name), status, said)
    assert not out.exists()


def test_a_bundle_that_finds_cells_does_not_score(run: Run, image: Path, out: Path) -> None:
    assert_refused(run("score", image, "--out", out, "--bundle", "cells"), 1, "finds cells, it does not score them")
    assert not out.exists()


def test_sample_data_are_written_once_and_can_be_scored(run: Run, tmp_path: Path, duo_bundle: Path) -> None:
    ran = run("sample", tmp_path / "data")
    smears = tmp_path / "data/smears"
    assert (ran.status, ran.err) == (0, [])
    assert ran.out == [f"14 files; score them: all-detect score {smears} --out results"]
    (tmp_path / "data/smears/smear_1.png").write_bytes(b"mine")
    assert_refused(run("sample", tmp_path / "data"), 1, "exists already")
    assert (tmp_path / "data/smears/smear_1.png").read_bytes() == b"mine"
    ran = run("score", smears, "--out", tmp_path / "out", "--bundle", duo_bundle)
    assert (ran.status, ran.out[1]) == (3, "1 inputs failed")
    assert cells_of(tmp_path / "out").groupby("image").size().ge(2).sum() == 5


class TestBundles:
    @pytest.fixture
    def packed(self, duo_bundle: Path, tmp_path: Path) -> Path:
        with zipfile.ZipFile(tmp_path / "duo.zip", "w") as archive:
            for path in duo_bundle.rglob("*"):
                archive.write(path, path.relative_to(duo_bundle))
        return tmp_path / "duo.zip"

    def test_installing_from_a_zip_and_scoring_by_name(
        self, run: Run, packed: Path, home: Path, image: Path, out: Path
    ) -> None:
        ran = run("bundles", "install", packed)
        place = home / "bundles/duo"
        assert ran == (0, [f"duo-0.1 is installed in {place}; use it with --bundle duo"], [])
        assert run("bundles", "install", packed) == ran  # the same one again is no error
        assert run("score", image, "--out", out, "--bundle", "duo").status == 0
        assert set(cells_of(out)["bundle"]) == {"duo-0.1"}

    def test_listing(self, run: Run, duo_bundle: Path, home: Path) -> None:
        before = run("bundles", "list")
        assert before.status == 0
        assert not any("installed  " in line for line in before.out)
        run("bundles", "install", duo_bundle)
        shutil.copytree(home / "bundles/duo", home / "bundles/worn")
        ran = run("bundles", "list")
        assert (ran.status, ran.err) == (0, [])
        installed = [line for line in ran.out if "installed  " in line]
        assert installed[0] == f"duo-0.1  installed  Random weights, for tests  {home / 'bundles/duo'}"
        assert re.fullmatch(r"worn  installed  broken: .*/worn: the folder holds the bundle 'duo'; .*", installed[1])
        assert len(installed) == 2

    def test_listing_where_there_are_none(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("napari_all_detect.bundle.store.builtin_root", lambda: tmp_path / "none")
        ran = run("bundles", "list")
        assert ran == (0, ["no bundles; install one with: all-detect bundles install FILE_OR_URL"], [])

    def test_a_builtin_one_is_listed_as_such(self, run: Run, duo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("napari_all_detect.bundle.store.builtin_root", lambda: duo_bundle.parent)
        ran = run("bundles", "list")
        assert f"duo-0.1  builtin  Random weights, for tests  {duo_bundle}" in ran.out

    def test_a_segmenter_is_listed_shown_and_verified(self, run: Run) -> None:
        shipped = load_segmenter("cells")
        assert [line for line in run("bundles", "list").out if line.startswith(f"{shipped.label}  builtin  ")]
        ran = run("bundles", "show", "cells")
        assert ran.out[:2] == [f"{shipped.label} in {shipped.folder}", f"digest {shipped.digest}"]
        assert "\n".join(ran.out[3:]).rstrip() == shipped.card.rstrip()
        for named in (shipped.folder, "cells"):
            ran = run("bundles", "verify", named)
            assert (ran.status, ran.err) == (0, [])
            assert ran.out[0].startswith(f"{shipped.label}: schema and 1 digest")

    def test_a_description_of_many_lines_is_listed_in_one(self, run: Run, duo_copy: Path) -> None:
        facts = json.loads((duo_copy / "bundle.json").read_text()) | {"description": "one\ntwo\t three"}
        (duo_copy / "bundle.json").write_text(json.dumps(facts))
        run("bundles", "install", duo_copy)
        assert [line for line in run("bundles", "list").out if "duo-0.1  installed  one two three  " in line]

    def test_showing(self, run: Run, duo_bundle: Path) -> None:
        ran = run("bundles", "show", duo_bundle)
        assert (ran.status, ran.err) == (0, [])
        assert ran.out[0] == f"duo-0.1 in {duo_bundle}"
        assert re.fullmatch("digest [0-9a-f]{64}", ran.out[1])
        assert ran.out[3:6] == ["# Tiny", "", "Random weights, for tests."]
        assert_refused(run("bundles", "show", "nowhere"), 1, "no bundle is named 'nowhere'")

    def test_verifying(self, run: Run, duo_copy: Path) -> None:
        assert run("bundles", "verify", duo_copy) == (0, ["duo-0.1: schema and 2 digests are right"], [])
        (duo_copy / "members/mobilenet.weights.h5").write_bytes(b"")
        assert_refused(run("bundles", "verify", duo_copy), 1, "mobilenet.weights.h5 has SHA-256 e3b0c442")
        (duo_copy / "bundle.json").write_text("{")
        assert_refused(run("bundles", "verify", duo_copy), 1, "bundle.json: ")
        assert_refused(run("bundles", "verify", duo_copy / "nothing"), 1, "no such file")

    def test_installing_what_is_broken(self, run: Run, duo_copy: Path, home: Path) -> None:
        (duo_copy / "MODEL_CARD.md").unlink()
        assert_refused(run("bundles", "install", duo_copy), 1, "no file MODEL_CARD.md")
        assert not (home / "bundles/duo").exists()


@pytest.mark.parametrize(
    ("kind", "name", "least"),
    [
        (kind, f.name, f.metadata["min"])
        for kind in (ScoreParams, SegmentationParams, ReadParams, OutputParams, ClusterParams, ExplainParams)
        for f in fields(kind)
        if "min" in f.metadata
    ],
)
def test_every_number_is_read_as_one(kind: type[Params], name: str, least: float) -> None:
    parser = argparse.ArgumentParser()
    add_params(parser, kind)
    (flag,) = (action.option_strings[0] for action in parser._actions if action.dest == name)
    assert getattr(params_of(kind, parser.parse_args([flag, str(least)])), name) == least


def test_an_error_rate_on_the_command_line(run: Run, image: Path, out: Path) -> None:
    ran = run("score", image, "--out", out, "--error-rate", 0.02)
    assert ran.status == 0
    assert json.loads((out / "run.json").read_text())["parameters"]["error_rate"] == 0.02


def test_the_console_script(run: Run, image: Path, tmp_path: Path, duo_bundle: Path, home: Path) -> None:
    """The one test in a process of its own: nothing but the summary comes out, and the same bytes."""
    run("score", image, "--out", tmp_path / "here", "--bundle", duo_bundle)
    (tmp_path / "empty.png").touch()
    script = Path(sys.executable).parent / "all-detect"
    command = [script, "score", image, tmp_path / "empty.png", "--out", tmp_path / "there", "--bundle", duo_bundle]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"ALL_DETECT_HOME": str(home)})
    cells = cells_of(tmp_path / "there")
    n_all = (cells["call"] == "ALL").sum()
    assert done.returncode == 3
    assert done.stdout.splitlines() == [
        f"{len(cells)} cells in 1 images: {n_all} ALL, {len(cells) - n_all} Hem",
        "1 inputs failed",
        f"results: {tmp_path / 'there'}",
        RESEARCH_USE,
    ]
    assert "Traceback" not in done.stderr
    assert "empty.png failed (open): " in done.stderr
    assert (tmp_path / "there/cells.csv").read_bytes() == (tmp_path / "here/cells.csv").read_bytes()


def test_explaining_a_cell(run: Run, image: Path, out: Path, duo_bundle: Path, tmp_path: Path) -> None:
    run("score", image, "--out", out, "--bundle", duo_bundle)
    second = cells_of(out).iloc[1]
    ran = run("explain", image, "--label", 2, "--out", tmp_path / "heat.png", "--bundle", duo_bundle)
    assert ran.status == 0
    said = f"cell 2: {second['call']}, P(ALL) {float(second['p_all']):.2f} (larger_than_crop)"
    assert second["flags"] == "larger_than_crop"
    assert ran.out[0] == f"{said}; {tmp_path / 'heat.png'}"
    assert ran.out[1] == RESEARCH_USE
    with Image.open(tmp_path / "heat.png") as drawn:
        assert drawn.size[0] > 4 * 224  # the cell, two members, the ensemble


def test_cells_that_the_bundle_cannot_judge_are_counted_beside_the_calls(
    run: Run, image: Path, out: Path, tmp_path: Path
) -> None:
    run("segment", image, "--out", tmp_path / "labels", "--segmentation", "classical")
    with Image.open(image) as drawn:
        Image.fromarray(np.asarray(drawn)[..., ::-1]).save(image)
    given = ["--bundle", "lite", "--labels", tmp_path / "labels"]
    ran, flags = run("score", image, "--out", out, *given), cells_of(out)["flags"]
    n_out = flags.str.contains("out_of_domain").sum()
    assert n_out > 0
    note = f"out_of_domain: {n_out} of {len(flags)} cells, unlike those of the training; don't trust their calls"
    assert ran.out[1] == note
    assert f'<p class="use">{note}</p>' in html.unescape((out / "report.html").read_text())
    assert run("score", image, "--out", out, *given, "--resume").out[1] == note
    k = int(flags.str.contains("out_of_domain").argmax())
    explained = run("explain", image, "--label", k + 1, "--out", tmp_path / "heat.png", *given)
    assert f" ({', '.join(flags[k].split(';'))}); " in explained.out[0]


def test_what_is_noted_on_images_is_told(run: Run, image: Path, out: Path, duo_bundle: Path) -> None:
    ran = run("score", image, "--out", out, "--bundle", duo_bundle)
    assert not any(line.startswith("noted on") for line in ran.out)
    assert "Notes on images" not in (out / "report.html").read_text()
    with Image.open(image) as drawn:
        drawn.convert("L").save(image.with_name("grey.png"))
        deep = np.asarray(drawn).astype(np.uint16) * 16
        tifffile.imwrite(image.with_name("deep.tif"), deep, photometric="rgb")
        Image.fromarray(np.dstack([np.asarray(drawn), np.full(drawn.size[::-1], 99, np.uint8)])).save(image)
    inputs = [
        image,
        image.with_name("grey.png"),
        image.with_name("deep.tif"),
        "--out",
        out,
        "--bundle",
        duo_bundle,
        "--pixel-size",
        "0.01",
    ]
    ran = run("score", *inputs, "--overwrite")
    notes = pd.read_csv(out / "images.csv")["notes"].str.split(";").explode().value_counts().to_dict()
    assert len(notes) > 3
    (told,) = (line for line in ran.out if line.startswith("noted on images: "))
    page = html.unescape((out / "report.html").read_text())
    assert sum(f"{note} ({n})" in told for note, n in notes.items()) == 3
    assert told.endswith(f"; {len(notes) - 3} more in images.csv")
    for note, n in notes.items():
        assert f'<td class="">{note}</td><td class="n">{n}</td>' in page
    assert told in run("score", *inputs, "--resume").out


def test_what_is_noted_on_images_whose_cells_are_found_is_told(
    run: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--out", tmp_path / "labels", "--segmentation", "classical"]
    assert not any(line.startswith("noted on") for line in run("segment", image, *given).out)
    with Image.open(image) as drawn:
        rgb = np.asarray(drawn)
    lost = zarr.create_array(tmp_path / "lost.zarr", shape=(144, 176, 3), chunks=(72, 176, 3), dtype=np.uint8)
    lost[:72] = rgb[:72, :176]
    tifffile.imwrite(tmp_path / "deep.tif", rgb.astype(np.uint16) * 16, photometric="rgb")
    for name, values in (("a.png", rgb[..., 0]), ("b.png", rgb[..., 1]), ("c.png", np.dstack([rgb, rgb[..., :1]]))):
        Image.fromarray(values).save(tmp_path / name)
    for more in ([], ["--tile-size", 256]):
        names = ["a.png", "b.png", "c.png", "deep.tif", "lost.zarr"]
        ran = run("segment", *(tmp_path / name for name in names), *given, "--overwrite", *more)
        (told,) = (line for line in ran.out if line.startswith("noted on images: "))
        assert told.startswith("noted on images: grey image repeated to three channels: it carries no stain colour (2)")
        assert "; 1 of 2 chunks missing in the store: black there (1)" in told
        assert told.endswith("; 1 more")

    def cut_clumps(*given: Any) -> TiledCells:
        return replace(find_tiled(*given), notes=("clumps were cut",))

    monkeypatch.setattr("napari_all_detect.tiling.find_tiled", cut_clumps)
    ran = run("segment", tmp_path / "lost.zarr", *given, "--overwrite", "--tile-size", 256)
    (told,) = (line for line in ran.out if line.startswith("noted on images: "))
    assert told.endswith("1 of 2 chunks missing in the store: black there (1); clumps were cut (1)")


@pytest.mark.parametrize("more", [[], ["--tile-size", 256]], ids=["whole", "tiled"])
def test_an_image_taken_for_cells_on_black_is_told_of(run: Run, tmp_path: Path, more: list[Any]) -> None:
    smear = draw_smear((200, 300), n_cells=4, seed=1, border=0.0)
    Image.fromarray(smear.rgb * (smear.labels[..., None] > 0).astype(np.uint8)).save(tmp_path / "cut_out.png")
    Image.fromarray(np.zeros((200, 300, 3), np.uint8)).save(tmp_path / "black.png")
    given = ["--out", tmp_path / "labels", "--segmentation", "classical", *more]
    ran = run("segment", tmp_path / "cut_out.png", tmp_path / "black.png", *given)
    (told,) = (line for line in ran.out if line.startswith("noted on images: "))
    assert told == "noted on images: taken for cells cut out on black (1)"


def test_explaining_what_is_not_there(run: Run, image: Path, out: Path, duo_bundle: Path, tmp_path: Path) -> None:
    heat = tmp_path / "heat.png"
    ran = run("explain", image, "--label", 99, "--out", heat, "--bundle", duo_bundle)
    assert_refused(ran, 1, "no cell 99", "numbered from 1 to")
    tifffile.imwrite(tmp_path / "two.tif", np.zeros((2, 20, 20, 3), np.uint8), photometric="rgb")
    ran = run("explain", tmp_path / "two.tif", "--out", heat, "--bundle", duo_bundle)
    assert_refused(ran, 2, "one of its planes: p0, p1")
    ran = run("explain", tmp_path / "two.tif", "--plane", "p7", "--out", heat, "--bundle", duo_bundle)
    assert_refused(ran, 2, "p7", "p0, p1")
    (tmp_path / "several").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "several" / name).write_bytes(image.read_bytes())
    ran = run("explain", tmp_path / "several", "--out", heat, "--bundle", duo_bundle)
    assert_refused(ran, 2, "2 images; expected one of them: a.png, b.png")
    ran = run("explain", image, "--channels", "0,1,7", "--out", heat, "--bundle", duo_bundle)
    assert_refused(ran, 1, "channel")
    ran = run("explain", image, "--out", tmp_path / "heat.jpg", "--bundle", duo_bundle)
    assert_refused(ran, 2, "heat.jpg; expected the name of a PNG: heat.png")
    (tmp_path / "empty").mkdir()
    ran = run("explain", tmp_path / "empty", "--out", heat, "--bundle", duo_bundle)
    assert_refused(ran, 1, "empty")
    assert not heat.exists()


def test_explaining_overwrites_nothing_that_it_reads(run: Run, image: Path, duo_bundle: Path, tmp_path: Path) -> None:
    run("segment", image, "--out", tmp_path, "--segmentation", "classical")
    labels = next(tmp_path.glob("*_labels.tif")).rename(tmp_path / "labels.png")
    link = tmp_path / "link.png"
    link.symlink_to(image)
    before = image.read_bytes(), labels.read_bytes()
    for out in (image, link, labels):
        ran = run("explain", image, "--labels", labels, "--out", out, "--bundle", duo_bundle)
        assert_refused(ran, 2, f"--out is {out}, which is read here; name another file")
    assert (image.read_bytes(), labels.read_bytes()) == before


def test_names_that_a_console_cannot_say_are_escaped(tmp_path: Path) -> None:
    """As on a redirected console of Windows."""
    command = [Path(sys.executable).parent / "all-detect", "sample", tmp_path / "\u4e2d"]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "cp1252"}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"\\u4e2d" in done.stdout


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_stream_that_nobody_gave_is_no_error(closed: str, tmp_path: Path) -> None:
    """As some daemons start programs."""
    redirection = {"stdout": ">&-", "stderr": "2>&-"}[closed]
    program = Path(sys.executable).parent / "all-detect"
    command = f'"{program}" sample "{tmp_path / "drawn"}" {redirection}'
    done = subprocess.run(["sh", "-c", command], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "drawn").is_dir()


def test_a_reader_that_has_seen_enough_is_no_error_of_the_program() -> None:
    program = Path(sys.executable).parent / "all-detect"
    with subprocess.Popen([program, "bundles", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert (process.wait(60), process.stderr and process.stderr.read()) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_results_that_find_no_room_are_told_in_one_line() -> None:
    program = Path(sys.executable).parent / "all-detect"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = ["sh", "-c", f'"{program}" bundles list > /dev/full']
    done = subprocess.run(command, env=buffered, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "standard output can't be written (No space left on device)\n")


def test_names_that_a_terminal_would_obey_are_spelt(
    tmp_path: Path, duo_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "\x1b[31mred\x07.png").write_bytes(b"no image")
    assert main(["score", str(tmp_path), "--out", str(tmp_path / "out"), "--bundle", str(duo_bundle)]) == 1
    said = capsys.readouterr().err
    assert r"\x1b[31mred\x07.png failed (open)" in said
    assert "\x1b[31m" not in said


def test_a_run_whose_messages_nobody_reads_goes_on(tmp_path: Path, duo_bundle: Path) -> None:
    """Its progress and its warnings are no results."""
    Image.new("RGB", (64, 64), "white").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    command = [Path(sys.executable).parent / "all-detect", "score", tmp_path, "--bundle", duo_bundle]
    command += ["--out", tmp_path / "out", "--segmentation", "classical"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.close()
        printed = process.stdout.read()
    assert process.returncode == 3
    assert "0 cells in 1 images" in printed
    assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "complete"
