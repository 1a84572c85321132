"""`--fast-calls`: order and bounds, then the whole road: the same calls, and tables that everything else survives."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given as each
from hypothesis import settings
from numpy.typing import NDArray

from napari_all_detect import fast_calls, trust
from napari_all_detect.crops import center_crop
from napari_all_detect.ensemble import combine
from napari_all_detect.export.csv import csv_text
from napari_all_detect.export.geojson import geojson_text
from napari_all_detect.fast_calls import FastCalls, cost_order, p_all_bounds
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import PlaneInput, ScoredImage, open_scorer, score_plane
from napari_all_detect.segmentation import segment_cells
from napari_all_detect.sources import as_rgb

pytestmark = pytest.mark.usefixtures("reuse_engines")

SHARE = st.floats(0, 1, width=32)
MEMBERS = ("vgg16", "mobilenet", "densenet121")
NOT_ALWAYS_RUN = ["p_all", "p_hem", "spread", "votes_all", "members_run", "least_p_all", "most_p_all"]
NOT_ALWAYS_RUN += [f"p_all_{name}" for name in MEMBERS]


class Recorded:
    """An engine that says what it is told to, and notes what it is asked."""

    name, device = "recorded", "cpu"

    def __init__(self, votes: NDArray[np.float32]) -> None:
        self.votes = votes
        self.asked: list[tuple[tuple[int, ...], list[int]]] = []

    def predict(self, crops: Any, progress: Any = None, members: Sequence[int] | None = None) -> Any:
        members = range(self.votes.shape[1]) if members is None else members
        cells = crops[:, 0, 0, 0].tolist()
        self.asked.append((tuple(members), cells))
        return self.votes[cells][:, list(members)]


def votes_of(p_all: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([np.float32(1) - p_all, p_all], axis=2)


def numbered(n: int) -> NDArray[np.uint8]:
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 3))


def above_half(low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (low >= 0.5) == (high >= 0.5)


def test_members_run_only_on_open_cells_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_calls, "CELLS_AT_ONCE", 3)
    p_all = np.array([[0.9, 0.9, 0.2], [0.9, 0.1, 0.8], [0.1, 0.1, 0.5], [1, 1, 1]], np.float32)
    engine = Recorded(votes_of(p_all))
    fast = FastCalls(engine, np.ones(3), [1.0, 2.0, 3.0], above_half)
    told: list[int] = []
    found = fast.predict(numbered(4), told.append)
    assert engine.asked == [((0,), [0, 1, 2]), ((1,), [0, 1, 2]), ((2,), [1]), ((0,), [3]), ((1,), [3])]
    assert told == [3, 1]
    np.testing.assert_array_equal(np.isnan(found[..., 1]), [[0, 0, 1], [0, 0, 0], [0, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(found[1, :, 1], p_all[1])


class Case(NamedTuple):
    """Votes of all members, and how a call is made of them."""

    votes: NDArray[np.float32]
    weights: NDArray[np.float64]
    costs: Sequence[float]
    temperature: float
    threshold: float
    bounds: trust.Bounds | None

    def p_all(self, votes: NDArray[np.float32]) -> NDArray[np.float32]:
        return trust.calibrate(combine(votes, self.weights)[:, 1], self.temperature)

    def calls(self, votes: NDArray[np.float32]) -> list[str]:
        return trust.calls(self.p_all(votes), self.threshold, self.bounds).tolist()

    def settled(self, low: Any, high: Any) -> Any:
        return trust.settled(*trust.calibrate_bounds(low, high, self.temperature), self.threshold, self.bounds)

    def by_fast_calls(self) -> NDArray[np.float32]:
        fast = FastCalls(Recorded(self.votes), self.weights, self.costs, self.settled)
        return fast.predict(numbered(len(self.votes)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any ensemble; where calls change often lies where the ensemble's own p_all does, or a float beside it."""
    n, n_members = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    given_p = draw(st.lists(SHARE, min_size=n * n_members, max_size=n * n_members))
    p_all = np.array(given_p, np.float32).reshape(n, n_members)
    if draw(st.booleans()):
        p_all = np.round(p_all)  # all members sure
    votes = votes_of(p_all)
    if draw(st.booleans()):
        votes = as_bfloat16(votes)
    weight = st.one_of(st.just(0.0), st.floats(1e-3, 1))
    weights = np.array([draw(st.floats(1e-3, 1)), *(draw(weight) for _ in range(n_members - 1))])
    costs = draw(st.lists(st.floats(0.1, 100), min_size=n_members, max_size=n_members))
    temperature = draw(st.sampled_from([1.0, 0.6, 2.0, 0.05]))
    case = Case(votes, weights, costs, temperature, 0.5, None)
    found = case.p_all(votes)
    beside = [float(np.nextafter(p, np.float32(end))) for p in found for end in (0, 1)]
    change = st.one_of(SHARE, st.sampled_from([*map(float, found), *beside]))
    bounds = trust.Bounds(draw(change), draw(change)) if draw(st.booleans()) else None
    return case._replace(threshold=draw(change), bounds=bounds)


