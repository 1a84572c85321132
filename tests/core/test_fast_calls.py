"""`--fast-calls` down the whole road: the same calls, and tables that everything else survives."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from napari_all_detect import fast_calls
from napari_all_detect.crops import center_crop
from napari_all_detect.export.csv import csv_text
from napari_all_detect.export.geojson import geojson_text
from napari_all_detect.fast_calls import FastCalls
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import PlaneInput, ScoredImage, open_scorer, score_plane
from napari_all_detect.segmentation import segment_cells
from napari_all_detect.sources import as_rgb

pytestmark = pytest.mark.usefixtures("reuse_engines")

MEMBERS = ("vgg16", "mobilenet", "densenet121")
NOT_ALWAYS_RUN = ["p_all", "p_hem", "spread", "votes_all", "members_run", "least_p_all", "most_p_all"]
NOT_ALWAYS_RUN += [f"p_all_{name}" for name in MEMBERS]


class Recorded:
    """An engine that says what it is told to, and notes what it is asked."""

    name, device = "recorded", "cpu"

    def __init__(self, p_all: NDArray[np.float32]) -> None:
        self.p_all = p_all
        self.asked: list[tuple[tuple[int, ...], int]] = []

    def predict(self, crops: Any, progress: Any = None, members: Sequence[int] | None = None) -> Any:
        members = range(self.p_all.shape[1]) if members is None else members
        self.asked.append((tuple(members), len(crops)))
        p_all = self.p_all[crops[:, 0, 0, 0]][:, list(members)]
        return np.stack([1 - p_all, p_all], axis=2)


def numbered(n: int) -> NDArray[np.uint8]:
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 3))


def above_half(low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (low >= 0.5) == (high >= 0.5)


def test_members_run_only_on_open_cells_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_calls, "CELLS_AT_ONCE", 3)
    p_all = np.array([[0.9, 0.9, 0.2], [0.9, 0.1, 0.8], [0.1, 0.1, 0.5], [1, 1, 1]], np.float32)
    engine = Recorded(p_all)
    fast = FastCalls(engine, np.ones(3), [1.0, 2.0, 3.0], above_half)
    told: list[int] = []
    found = fast.predict(numbered(4), told.append)
    assert engine.asked == [((0,), 3), ((1,), 3), ((2,), 1), ((0,), 1), ((1,), 1)]
    assert told == [3, 1]
    np.testing.assert_array_equal(np.isnan(found[..., 1]), [[0, 0, 1], [0, 0, 0], [0, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(found[1, :, 1], p_all[1])


@pytest.fixture(scope="module")
def given(smear: Callable[..., NDArray[np.uint8]]) -> PlaneInput:
    rgb = smear(4, (256, 256), 14)
    return PlaneInput(as_rgb(rgb), labels=segment_cells(rgb))


@pytest.fixture
def score(tiny_bundle: Path, reuse_engines: None, given: PlaneInput) -> Callable[..., ScoredImage]:
    return lambda **options: score_plane(open_scorer(ScoreParams(bundle=str(tiny_bundle), **options)), given)


@pytest.mark.parametrize("weighting", ["kappa", "equal", "f1"])
@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
def test_the_same_calls_by_fewer_members(score: Any, weighting: str, threshold: float) -> None:
    options = {"weighting": weighting, "threshold": threshold}
    whole, fast = score(**options).table, score(fast_calls=True, **options).table
    pd.testing.assert_frame_equal(fast.drop(columns=NOT_ALWAYS_RUN), whole.drop(columns=NOT_ALWAYS_RUN))
    assert ((fast["least_p_all"] <= whole["p_all"]) & (whole["p_all"] <= fast["most_p_all"])).all()
    assert ((fast["least_p_all"] <= fast["p_all"]) & (fast["p_all"] <= fast["most_p_all"])).all()
    all_ran = (fast["members_run"] == 3).to_numpy(bool)
    pd.testing.assert_frame_equal(fast[all_ran], whole[all_ran])
    votes = fast[[f"p_all_{name}" for name in MEMBERS]]
    assert votes.notna().sum(axis=1).tolist() == fast["members_run"].tolist()
    assert fast["spread"].isna().tolist() == (~all_ran).tolist()


def test_threshold_at_the_very_p_all_of_a_cell(score: Any) -> None:
    """The float32 that the whole ensemble gives, and its neighbours, call the same either way."""
    for p in score().table["p_all"].head(3):
        for threshold in (np.nextafter(p, np.float32(0)), p, np.nextafter(p, np.float32(1))):
            options = {"threshold": float(threshold)}
            whole, fast = score(**options).table, score(fast_calls=True, **options).table
            assert fast["call"].tolist() == whole["call"].tolist()


def test_images_count_the_same_calls(score: Any) -> None:
    whole, fast = score().summary, score(fast_calls=True).summary
    pd.testing.assert_frame_equal(fast.drop(columns="mean_p_all"), whole.drop(columns="mean_p_all"))


def test_cells_are_scored_alike_whatever_others_come_with_them(
    score: Any, given: PlaneInput, tiny_bundle: Path
) -> None:
    together = score(fast_calls=True)
    alone = np.where(given.labels == 3, 3, 0)
    scorer = open_scorer(ScoreParams(bundle=str(tiny_bundle), fast_calls=True, rescale="none"))
    by_itself = score_plane(scorer, PlaneInput(given.pixels, labels=alone))
    np.testing.assert_array_equal(by_itself.member_probabilities[0], together.member_probabilities[2])


def test_what_is_written_names_what_did_not_run(score: Any, given: PlaneInput) -> None:
    table = score(fast_calls=True).table
    lines = [line.split(",") for line in csv_text(table).splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    stopped = [row for row in rows if row["members_run"] != "3"]
    assert stopped
    for row in stopped:
        assert row["spread"] == ""
        assert "" in [row[f"p_all_{name}"] for name in MEMBERS]
        assert row["p_all"] != "" != row["call"]
    assert "NaN" not in geojson_text(table, given.labels)


def test_no_cells_at_all(tiny_bundle: Path) -> None:
    blank = PlaneInput(as_rgb(np.full((64, 64, 3), 240, np.uint8)), labels=np.zeros((64, 64), int))
    scored = score_plane(open_scorer(ScoreParams(bundle=str(tiny_bundle), fast_calls=True)), blank)
    assert len(scored.table) == 0
    assert scored.member_probabilities.shape == (0, 3, 2)


@pytest.mark.parametrize("error_rate", [0.05, 0.01, 0.2])
def test_calls_of_real_cells_by_the_shipped_bundle(data_folder: Path, error_rate: float) -> None:
    """Uncertain ones too; of what was trained, most cells do without a member."""
    from PIL import Image

    path = sorted((data_folder / "taleqani").rglob("*.jpg"))[5]
    rgb = np.asarray(Image.open(path).convert("RGB"))
    given = PlaneInput(as_rgb(rgb), labels=segment_cells(rgb))
    whole, fast = (
        score_plane(open_scorer(ScoreParams(error_rate=error_rate, fast_calls=on)), given).table for on in (False, True)
    )
    assert len(center_crop(rgb, given.labels, 56)) == len(whole) > 3
    assert fast["call"].tolist() == whole["call"].tolist()
    assert (fast["members_run"] < 5).mean() > 0.3
