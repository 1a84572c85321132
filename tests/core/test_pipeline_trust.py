"""What a bundle knows of its own trust reaches the table."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_all_detect.bundle import load_bundle
from napari_all_detect.errors import BundleError
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import PlaneInput, Scorer, open_scorer, score_plane
from napari_all_detect.sources import as_rgb
from napari_all_detect.trust import calibrate, colour_features, sharpness

pytestmark = pytest.mark.usefixtures("reuse_engines")

Pixels = NDArray[np.uint8]
RATES = [0.01, 0.05, 0.2]


@pytest.fixture(scope="module")
def rgb(smear: Callable[..., Pixels]) -> Pixels:
    return smear(4)


@pytest.fixture(scope="module")
def plain(duo_bundle: Path, rgb: Pixels) -> pd.DataFrame:
    """Scores without calibration, domain and bounds."""
    return score_plane(open_scorer(ScoreParams(bundle=str(duo_bundle))), PlaneInput(as_rgb(rgb))).table


@pytest.fixture(scope="module")
def trusting(duo_bundle: Path, rgb: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same members in a bundle that was calibrated, at a temperature that leaves the middle cells uncertain."""
    scored = score_plane(open_scorer(ScoreParams(bundle=str(duo_bundle))), PlaneInput(as_rgb(rgb)))
    folder = Path(shutil.copytree(duo_bundle, tmp_path_factory.mktemp("trust") / "duo"))
    facts = json.loads((folder / "bundle.json").read_text())
    low, high = np.quantile(calibrate(scored.table["p_all"].to_numpy(), 0.5), [0.3, 0.7])
    colours = colour_features(scored.crops)
    facts["ensemble"] |= {
        "temperatures": {"kappa": 0.5, "equal": 3.0},
        "conformal": {
            "error_rate_all": 0.01,
            "error_rate_hem": 0.05,
            "n_all": 40,
            "n_hem": 40,
            "rates": RATES,
            "bounds": {"kappa": {"least_all": [float(low), 0.8, 0.9], "most_hem": [0.95, float(high), 0.1]}},
        },
    }
    facts["domain"] = {
        "mean": colours.mean(axis=0).tolist(),
        "covariance": np.diag([400.0] * 6 + [4.0] * 3).tolist(),
        "threshold": 1.0,
        "false_alarm_rate": 0.02,
        "least_sharpness": 0.9 * float(sharpness(scored.crops).min()),
        "n": 100,
    }
    (folder / "bundle.json").write_text(json.dumps(facts))
    return folder


def scored(bundle: Path, rgb: Pixels, **options: Any) -> pd.DataFrame:
    return score_plane(open_scorer(ScoreParams(bundle=str(bundle), **options)), PlaneInput(as_rgb(rgb))).table


def test_the_combined_vote_is_calibrated_by_the_weightings_own_temperature(
    plain: pd.DataFrame, trusting: Path, duo_bundle: Path, rgb: Pixels
) -> None:
    table = scored(trusting, rgb)
    np.testing.assert_allclose(table["p_all"], calibrate(plain["p_all"].to_numpy(), 0.5), atol=1e-6)
    np.testing.assert_allclose(table["p_all"] + table["p_hem"], 1, atol=1e-6)
    assert np.abs(table["p_all"] - plain["p_all"]).max() > 0.02
    equal, before = (scored(b, rgb, weighting="equal", error_rate="none")["p_all"] for b in (trusting, duo_bundle))
    np.testing.assert_allclose(equal, calibrate(before.to_numpy(), 3.0), atol=1e-6)
    unknown, same = (scored(b, rgb, weighting="f1", error_rate="none")["p_all"] for b in (trusting, duo_bundle))
    np.testing.assert_array_equal(unknown, same)


