import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from all_detect_training import bundling
from all_detect_training.bundling import About, export_bundle
from all_detect_training.card.held_out import subjects_section
from all_detect_training.cells import Cells
from all_detect_training.held_out import held_out_figures
from all_detect_training.presets import FitParams
from all_detect_training.runs import Run, load_run
from all_detect_training.splits import split_contiguous
from napari_all_detect.bundle import load_bundle
from napari_all_detect.bundle.manifest import Validation
from napari_all_detect.errors import BundleError, InputError, OutputError
from napari_all_detect.params import WEIGHTINGS
from napari_all_detect.trust import calibrate

ABOUT = About(name="tiny", version="1.2.3", dataset_name="Drawn smears", dataset_citation="Nobody 2026")
MakeRun = Callable[[Mapping[str, NDArray[np.floating]]], Path]


def image_means(images: NDArray[np.str_], values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of the values in each image, in the order of `numpy.unique(images)`."""
    return np.array([values[images == image].mean() for image in np.unique(images)])


def interval_over_images(
    figure: Callable[[NDArray[np.intp]], float], images: NDArray[np.str_], *, n: int, seed: int
) -> tuple[float, float]:
    """Return a percentile bootstrap interval that draws whole images, by going through every one that is drawn."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(images == image) for image in np.unique(images)]
    draws = (rng.integers(len(members), size=len(members)) for _ in range(n))
    values = [figure(np.concatenate([members[i] for i in draw])) for draw in draws]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


@pytest.fixture(autouse=True)
def uncalibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures by hand are those of the predictions as they are."""
    monkeypatch.setattr("all_detect_training.trusting.fit_temperature", lambda *_: 1.0)


def split_of(cells: Cells) -> NDArray[np.str_]:
    return split_contiguous(cells.image, 0.6, 0.15)


@pytest.fixture
def by_hand(made_up_cells: Cells) -> NDArray[np.float64]:
    """Predictions whose figures can be counted on paper; perfect on the validation cells."""
    p_all = np.where(made_up_cells.is_all, 0.9, 0.1)
    test = {
        "Benign/7.png": [0.1, 0.2, 0.6],
        "Benign/8.png": [0.3, 0.7, 0.8],
        "Early/7.png": [0.9, 0.9, 0.4],
        "Early/8.png": [0.6, 0.2, 0.9],
        "Pre/7.png": [0.95] * 3,
        "Pre/8.png": [0.95] * 3,
    }
    for image, values in test.items():
        p_all[made_up_cells.image == image] = values
    return p_all


@pytest.fixture
def two_members(made_up_cells: Cells) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    signal = np.where(made_up_cells.is_all, 0.62, 0.38)
    return {
        name: (signal + rng.normal(0, spread, len(made_up_cells))).clip(0, 1)
        for name, spread in (("vgg16", 0.15), ("mobilenet", 0.45))
    }


def exported(run: Path, out: Path) -> dict[str, Any]:
    export_bundle(run, out, ABOUT)
    content: dict[str, Any] = json.loads((out / "bundle.json").read_text(encoding="utf-8"))
    return content


def values(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: figure["value"] for name, figure in figures.items()}


def test_figures_counted_by_hand(make_run: MakeRun, by_hand: NDArray[np.float64], tmp_path: Path) -> None:
    metrics = exported(make_run({"vgg16": by_hand}), tmp_path / "out")["metrics"]
    assert (metrics["cells"], metrics["images"], metrics["threshold"]) == (18, 6, 0.5)
    cell, image = metrics["members"]["vgg16"]["cell"], metrics["members"]["vgg16"]["image"]
    # Of 6 Hem cells 3 are called ALL, of 12 ALL cells 2 are called Hem.
    assert values(cell) == pytest.approx(
        {
            "auc": 62 / 72,  # Pre wins 36 pairs; Early 18 + 3.5 + 3 + 1.5
            "accuracy": 13 / 18,
            "f1": 20 / 25,
            "kappa": (13 / 18 - 186 / 324) / (1 - 186 / 324),
            "balanced_accuracy": (10 / 12 + 3 / 6) / 2,
            "sensitivity": 10 / 12,
            "specificity": 3 / 6,
        },
        abs=1e-6,
    )
    # Images' means: Hem 0.3, 0.6; Early 0.733, 0.567; Pre 0.95, 0.95.
    assert values(image) == pytest.approx(
        {
            "auc": 7 / 8,
            "accuracy": 5 / 6,
            "f1": 8 / 9,
            "kappa": (5 / 6 - 22 / 36) / (1 - 22 / 36),
            "balanced_accuracy": 0.75,
            "sensitivity": 1,
            "specificity": 0.5,
        },
        abs=1e-6,
    )
    detail = metrics["kappa_detail"]
    assert detail["confusion"]["cell"] == [[3, 3], [2, 10]]
    assert detail["confusion"]["image"] == [[1, 1], [0, 4]]
    by_folder = detail["auc_by_folder"]
    assert list(by_folder) == ["Early", "Pre"]
    assert by_folder["Early"]["cell"]["value"] == pytest.approx(26 / 36, abs=1e-6)
    assert by_folder["Early"]["image"]["value"] == pytest.approx(3 / 4, abs=1e-6)
    # Every resample gives the same: that is no interval.
    assert by_folder["Pre"]["cell"] == {"value": 1.0, "low": None, "high": None}


def test_an_ensemble_of_one_member_is_that_member(
    make_run: MakeRun, by_hand: NDArray[np.float64], tmp_path: Path
) -> None:
    metrics = exported(make_run({"vgg16": by_hand}), tmp_path / "out")["metrics"]
    assert set(metrics["ensembles"]) == {"equal", "accuracy", "auc", "f1", "kappa"}
    for row in metrics["ensembles"].values():
        assert row == metrics["members"]["vgg16"]


def test_ensembles_are_eq_1_and_2_with_the_validation_figures(
    make_run: MakeRun, two_members: dict[str, NDArray[np.float64]], made_up_cells: Cells, tmp_path: Path
) -> None:
    bundle = exported(make_run(two_members), tmp_path / "out")
    split, is_all = split_of(made_up_cells), made_up_cells.is_all
    one, two = (two_members[name].astype(np.float32).astype(float) for name in ("vgg16", "mobilenet"))
    side = split == "validation"
    for member, p in zip(bundle["members"], (one, two), strict=True):
        call = p[side] >= 0.5
        assert member["validation"] == pytest.approx(
            {
                "accuracy": sklearn_metrics.accuracy_score(is_all[side], call),
                "auc": sklearn_metrics.roc_auc_score(is_all[side], p[side]),
                "f1": sklearn_metrics.f1_score(is_all[side], call),
                "kappa": sklearn_metrics.cohen_kappa_score(is_all[side], call),
                "n": 9,
            },
            abs=1e-6,
        )
    side = split == "test"
    for weighting, row in bundle["metrics"]["ensembles"].items():
        a, b = (1, 1) if weighting == "equal" else (m["validation"][weighting] for m in bundle["members"])
        assert a != b or weighting == "equal"
        p = ((a * one + b * two) / (a + b))[side]
        assert row["cell"]["auc"]["value"] == pytest.approx(sklearn_metrics.roc_auc_score(is_all[side], p), abs=1e-6)
        accuracy = sklearn_metrics.accuracy_score(is_all[side], p >= 0.5)
        assert row["cell"]["accuracy"]["value"] == pytest.approx(accuracy, abs=1e-6)


def test_intervals_are_those_of_resampled_images(
    make_run: MakeRun, two_members: dict[str, NDArray[np.float64]], made_up_cells: Cells, tmp_path: Path
) -> None:
    # One image is called wrongly, so that the figure of images has an interval too.
    two_members["mobilenet"][made_up_cells.image == "Early/8.png"] *= 0.4
    metrics = exported(make_run(two_members), tmp_path / "out")["metrics"]
    side = split_of(made_up_cells) == "test"
    is_all, images = made_up_cells.is_all[side], made_up_cells.image[side]
    p_all = two_members["mobilenet"].astype(np.float32)[side]
    settings = metrics["interval"]

    def figure_of_cells(which: NDArray[np.intp]) -> float:
        if len(set(is_all[which])) < 2:
            return float("nan")
        return float(sklearn_metrics.roc_auc_score(is_all[which], p_all[which]))

    def figure_of_images(which: NDArray[np.intp]) -> float:
        truth = image_means(images, is_all) > 0.5
        return float(((image_means(images, p_all) >= 0.5) == truth)[which].mean())

    expected = interval_over_images(figure_of_cells, images, n=settings["resamples"], seed=settings["seed"])
    auc = metrics["members"]["mobilenet"]["cell"]["auc"]
    assert (auc["low"], auc["high"]) == pytest.approx(expected, abs=1e-6)
    expected = interval_over_images(figure_of_images, np.unique(images), n=settings["resamples"], seed=settings["seed"])
    accuracy = metrics["members"]["mobilenet"]["image"]["accuracy"]
    assert (accuracy["low"], accuracy["high"]) == pytest.approx(expected, abs=1e-6)
    assert accuracy["low"] < accuracy["high"]
    assert auc["low"] < auc["value"] < auc["high"]


@pytest.mark.parametrize("folder", ["Early", "Pre"])
def test_intervals_of_a_folder_come_from_the_same_resamples(tiny: FitParams, folder: str) -> None:
    # Enough images that the quantiles tell one set of resamples from another.
    images = np.repeat([f"{sub}/{i}" for sub in ("Benign", "Early", "Pre") for i in range(40)], 3)
    is_all = np.array([not name.startswith("Benign") for name in images])
    n = len(images)
    cells = Cells(np.zeros((n, 1, 1, 3), np.uint8), is_all, images, np.ones(n, np.float32))
    p_all = (np.random.default_rng(0).random(n) * 0.9 + 0.1 * is_all).astype(np.float32)
    run = Run(Path(), {}, tiny, cells, np.full(n, "test"), p_all[:, None])
    validation = {"vgg16": Validation(accuracy=0.9, auc=0.9, f1=0.9, kappa=0.8, n=9)}
    metrics = held_out_figures(run, validation, dict.fromkeys(WEIGHTINGS, 1.0), 0.5)
    settings = metrics["interval"]

    def interval(names: NDArray[np.str_], truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> Any:
        asked = np.array([name.startswith(("Benign/", f"{folder}/")) for name in names])

        def figure(which: NDArray[np.intp]) -> float:
            which = which[asked[which]]
            if not 0 < truth[which].sum() < len(which):
                return float("nan")
            return float(sklearn_metrics.roc_auc_score(truth[which], scores[which]))

        expected = interval_over_images(figure, names, n=settings["resamples"], seed=settings["seed"])
        assert expected[0] < expected[1]
        return pytest.approx(expected, abs=1e-6)

    found = metrics["kappa_detail"]["auc_by_folder"][folder]
    assert (found["cell"]["low"], found["cell"]["high"]) == interval(images, is_all, p_all)
    by_image = np.unique(images), image_means(images, is_all) > 0.5, image_means(images, p_all)
    assert (found["image"]["low"], found["image"]["high"]) == interval(*by_image)


def test_a_subject_of_one_image_has_no_interval(tiny: FitParams) -> None:
    subject, images = np.array(["s1"] * 3 + ["s2"] * 3), np.array(["all/1", "all/1", "all/2", *["hem/1"] * 3])
    cells = Cells(np.zeros((6, 1, 1, 3), np.uint8), subject == "s1", images, np.ones(6, np.float32))
    p_all = np.array([0.9, 0.7, 0.6, 0.1, 0.2, 0.3], np.float32)
    run = Run(Path(), {}, tiny, cells, np.full(6, "test"), p_all[:, None], subject)
    validation = {"vgg16": Validation(accuracy=0.9, auc=0.9, f1=0.9, kappa=0.8, n=9)}
    metrics = held_out_figures(run, validation, dict.fromkeys(WEIGHTINGS, 1.0), 0.5)
    one, other = metrics["kappa_detail"]["subjects"]
    assert (one["mean_p_all_low"], one["mean_p_all_high"]) == pytest.approx((0.6, 0.8))
    assert (other["mean_p_all"], other["mean_p_all_low"], other["mean_p_all_high"]) == (0.2, None, None)
    manifest: Any = SimpleNamespace(metrics=metrics)
    card = subjects_section(manifest)
    assert "| ALL | 3 | 100.0% | 0.733 (0.600 to 0.800) |" in card
    assert "| Hem | 3 | 0.0% | 0.200 |" in card


def test_each_ensemble_is_measured_at_its_own_temperature(tiny: FitParams) -> None:
    is_all = np.arange(80) % 2 == 0
    images = np.array([f"{'all' if there else 'hem'}/{k}" for k, there in enumerate(is_all)])
    cells = Cells(np.zeros((80, 1, 1, 3), np.uint8), is_all, images, np.ones(80, np.float32))
    p_all = np.random.default_rng(0).random(80).astype(np.float32)
    run = Run(Path(), {}, tiny, cells, np.full(80, "test"), p_all[:, None])
    validation = {"vgg16": Validation(accuracy=0.9, auc=0.9, f1=0.9, kappa=0.8, n=9)}
    temperatures = dict(zip(WEIGHTINGS, (0.2, 0.5, 1.0, 2.0, 5.0), strict=True))
    ensembles = held_out_figures(run, validation, temperatures, 0.3)["ensembles"]
    found = {name: row["cell"]["sensitivity"]["value"] for name, row in ensembles.items()}
    assert found == {name: (calibrate(p_all[is_all], t) >= 0.3).mean() for name, t in temperatures.items()}
    assert len(set(found.values())) > 3


def test_the_bundle_says_what_the_run_is(
    make_run: MakeRun, two_members: dict[str, NDArray[np.float64]], made_up_cells: Cells, tmp_path: Path
) -> None:
    run = make_run(two_members)
    exported(run, tmp_path / "out")
    bundle = load_bundle(tmp_path / "out")
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.created.isoformat()) == ("tiny", "1.2.3", "2026-01-31")
    assert manifest.research_use_only
    diameters = made_up_cells.diameter_px[split_of(made_up_cells) == "train"]
    assert manifest.crop.cell_diameter_px == round(float(np.median(diameters)), 1)
    assert (manifest.crop.size, manifest.crop.pixel_size_um) == (48, None)
    assert [(m.name, m.architecture, m.cut, m.input_size, m.preprocessing) for m in manifest.members] == [
        ("vgg16", "vgg16", "block1_pool", 32, "caffe"),
        ("mobilenet", "mobilenet", "conv_pw_2_relu", 32, "tf"),
    ]
    for member in manifest.members:
        weights = (run / "members" / f"{member.name}.weights.h5").read_bytes()
        assert bundle.weights(member).read_bytes() == weights
        assert member.sha256 == hashlib.sha256(weights).hexdigest()
    assert (manifest.ensemble.weighting, manifest.ensemble.threshold) == ("kappa", 0.5)
    training = manifest.training
    assert training["dataset"]["name"] == "Drawn smears"
    assert training["split"]["counts"]["test"]["Pre"] == {"images": 2, "cells": 6}
    assert (training["seed"], training["preset"], training["params"]["crop_size"]) == (2021, "tiny", 48)
    assert str(tmp_path) not in (tmp_path / "out" / "bundle.json").read_text() + bundle.card


def test_the_same_run_gives_the_same_bytes(
    make_run: MakeRun, two_members: dict[str, NDArray[np.float64]], tmp_path: Path
) -> None:
    run = make_run(two_members)
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        export_bundle(run, folder, ABOUT)
    files = sorted(p.relative_to(folders[0]) for p in folders[0].rglob("*") if p.is_file())
    assert [str(f) for f in files] == [
        "MODEL_CARD.md",
        "bundle.json",
        "members/mobilenet.weights.h5",
        "members/vgg16.weights.h5",
    ]
    for file in files:
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_a_member_worse_than_chance_has_no_vote(
    make_run: MakeRun, by_hand: NDArray[np.float64], tmp_path: Path
) -> None:
    run = make_run({"vgg16": by_hand, "mobilenet": 1 - by_hand})
    with pytest.warns(UserWarning, match="negative weights count as 0"):
        bundle = exported(run, tmp_path / "out")
    assert bundle["members"][1]["validation"]["kappa"] == -0.8
    assert bundle["metrics"]["ensembles"]["kappa"] == bundle["metrics"]["members"]["vgg16"]
    assert bundle["metrics"]["ensembles"]["equal"]["cell"]["auc"]["value"] == 0.5


def test_a_run_that_learned_nothing_is_refused(make_run: MakeRun, made_up_cells: Cells, tmp_path: Path) -> None:
    run = make_run({"vgg16": np.full(len(made_up_cells), 0.9)})
    with pytest.raises(InputError, match="no member's validation kappa is above 0"):
        export_bundle(run, tmp_path / "out", ABOUT)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["cells.npz", "mobilenet.npy", "members/vgg16.weights.h5", "run.json"])
def test_an_incomplete_run_is_refused(
    make_run: MakeRun, two_members: dict[str, NDArray[np.float64]], tmp_path: Path, name: str
) -> None:
    run = make_run(two_members)
    (run / name).unlink()
    with pytest.raises(InputError, match=f"no {name}"):
        export_bundle(run, tmp_path / "out", ABOUT)


def test_predictions_of_other_cells_are_refused(make_run: MakeRun, two_members: dict[str, NDArray[np.float64]]) -> None:
    two_members["vgg16"] = two_members["vgg16"][:-1]
    with pytest.raises(InputError, match="predictions for"):
        load_run(make_run(two_members))


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("vgg16.npy", None, b"\x93NUMPY", r"vgg16\.npy: damaged .* trains the member again"),
        ("vgg16.npy", None, b"", r"vgg16\.npy: damaged"),
        ("run.json", b'"crop_size"', b'"side"', r"run\.json: damaged, or of another version \(.*side"),
        ("run.json", None, b"[]", r"run\.json: damaged, or of another version \(no created, preset, params, data"),
        *(
            ("run.json", f'"{part}"'.encode(), b'"other"', rf"or of another version \(no {part}\); train into a new")
            for part in ("created", "preset", "params", "data", "trunks", "counts", "versions")
        ),
        ("images.csv", None, b"image,subject,split\nBenign/1.png,a,train\n", r"images\.csv: damaged"),
        ("images.csv", None, b"picture\n", r"images\.csv: damaged"),
        ("images.csv", None, b"\xff", r"images\.csv: damaged"),
    ],
)
def test_a_damaged_part_of_a_run_is_named(
    make_run: MakeRun, two_members: dict[str, NDArray[np.float64]], name: str, old: bytes | None, new: bytes, said: str
) -> None:
    run = make_run(two_members)
    (run / name).write_bytes(new if old is None else (run / name).read_bytes().replace(old, new))
    with pytest.raises(InputError, match=said):
        load_run(run)


def test_a_damaged_record_is_refused(make_run: MakeRun, two_members: dict[str, NDArray[np.float64]]) -> None:
    run = make_run(two_members)
    (run / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: damaged"):
        load_run(run)


def test_nothing_is_overwritten(make_run: MakeRun, two_members: dict[str, NDArray[np.float64]], tmp_path: Path) -> None:
    run = make_run(two_members)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        export_bundle(run, tmp_path / "out", ABOUT)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]
    with pytest.raises(OutputError, match="exists already"):
        export_bundle(run, tmp_path / "out" / "mine.txt", ABOUT)


@pytest.mark.parametrize("out", [".", "link", "real", "new/deep"])
def test_a_bundle_is_made_in_any_empty_folder(
    make_run: MakeRun,
    two_members: dict[str, NDArray[np.float64]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    out: str,
) -> None:
    run = make_run(two_members)
    (tmp_path / "empty/real/.scratch-of-one-that-was-killed").mkdir(parents=True)
    if out != ".":
        (tmp_path / "empty/link").symlink_to("real")
    else:
        shutil.rmtree(tmp_path / "empty/real")
    monkeypatch.chdir(tmp_path / "empty")
    manifest = export_bundle(run, Path(out), ABOUT)
    assert load_bundle(Path(out)).manifest == manifest
    assert sorted(path.name for path in Path(out).iterdir()) == ["MODEL_CARD.md", "bundle.json", "members"]


def test_a_bundle_that_is_broken_off_leaves_nothing(
    make_run: MakeRun, two_members: dict[str, NDArray[np.float64]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = make_run(two_members)
    with monkeypatch.context() as broken:
        broken.setattr(bundling, "_write", full)
        with pytest.raises(OutputError, match="No space left on device"):
            export_bundle(run, tmp_path / "out", ABOUT)
    assert not (tmp_path / "out").exists()
    export_bundle(run, tmp_path / "out", ABOUT)


def test_a_name_that_no_bundle_can_have_is_refused(
    make_run: MakeRun, two_members: dict[str, NDArray[np.float64]], tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="name"):
        export_bundle(make_run(two_members), tmp_path / "out", About(name="My Bundle", version="1"))
    assert not (tmp_path / "out").exists()


def test_a_name_that_no_bundle_can_have_is_refused_before_the_run_is_read(tmp_path: Path) -> None:
    for name, version in (("My Bundle", "1"), ("mine.zip", "1"), ("mine", "1 0")):
        with pytest.raises(BundleError, match=f"no bundle can have the name {name!r} and the version {version!r}"):
            export_bundle(tmp_path / "no run", tmp_path / "out", About(name, version))
    for name in ("con", "nul.2", "com1", "lpt9.x.y"):
        with pytest.raises(BundleError, match=f"no bundle can have the name '{name}': on Windows it is a device"):
            export_bundle(tmp_path / "no run", tmp_path / "out", About(name, "1"))
    for name in ("console", "com10", "x.con", "null"):
        with pytest.raises(InputError, match=r"no run\.json"):
            export_bundle(tmp_path / "no run", tmp_path / "out", About(name, "1"))


@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_bf16_that_cannot_be_measured_leaves_no_bundle(
    make_run: MakeRun, two_members: dict[str, NDArray[np.float64]], tmp_path: Path, there: bool
) -> None:
    run, out = make_run(two_members), tmp_path / "here" / "out"
    if there:
        out.mkdir(parents=True)
    with pytest.raises(InputError, match="validation cells; expected"):
        export_bundle(run, out, ABOUT, bf16=True)
    assert list((tmp_path / "here").rglob("*")) == ([out] if there else [])
    export_bundle(run, out, ABOUT)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_class_folder_without_a_cell_stands_in_the_card(
    make_run: MakeRun, two_members: dict[str, NDArray[np.float64]], tmp_path: Path
) -> None:
    run = make_run(two_members)
    record = json.loads((run / "run.json").read_text())
    record["data"]["classes"]["normal cells"] = "Hem"
    (run / "run.json").write_text(json.dumps(record))
    export_bundle(run, tmp_path / "out", ABOUT)
    card = load_bundle(tmp_path / "out").card
    assert "| normal cells | Hem | 0 / 0 | 0 / 0 | 0 / 0 |" in card
    assert "--classes 'Benign=Hem,Early=ALL,Pre=ALL,normal cells=Hem'" in card


def test_where_subjects_are_known_they_are_drawn_and_scored_and_not_named(
    make_run: MakeRun, two_members: dict[str, NDArray[np.float64]], made_up_cells: Cells, tmp_path: Path
) -> None:
    run = make_run(two_members)
    side = dict(zip(made_up_cells.image.tolist(), split_of(made_up_cells).tolist(), strict=True))
    subject = {image: f"Doe {k // 2}" for k, image in enumerate(dict.fromkeys(made_up_cells.image.tolist()))}
    rows = [f"{image},{subject[image]},{side[image]}" for image in side]
    (run / "images.csv").write_text("\n".join(["image,subject,split", *rows]) + "\n")
    metrics = exported(run, tmp_path / "out")["metrics"]
    test = split_of(made_up_cells) == "test"
    subjects = np.array([subject[image] for image in made_up_cells.image[test].tolist()])
    assert metrics["subjects"] == len(set(subjects.tolist())) == 3
    assert metrics["interval"]["method"] == "percentile bootstrap over subjects"
    validating = split_of(made_up_cells) == "validation"
    n = {
        name: len({subject[image] for image in made_up_cells.image[validating & there].tolist()})
        for name, there in (("ALL", made_up_cells.is_all), ("Hem", ~made_up_cells.is_all))
    }
    assert metrics["trust"]["validation"] == {"drawn": "subjects", **n}
    p_all = two_members["mobilenet"].astype(np.float32)[test]
    means = image_means(subjects, p_all)
    truth = image_means(subjects, made_up_cells.is_all[test]) > 0.5
    figures = metrics["members"]["mobilenet"]
    assert figures["subject"]["auc"]["value"] == pytest.approx(sklearn_metrics.roc_auc_score(truth, means), abs=1e-6)

    def of_cells(which: NDArray[np.intp]) -> float:
        return float(((p_all >= 0.5) == made_up_cells.is_all[test])[which].mean())

    expected = interval_over_images(of_cells, subjects, n=metrics["interval"]["resamples"], seed=0)
    accuracy = figures["cell"]["accuracy"]
    assert (accuracy["low"], accuracy["high"]) == pytest.approx(expected, abs=1e-6)
    assert sum(row["cells"] for row in metrics["kappa_detail"]["subjects"]) == test.sum()
    bundle = load_bundle(tmp_path / "out")
    assert "### Subjects" in bundle.card
    assert "whole subjects are drawn" in bundle.card
    assert "Doe" not in bundle.card + (tmp_path / "out" / "bundle.json").read_text()
