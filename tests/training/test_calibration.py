import numpy as np
import pytest

from all_detect_training.calibration import (
    RATES,
    bounds_at,
    calibration_error,
    cells_needed,
    fit_temperature,
    log_loss,
    reliability,
)
from napari_all_detect.trust import calibrate, calls


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


@pytest.mark.parametrize(("n", "rate", "k"), [(99, 0.05, 5), (98, 0.05, 4), (19, 0.05, 1), (18, 0.05, 0), (9, 0.1, 1)])
def test_bounds_are_the_kth_of_each_class(n: int, rate: float, k: int) -> None:
    p = np.random.default_rng(n).permutation(np.linspace(0.001, 0.999, n))
    bounds = bounds_at(np.repeat([True, False], n), np.concatenate([p, p]), rate)
    ascending = np.sort(p)
    assert bounds.least_all == (ascending[k - 1] if k else 0.0)
    assert bounds.most_hem == (ascending[-k] if k else 1.0)


@pytest.mark.parametrize("separation", [0.5, 1.5, 4.0])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_coverage_by_simulation(separation: float, rate: float) -> None:
    """Neither class is called the other more often than promised, and not much less often than that."""
    rng = np.random.default_rng(3)
    wrong_all, wrong_hem = [], []
    for _ in range(200):
        is_all = np.concatenate([np.arange(400) < 250, rng.random(1000) < 0.3])
        score = rng.normal(0, 1, 1400) + separation * is_all
        p_all = 1 / (1 + np.exp(-score))
        bounds = bounds_at(is_all[:400], p_all[:400], rate)
        called = calls(p_all[400:], float(rng.uniform(0.2, 0.8)), bounds)
        truth = is_all[400:]
        wrong_all.append((called[truth] == "Hem").mean())
        wrong_hem.append((called[~truth] == "ALL").mean())
    slack = 0.15 * rate + 0.001  # of a mean over 200 draws
    assert np.mean(wrong_all) <= rate + slack
    assert np.mean(wrong_hem) <= rate + slack
    if separation < 2:  # else the classes are told apart better than asked for
        assert np.mean(wrong_all) >= 0.6 * rate
        assert np.mean(wrong_hem) >= 0.6 * rate


def test_a_higher_rate_leaves_fewer_cells_uncertain() -> None:
    rng = np.random.default_rng(4)
    is_all = rng.random(3000) < 0.5
    p_all = 1 / (1 + np.exp(-rng.normal(0, 1, 3000) - is_all))
    shares = [(calls(p_all, 0.5, bounds_at(is_all, p_all, rate)) == "uncertain").mean() for rate in RATES]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


@pytest.mark.parametrize("rate", [*RATES, 0.03, 0.3])
def test_from_so_many_cells_on_a_class_can_be_ruled_out(rate: float) -> None:
    n = cells_needed(rate)
    for there, ruled_out in ((n - 1, False), (n, True)):
        bounds = bounds_at(np.repeat([True, False], there), np.full(2 * there, 0.4), rate)
        assert (bounds.least_all > 0, bounds.most_hem < 1) == (ruled_out, ruled_out)
