import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from all_detect_training import trusting
from all_detect_training.bundling import About, export_bundle
from all_detect_training.calibration import RATES, bounds_at, fit_temperature
from all_detect_training.cells import Cells
from all_detect_training.cli import main
from all_detect_training.plans import write_record
from all_detect_training.presets import FitParams
from all_detect_training.splits import split_contiguous
from all_detect_training.trusting import TrustTargets
from napari_all_detect.bundle.manifest import Manifest
from napari_all_detect.ensemble import combine, member_weights
from napari_all_detect.errors import InputError
from napari_all_detect.trust import Bounds, calibrate, calls, colour_features, domain_distance, sharpness

ABOUT = About(name="trusted", version="1")
MEMBERS = {"vgg16": 0.9, "mobilenet": 0.6}
TEMPERATURES = {"vgg16": 3.0, "mobilenet": 0.5}


@pytest.fixture
def cells() -> Cells:
    """Ninety images of nine cells in each class, purple with grain."""
    rng = np.random.default_rng(0)
    image = np.repeat([f"{sub}/{i:03d}" for sub in ("all", "hem") for i in range(90)], 9)
    n = len(image)
    crops = np.zeros((n, 48, 48, 3), np.uint8)
    tint = rng.normal((150, 100, 190), 6, (n, 1, 1, 3)) + rng.normal(0, 10, (n, 24, 24, 3))
    crops[:, 12:36, 12:36] = tint.clip(1, 255).astype(np.uint8)
    return Cells(crops, np.char.startswith(image, "all"), image, np.full(n, 27.0, np.float32))


@pytest.fixture
def p_all(cells: Cells) -> dict[str, NDArray[np.float32]]:
    """Members that are right about their log-odds but for a temperature of their own."""
    rng = np.random.default_rng(1)
    sign = np.where(cells.is_all, 1, -1)
    # Of classes at +-d with unit noise the log-odds are 2 d x.
    odds = {name: 2 * d * (sign * d + rng.normal(0, 1, len(cells))) for name, d in MEMBERS.items()}
    return {name: (1 / (1 + np.exp(-o * TEMPERATURES[name]))).astype(np.float32) for name, o in odds.items()}


@pytest.fixture
def run(tmp_path: Path, tiny: FitParams, cells: Cells, p_all: dict[str, NDArray[np.float32]]) -> Path:
    folder = tmp_path / "run"
    (folder / "members").mkdir(parents=True)
    params = replace(tiny, train_share=0.3, validation_share=0.3)
    data = {"kind": "cells", "classes": {"all": "ALL", "hem": "Hem"}, "mask_corner_px": 0, "images": 180}
    plan = {"preset": "tiny", "params": asdict(params), "data": data, "trunks": dict.fromkeys(p_all, "random")}
    write_record(folder, json.loads(json.dumps(plan)), cells, split_contiguous(cells.image, 0.3, 0.3))
    cells.save(folder / "cells.npz")
    for name, p in p_all.items():
        np.save(folder / f"{name}.npy", p)
        (folder / "members" / f"{name}.weights.h5").write_bytes(name.encode())
    return folder


Export = Callable[..., Manifest]


@pytest.fixture
def export(run: Path, tmp_path: Path) -> Export:
    def with_targets(**targets: Any) -> Manifest:
        return export_bundle(run, tmp_path / "bundle", ABOUT, TrustTargets(**targets))

    return with_targets


def sides(cells: Cells) -> NDArray[np.str_]:
    return split_contiguous(cells.image, 0.3, 0.3)


def ensemble_p_all(
    manifest: Manifest, p_all: dict[str, NDArray[np.float32]], weighting: str = "kappa"
) -> NDArray[np.float32]:
    """Score as the pipeline does: members at their temperature, Eq. 2, the ensemble's temperature."""
    votes = np.stack([calibrate(p_all[m.name], m.temperature) for m in manifest.members], axis=1)
    weights = member_weights([m.validation for m in manifest.members], weighting)
    combined = combine(np.stack([1 - votes, votes], axis=-1), weights)[:, 1]
    return calibrate(combined, manifest.ensemble.temperatures[weighting])


def test_members_temperatures_are_found(export: Export) -> None:
    found = {m.name: m.temperature for m in export().members}
    assert found == pytest.approx(TEMPERATURES, rel=0.3)


