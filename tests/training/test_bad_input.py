"""What a lab's data, disk and GPU may do to a training: one clear line, or on with less, and no run lost."""

import csv
import errno
import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from all_detect_training import fit, predicting, reading
from all_detect_training.cells import Cells
from all_detect_training.cli import main
from all_detect_training.commands import fit as fit_command
from all_detect_training.fit import fit_ensemble
from all_detect_training.predicting import predict_p_all
from all_detect_training.presets import FitParams, MemberSpec
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.networks import build_network

SPEC = MemberSpec("mobilenet", 32, "conv_pw_2_relu")
PARAMS = FitParams(members=(SPEC,), crop_size=32, epochs=1, step_epochs=1.0, batch_size=8)
Row = tuple[str, str, str]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train one small network; read images here, without processes."""
    monkeypatch.setattr(fit_command, "PRESETS", {"tiny": PARAMS})
    monkeypatch.setattr(reading, "ProcessPoolExecutor", _Here)


class _Here:
    def __init__(self, *_: Any, **__: Any) -> None:
        self.map = map

    def shutdown(self, **_: Any) -> None:
        pass


def write_manifest(folder: Path, rows: Sequence[Row]) -> Path:
    """Draw an image for each (class, subject, split); return the CSV that lists them."""
    rng = np.random.default_rng(0)
    path = folder / "cells.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "class", "subject", "split"))
        for k, row in enumerate(rows):
            colour = (120, 70, 170) if row[0] == "ALL" else (160, 110, 170)
            pixels = (np.array(colour) + rng.normal(0, 20, (40, 40, 3))).clip(1, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{k}.png")
            writer.writerow((f"{k}.png", *row))
    return path


def run(manifest: Path, *more: str) -> list[str]:
    words = ["fit", "--preset", "tiny", "--manifest", str(manifest), "--out", str(manifest.parent / "run")]
    return [*words, "--workers", "1", *more]


def both(subjects: int = 3) -> list[Row]:
    sides = ("train", "validation", "test")
    return [(name, f"{name}{k}", sides[k % 3]) for name in ("ALL", "Hem") for k in range(subjects)]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the last line on standard error, which must be the error."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("all-detect-train: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("more", [[], ["--split", "1/3"]])
def test_one_class_only(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    rows = [row for row in both() if row[0] == "ALL"]
    assert main(run(write_manifest(tmp_path, rows), *more)) == 1
    assert "Hem" in said(capsys)
    assert not (tmp_path / "run").exists()


def test_a_class_with_one_subject(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*both(), *both()]
    alone = [(name, "Hem0" if name == "Hem" else subject, side) for name, subject, side in rows]
    assert main(run(write_manifest(tmp_path, alone), "--split", "1/3")) == 1
    assert "1 Hem subjects for 3 folds; a split by subject takes 3 Hem subjects at least" in said(capsys)


def test_an_empty_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for row in both(6) if row[2] != "validation"]
    assert main(run(write_manifest(tmp_path, rows))) == 1
    assert "no ALL image for validation in this split" in said(capsys)


def test_unreadable_images_are_left_out_but_not_a_whole_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = both(6)
    manifest = write_manifest(tmp_path, rows)
    hem_tests = [k for k, row in enumerate(rows) if row[0] == "Hem" and row[2] == "test"]
    (tmp_path / f"{hem_tests[0]}.png").write_bytes(b"no image")
    assert main(run(manifest)) == 0
    assert f"left out: {tmp_path / f'{hem_tests[0]}.png'}" in capsys.readouterr().err
    for k in hem_tests:
        (tmp_path / f"{k}.png").write_bytes(b"no image")
    assert main([*run(manifest)[:-4], "--out", str(tmp_path / "other"), "--workers", "1"]) == 1
    error = said(capsys)
    assert "no Hem cell for test could be read; see above which images were left out" in error
    assert not (tmp_path / "other").exists()
    for k in range(len(rows)):
        (tmp_path / f"{k}.png").write_bytes(b"no image")
    assert main([*run(manifest)[:-4], "--out", str(tmp_path / "third"), "--workers", "1"]) == 1
    assert "no cell found" in said(capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cells", "DIR", "--of-smears"], "--of-smears: goes with --manifest"),
        (["--cnmc", "DIR", "--of-smears"], "--of-smears: goes with --manifest"),
        (["--smears", "DIR", "--of-smears"], "--of-smears: goes with --manifest"),
        (["--manifest", "CSV", "--classes", "all=ALL,hem=Hem"], "--classes: goes with --smears or --cells"),
        (["--cnmc", "DIR", "--classes", "all=ALL,hem=Hem"], "--classes: goes with --smears or --cells"),
        (["--cells", "DIR", "--classes", "a=ALL,b=Hem,a=Hem"], "expected each folder once"),
    ],
)
@pytest.mark.parametrize("command", [["fit", "--preset", "tiny"], ["evaluate", "lite"]], ids=["fit", "evaluate"])
def test_options_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*command, *words, "--out", str(tmp_path / "out")])
    assert said in capsys.readouterr().err


def cells_and_split() -> tuple[Cells, Any]:
    rng = np.random.default_rng(0)
    is_all = np.arange(24) % 2 == 0
    crops = rng.integers(1, 255, (24, 32, 32, 3)).astype(np.uint8)
    cells = Cells(crops, is_all, np.array([f"a/{i}" for i in range(24)]), np.full(24, 30.0, np.float32))
    return cells, np.where(np.arange(24) < 16, "train", "validation")


@pytest.mark.parametrize("name", ["save_half_precision", "write_history", "np.save"])
def test_a_disk_that_fills_up_when_a_member_is_done_loses_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cells, split = cells_and_split()

    def full(file: Any, *_: Any) -> None:
        if isinstance(file, Path):
            file.write_bytes(b"a part of it")
        else:
            file.write(b"a part of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_weights(_: Any, path: Path) -> None:
        full(path)

    with monkeypatch.context() as patch:
        patch.setattr(f"all_detect_training.fit.{name}", full_weights if name == "save_half_precision" else full)
        with pytest.raises(OutputError, match=r"No space left on device.*make room.*same `all-detect-train fit`"):
            fit_ensemble(cells, split, PARAMS, tmp_path)
    assert not (tmp_path / "mobilenet.npy").exists()
    assert (tmp_path / "mobilenet.checkpoint.npz").exists()
    monkeypatch.setattr(fit, "_train_epoch", lambda *_: pytest.fail("an epoch was trained again"))
    fit_ensemble(cells, split, PARAMS, tmp_path)
    assert len(np.load(tmp_path / "mobilenet.npy")) == 24
    assert not list(tmp_path.glob("*.part"))


def write_other_network(path: Path) -> None:
    build_network("vgg16", 32).save_weights(path)


def write_no_hdf5(path: Path) -> None:
    path.write_bytes(b"no HDF5")


def write_nothing(path: Path) -> None:
    h5py.File(path, "w").close()


@pytest.mark.parametrize("write", [write_other_network, write_no_hdf5, write_nothing])
def test_trunk_weights_of_the_wrong_shape(tmp_path: Path, write: Callable[[Path], None]) -> None:
    cells, split = cells_and_split()
    (tmp_path / "trunks").mkdir()
    write(tmp_path / "trunks" / "mobilenet_notop.weights.h5")
    with pytest.raises(InputError, match=r"mobilenet_notop\.weights\.h5: no trunk of mobilenet \(") as caught:
        fit_ensemble(cells, split, PARAMS, tmp_path / "run", tmp_path / "trunks")
    assert "\n" not in str(caught.value)


def test_trunks_that_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise Exception("URL fetch failure on somewhere: None -- no network")

    monkeypatch.setattr("all_detect_training.starting.build_network", refused)
    cells, split = cells_and_split()
    with pytest.raises(InputError, match=r"imagenet: no trunk of mobilenet \(URL fetch failure"):
        fit_ensemble(cells, split, PARAMS, tmp_path / "run", "imagenet")


def test_a_gpu_without_memory_predicts_fewer_cells_at_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small:
        """Says of every cell its mean, of five at once at most."""

        def predict_on_batch(self, pixels: Any) -> Any:
            pixels = np.asarray(pixels)
            if len(pixels) > 5:
                raise RuntimeError("RESOURCE_EXHAUSTED: out of memory while trying to allocate")
            return np.stack([np.zeros(len(pixels)), pixels.mean(axis=(1, 2, 3))], axis=1).astype(np.float32)

    cells, _ = cells_and_split()
    monkeypatch.setattr(predicting, "PREDICTED_PX", 16 * SPEC.input_size**2)
    with caplog.at_level(logging.WARNING):
        p_all = predict_p_all(Small(), cells.crops, SPEC)
    assert [record.getMessage().split(" predicts ")[1][:1] for record in caplog.records] == ["8", "4"]
    alone = [predict_p_all(Small(), cells.crops[i : i + 1], SPEC)[0] for i in range(24)]
    np.testing.assert_allclose(p_all, alone, atol=1e-6)


def test_no_memory_to_predict_one_cell_is_one_line() -> None:
    class Starved:
        """Says nothing of any cell."""

        def predict_on_batch(self, _: Any) -> Any:
            raise MemoryError

    cells, _ = cells_and_split()
    with pytest.raises(InputError, match="mobilenet: out of memory with one cell at a time; give it more"):
        predict_p_all(Starved(), cells.crops, SPEC)


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "no bundle", "--cells", "no images"],
        ["ablation", "no run"],
        ["export", "no run", "--name", "mine", "--version", "1"],
        ["segmenter", "--masks", "no images", "--version", "1"],
    ],
    ids=lambda words: words[0],
)
def test_a_folder_that_cannot_be_written_is_told_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert main([*words, "--out", str(out)]) == 1
    assert re.search(rf"{re.escape(str(out))}: can't be written \(.+\); name another folder", said(capsys))
