import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from all_detect_training.bundling import About, export_bundle
from all_detect_training.card import model_card, reproducing
from all_detect_training.cells import Cells
from all_detect_training.preset_file import checked_params
from all_detect_training.presets import PRESETS, FitParams, MemberSpec, with_options
from all_detect_training.runs import load_run
from all_detect_training.trusting import TrustTargets
from napari_all_detect.bundle.manifest import Bf16, Domain, Manifest

ROWS = {
    "SAP (simple average)": "equal",
    "WEN-accuracy": "accuracy",
    "WEN-AUC": "auc",
    "WEN-F1": "f1",
    "WEN-kappa": "kappa",
}
CELL_FIGURES = ("auc", "accuracy", "f1", "kappa", "balanced_accuracy")
IMAGE_FIGURES = ("auc", "accuracy", "balanced_accuracy")
ROUNDED = Bf16(
    precision="bf16", same_calls=0.9995, expected=0.999, kappa=0.99, largest_change=0.05, mean_change=0.002, n=3000
)


@pytest.fixture
def manifest(make_run: Callable[..., Path], made_up_cells: Cells, tmp_path: Path) -> Manifest:
    rng = np.random.default_rng(5)
    signal = np.where(made_up_cells.is_all, 0.62, 0.38)
    p_all = {name: (signal + rng.normal(0, 0.2, len(signal))).clip(0, 1) for name in ("vgg16", "mobilenet")}
    about = About(name="tiny", version="1.2.3", dataset_name="Drawn smears", dataset_citation="Nobody's 2026")
    return export_bundle(make_run(p_all), tmp_path / "out", about)


def tables(card: str) -> dict[str, list[str]]:
    """Return the cells of each table row by the first one; rows of the same name follow one another."""
    rows: dict[str, list[str]] = {}
    for line in card.splitlines():
        if line.startswith("| "):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            rows.setdefault(name, []).extend(cells)
    return rows


def shown(figure: dict[str, float | None]) -> str:
    interval = "" if figure["low"] is None else f" ({figure['low']:.3f} to {figure['high']:.3f})"
    return f"{figure['value']:.3f}{interval}"


def test_held_out_figures_are_the_bundles(manifest: Manifest) -> None:
    rows, metrics = tables(model_card(manifest)), manifest.metrics
    for name, row in [(n, metrics["ensembles"][k]) for n, k in ROWS.items()] + list(metrics["members"].items()):
        expected = [shown(row["cell"][f]) for f in CELL_FIGURES] + [shown(row["image"][f]) for f in IMAGE_FIGURES]
        assert [rows[name][i : i + len(expected)] for i in range(len(rows[name]))].count(expected) == 1
        assert len(set(expected)) > 3


def test_members_counts_and_confusion_are_the_bundles(manifest: Manifest) -> None:
    rows = tables(model_card(manifest))
    for member in manifest.members:
        v = member.validation
        assert rows[member.name][:3] == [f"`{member.cut}`", f"{member.input_size} px", f"{v.accuracy:.3f}"]
        assert rows[member.name][3:6] == [f"{v.auc:.3f}", f"{v.f1:.3f}", f"{v.kappa:.3f}"]
    assert rows["Benign"] == ["Hem", "5 / 15", "1 / 3", "2 / 6"]
    confusion = manifest.metrics["kappa_detail"]["confusion"]
    assert rows["true Hem"] == [str(n) for n in confusion["cell"][0] + confusion["image"][0]]
    assert rows["true ALL"] == [str(n) for n in confusion["cell"][1] + confusion["image"][1]]
    for folder, figures in manifest.metrics["kappa_detail"]["auc_by_folder"].items():
        assert rows[folder][-2:] == [shown(figures["cell"]), shown(figures["image"])]
    assert rows["`epochs`"] == ["4"]