def test_the_ensembles_temperature_is_the_best_for_each_weighting(
    export: Export, cells: Cells, p_all: dict[str, NDArray[np.float32]]
) -> None:
    manifest, side = export(), sides(cells) == "validation"
    assert set(manifest.ensemble.temperatures) == {"kappa", "accuracy", "auc", "f1", "equal"}
    for weighting in manifest.ensemble.temperatures:
        calibrated = ensemble_p_all(manifest, p_all, weighting)[side]
        assert fit_temperature(cells.is_all[side], calibrated) == pytest.approx(1, rel=1e-3)


def test_bounds_are_those_of_the_validation_cells(
    export: Export, cells: Cells, p_all: dict[str, NDArray[np.float32]]
) -> None:
    manifest, side = export(error_rate_all=0.02), sides(cells) == "validation"
    conformal = manifest.ensemble.conformal
    assert conformal is not None
    assert (conformal.error_rate_all, conformal.error_rate_hem) == (0.02, 0.05)
    assert (conformal.n_all, conformal.n_hem) == (27 * 9, 27 * 9)
    calibrated = ensemble_p_all(manifest, p_all)[side]
    for i, rate in enumerate(RATES):
        expected = bounds_at(cells.is_all[side], calibrated, rate, cells.image[side])
        assert conformal.bounds["kappa"].least_all[i] == pytest.approx(expected.least_all, abs=1e-6)
        assert conformal.bounds["kappa"].most_hem[i] == pytest.approx(expected.most_hem, abs=1e-6)


def test_figures_on_test_cells(export: Export, cells: Cells, p_all: dict[str, NDArray[np.float32]]) -> None:
    manifest, test = export(), sides(cells) == "test"
    figures, truth = manifest.metrics["trust"], cells.is_all[test]
    for name in MEMBERS:
        before, after = (figures["calibration"][name][side] for side in ("before", "after"))
        assert after["calibration_error"] < before["calibration_error"]
        assert after["log_loss"] < before["log_loss"]
    conformal = manifest.ensemble.conformal
    assert conformal is not None
    i = conformal.rates.index(0.05)
    low, high = (getattr(conformal.bounds["kappa"], name)[i] for name in ("least_all", "most_hem"))
    p = ensemble_p_all(manifest, p_all)[test]
    assert low < high
    called = np.where((p >= low) & (p <= high), "uncertain", np.where(p > high, "ALL", "Hem"))
    own = figures["calls"]["own"]
    for name, there in (("ALL", truth), ("Hem", ~truth)):
        assert own[name] == {call: int((called[there] == call).sum()) for call in ("ALL", "Hem", "uncertain")}
    found = conformal.bounds["kappa"]
    for rate, *bounds, row in zip(
        conformal.rates, found.least_all, found.most_hem, figures["calls"]["by_rate"], strict=True
    ):
        called = calls(p, manifest.ensemble.threshold, Bounds(*bounds))
        assert (row["error_rate_all"], row["error_rate_hem"]) == (rate, rate)
        assert row["ALL"]["Hem"] == (called[truth] == "Hem").sum()
        assert row["Hem"]["ALL"] == (called[~truth] == "ALL").sum()
    domain = manifest.domain
    assert domain is not None
    distance = domain_distance(colour_features(cells.crops[test]), domain.mean, domain.covariance, domain.threshold)
    assert figures["domain"]["in_domain"] == (distance <= 1).sum() > 0.94 * test.sum()
    assert figures["domain"]["blurred"] == (sharpness(cells.crops[test]) < domain.least_sharpness).sum()


