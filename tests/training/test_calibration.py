import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import beta, norm

from all_detect_training.calibration import (
    RATES,
    bounds_at,
    calibration_error,
    fit_temperature,
    log_loss,
    reliability,
)
from napari_all_detect.trust import Bounds, calibrate, calls


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_temperature_that_was_put_in_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    true_p = 1 / (1 + np.exp(-rng.normal(0, 2, 20_000)))
    is_all = rng.random(20_000) < true_p
    distorted = calibrate(true_p, 1 / temperature)
    found = fit_temperature(is_all, distorted)
    assert found is not None
    assert found == pytest.approx(temperature, rel=0.05)
    before, after = reliability(is_all, distorted), reliability(is_all, calibrate(distorted, found))
    assert calibration_error(after) < 0.015
    assert temperature == 1.0 or calibration_error(before) > 3 * calibration_error(after)
    assert log_loss(is_all, calibrate(distorted, found)) <= log_loss(is_all, distorted)


def test_a_temperature_stays_within_reason() -> None:
    is_all = np.array([True, False] * 20)
    assert fit_temperature(is_all, np.where(is_all, 0.1, 0.9)) == pytest.approx(10, rel=0.01)


def test_cells_that_are_all_told_apart_tell_no_temperature() -> None:
    rng = np.random.default_rng(0)
    is_all = np.arange(40) < 20
    p_all = np.where(is_all, rng.uniform(0.55, 0.9, 40), rng.uniform(0.1, 0.45, 40))
    assert fit_temperature(is_all, p_all) is None
    found = fit_temperature(is_all, np.where(np.arange(40) == 3, 0.4, p_all))
    assert found is not None
    assert 0.1 < found < 1


def test_how_many_cells_of_a_class_there_are_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    is_all = np.repeat([True, False], 3000)
    p_all = 1 / (1 + np.exp(-(rng.normal(0, 1, 6000) + np.where(is_all, 0.5, -0.5))))
    rare = np.concatenate([np.arange(3000), 3000 + np.arange(300).repeat(1)])
    assert fit_temperature(is_all[rare], p_all[rare]) == pytest.approx(fit_temperature(is_all, p_all), rel=0.15)
    tenfold = np.concatenate([np.tile(np.arange(3000), 10), np.arange(3000, 6000)])
    assert fit_temperature(is_all[tenfold], p_all[tenfold]) == pytest.approx(fit_temperature(is_all, p_all), rel=1e-4)
    assert log_loss(is_all[tenfold], p_all[tenfold]) == pytest.approx(log_loss(is_all, p_all))


def test_log_loss_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import log_loss as expected
    from sklearn.utils import compute_sample_weight

    rng = np.random.default_rng(1)
    is_all, p_all = rng.random(200) < 0.3, rng.random(200)
    weights = compute_sample_weight("balanced", is_all)
    assert log_loss(is_all, p_all) == pytest.approx(expected(is_all, p_all, sample_weight=weights), rel=1e-6)


def test_reliability_by_hand() -> None:
    p_all = np.array([0.01, 0.03, 0.5, 0.52, 1.0])
    diagram = reliability(np.array([False, True, True, False, True]), p_all)
    assert [row["n"] for row in diagram] == [2, 2, 1]
    # An ALL cell weighs 1/6, a Hem cell 1/4.
    assert [row["weight"] for row in diagram] == pytest.approx([5 / 12, 5 / 12, 2 / 12])
    assert [row["share_all"] for row in diagram] == pytest.approx([0.4, 0.4, 1.0])
    assert [row["p_all"] for row in diagram] == pytest.approx([0.018, 0.512, 1.0])
    assert calibration_error(diagram) == pytest.approx(5 / 12 * (0.382 + 0.112))


@pytest.mark.parametrize("n", [99, 400, 2000])
@pytest.mark.parametrize("rate", [0.005, 0.05, 0.2])
def test_bounds_are_the_kth_of_each_class(n: int, rate: float) -> None:
    """Of cells that are each drawn alone, k is the highest whose share is below the rate by Clopper and Pearson."""
    p = np.random.default_rng(n).permutation(np.linspace(0.001, 0.999, n))
    bounds = bounds_at(np.repeat([True, False], n), np.concatenate([p, p]), rate, np.arange(2 * n))
    ks = np.arange(1, n)
    k = (beta.ppf(0.95, ks, n + 1 - ks) <= rate).sum()
    ascending = np.concatenate([[0.0], np.sort(p), [1.0]])
    slack = 0.05 * k + 1
    assert abs(np.searchsorted(ascending, bounds.least_all) - k) <= slack
    assert abs(n + 1 - np.searchsorted(ascending, bounds.most_hem) - k) <= slack