def test_the_card_says_what_matters(manifest: Manifest) -> None:
    card = model_card(manifest)
    for text in (
        "Not for diagnosis",
        "What it must not be used for",
        "weak label",
        "Patients are unknown",
        "Part of what is learned may be the slide",
        "How far a score can be trusted",
        "split-conformal",
        "Drawn smears\nNobody's 2026",
        "lower right 32 x 32 px",
        "the images in which cells are found, in the order of their names, numbers in them by value: the first 60% "
        "train, the next 15% validate, the last 25% test",
        "No brackets: every resample gives the same",
        "Where no error rate decides (below), a cell is called ALL from 0.5 on.",
        "a cell that is of neither is called one of them, or `uncertain`",
        "cover the choice of test images only, not that of patients, laboratories or training runs",
        manifest.license,
        manifest.citation,
    ):
        assert text in card, text


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("contiguous", "in the order of their names, numbers in them by value: the first 60% train"),
        ("given", "By image, as given; of which patients they are is unknown."),
        ("2/5", "By image, fold 2/5 of images; of which patients they are is unknown."),
    ],
)
def test_unknown_patients_of_a_manifest_are_told(
    make_run: Callable[..., Path], made_up_cells: Cells, tmp_path: Path, split: str, said: str
) -> None:
    p_all = np.where(made_up_cells.is_all, 0.7, 0.3)
    run = make_run({"vgg16": p_all, "mobilenet": p_all})
    sides = load_run(run)
    record = json.loads((run / "run.json").read_text())
    record["data"] |= {"split": split, "subjects": "unknown"}
    (run / "run.json").write_text(json.dumps(record))
    rows = dict.fromkeys(f"{image},,{side}" for image, side in zip(sides.cells.image, sides.split, strict=True))
    (run / "images.csv").write_text("\n".join(["image,subject,split", *rows]) + "\n")
    card = model_card(export_bundle(run, tmp_path / "out", About("tiny", "1")))
    assert said in card
    assert "Patients are unknown" in card
    assert "whole images are drawn" in card
    assert "subjects" not in card.replace("--split", "").lower()
    assert (f"--split {split}" in commands(card)[0]) == (split == "2/5")
    assert " --manifest DATA " in commands(card)[0]


def test_notes_on_the_data_stand_as_they_are_under_training_data(manifest: Manifest) -> None:
    notes = "Drawn by a program:\n\n- no *patient* has such cells\n"
    card = model_card(manifest, notes)
    start, end = card.index("## Training data"), card.index("## How it was split")
    assert notes.strip() in card[start:end]
    assert "--data-notes NOTES" in card
    assert "--data-notes" not in model_card(manifest)


def test_an_uncalibrated_bundle_says_so(manifest: Manifest) -> None:
    assert "not calibrated" not in model_card(manifest)
    members = tuple(m.model_copy(update={"temperature": 1.0}) for m in manifest.members)

    def card(temperature: float) -> str:
        temperatures = dict.fromkeys(manifest.ensemble.temperatures, temperature)
        ensemble = manifest.ensemble.model_copy(update={"temperatures": temperatures})
        return model_card(manifest.model_copy(update={"members": members, "ensemble": ensemble}))

    assert "not calibrated" not in card(1.3)
    assert "not calibrated.** The validation cells are all told apart, or nearly, and don't show how" in card(1.0)


def test_trust_is_the_bundles(manifest: Manifest) -> None:
    rows, figures = tables(model_card(manifest)), manifest.metrics["trust"]
    for member in manifest.members:
        f = figures["calibration"][member.name]
        shown_figures = [
            f"{member.temperature:.3f}",
            *(f"{f[side][key]:.3f}" for key in ("calibration_error", "log_loss") for side in ("before", "after")),
        ]
        assert [rows[member.name][i : i + 5] for i in range(len(rows[member.name]))].count(shown_figures) == 1
    own = figures["calls"]["own"]
    n_all = sum(own["ALL"].values())
    row = rows["0.05 / 0.05 (the bundle's own)"]
    assert (row[0], row[2]) == (f"{own['ALL']['Hem'] / n_all:.1%}", f"{own['ALL']['uncertain'] / n_all:.1%}")


def test_sensitivity_calls_and_domain_are_the_bundles(manifest: Manifest) -> None:
    metrics = json.loads(json.dumps(manifest.metrics))
    counts = {"ALL": {"ALL": 5, "Hem": 1, "uncertain": 2}, "Hem": {"ALL": 3, "Hem": 4, "uncertain": 9}}
    counts |= dict.fromkeys(("ALL_called_Hem", "Hem_called_ALL"), dict.fromkeys(("value", "low", "high")))
    trust = metrics["trust"]
    trust["calls"] = {"own": {"error_rate_all": 0.01, "error_rate_hem": 0.02, **counts}, "by_rate": []}
    trust["domain"] = {"cells": 200, "in_domain": 180, "blurred": 6}
    trust["bf16"] = {"same_calls": 0.998, "mean_change": 0.0012, "largest_change": 0.034, "n": 2000}
    trust["calibration"]["ensemble"]["after"]["reliability"] = [{"n": 7, "p_all": 0.123, "share_all": 0.456}]
    domain = Domain(
        mean=(0.0,) * 9,
        covariance=tuple(tuple(row) for row in np.eye(9).tolist()),
        threshold=1.0,
        false_alarm_rate=0.04,
        least_sharpness=0.1,
        n=1234,
    )
    one = ROUNDED.model_copy(update={"precision": "bf16,fp32"})
    changed = manifest.model_copy(update={"metrics": metrics, "domain": domain, "bf16": one})
    card = model_card(changed)
    kappa = metrics["ensembles"]["kappa"]
    for level in ("cell", "image"):
        sensitivity, specificity = (shown(kappa[level][name]) for name in ("sensitivity", "specificity"))
        assert sensitivity != specificity
        assert f"sensitivity {sensitivity}, specificity {specificity}." in card
    rows = tables(card)
    assert rows["0.01 / 0.02 (the bundle's own)"] == ["12.5%", "18.8%", "25.0%", "56.2%"]
    assert rows["7"] == ["0.123", "0.456"]
    for text in (
        "the colours of 1234 training cells; its border leaves out 4% of the validation cells at most",
        "Of 200 test cells 90.0% are in it, and 3.0% are flagged as blurred.",
        "All members but mobilenet may compute in bf16",
        "99.95% of the 3000 validation cells, by which this was chosen, and 99.80% of the 2000 test cells",
        "P(ALL) changes by 0.0012 on average, 0.034 at most.",
    ):
        assert text in card, text
    assert "All members may compute" in model_card(changed.model_copy(update={"bf16": ROUNDED}))
    assert commands(card)[1].endswith(" --bf16")