def test_a_bundle_takes_nothing_but_its_figures_from_the_test_cells(
    run: Path, cells: Cells, p_all: dict[str, NDArray[np.float32]], tmp_path: Path
) -> None:
    def export(name: str, changed: str) -> Manifest:
        there = sides(cells) == changed
        crops = np.where(there[:, None, None, None] & (cells.crops > 0), cells.crops // 2 + 40, cells.crops)
        replace(cells, crops=crops.astype(np.uint8)).save(run / "cells.npz")
        for member, p in p_all.items():
            np.save(run / f"{member}.npy", np.where(there, 1 - p, p).astype(np.float32))
        return export_bundle(run, tmp_path / name, ABOUT, TrustTargets(sensitivity=0.9))

    plain, other = export("plain", ""), export("other", "test")
    assert plain.metrics != other.metrics
    for part in ("members", "ensemble", "domain", "crop"):
        assert getattr(plain, part) == getattr(other, part)
    trained = export("trained", "train")
    for part in ("members", "ensemble"):
        assert getattr(plain, part) == getattr(trained, part)
    # The domain is that of the training cells, its border that of the validation cells.
    assert plain.domain is not None
    assert trained.domain is not None
    assert abs(np.subtract(trained.domain.mean, plain.domain.mean)[:3]).min() > 5
    assert trained.domain.threshold > 2 * plain.domain.threshold


def test_a_threshold_for_a_wanted_sensitivity(
    export: Export, cells: Cells, p_all: dict[str, NDArray[np.float32]]
) -> None:
    manifest = export(sensitivity=0.95)
    p, is_all, split = ensemble_p_all(manifest, p_all), cells.is_all, sides(cells)
    threshold = manifest.ensemble.threshold
    assert threshold < 0.5
    called = calls(p, threshold) == "ALL"
    # That of more would be 0.95 in fewer than 95 of 100 resamples.
    assert 0.95 < called[is_all & (split == "validation")].mean() < 0.99
    metrics = manifest.metrics
    assert metrics["threshold"] == threshold
    measured = metrics["ensembles"]["kappa"]["cell"]["sensitivity"]["value"]
    assert measured == pytest.approx(called[is_all & (split == "test")].mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("sensitivity", "asked", "rate"),
    [(0.98, 0.05, 0.02), (0.9, 0.2, 0.1), (0.9, 0.02, 0.02), (None, 0.2, 0.2)],
)
def test_with_the_bundles_own_bounds_no_more_all_cells_are_missed_than_the_sensitivity_allows(
    export: Export,
    cells: Cells,
    p_all: dict[str, NDArray[np.float32]],
    sensitivity: float | None,
    asked: float,
    rate: float,
) -> None:
    manifest = export(sensitivity=sensitivity, error_rate_all=asked)
    conformal, validation = manifest.ensemble.conformal, sides(cells) == "validation"
    assert conformal is not None
    assert conformal.error_rate_all == rate
    found = conformal.bounds["kappa"]
    rates = conformal.error_rate_all, conformal.error_rate_hem
    bounds = Bounds.at_rates(conformal.rates, found.least_all, found.most_hem, *rates)
    p = ensemble_p_all(manifest, p_all)
    assert bounds.least_all == pytest.approx(
        bounds_at(cells.is_all[validation], p[validation], rate, cells.image[validation]).least_all, abs=1e-6
    )
    called = calls(p, manifest.ensemble.threshold, bounds)
    assert (called[cells.is_all & validation] == "Hem").mean() <= rate
    own = manifest.metrics["trust"]["calls"]["own"]
    assert own["error_rate_all"] == rate
    assert own["ALL"]["Hem"] == (called[cells.is_all & (sides(cells) == "test")] == "Hem").sum()


def test_a_sensitivity_that_no_bundle_can_keep_is_refused(export: Export) -> None:
    with pytest.raises(InputError, match=r"a sensitivity of 0.996; expected 0.995 at most"):
        export(sensitivity=0.996)


def test_a_sensitivity_that_takes_more_cells_than_validate_is_refused(
    make_run: Callable[..., Path], made_up_cells: Cells, tmp_path: Path
) -> None:
    run = make_run({"vgg16": np.where(made_up_cells.is_all, 0.9, 0.1)})
    said = r"a sensitivity of 0.9 can't be kept to with a confidence of 0.95 on 6 ALL cells of 2 images or subjects"
    with pytest.raises(InputError, match=said):
        export_bundle(run, tmp_path / "bundle", ABOUT, TrustTargets(sensitivity=0.9))
    export_bundle(run, tmp_path / "bundle", ABOUT, TrustTargets(sensitivity=0.5))


def test_too_few_images_to_keep_to_a_rate_are_told(
    make_run: Callable[..., Path], made_up_cells: Cells, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export_bundle(make_run({"vgg16": np.where(made_up_cells.is_all, 0.9, 0.1)}), tmp_path / "bundle", ABOUT)
    assert "images with ALL cells that validate: 2, too few to tell" in caplog.text
    assert "images with Hem cells that validate: 1, too few to tell" in caplog.text
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    assert "these are of 2 images with ALL and 1 with Hem cells, too few to tell how often cells of others" in card
    assert "confidence" not in card


def test_less_confidence_leaves_fewer_cells_uncertain(export: Export, run: Path, tmp_path: Path) -> None:
    sure, less = export(), export_bundle(run, tmp_path / "less", ABOUT, TrustTargets(confidence=0.6))
    shares = [
        sum(m.metrics["trust"]["calls"]["own"][name]["uncertain"] for name in ("ALL", "Hem")) for m in (sure, less)
    ]
    assert shares[0] > shares[1]
    assert sure.metrics["trust"]["validation"] == {"drawn": "images", "ALL": 27, "Hem": 27}
    card = (tmp_path / "less" / "MODEL_CARD.md").read_text()
    assert "aimed at a confidence of 60% over images like the 27 with ALL and the 27 with Hem cells that these" in card


def test_wrong_calls_have_an_interval_that_draws_whole_images(export: Export, cells: Cells) -> None:
    test = sides(cells) == "test"
    for row in (rows := export().metrics["trust"]["calls"]["by_rate"]):
        for name, other, n in (("ALL", "Hem", cells.is_all[test].sum()), ("Hem", "ALL", (~cells.is_all[test]).sum())):
            figure = row[f"{name}_called_{other}"]
            assert figure["value"] == pytest.approx(row[name][other] / n, abs=1e-6)
            assert figure["low"] is None or figure["low"] <= figure["value"] <= figure["high"]
    # The grouping is that of images: each has nine cells of one class.
    called, image = np.array([True] * 9 + [False] * 27), np.repeat(list("abcd"), 9)
    assert trusting._share(called, image) == {"value": 0.25, "low": 0.0, "high": 0.75}
    assert trusting._share(called[:0], image[:0]) == {"value": None, "low": None, "high": None}
    assert any(row["Hem_called_ALL"]["low"] is not None for row in rows)


@pytest.mark.parametrize("confidence", [0.4, 0.995])
def test_a_confidence_that_nobody_can_tell_is_refused(export: Export, confidence: float) -> None:
    with pytest.raises(InputError, match=f"a confidence of {confidence}; expected 0.5 to 0.99"):
        export(confidence=confidence)


def test_a_rate_that_no_bundle_holds_is_refused(export: Export) -> None:
    with pytest.raises(InputError, match=r"an error rate of 0.001; expected 0.005 at least"):
        export(error_rate_hem=0.001)


def test_targets_from_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(run), "--out", str(tmp_path / "b"), "--name", "b", "--version", "1"]
    assert (
        main(
            [
                *words,
                "--error-rate-all",
                "0.01",
                "--sensitivity",
                "0.9",
                "--false-alarm-rate",
                "0.1",
                "--confidence",
                "0.8",
            ]
        )
        == 0
    )
    facts = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert facts["ensemble"]["conformal"]["error_rate_all"] == 0.01
    assert facts["ensemble"]["threshold"] != 0.5
    assert facts["metrics"]["trust"]["targets"]["confidence"] == 0.8
    assert facts["domain"]["false_alarm_rate"] == 0.1
    assert "calibration error" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main([*words, "--error-rate-hem", "1.5"])
    assert caught.value.code == 2
    assert "expected a number between 0 and 1" in capsys.readouterr().err


def test_members_that_are_right_on_all_validation_cells_keep_their_probabilities(
    run: Path, cells: Cells, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sure = np.where(cells.is_all, 0.7, 0.3) + np.random.default_rng(0).uniform(-0.15, 0.15, len(cells))
    for name in MEMBERS:
        np.save(run / f"{name}.npy", sure.astype(np.float32))
    manifest = export_bundle(run, tmp_path / "bundle", ABOUT)
    assert [member.temperature for member in manifest.members] == [1.0] * len(MEMBERS)
    assert set(manifest.ensemble.temperatures.values()) == {1.0}
    said = [record.getMessage() for record in caplog.records if "temperature" in record.getMessage()]
    assert [message.split(" left at 1: ")[0] for message in said] == [
        f"temperature of members {', '.join(MEMBERS)}",
        "temperature of ensembles by kappa, accuracy, auc, f1, equal",
    ]
