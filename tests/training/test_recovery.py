"""A training that is killed, starved of memory, edited or diverges: on from where it was, or one clear line."""

import csv
import errno
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from all_detect_training import fit, plans, run_cells
from all_detect_training.cells import Cells
from all_detect_training.cli import main
from all_detect_training.commands import fit as fit_command
from all_detect_training.commands.arguments import at_least
from all_detect_training.fit import fit_ensemble, fit_member
from all_detect_training.presets import FitParams, MemberSpec
from all_detect_training.starting import refuse_no_trunks
from all_detect_training.training_set import TrainingSet, manifest_set
from all_detect_training.weights import round_to_half
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.networks import build_network
from napari_all_detect.results import LOCK, locked_folder

SPEC = MemberSpec("mobilenet", 32, "conv_pw_1_relu")
PARAMS = FitParams(members=(SPEC,), crop_size=32, epochs=3, step_epochs=2.0, batch_size=8, dropout=0.3)
Split = NDArray[np.str_]


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Forty squares whose colours overlap."""
    rng = np.random.default_rng(0)
    is_all = np.arange(40) % 2 == 0
    colour = np.where(is_all[:, None, None, None], (120, 70, 170), (160, 110, 170)) + rng.normal(0, 25, (40, 1, 1, 3))
    crops = (colour + rng.normal(0, 20, (40, 32, 32, 3))).clip(1, 255).astype(np.uint8)
    return Cells(crops, is_all, np.array([f"a/{i}" for i in range(40)]), np.full(40, 30.0, np.float32))


@pytest.fixture(scope="module")
def split() -> Split:
    return np.where(np.arange(40) < 26, "train", "validation")


class Training:
    """Stands in for `_train_epoch`: runs out of memory above a batch size, and is killed in a call."""

    def __init__(self, largest: int = 99, killed_in: int = 0, starved_from: int = 1) -> None:
        self.real, self.largest, self.killed_in, self.starved_from = fit._train_epoch, largest, killed_in, starved_from
        self.calls = 0
        self.rates: list[float] = []

    def __call__(self, network: Any, cells: Cells, order: Any, spec: Any, params: FitParams, rng: Any) -> float:
        if params.batch_size > self.largest and self.calls + 1 >= self.starved_from:
            raise MemoryError("out of memory")
        self.calls += 1
        if self.calls == self.killed_in:
            raise KeyboardInterrupt
        self.rates.append(float(network.optimizer.learning_rate))
        return self.real(network, cells, order, spec, params, rng)


def history(run: Path) -> list[dict[str, float]]:
    with (run / "mobilenet.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("largest", [4, 99], ids=["memory as before", "memory free by now"])
def test_a_killed_fit_goes_on_with_the_batch_that_was_halved(
    cells: Cells, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fit, "_train_epoch", Training(largest=4))
        fit_ensemble(cells, split, PARAMS, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr(fit, "_train_epoch", Training(largest=4, killed_in=3))
        with pytest.raises(KeyboardInterrupt):
            fit_ensemble(cells, split, PARAMS, tmp_path / "killed")
    resumed = Training(largest=largest)
    monkeypatch.setattr(fit, "_train_epoch", resumed)
    fit_ensemble(cells, split, PARAMS, tmp_path / "killed")
    assert resumed.calls == 1
    found, expected = history(tmp_path / "killed"), history(tmp_path / "undisturbed")
    assert [row["batch_size"] for row in found] == [4, 4, 4]
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-4)


def test_memory_that_runs_out_later_loses_no_epoch(
    cells: Cells, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, starved = Training(), Training(largest=4, starved_from=3)
    with monkeypatch.context() as patch:
        patch.setattr(fit, "_train_epoch", plain)
        fit_member(cells, split, SPEC, PARAMS, None, tmp_path / "plain.npz", tmp_path / "plain.csv")
    monkeypatch.setattr(fit, "_train_epoch", starved)
    fit_ensemble(cells, split, PARAMS, tmp_path)
    assert [(row["epoch"], row["batch_size"]) for row in history(tmp_path)] == [(1, 8), (2, 8), (3, 4)]
    # Each epoch begins at the same place of the rate's cycle, however many updates it has; not quite, as they round.
    assert starved.rates == pytest.approx(plain.rates, rel=0.1)


@pytest.mark.parametrize("keep", [0.0, 0.5], ids=["empty", "cut short"])
def test_a_damaged_checkpoint_is_named_with_what_to_do(cells: Cells, split: Split, tmp_path: Path, keep: float) -> None:
    path = tmp_path / "mobilenet.checkpoint.npz"
    np.savez(path, facts=np.zeros(1000))
    path.write_bytes(path.read_bytes()[: round(keep * path.stat().st_size)])
    for call in (
        lambda: fit_ensemble(cells, split, PARAMS, tmp_path),
        lambda: fit_member(cells, split, SPEC, PARAMS, None, path, tmp_path / "mobilenet.csv"),
    ):
        with pytest.raises(InputError, match=r"mobilenet\.checkpoint\.npz: damaged .*remove it, and the member is"):
            call()


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-100], lambda b: b[:80] + b"!!!!" + b[84:]])
def test_damaged_cells_are_named_with_what_to_do(
    cells: Cells, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "cells.npz"
    cells.save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"cells\.npz: damaged .*remove it, and the same `all-detect-train fit`"):
        Cells.load(path)


@pytest.mark.parametrize("of", ["loss", "probabilities", "weights"])
def test_a_training_that_diverges_stops_with_member_epoch_and_rate(
    cells: Cells, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    train_epoch, epochs = fit._train_epoch, []

    def diverging(network: Any, *arguments: Any) -> float:
        epochs.append(1)
        loss = train_epoch(network, *arguments)
        if len(epochs) < 2:
            return loss
        if of != "loss":
            network.set_weights([np.full_like(w, np.nan) for w in network.get_weights()])
        if of == "weights":
            monkeypatch.setattr(fit, "predict_p_all", lambda _, crops, *__: np.full(len(crops), 0.5, np.float32))
        return float("inf") if of == "loss" else loss

    monkeypatch.setattr(fit, "_train_epoch", diverging)
    said = rf"mobilenet: diverged in epoch 2, at rates of up to 0\.02 .* for {14 if of == 'probabilities' else 0} of 14"
    with pytest.raises(
        InputError, match=rf"{said}.*lower highest_rate.*--preset.*new folder; the epochs before are kept"
    ):
        fit_ensemble(cells, split, replace(PARAMS, highest_rate=0.02), tmp_path)
    assert len(history(tmp_path)) == 1
    assert (tmp_path / "mobilenet.checkpoint.npz").exists()


@pytest.mark.parametrize(("value", "said"), [(5.3e8, r"5\.3e\+08"), (np.nan, "nan")])
def test_weights_that_grew_without_bounds_are_an_error_of_the_input(value: float, said: str) -> None:
    network = build_network("mobilenet", 32, "conv_pw_1_relu")
    network.set_weights([np.full_like(w, value) for w in network.get_weights()])
    with pytest.raises(InputError, match=f"mobilenet: a weight of {said} does not fit half precision .*lower rate"):
        round_to_half(network)


def test_a_trunk_of_weights_that_are_no_numbers_is_refused(cells: Cells, split: Split, tmp_path: Path) -> None:
    import keras

    path = tmp_path / "mobilenet_notop.weights.h5"
    trunk = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3))
    weights = trunk.get_weights()
    weights[0][0, 0, 0, 0] = np.nan
    trunk.set_weights(weights)
    trunk.save_weights(path)
    with pytest.raises(InputError, match=r"mobilenet_notop\.weights\.h5: .* NaN or infinite"):
        fit_ensemble(cells, split, PARAMS, tmp_path / "run", tmp_path)


def test_a_folder_without_any_trunk_is_refused(tmp_path: Path) -> None:
    members = (SPEC, MemberSpec("vgg16", 32))
    (tmp_path / "other_notop.weights.h5").touch()
    with pytest.raises(InputError, match=r"one or more of mobilenet_notop\.weights\.h5, vgg16_notop\.weights\.h5"):
        refuse_no_trunks(tmp_path, members)
    (tmp_path / "vgg16_notop.weights.h5").touch()
    refuse_no_trunks(tmp_path, members)


def test_the_command_refuses_a_folder_without_any_trunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fit_command, "PRESETS", {"tiny": PARAMS})
    (tmp_path / "trunks").mkdir()
    words = ["fit", "--preset", "tiny", "--cells", str(tmp_path), "--trunks", str(tmp_path / "trunks")]
    assert main([*words, "--out", str(tmp_path / "run")]) == 1
    assert "expected one or more of mobilenet_notop.weights.h5" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", ["4294967296", "5000000000", "-1", "1.5"])
def test_a_seed_that_numpy_cannot_take_is_bad_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: str
) -> None:
    words = ["fit", "--preset", "lite", "--cells", str(tmp_path), "--out", str(tmp_path / "run"), f"--seed={seed}"]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert f"'{seed}'; expected a whole number from 0 to 4294967295" in capsys.readouterr().err


def test_the_largest_seed_is_taken() -> None:
    assert at_least(0, at_most=2**32 - 1)("4294967295") == 2**32 - 1


Row = tuple[str, str, str]
SIDES = ("train", "validation", "test")
ROWS: Sequence[Row] = [(name, f"{name}{i}", SIDES[i % 3]) for name in ("ALL", "Hem") for i in range(6)]


@pytest.fixture
def listed(tmp_path: Path) -> Callable[[Sequence[Row]], TrainingSet]:
    """Draw an image for each row, and return a function that lists them by (class, subject, side)."""
    rng = np.random.default_rng(0)
    for k in range(len(ROWS)):
        Image.fromarray(rng.integers(1, 255, (40, 40, 3)).astype(np.uint8)).save(tmp_path / f"{k}.png")

    def manifest(rows: Sequence[Row]) -> TrainingSet:
        table = [("path", "class", "subject", "split"), *((f"{k}.png", *row) for k, row in enumerate(rows))]
        with (tmp_path / "cells.csv").open("w", newline="") as file:
            csv.writer(file).writerows(table)
        return manifest_set(tmp_path / "cells.csv", "cells", None, 0)

    return manifest


@pytest.fixture(autouse=True)
def read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the cells of images up instead of reading them in processes."""

    def read(images: Any, *_: Any, crop_size: int, **__: Any) -> Cells:
        rng = np.random.default_rng(1)
        crops = rng.integers(1, 255, (len(images), crop_size, crop_size, 3)).astype(np.uint8)
        names, is_all = [i.image for i in images], [i.is_all for i in images]
        return Cells(crops, np.array(is_all), np.array(names), np.full(len(images), 30.0, np.float32))

    monkeypatch.setattr(run_cells, "read_cells", read)