def as_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to eight bits, as an engine may that computes in bfloat16: two probabilities no longer make 1."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


@settings(max_examples=400)
@each(cases())
def test_calls_are_those_of_the_whole_ensemble(case: Case) -> None:
    ran = np.isfinite(case.by_fast_calls())
    assert case.calls(np.where(ran, case.votes, 0)) == case.calls(case.votes)


@settings(max_examples=400)
@each(cases(), st.data())
def test_bounds_hold_p_all_whoever_was_asked(case: Case, data: st.DataObject) -> None:
    n_asked = data.draw(st.integers(0, len(case.weights)))
    asked = np.zeros(len(case.weights), bool)
    asked[data.draw(st.permutations(range(len(case.weights))))[:n_asked]] = True
    votes = np.where(asked[:, None], case.votes, np.nan)
    low, high = trust.calibrate_bounds(*p_all_bounds(votes, case.weights), case.temperature)
    assert ((low <= case.p_all(case.votes)) & (case.p_all(case.votes) <= high)).all()
    if case.weights[asked].any():
        by_those = case.p_all(np.where(asked[:, None], case.votes, 0))
        assert ((low <= by_those) & (by_those <= high)).all()


@each(cases())
def test_members_are_asked_in_order_and_only_about_open_cells(case: Case) -> None:
    ran = np.isfinite(case.by_fast_calls()[..., 1])
    n_run, order = ran.sum(axis=1), cost_order(case.weights, case.costs)
    for cell, n in enumerate(n_run):
        assert set(np.flatnonzero(ran[cell])) == set(order[:n])
    for n in range(1, len(order)):
        seen = np.full_like(case.votes, np.nan)
        seen[:, order[:n]] = case.votes[:, order[:n]]
        np.testing.assert_array_equal(case.settled(*p_all_bounds(seen, case.weights)) & (n_run >= n), n_run == n)


def test_bounds_by_hand() -> None:
    nan = [np.nan, np.nan]
    votes = np.array([[[0.25, 0.75], [0.5, 0.5], nan], [nan, nan, [1, 0]], [nan, nan, nan]], np.float32)
    low, high = p_all_bounds(votes, np.array([2.0, 1.0, 1.0]))
    np.testing.assert_allclose(low, [2 / 4, 0, 0], atol=1e-7)
    np.testing.assert_allclose(high, [3 / 4, 3 / 4, 1], atol=1e-7)
    # Rounded outwards.
    assert low[0] < 2 / 4
    assert high[0] > 3 / 4
    assert high[1] > 3 / 4


def test_sure_members_settle_a_cell_and_unsure_ones_do_not() -> None:
    p_all = np.array([[0.99, 0.99, 0.99], [0.99, 0.02, 0.99], [0.01, 0.01, 0.6]], np.float32)
    engine = Recorded(votes_of(p_all))
    fast = FastCalls(engine, np.ones(3), [2.0, 3.0, 1.0], lambda low, high: trust.settled(low, high, 0.5))
    votes = fast.predict(numbered(3))
    assert engine.asked == [((2,), [0, 1, 2]), ((0,), [0, 1, 2]), ((1,), [2])]
    assert np.isnan(votes[:2, 1]).all()
    np.testing.assert_array_equal(votes[2, :, 1], p_all[2])


def test_nothing_is_asked_of_no_cells() -> None:
    engine = Recorded(np.zeros((0, 3, 2), np.float32))
    assert FastCalls(engine, np.ones(3), [1.0, 2.0, 3.0], above_half).predict(numbered(0)).shape == (0, 3, 2)
    assert not engine.asked


@pytest.mark.parametrize(
    ("weights", "costs", "order"),
    [
        ([1, 1, 1], [3.0, 1.0, 2.0], (1, 2, 0)),
        ([1, 3, 1], [1.0, 2.0, 2.0], (1, 0, 2)),
        ([0, 1, 0], [1.0, 9.0, 1.0], (1,)),
        ([1, 1, 1], [1.0, 1.0, 1.0], (0, 1, 2)),
    ],
)
def test_the_cheapest_for_their_weight_come_first(weights: Any, costs: Any, order: Any) -> None:
    assert cost_order(np.array(weights, float), costs) == order


@each(st.lists(SHARE, min_size=2, max_size=30), SHARE, SHARE, SHARE)
def test_calls_only_rise_with_p_all(p_all: list[float], threshold: float, least_all: float, most_hem: float) -> None:
    """What `settled` rests on."""
    rank = {"Hem": 0, "uncertain": 1, "ALL": 2}
    for bounds in (None, trust.Bounds(least_all, most_hem)):
        ranks = [rank[call] for call in trust.calls(np.sort(np.array(p_all)), threshold, bounds)]
        assert ranks == sorted(ranks)


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
