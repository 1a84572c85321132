import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from all_detect_training import cli, plans, rounding, run_cells, runs
from all_detect_training.cells import Cells
from all_detect_training.commands import fit as fit_command
from all_detect_training.figures import figure_text
from all_detect_training.metrics import auc
from all_detect_training.predicting import predict_p_all
from all_detect_training.presets import FitParams
from all_detect_training.splits import split_contiguous
from all_detect_training.training_set import folder_set
from napari_all_detect import trust
from napari_all_detect.bundle import load_bundle
from napari_all_detect.engines import choose
from napari_all_detect.engines.openvino_runtime import computes_in_bf16, has_openvino
from napari_all_detect.ensemble import combine
from napari_all_detect.networks import build_network
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import open_scorer
from napari_all_detect.samples import draw_smear

pytestmark = [
    # A network of one layer that saw forty cells may do worse than chance.
    pytest.mark.filterwarnings("ignore:kappa of members is:UserWarning"),
]

EXPORT = ["--name", "tiny", "--version", "1.0.0"]


@dataclass(frozen=True)
class Fitted:
    """A run folder that `fit` made, from which images, and what it printed."""

    data: Path
    run: Path
    out: str
    err: str


def arguments(data: Path, run: Path, **changes: Any) -> list[str]:
    """Return the words of a `fit`; None leaves an option out."""
    values = {"preset": "tiny", "smears": data, "classes": "Benign=Hem,Early=ALL", "out": run, "mask_corner": 8}
    words = ((f"--{key.replace('_', '-')}", value) for key, value in {**values, **changes}.items() if value is not None)
    return ["fit", *(str(word) for pair in words for word in pair)]