def open_run(run: Path, given: TrainingSet) -> Cells:
    plan = plans.plan_run(given, mask_corner_px=0, preset="tiny", params=PARAMS, trunks=None)
    return run_cells.open_cells(run, given, plan, 1)


def changed(at: int, row: Row) -> list[Row]:
    return [row if k == at else old for k, old in enumerate(ROWS)]


@pytest.mark.parametrize(
    "rows",
    [changed(0, ("ALL", "ALL0", "test")), changed(3, ("ALL", "ALL0", "train")), changed(0, ("Hem", "ALL0", "train"))],
    ids=["side", "subject", "class"],
)
def test_a_manifest_that_was_edited_is_refused(
    tmp_path: Path, listed: Callable[[Sequence[Row]], TrainingSet], rows: Sequence[Row]
) -> None:
    run = tmp_path / "run"
    open_run(run, listed(ROWS))
    table = (run / "images.csv").read_bytes()
    with pytest.raises(OutputError, match=r"was made otherwise: .*data\.images_sha256 is .*Name another folder"):
        open_run(run, listed(rows))
    assert (run / "images.csv").read_bytes() == table
    open_run(run, listed(ROWS))


@pytest.mark.parametrize("part", ["run.json", "images.csv", "cells.npz"])
def test_a_fit_killed_at_its_start_is_begun_again(
    tmp_path: Path, listed: Callable[[Sequence[Row]], TrainingSet], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """A part of the file that it was writing lies there, beside those that are whole."""
    run, rename = tmp_path / "run", Path.replace

    def killed(path: Path, target: Any) -> Path:
        if path.name == f"{part}.part":
            path.write_bytes(path.read_bytes()[:20])
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # a process that is killed tidies nothing up
        with pytest.raises(KeyboardInterrupt):
            open_run(run, listed(ROWS))
    assert (run / f"{part}.part").stat().st_size == 20
    open_run(run, listed(ROWS))
    assert {path.name for path in run.iterdir()} == {"run.json", "images.csv", "cells.npz"}
    assert json.loads((run / "run.json").read_text())["counts"]["test"]["ALL"] == {"images": 2, "cells": 2}
    assert (run / "images.csv").read_text().splitlines()[:2] == ["image,subject,split", "ALL/0.png,,train"]


def test_a_second_fit_into_one_folder_is_refused(
    tmp_path: Path,
    listed: Callable[[Sequence[Row]], TrainingSet],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fit_command, "PRESETS", {"tiny": PARAMS})
    monkeypatch.setattr(fit_command, "fit_ensemble", lambda *_: pytest.fail("the second one trains"))
    run, given = tmp_path / "run", listed(ROWS)
    words = ["fit", "--preset", "tiny", "--manifest", str(given.source), "--out", str(run)]
    for begun in (False, True):
        with locked_folder(run):
            if begun:
                open_run(run, given)
            assert main(words) == 1
        assert f"another run writes into {run} now; wait for it" in capsys.readouterr().err


def test_the_lock_of_a_killed_fit_keeps_nobody_out(
    tmp_path: Path, listed: Callable[[Sequence[Row]], TrainingSet]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK).touch()
    with run_cells.locked_run(run):
        open_run(run, listed(ROWS))
        assert (run / LOCK).exists()
    assert {path.name for path in run.iterdir()} == {"run.json", "images.csv", "cells.npz"}
    with pytest.raises(KeyboardInterrupt), run_cells.locked_run(tmp_path / "new/deep"):
        raise KeyboardInterrupt
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOLCK])
def test_a_folder_that_cannot_be_locked_is_used_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def refused(self: FileLock) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(FileLock, "acquire", refused)
    with run_cells.locked_run(tmp_path):
        assert f"{tmp_path} can't be locked" in caplog.text
    code = errno.ENOSPC
    with pytest.raises(OutputError, match="can't be written to"), run_cells.locked_run(tmp_path):
        pytest.fail("a full disk is another matter")