def test_a_figure_that_is_not_defined_is_no_number(manifest: Manifest) -> None:
    metrics = json.loads(json.dumps(manifest.metrics))
    metrics["members"]["vgg16"]["cell"]["kappa"] = {"value": None, "low": None, "high": None}
    metrics["members"]["vgg16"]["cell"]["f1"] = {"value": 0.25, "low": None, "high": None}
    rows = tables(model_card(manifest.model_copy(update={"metrics": metrics})))
    assert "n/a" in rows["vgg16"]
    assert "0.250" in rows["vgg16"]


def commands(card: str) -> list[str]:
    block = card.split("```sh\n")[1].split("\n```")[0]
    return block.replace(" \\\n    ", " ").splitlines()


def test_commands_to_reproduce(manifest: Manifest, tiny: FitParams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproducing, "PRESETS", {"tiny": tiny})
    fit, export = commands(model_card(manifest))
    assert fit == (
        "all-detect-train fit --preset tiny --smears DATA --classes Benign=Hem,Early=ALL,Pre=ALL --mask-corner 32 "
        "--seed 2021 --out RUN"
    )
    assert export.startswith("all-detect-train export RUN --out BUNDLE --name tiny --version 1.2.3 --dataset-name ")
    assert """--dataset-citation 'Nobody'"'"'s 2026'""" in export


def test_commands_name_the_rates_that_were_asked_for(manifest: Manifest) -> None:
    trust = manifest.metrics["trust"]
    assert trust["targets"] == asdict(TrustTargets())
    assert "rate" not in commands(model_card(manifest))[1]
    targets = asdict(TrustTargets(error_rate_hem=0.01, sensitivity=0.9, false_alarm_rate=0.1))
    metrics = {**manifest.metrics, "trust": {**trust, "targets": targets}}
    export = commands(model_card(manifest.model_copy(update={"metrics": metrics})))[1]
    assert " --error-rate-hem 0.01 --sensitivity 0.9 --false-alarm-rate 0.1" in export
    assert "--error-rate-all" not in export