def test_what_both_classes_can_be_is_uncertain(trusting: Path, rgb: Pixels) -> None:
    ensemble = load_bundle(trusting).manifest.ensemble
    assert ensemble.conformal is not None
    bounds = ensemble.conformal.bounds["kappa"]
    low, high = bounds.least_all[0], bounds.most_hem[1]
    table = scored(trusting, rgb)
    expected = ["uncertain" if low <= p <= high else "ALL" if p > high else "Hem" for p in table["p_all"]]
    assert table["call"].tolist() == expected
    assert set(expected) == {"ALL", "Hem", "uncertain"}
    summary = score_plane(open_scorer(ScoreParams(bundle=str(trusting))), PlaneInput(as_rgb(rgb))).summary.iloc[0]
    assert [summary[name] for name in ("all", "hem", "uncertain")] == [
        expected.count(call) for call in ("ALL", "Hem", "uncertain")
    ]


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({}, (0.01, 0.05)),
        ({"error_rate": 0.05}, (0.05, 0.05)),
        ({"error_rate": 0.01}, (0.01, 0.01)),
        ({"error_rate": 0.005}, (0.0, 0.0)),
        ({"error_rate": 0.3}, (0.2, 0.2)),
        ({"error_rate": "none"}, None),
        ({"threshold": 0.5}, None),
        ({"threshold": 0.5, "error_rate": 0.2}, (0.2, 0.2)),
    ],
)
def test_which_bounds_are_taken(trusting: Path, options: dict[str, Any], rates: tuple[float, float] | None) -> None:
    scorer = open_scorer(ScoreParams(bundle=str(trusting)))
    found = Scorer(replace(scorer.params, **options), scorer.bundle, scorer.engine).bounds
    conformal = scorer.bundle.manifest.ensemble.conformal
    assert conformal is not None
    own = conformal.bounds["kappa"]
    least_all = dict(zip((0.0, *RATES), (0.0, *own.least_all), strict=True))
    most_hem = dict(zip((0.0, *RATES), (1.0, *own.most_hem), strict=True))
    assert (found and (found.least_all, found.most_hem)) == (rates and (least_all[rates[0]], most_hem[rates[1]]))


def test_an_error_rate_needs_a_calibrated_bundle(duo_bundle: Path, trusting: Path) -> None:
    with pytest.raises(BundleError, match="not calibrated") as caught:
        open_scorer(ScoreParams(bundle=str(duo_bundle), error_rate=0.05))
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="not calibrated"):
        open_scorer(ScoreParams(bundle=str(trusting), weighting="f1", error_rate=0.05))


def test_cells_of_another_stain_are_out_of_domain(trusting: Path, rgb: Pixels) -> None:
    table = scored(trusting, rgb)
    assert table["in_domain"].all()
    assert (table["domain_distance"] <= 1).all()
    labels = score_plane(open_scorer(ScoreParams(bundle=str(trusting))), PlaneInput(as_rgb(rgb))).labels
    other = np.ascontiguousarray(rgb[..., [2, 0, 1]] // 2)
    scorer = open_scorer(ScoreParams(bundle=str(trusting)))
    stained = score_plane(scorer, PlaneInput(as_rgb(other), labels=labels)).table
    assert not stained["in_domain"].any()
    assert (stained["domain_distance"] > 1).all()
    assert stained["flags"].str.contains("out_of_domain").all()
    assert not table["flags"].str.contains("out_of_domain").any()


def test_a_blurred_image_is_flagged(trusting: Path, rgb: Pixels) -> None:
    scorer = open_scorer(ScoreParams(bundle=str(trusting)))
    sharp = score_plane(scorer, PlaneInput(as_rgb(rgb)))
    blurred = ndi.gaussian_filter(rgb, (3, 3, 0))
    soft = score_plane(scorer, PlaneInput(as_rgb(blurred), labels=sharp.labels))
    assert not sharp.table["flags"].str.contains("blurred").any()
    assert soft.table["flags"].str.contains("blurred").mean() > 0.7


def test_without_a_domain_its_columns_are_empty(plain: pd.DataFrame) -> None:
    assert plain["domain_distance"].isna().all()
    assert plain["in_domain"].isna().all()
    assert not plain["flags"].str.contains("out_of_domain|blurred").any()