def test_a_disk_that_is_full_at_the_start_says_to_make_room(
    tmp_path: Path, listed: Callable[[Sequence[Row]], TrainingSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Cells, "save", full)
        with pytest.raises(OutputError, match=r"No space left on device\); make room, then go on with the same"):
            open_run(run, listed(ROWS))
    open_run(run, listed(ROWS))
    assert (run / "cells.npz").exists()


@pytest.mark.parametrize("lost", ["versions", "data", ""], ids=["versions", "data", "all"])
def test_going_on_with_a_damaged_record_is_refused(
    tmp_path: Path, listed: Callable[[Sequence[Row]], TrainingSet], lost: str
) -> None:
    run = tmp_path / "run"
    open_run(run, listed(ROWS))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({k: v for k, v in record.items() if k != lost} if lost else []))
    with pytest.raises(InputError, match=rf"another version \(no .*{lost}.*\); train into a new folder"):
        open_run(run, listed(ROWS))


def test_all_is_known_before_the_folder_is_made(
    tmp_path: Path, listed: Callable[[Sequence[Row]], TrainingSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed() -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        # It imports Keras, which takes seconds.
        patch.setattr(plans, "versions", killed)
        with pytest.raises(KeyboardInterrupt):
            open_run(run, listed(ROWS))
    assert not list(run.glob("*"))


def test_a_folder_that_holds_something_else_is_not_begun_in(
    tmp_path: Path, listed: Callable[[Sequence[Row]], TrainingSet]
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "images.csv").write_text("image,subject,split\n")
    with pytest.raises(OutputError, match=r"holds something, but no run\.json"):
        open_run(tmp_path / "own", listed(ROWS))
    assert (tmp_path / "own" / "images.csv").read_text() == "image,subject,split\n"