@pytest.fixture(autouse=True)
def presets(monkeypatch: pytest.MonkeyPatch, tiny: FitParams) -> None:
    monkeypatch.setattr(fit_command, "PRESETS", {"tiny": tiny})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight smears of each class; their stains differ, so that the least of networks learns to tell them."""
    folder = tmp_path_factory.mktemp("data")
    for sub, fraction, stain in (("Benign", 0.0, "marrow"), ("Early", 1.0, "yellow")):
        (folder / sub).mkdir()
        for i in range(1, 9):
            smear = draw_smear((112, 112), n_cells=4, fraction_all=fraction, seed=i, touching=0, border=0, stain=stain)
            Image.fromarray(smear.rgb).save(folder / sub / f"im{i}.png")
    return folder


@pytest.fixture(scope="module")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory, tiny: FitParams) -> Fitted:
    run = tmp_path_factory.mktemp("runs") / "run"
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
    ):
        patch.setattr(fit_command, "PRESETS", {"tiny": tiny})
        assert cli.main(arguments(data, run)) == 0
    return Fitted(data, run, out.getvalue(), err.getvalue())


@pytest.fixture
def run(fitted: Fitted, tmp_path: Path) -> Path:
    """A copy of the run folder."""
    return Path(shutil.copytree(fitted.run, tmp_path / "run"))


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any, **__: Any) -> None:
        pytest.fail("the images were read again")

    monkeypatch.setattr(run_cells, "read_cells", read)


def test_fit_leaves_all_that_a_bundle_needs(fitted: Fitted, tiny: FitParams) -> None:
    names = {str(p.relative_to(fitted.run)) for p in fitted.run.rglob("*") if p.is_file()}
    per_member = {f"{m.architecture}{end}" for m in tiny.members for end in (".npy", ".csv")}
    weights = {f"members/{m.architecture}.weights.h5" for m in tiny.members}
    assert names == {"run.json", "cells.npz"} | per_member | weights
    record = json.loads((fitted.run / "run.json").read_text())
    cells = Cells.load(fitted.run / "cells.npz")
    split = split_contiguous(cells.image, 0.6, 0.15)
    assert record["preset"] == "tiny"
    assert record["params"] == json.loads(json.dumps(asdict(tiny)))
    assert record["data"]["classes"] == {"Benign": "Hem", "Early": "ALL"}
    assert (record["data"]["kind"], record["data"]["mask_corner_px"], record["data"]["images"]) == ("smears", 8, 16)
    early_tests = cells.image[(split == "test") & cells.is_all]
    assert record["counts"]["test"]["Early"] == {"images": len(set(early_tests)), "cells": len(early_tests)}
    assert record["trunks"] == {"vgg16": "random", "mobilenet": "random"}
    assert {"python", "keras", "numpy", "napari-all-detect", "all-detect-training"} <= set(record["versions"])
    assert str(fitted.data) not in (fitted.run / "run.json").read_text()


def test_fit_prints_the_auc_of_each_member_and_logs_to_standard_error(fitted: Fitted) -> None:
    cells = Cells.load(fitted.run / "cells.npz")
    split = split_contiguous(cells.image, 0.6, 0.15)
    rows = [line.split() for line in fitted.out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["vgg16", "mobilenet"]
    for name, *figures in rows:
        p_all = np.load(fitted.run / f"{name}.npy")
        expected = [auc(cells.is_all[split == s], p_all[split == s]) for s in ("validation", "test")]
        assert [float(f) for f in figures] == pytest.approx(expected, abs=1e-4)
    assert "vgg16: {'epoch': 4" in fitted.err
    assert fitted.err.index("vgg16: member 1 of 2") < fitted.err.index("mobilenet: member 2 of 2")
    assert "epoch" not in fitted.out


def test_fit_learns_what_is_easy(fitted: Fitted) -> None:
    # The stains differ: a few dozen updates of one block of VGG-16 tell them.
    assert float(fitted.out.splitlines()[1].split()[2]) > 0.95


@pytest.mark.usefixtures("no_reading")
def test_a_finished_fit_is_not_done_again(fitted: Fitted, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert cli.main(arguments(fitted.data, run)) == 0
    captured = capsys.readouterr()
    assert captured.out == fitted.out
    assert "mobilenet: trained already" in captured.err
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.usefixtures("no_reading")
@pytest.mark.parametrize("missing", ["mobilenet.npy", "members/mobilenet.weights.h5"])
def test_an_interrupted_fit_goes_on_with_the_member_that_is_missing(
    fitted: Fitted, run: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    (run / missing).unlink()
    kept = (run / "vgg16.npy").stat().st_mtime_ns
    assert cli.main(arguments(fitted.data, run)) == 0
    captured = capsys.readouterr()
    assert "vgg16: trained already" in captured.err
    assert "mobilenet: {'epoch': 1" in captured.err
    assert (run / "vgg16.npy").stat().st_mtime_ns == kept
    np.testing.assert_allclose(np.load(run / "mobilenet.npy"), np.load(fitted.run / "mobilenet.npy"), atol=1e-3)


def test_ctrl_c_is_one_line_that_says_how_to_go_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("all_detect_training.run_cells.read_cells", interrupted)
    assert cli.main(arguments(data, tmp_path / "run")) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "all-detect-train: interrupted; the same command goes on from what is saved"


def ended(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program that ends itself; a shell ignores Ctrl-C for what runs in its background, so that is undone."""
    begin = "import gc, os, signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.skipif(os.name == "nt", reason="Windows ends the process that is sent a signal")
@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_interrupted_while_it_is_imported_it_says_one_line(sent: str) -> None:
    code = f"""
class Interrupting:
    def find_spec(self, name, *_):
        if name == "sklearn":
            os.kill(os.getpid(), signal.{sent})
sys.meta_path.insert(0, Interrupting())
from all_detect_training.cli import run
run()
"""
    done = ended(code)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "all-detect-train: interrupted\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows ends the process that is sent a signal")
def test_an_interruption_that_python_drops_comes_again() -> None:
    """What a hook of the garbage collector raises is dropped, and JAX, which Keras imports, has one."""
    code = """
from all_detect_training import cli, program
def hook(*_):
    gc.callbacks.remove(hook)
    os.kill(os.getpid(), signal.SIGINT)
def collect():
    gc.callbacks.append(hook)
    gc.collect()
    for _ in range(100):
        time.sleep(0.1)
program.main = collect
cli.run()
"""
    done = ended(code)
    assert (done.returncode, done.stderr) == (130, "all-detect-train: interrupted\n")


