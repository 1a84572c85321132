import logging
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from all_detect_training import domain as domain_module
from all_detect_training.domain import fit_domain
from napari_all_detect.bundle.manifest import Domain
from napari_all_detect.trust import colour_features, domain_distance, sharpness

SIDE = 32
Crops = NDArray[np.uint8]


def stained(n: int, rng: np.random.Generator, colour: tuple[int, int, int] = (150, 100, 190)) -> Crops:
    """Discs of about one colour, with grain."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    tint = np.array(colour) + rng.normal(0, 8, (n, 1, 1, 3)) + rng.normal(0, 12, (n, SIDE, SIDE, 3))
    return np.where((y**2 + x**2 < 100)[None, ..., None], tint.clip(1, 255), 0).astype(np.uint8)


def fitted(training: Crops, validation: Crops, rate: float) -> Domain | None:
    split = np.repeat(["train", "validation"], [len(training), len(validation)])
    return fit_domain(np.concatenate([training, validation]), split, rate)


def in_domain(domain: object, crops: Crops) -> float:
    features = colour_features(crops)
    return float((domain_distance(features, domain.mean, domain.covariance, domain.threshold) <= 1).mean())  # type: ignore[attr-defined]


@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_cells_alike_are_in_and_other_stains_are_out(rate: float) -> None:
    rng = np.random.default_rng(0)
    domain = fitted(stained(600, rng), stained(500, rng), rate)
    assert domain is not None
    assert 1 - in_domain(domain, stained(2000, rng)) == pytest.approx(rate, abs=0.6 * rate)
    assert in_domain(domain, stained(100, rng, (200, 150, 120))) == 0
    assert in_domain(domain, stained(100, rng, (80, 40, 90))) == 0
    assert (domain.n, domain.false_alarm_rate) == (600, rate)


@pytest.mark.parametrize(("n", "within"), [(500, 491), (99, 98), (40, 40)])
def test_the_border_leaves_out_as_many_validation_cells_as_may_be(n: int, within: int) -> None:
    rng = np.random.default_rng(4)
    validation = stained(n, rng)
    domain = fitted(stained(60, rng), validation, 0.02)
    assert round(in_domain(domain, validation) * n) == within


def test_a_few_cells_at_a_time_say_the_same_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    crops = stained(2000, np.random.default_rng(7))
    split = np.resize(["train", "train", "validation"], len(crops))
    tracemalloc.start()
    found = fit_domain(crops, split, 0.02)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.4 * crops.nbytes
    monkeypatch.setattr(domain_module, "AT_ONCE", len(crops))
    assert fit_domain(crops, split, 0.02) == found


def test_colours_that_go_together_leave_a_covariance_that_can_be_inverted() -> None:
    rng = np.random.default_rng(5)
    grey = np.where(stained(60, rng) > 0, rng.normal(150, 20, (60, 1, 1, 1)), 0).clip(0, 255).astype(np.uint8)
    domain = fitted(grey, grey, 0.02)
    assert domain is not None
    covariance = np.array(domain.covariance)
    assert covariance[0, 1] > 10
    assert covariance[0, 1] <= 0.95 * covariance[0, 0]


def test_colours_that_go_together_otherwise_are_out() -> None:
    """Another stain may have the same mean and spread of each colour, as has a camera that balances white anew."""
    rng = np.random.default_rng(1)
    crops, other = stained(500, rng), stained(100, rng)
    grain = rng.normal(0, 12, (100, SIDE, SIDE, 1)) * [1, -1, 1] + [150, 100, 190]
    other = np.where(other > 0, grain.clip(1, 255), 0).astype(np.uint8)
    domain = fitted(crops, stained(500, rng), 0.02)
    assert domain is not None
    assert in_domain(domain, other) == 0
    without = domain.model_copy(update={"mean": domain.mean[:6], "covariance": [r[:6] for r in domain.covariance[:6]]})
    assert in_domain(without, other) > 0.9


def test_five_in_a_hundred_training_cells_are_less_sharp() -> None:
    rng = np.random.default_rng(2)
    crops = stained(400, rng)
    domain = fitted(crops, crops[:50], 0.02)
    assert domain is not None
    assert (sharpness(crops) < domain.least_sharpness).mean() == pytest.approx(0.05, abs=0.005)


def test_black_crops_have_a_domain_of_their_own() -> None:
    domain = fitted(np.zeros((30, SIDE, SIDE, 3), np.uint8), np.zeros((30, SIDE, SIDE, 3), np.uint8), 0.02)
    assert domain is not None
    assert in_domain(domain, np.zeros((3, SIDE, SIDE, 3), np.uint8)) == 1
    assert in_domain(domain, stained(3, np.random.default_rng(0))) == 0


def test_too_few_cells_give_no_domain_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(3)
    with caplog.at_level(logging.WARNING):
        assert fitted(stained(19, rng), stained(30, rng), 0.02) is None
        assert fitted(stained(30, rng), stained(19, rng), 0.02) is None
    assert "19 training and 30 validation cells" in caplog.text