def test_images_that_are_alike_count_as_one() -> None:
    """Twenty cells of each image with one p_all tell no more than one cell of it."""
    p = np.random.default_rng(0).permutation(np.linspace(0.001, 0.999, 300))
    alone = bounds_at(np.repeat([True, False], 300), np.tile(p, 2), 0.1, np.arange(600))
    copies = np.repeat([True, False], 6000), np.tile(np.repeat(p, 20), 2), 0.1
    together = bounds_at(*copies, np.repeat(np.arange(600), 20))
    step = 0.0034  # part of the next image's cells may be among the k
    assert together.least_all == pytest.approx(alone.least_all, abs=step)
    assert together.most_hem == pytest.approx(alone.most_hem, abs=step)
    apart = bounds_at(*copies, np.arange(12_000))
    assert apart.least_all > alone.least_all + 3 * step
    assert apart.most_hem < alone.most_hem - 3 * step


@pytest.mark.parametrize(("separation", "of_image"), [(0.5, 0.0), (1.5, 0.7), (4.0, 0.7)])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_coverage_by_simulation(separation: float, of_image: float, rate: float) -> None:
    """For nearly all sets that may validate, neither class is called the other more often than promised.

    Part of what images' cells look like is the image's own; else every bound would hold for half of the sets.
    """
    rng = np.random.default_rng(3)
    is_all = np.repeat(np.arange(100) < 50, 20)
    within = np.sqrt(1 - of_image**2)
    wrong, plain = [], []
    for _ in range(100):
        score = of_image * np.repeat(rng.normal(0, 1, 100), 20) + within * rng.normal(0, 1, 2000)
        p_all = expit(score + separation * is_all)
        bounds = bounds_at(is_all, p_all, rate, np.repeat(np.arange(100), 20))
        # A new image's cells are normal, too: the share that a bound cuts off is known.
        wrong += [norm.cdf(logit(bounds.least_all) - separation), norm.sf(logit(bounds.most_hem))]
        plain.append(norm.cdf(logit(np.quantile(p_all[is_all], rate)) - separation))
    assert 0.83 <= np.mean(np.array(wrong) <= rate) <= 0.995
    assert np.mean(wrong) >= 0.4 * rate
    assert np.mean(np.array(plain) <= rate) < 0.75


def test_calls_beyond_the_bounds_are_wrong_as_often_as_these_say() -> None:
    rng = np.random.default_rng(5)
    is_all = rng.random(20_000) < 0.3
    p_all = expit(rng.normal(0, 1, 20_000) + 1.5 * is_all)
    bounds = bounds_at(is_all, p_all, 0.05, np.arange(20_000))
    for threshold in (0.2, 0.5, 0.8):
        called = calls(p_all, threshold, bounds)
        assert 0.04 < (called[is_all] == "Hem").mean() <= 0.05
        assert 0.04 < (called[~is_all] == "ALL").mean() <= 0.05


def test_a_higher_rate_leaves_fewer_cells_uncertain() -> None:
    rng = np.random.default_rng(4)
    is_all = rng.random(3000) < 0.5
    p_all = 1 / (1 + np.exp(-rng.normal(0, 1, 3000) - is_all))
    shares = [
        (calls(p_all, 0.5, bounds_at(is_all, p_all, rate, np.arange(3000))) == "uncertain").mean() for rate in RATES
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


def test_a_class_of_too_few_cells_is_always_possible() -> None:
    is_all, p_all = np.repeat([True, False], 50), np.full(100, 0.4)
    assert bounds_at(is_all, p_all, 0.01, np.arange(100)) == Bounds(0.0, 1.0)
    assert bounds_at(is_all, p_all, 0.1, np.arange(100)) == Bounds(0.4, 0.4)
