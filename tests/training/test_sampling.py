import numpy as np
import pytest

from all_detect_training.sampling import oversample


@pytest.mark.parametrize(("n_all", "n_hem"), [(7, 3), (3, 7), (5, 5), (1, 40)])
def test_both_classes_come_out_as_large_as_the_larger_one_and_no_cell_is_lost(n_all: int, n_hem: int) -> None:
    is_all = np.array([True] * n_all + [False] * n_hem)
    indices = oversample(is_all, np.random.default_rng(1))
    assert np.bincount(is_all[indices]).tolist() == [max(n_all, n_hem)] * 2
    assert set(indices.tolist()) == set(range(n_all + n_hem))
    larger = is_all == (n_all >= n_hem)
    assert (np.bincount(indices)[larger] == 1).all() or n_all == n_hem


def test_order_is_shuffled_and_depends_on_the_generator_alone() -> None:
    is_all = np.array([True] * 30 + [False] * 10)
    first, same, other = (oversample(is_all, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()
    # Classes in a row would give batches of one class.
    assert 5 < is_all[first][:30].sum() < 25
