"""Eq. 1 and 2 of Mondal et al. (2021), by hand and by their properties."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from napari_all_detect.ensemble import combine, member_weights

VOTES = np.array([[[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]])
TOLERANCE = {"rtol": 0, "atol": 2e-7}


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Members' float32 probabilities of (Hem, ALL), and weights that are not all 0."""
    n, m = draw(st.integers(0, 6)), draw(st.integers(1, 6))
    p_all = draw(arrays(np.float32, (n, m), elements=st.floats(0, 1, width=32)))
    weights = draw(arrays(np.float64, m, elements=st.one_of(st.just(0.0), st.floats(1e-3, 1))).filter(np.any))
    return np.stack([1 - p_all, p_all], axis=-1), weights


def test_eq_1_by_hand() -> None:
    combined = combine(VOTES, np.ones(3))
    assert combined.dtype == np.float32
    assert_allclose(combined, [[1.7 / 3, 1.3 / 3], [1 / 3, 2 / 3]], **TOLERANCE)


def test_eq_2_by_hand() -> None:
    # (0.8 * 0.1 + 0.5 * 0.4 + 0.3 * 0.8) / (0.8 + 0.5 + 0.3) = 0.52 / 1.6
    combined = combine(VOTES, np.array([0.8, 0.5, 0.3]))
    assert_allclose(combined[:, 1], [0.52 / 1.6, 1.3 / 1.6], **TOLERANCE)


@given(cases())
def test_equal_weights_are_the_formula_of_the_simple_average(case: Any) -> None:
    votes = case[0].astype(np.float64)
    expected = votes.sum(axis=1) / votes.sum(axis=(1, 2))[:, None]
    assert_allclose(combine(case[0], np.ones(votes.shape[1])), expected, **TOLERANCE)


@given(cases(), st.floats(1e-6, 1e6))
def test_the_scale_of_the_weights_does_not_matter(case: Any, factor: float) -> None:
    assert_allclose(combine(case[0], case[1] * factor), combine(*case), **TOLERANCE)


@given(cases())
def test_rows_sum_to_one_and_lie_among_the_members(case: Any) -> None:
    combined = combine(*case)
    assert combined.shape == (len(case[0]), 2)
    assert_allclose(combined.sum(axis=1), 1, **TOLERANCE)
    assert (combined >= case[0].min(axis=1) - 2e-7).all()
    assert (combined <= case[0].max(axis=1) + 2e-7).all()


@given(cases(), st.randoms(use_true_random=False))
def test_a_cell_gets_the_same_bytes_in_any_company(case: Any, random: Any) -> None:
    votes, weights = case
    order = random.sample(range(len(votes)), len(votes))
    combined = combine(votes, weights)
    assert_array_equal(combine(votes[order], weights), combined[order])
    assert_array_equal(combine(votes[:1], weights), combined[:1])


@given(cases())
def test_a_single_member_gives_itself(case: Any) -> None:
    alone = case[0][:, :1]
    assert_allclose(combine(alone, np.array([0.3])), alone[:, 0], **TOLERANCE)


def test_a_member_of_weight_0_has_no_say() -> None:
    assert_array_equal(combine(VOTES, np.array([1.0, 0.0, 0.0])), VOTES[:, 0].astype(np.float32))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 1.0], "2 weights for 3 members"),
        ([1.0] * 4, "4 weights for 3 members"),
        ([0.0, 0.0, 0.0], "not all of them 0"),
        ([1.0, -0.1, 1.0], "at least 0"),
        ([1.0, np.nan, 1.0], "finite"),
        ([1.0, np.inf, 1.0], "finite"),
    ],
)
def test_useless_weights_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        combine(VOTES, np.array(weights))


FIGURES = [
    SimpleNamespace(accuracy=0.9, auc=0.95, f1=0.88, kappa=0.8),
    SimpleNamespace(accuracy=0.4, auc=0.6, f1=0.5, kappa=-0.2),
]


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [("accuracy", [0.9, 0.4]), ("auc", [0.95, 0.6]), ("f1", [0.88, 0.5]), ("equal", [1.0, 1.0])],
)
def test_member_weights(weighting: str, expected: list[float]) -> None:
    assert member_weights(FIGURES, weighting).tolist() == expected


def test_negative_kappa_counts_as_0_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="kappa of members .*: negative weights count as 0"):
        weights = member_weights(FIGURES, "kappa")
    assert weights.tolist() == [0.8, 0.0]