def test_commands_name_what_departs_from_the_preset(
    manifest: Manifest, tiny: FitParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = (*tiny.members, MemberSpec("xception", 71))
    preset = replace(tiny, epochs=8, step_epochs=4.0, members=more)
    monkeypatch.setattr(reproducing, "PRESETS", {"tiny": preset})
    training = {
        **manifest.training,
        "dataset": {**manifest.training["dataset"], "kind": "cells", "mask_corner_px": 0},
        "trunks": {"vgg16": "vgg16_notop.weights.h5, SHA-256 00", "mobilenet": "random"},
    }
    changed = manifest.model_copy(update={"training": training})
    assert commands(model_card(changed))[0] == (
        "all-detect-train fit --preset tiny --cells DATA --classes Benign=Hem,Early=ALL,Pre=ALL --trunks TRUNKS "
        "--epochs 4 --members vgg16,mobilenet --seed 2021 --out RUN"
    )
    params = {**training["params"], "batch_size": 5, "stain_jitter": 0.2}
    dataset = {**manifest.training["dataset"], "classes": {"ALL": "ALL", "Hem": "Hem"}, "split": "2/5"}
    trunks = dict.fromkeys(training["trunks"], "imagenet")
    changed = manifest.model_copy(
        update={"training": {**training, "dataset": dataset, "trunks": trunks, "params": params}}
    )
    assert commands(model_card(changed))[0] == (
        "all-detect-train fit --preset tiny --manifest DATA --of-smears --split 2/5 --mask-corner 32 --trunks imagenet "
        "--epochs 4 --members vgg16,mobilenet --batch-size 5 --stain-jitter 0.2 --seed 2021 --out RUN"
    )
    params = {**training["params"], "stain_normalisation": "reinhard"}
    changed = manifest.model_copy(update={"training": {**training, "params": params}})
    assert " --stain-normalisation reinhard --seed" in commands(model_card(changed))[0]
    assert "--stain-jitter" not in commands(model_card(changed))[0]
    assert with_options(preset, members=["vgg16", "mobilenet"], epochs=4) == tiny == checked_params(training["params"])
    changed = manifest.model_copy(update={"training": training})
    assert "Every image shows one cell" in model_card(changed)
    assert "scale bar" not in model_card(changed)


def test_values_that_no_option_gives_are_taken_from_the_bundle_itself(
    manifest: Manifest, tiny: FitParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproducing, "PRESETS", {"tiny": tiny})
    of = manifest.training["params"]
    stretched = {**of, "members": [{**member, "stretch": 2.5} for member in of["members"]]}
    for params in ({**of, "highest_rate": 5e-4}, stretched, {**of, "step_epochs": 1.0}, {**of, "patience": 3}):
        card = model_card(manifest.model_copy(update={"training": {**manifest.training, "params": params}}))
        assert commands(card)[0] == (
            "all-detect-train fit --preset PRESET --smears DATA --classes Benign=Hem,Early=ALL,Pre=ALL "
            "--mask-corner 32 --out RUN"
        )
        assert "PRESET this bundle's `bundle.json`" in card
        assert ("10" in tables(card)["vgg16"]) == (params is stretched)  # epochs at most
    mine = {**manifest.training, "preset": "mine.json"}
    assert "--preset PRESET" in commands(model_card(manifest.model_copy(update={"training": mine})))[0]
    assert "PRESET" not in model_card(manifest)


def test_values_other_than_the_shipped_presets_are_named(manifest: Manifest) -> None:
    lite = json.loads(json.dumps(asdict(PRESETS["lite"]) | {"epochs": 1, "step_epochs": 0.5}))
    trunks = dict.fromkeys((m.architecture for m in PRESETS["lite"].members), "random")
    training = {**manifest.training, "preset": "lite", "params": lite, "trunks": trunks}
    card = model_card(manifest.model_copy(update={"training": training}))
    assert "Preset `lite`, but for `epochs`, `step_epochs`:" in card
    assert "--preset lite " in commands(card)[0]
    assert " --epochs 1 --seed 2021 " in commands(card)[0]
    assert "Preset `tiny`:" in model_card(manifest)


def test_how_members_were_trained_is_told(manifest: Manifest, tiny: FitParams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproducing, "PRESETS", {"tiny": tiny})
    assert "| member | its trunk started from | epochs at most |\n" in model_card(manifest)

    def card(**trained: list[int]) -> str:
        facts = {name: {"epochs": 3, "kept": 2, "batch_sizes": sizes} for name, sizes in trained.items()}
        return model_card(manifest.model_copy(update={"training": {**manifest.training, "trained": facts}}))

    both = card(vgg16=[4], mobilenet=[4])
    assert tables(both)["vgg16"].count("random") == 1
    assert "| vgg16 | random | 4 | 3 | 2 | 4 |\n| mobilenet | random | 4 | 3 | 2 | 4 |" in both
    assert " --batch-size 4 --seed" in commands(both)[0]
    assert "Memory ran out" not in both
    halved = card(vgg16=[8, 4])
    assert "| vgg16 | random | 4 | 3 | 2 | 8, then 4 |\n| mobilenet | random | 4 | not known |" in halved
    assert "their batches went from 8 to 4 cells" in halved
    assert "--batch-size" not in commands(halved)[0]
    assert "--batch-size" not in commands(card(vgg16=[8], mobilenet=[8]))[0]


def test_more_wrong_calls_than_asked_for_are_not_called_kept_to(manifest: Manifest) -> None:
    metrics = json.loads(json.dumps(manifest.metrics))
    row = metrics["trust"]["calls"]["own"]
    row |= {"ALL": {"ALL": 9, "Hem": 0, "uncertain": 1}, "Hem": {"ALL": 1, "Hem": 15, "uncertain": 0}}
    row["Hem_called_ALL"] = {"value": 0.0625, "low": 0.043, "high": 0.086}
    row["ALL_called_Hem"] = {"value": 0.0, "low": None, "high": None}
    metrics["trust"]["validation"] = {"drawn": "images", "ALL": 309, "Hem": 57}
    card = model_card(manifest.model_copy(update={"metrics": metrics}))
    own = "0.05 / 0.05 (the bundle's own)"
    assert tables(card)[own][:2] == ["0.0%", "6.2% (4.3% to 8.6%)"]
    assert "| error rate asked for, ALL / Hem |" in card
    assert "aimed at a confidence of 95% over images like the 309 with ALL and the 57 with Hem cells" in card
    assert "82 to 97 did" in card
    assert "kept to" not in card