def test_other_errors_that_python_drops_are_told() -> None:
    code = """
from all_detect_training import cli, program
class Failing:
    def __del__(self):
        raise ValueError("told as ever")
program.main = lambda: Failing() and 0
cli.run()
"""
    done = ended(code)
    assert done.returncode == 0
    assert "told as ever" in done.stderr


def test_cells_lost_before_they_were_cached_are_read_again(
    fitted: Fitted, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = Cells.load(run / "cells.npz")
    record = (run / "run.json").read_bytes()
    (run / "cells.npz").unlink()
    monkeypatch.setattr(run_cells, "read_cells", lambda *_, **__: cells)
    assert cli.main(arguments(fitted.data, run)) == 0
    np.testing.assert_array_equal(Cells.load(run / "cells.npz").crops, cells.crops)
    assert (run / "run.json").read_bytes() == record


@pytest.mark.usefixtures("no_reading")
def test_a_preset_of_a_file_goes_on_with_its_own_values_only(
    fitted: Fitted, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's own record is such a file, and so is its bundle's."""
    assert cli.main(["export", str(fitted.run), "--out", str(tmp_path / "out"), *EXPORT]) == 0
    for held in (run / "run.json", tmp_path / "out" / "bundle.json"):
        assert cli.main(arguments(fitted.data, run, preset=held)) == 0
        assert "mobilenet: trained already" in capsys.readouterr().err
    record = json.loads((run / "run.json").read_text())
    record["params"]["highest_rate"] = 1e-3
    (tmp_path / "mine.json").write_text(json.dumps(record))
    assert cli.main(arguments(fitted.data, run, preset=tmp_path / "mine.json")) == 1
    assert "params.highest_rate is 0.002 there and 0.001 here" in capsys.readouterr().err


@pytest.mark.usefixtures("no_reading")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 7}, "params.seed is 2021 there and 7 here"),
        ({"epochs": 8}, "params.epochs is 4 there and 8 here; params.step_epochs is 2.0 there and 4.0 here"),
        ({"mask_corner": 9}, "data.mask_corner_px is 8 there and 9 here"),
        ({"classes": "Benign=ALL,Early=Hem"}, "data.classes.Benign is Hem there and ALL here"),
        ({"trunks": "imagenet"}, "trunks.mobilenet is random there and imagenet here"),
        ({"members": "vgg16"}, "trunks.mobilenet is random there and None here"),
    ],
)
def test_a_folder_made_otherwise_is_refused_and_what_differs_is_said(
    fitted: Fitted, run: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    assert cli.main(arguments(fitted.data, run, **changes)) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert error.startswith("all-detect-train: ")


@pytest.mark.usefixtures("no_reading")
def test_other_images_are_refused(
    fitted: Fitted, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(fitted.data, tmp_path / "moved"))
    assert cli.main(arguments(moved, run)) == 0
    shutil.copyfile(moved / "Early" / "im8.png", moved / "Early" / "im9.png")
    assert cli.main(arguments(moved, run)) == 1
    assert "data.images is 16 there and 17 here" in capsys.readouterr().err
    (moved / "Early" / "im8.png").unlink()
    assert cli.main(arguments(moved, run)) == 1
    error = capsys.readouterr().err
    assert "data.images_sha256 is" in error
    assert "data.images is" not in error


def test_a_folder_with_something_else_in_it_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert cli.main(arguments(data, tmp_path)) == 1
    assert "name a new or an empty folder" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": "Benign=Hem,Nowhere=ALL"}, "no sub-folder 'Nowhere'"),
        ({"trunks": "nowhere"}, "nowhere: no such folder"),
    ],
)
def test_errors_of_the_input_are_one_line_and_1(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    assert cli.main(arguments(data, tmp_path / "run", **changes)) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_the_same_cell_on_two_sides_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders of cells are split in blocks; copies of one image may lie in two of them."""
    random, cells = np.random.default_rng(0), tmp_path / "cells"
    for name in ("all", "hem"):
        (cells / name).mkdir(parents=True)
        for k in range(10):
            Image.fromarray(random.integers(1, 255, (32, 32, 3), np.uint8)).save(cells / name / f"{k}.png")
    shutil.copy(cells / "all/1.png", cells / "all/9.png")
    words = arguments(cells, tmp_path / "run", smears=None, cells=cells, classes=None, mask_corner=None)
    assert cli.main(words) == 1
    assert "the same cell is on two sides of the split: all/1.png = all/9.png" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": "huge"}, "argument --preset: 'huge'; expected tiny, or a JSON file"),
        ({"classes": "Benign=normal"}, "expected folders and ALL or Hem"),
        ({"classes": "fold_0/all=ALL,fold_0/hem=Hem"}, "expected folders and ALL or Hem"),
        ({"smears": None}, "--smears"),
        ({"cells": "there"}, "not allowed with argument"),
        ({"smears": None, "cells": "there"}, "--mask-corner: goes with --smears"),
        ({"members": "vgg16,resnet"}, "--members: vgg16,resnet; expected some of vgg16,mobilenet"),
        ({"epochs": 0}, "whole number of at least 1"),
        ({"stain_jitter": 1.5}, "expected a number between 0 and 1"),
        ({"stain_normalisation": "vahadane"}, "--stain-normalisation"),
        ({"workers": "many"}, "whole number of at least 1"),
    ],
)
def test_bad_usage_is_2(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments(data, tmp_path / "run", **changes))
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["nonsense", "evaluate", "ablation", ""])
def test_only_what_exists_can_be_asked_for(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(command.split())
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_trunks_are_told_by_name_and_digest(data: Path, tmp_path: Path, tiny: FitParams) -> None:
    trunks = tmp_path / "trunks"
    trunks.mkdir()
    (trunks / "vgg16_notop.weights.h5").write_bytes(b"abc")
    classes = {"Benign": "Hem", "Early": "ALL"}
    given = folder_set(data, classes, "smears")
    plan = plans.plan_run(given, mask_corner_px=0, preset="tiny", params=tiny, trunks=trunks)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert plan["trunks"] == {"vgg16": f"vgg16_notop.weights.h5, SHA-256 {digest}", "mobilenet": "random"}
    assert str(tmp_path) not in json.dumps(plan)


def test_export_writes_a_bundle_that_loads_and_says_the_runs_figures(
    fitted: Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("Drawn, not real: ☐", encoding="utf-8")
    texts = ["--dataset-name", "Drawn smears", "--license", "CC0", "--description", "Tells stains.", "--data-notes"]
    assert cli.main(["export", str(fitted.run), "--out", str(tmp_path / "out"), *EXPORT, *texts, str(notes)]) == 0
    bundle = load_bundle(tmp_path / "out")
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.license) == ("tiny", "1.0.0", "CC0")
    assert manifest.description == "Tells stains."
    assert manifest.training["dataset"]["name"] == "Drawn smears"
    trained = manifest.training["trained"]["mobilenet"]
    assert trained == {"epochs": 4, "kept": trained["kept"], "batch_sizes": [8]}
    assert manifest.created.isoformat() == json.loads((fitted.run / "run.json").read_text())["created"]
    assert "Drawn, not real: ☐" in bundle.card
    printed = capsys.readouterr().out
    for name, _, test_auc in (line.split() for line in fitted.out.splitlines()[1:]):
        figure = manifest.metrics["members"][name]["cell"]["auc"]
        assert figure["value"] == pytest.approx(float(test_auc), abs=1e-4)
        assert f"| {name} | {figure_text(figure)} |" in bundle.card
    value = manifest.metrics["ensembles"]["kappa"]["cell"]["auc"]["value"]
    assert f"2 members; WEN-kappa on {manifest.metrics['cells']} test cells: AUC {value:.3f}" in printed


def test_export_finds_out_which_members_may_compute_in_bf16(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (has_openvino() and computes_in_bf16()):
        pytest.skip("needs OpenVINO and a processor that computes in bf16")
    words = ["export", str(fitted.run), *EXPORT, "--bf16"]
    assert cli.main([*words, "--out", str(tmp_path / "few")]) == 1
    assert "expected 1000 at least to judge bf16 by" in capsys.readouterr().err
    monkeypatch.setattr(rounding, "CELLS", 3)
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    bundle, cells = load_bundle(tmp_path / "out"), Cells.load(fitted.run / "cells.npz")
    rounded, on_test = bundle.manifest.bf16, bundle.manifest.metrics["trust"]["bf16"]
    assert rounded is not None
    side = split_contiguous(cells.image, 0.6, 0.15)
    assert (rounded.n, on_test["n"]) == ((side == "validation").sum(), (side == "test").sum())
    assert min(rounded.same_calls, rounded.expected) >= 0.999
    assert choose(bundle, ScoreParams(device="cpu")).precision == rounded.precision
    assert "may compute in bf16" in bundle.card
    assert "--bf16" in bundle.card

    # What the card says of the test cells is what scoring them gives.
    p_all = {}
    for precision in ("fp32", rounded.precision):
        scorer = open_scorer(ScoreParams(bundle=str(tmp_path / "out"), engine="openvino", precision=precision))
        votes = scorer.engine.predict(cells.crops[side == "test"])
        p_all[precision] = trust.calibrate(combine(votes, scorer.weights)[:, 1], scorer.temperature)
    change = np.abs(p_all[rounded.precision] - p_all["fp32"])
    assert on_test["largest_change"] == pytest.approx(change.max(), abs=1e-4)
    assert on_test["mean_change"] == pytest.approx(change.mean(), abs=1e-4)


def test_as_many_members_compute_in_bf16_as_bear_it(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["export", str(fitted.run), "--out", str(tmp_path / "out"), *EXPORT]) == 0
    run, spoilt = runs.load_run(fitted.run), set[int]()

    def engine(precision: str) -> Any:
        def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
            p = np.linspace(0, 1, 2 * len(crops), dtype=np.float32).reshape(-1, 2)
            for k in spoilt if precision == "bf16" else ():
                p[:, k] = 1 - p[:, k]
            return np.stack([1 - p, p], axis=2)

        return SimpleNamespace(predict=predict)

    opened = rounding.open_scorer
    monkeypatch.setattr(rounding, "CELLS", 3)
    monkeypatch.setattr(
        rounding,
        "open_scorer",
        lambda p: replace(opened(p), engine=engine("fp32"), params=replace(p, weighting="equal")),
    )
    monkeypatch.setattr(rounding, "open_engine", lambda bundle, p: engine("bf16"))
    for broken, expected in ((set(), "bf16"), ({0}, "fp32,bf16"), ({1}, "bf16,fp32"), ({0, 1}, None)):
        spoilt.clear()
        spoilt.update(broken)
        found, on_test = rounding.bf16_facts(tmp_path / "out", run)
        assert (found is None) == (on_test is None) == (expected is None)
        assert found is None or found["precision"] == expected


def test_members_of_the_bundle_predict_what_was_measured(fitted: Fitted, tmp_path: Path, tiny: FitParams) -> None:
    assert cli.main(["export", str(fitted.run), "--out", str(tmp_path / "out"), *EXPORT]) == 0
    bundle, cells = load_bundle(tmp_path / "out"), Cells.load(fitted.run / "cells.npz")
    for member, spec in zip(bundle.manifest.members, tiny.members, strict=True):
        network = build_network(member.architecture, member.input_size, member.cut)
        network.load_weights(bundle.weights(member))
        measured = np.load(fitted.run / f"{member.name}.npy")
        np.testing.assert_allclose(predict_p_all(network, cells.crops, spec), measured, atol=1e-5)
        with h5py.File(bundle.weights(member)) as file:
            assert file["layers/conv2d/vars/0"].dtype == np.float16


def test_export_of_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(tmp_path), "--out", str(tmp_path / "out"), *EXPORT]) == 1
    assert "no run.json" in capsys.readouterr().err


def test_notes_that_cannot_be_read_are_refused(
    fitted: Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes.md"
    words = ["export", str(fitted.run), "--out", str(tmp_path / "out"), *EXPORT, "--data-notes", str(notes)]
    assert cli.main(words) == 1
    notes.write_bytes(b"\xff\xfe\xff")
    assert cli.main(words) == 1
    assert capsys.readouterr().err.count("can't be read as UTF-8 text") == 2
