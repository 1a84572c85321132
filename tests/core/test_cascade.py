from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from napari_all_detect import trust
from napari_all_detect.cascade import cost_order, p_all_bounds, run_members
from napari_all_detect.ensemble import combine

SHARE = st.floats(0, 1, width=32)


class Case(NamedTuple):
    """Votes of all members, and how a call is made of them."""

    votes: NDArray[np.float32]
    weights: NDArray[np.float64]
    order: tuple[int, ...]
    temperature: float
    threshold: float
    bounds: trust.Bounds | None

    def p_all(self, votes: NDArray[np.float32]) -> NDArray[np.float32]:
        return trust.calibrate(combine(votes, self.weights)[:, 1], self.temperature)

    def calls(self, votes: NDArray[np.float32]) -> list[str]:
        return trust.calls(self.p_all(votes), self.threshold, self.bounds).tolist()

    def settled(self, low: Any, high: Any) -> Any:
        return trust.settled(*trust.calibrate_bounds(low, high, self.temperature), self.threshold, self.bounds)

    def cascaded(self) -> NDArray[np.float32]:
        return run_members(
            lambda cells, k: self.votes[cells, k], len(self.votes), self.weights, self.order, self.settled
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any ensemble; where calls change often lies where the ensemble's own p_all does, or a float beside it."""
    n, n_members = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    given_p = draw(st.lists(SHARE, min_size=n * n_members, max_size=n * n_members))
    p_all = np.array(given_p, np.float32).reshape(n, n_members)
    if draw(st.booleans()):
        p_all = np.round(p_all)  # all members sure
    votes = np.stack([np.float32(1) - p_all, p_all], axis=2)
    if draw(st.booleans()):
        votes = as_bfloat16(votes)
    weight = st.one_of(st.just(0.0), st.floats(1e-3, 1))
    weights = np.array([draw(st.floats(1e-3, 1)), *(draw(weight) for _ in range(n_members - 1))])
    costs = draw(st.lists(st.floats(0.1, 100), min_size=n_members, max_size=n_members))
    temperature = draw(st.sampled_from([1.0, 0.6, 2.0, 0.05]))
    case = Case(votes, weights, cost_order(weights, costs), temperature, 0.5, None)
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
@given(cases())
def test_calls_are_those_of_the_whole_ensemble(case: Case) -> None:
    ran = np.isfinite(case.cascaded())
    assert case.calls(np.where(ran, case.votes, 0)) == case.calls(case.votes)


@settings(max_examples=400)
@given(cases(), st.data())
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


@given(cases())
def test_members_are_asked_in_order_and_only_about_open_cells(case: Case) -> None:
    ran = np.isfinite(case.cascaded()[..., 1])
    n_run = ran.sum(axis=1)
    for cell, n in enumerate(n_run):
        assert set(np.flatnonzero(ran[cell])) == set(case.order[:n])
    for n in range(1, len(case.order)):
        seen = np.full_like(case.votes, np.nan)
        seen[:, case.order[:n]] = case.votes[:, case.order[:n]]
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
    asked: list[tuple[int, list[int]]] = []
    p_all = np.array([[0.99, 0.99, 0.99], [0.99, 0.02, 0.99], [0.01, 0.01, 0.6]], np.float32)

    def ask(cells: Any, member: int) -> Any:
        asked.append((member, cells.tolist()))
        return np.stack([1 - p_all[cells, member], p_all[cells, member]], axis=1)

    weights = np.ones(3)
    votes = run_members(ask, 3, weights, (2, 0, 1), lambda low, high: trust.settled(low, high, 0.5))
    assert asked == [(2, [0, 1, 2]), (0, [0, 1, 2]), (1, [2])]
    assert np.isnan(votes[:2, 1]).all()
    np.testing.assert_array_equal(votes[2, :, 1], p_all[2])


def test_nothing_is_asked_of_no_cells() -> None:
    def ask(cells: Any, member: int) -> Any:
        raise AssertionError

    assert run_members(ask, 0, np.ones(3), (0, 1, 2), lambda low, high: low == high).shape == (0, 3, 2)


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


@given(st.lists(SHARE, min_size=2, max_size=30), SHARE, SHARE, SHARE)
def test_calls_only_rise_with_p_all(p_all: list[float], threshold: float, least_all: float, most_hem: float) -> None:
    """What `settled` rests on."""
    rank = {"Hem": 0, "uncertain": 1, "ALL": 2}
    for bounds in (None, trust.Bounds(least_all, most_hem)):
        ranks = [rank[call] for call in trust.calls(np.sort(np.array(p_all)), threshold, bounds)]
        assert ranks == sorted(ranks)
