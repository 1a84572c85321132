import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from all_detect_training.metrics import auc, image_means, interval_over_images, member_figures

# By hand: ALL scores 0.9, 0.6, 0.4; Hem scores 0.6, 0.1. Pairs won: 2 + 1.5 + 1 of 6.
IS_ALL = np.array([True, True, True, False, False])
P_ALL = np.array([0.9, 0.6, 0.4, 0.6, 0.1])


def test_figures_by_hand() -> None:
    figures = member_figures(IS_ALL, P_ALL)
    # Calls: 2 of 3 ALL and 1 of 2 Hem are right. Chance agreement: (3*3 + 2*2) / 25.
    assert figures["auc"] == pytest.approx(4.5 / 6)
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert figures["kappa"] == pytest.approx((3 / 5 - 13 / 25) / (1 - 13 / 25))


def test_a_probability_at_the_threshold_is_called_all() -> None:
    assert member_figures(np.array([True, False]), np.array([0.5, 0.49]))["accuracy"] == 1
    assert member_figures(np.array([True, False]), np.array([0.5, 0.49]), threshold=0.51)["accuracy"] == 0.5


def test_figures_agree_with_sklearn() -> None:
    rng = np.random.default_rng(0)
    is_all, p_all = rng.random(500) < 0.7, rng.random(500).round(2)
    call = p_all >= 0.5
    assert member_figures(is_all, p_all) == {
        "accuracy": sklearn_metrics.accuracy_score(is_all, call),
        "auc": sklearn_metrics.roc_auc_score(is_all, p_all),
        "f1": sklearn_metrics.f1_score(is_all, call),
        "kappa": sklearn_metrics.cohen_kappa_score(is_all, call),
    }


def test_auc_of_one_class_is_nan() -> None:
    assert np.isnan(auc(np.array([True, True]), np.array([0.1, 0.9])))
    assert np.isnan(auc(np.array([False, False]), np.array([0.1, 0.9])))


def test_image_means_in_the_order_of_the_names() -> None:
    images = np.array(["b", "a", "b", "c", "a"])
    assert image_means(images, np.array([1.0, 2.0, 3.0, 4.0, 6.0])).tolist() == [4.0, 2.0, 4.0]
    assert image_means(images, np.array([True, False, False, True, True])).tolist() == [0.5, 0.5, 1.0]


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def test_copies_of_a_cell_make_the_interval_no_narrower() -> None:
    rng = np.random.default_rng(0)
    is_all = np.tile([True, False], 30)
    p_all = np.where(is_all, 0.2, 0.0) + rng.random(60) * 0.8
    copies = np.repeat(np.arange(60), 10)

    def figure(cells: np.ndarray) -> float:
        return auc(is_all[copies][cells], p_all[copies][cells])

    by_image = interval_over_images(figure, copies.astype(str), n=300)
    by_cell = interval_over_images(figure, np.arange(600).astype(str), n=300)
    assert width(by_image) > 2 * width(by_cell)
    alone = interval_over_images(lambda cells: auc(is_all[cells], p_all[cells]), np.arange(60).astype(str), n=300)
    assert width(by_image) == pytest.approx(width(alone), rel=0.25)


def test_interval_holds_the_figure_and_narrows_with_its_level() -> None:
    values = np.random.default_rng(0).random(200)
    images = (np.arange(200) // 4).astype(str)
    low, high = interval_over_images(lambda cells: float(values[cells].mean()), images, n=400)
    assert low < values.mean() < high
    narrow = interval_over_images(lambda cells: float(values[cells].mean()), images, n=400, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    # A mean of 50 image means: +- 1.96 standard errors.
    assert high - low == pytest.approx(2 * 1.96 * values.reshape(50, 4).mean(axis=1).std() / np.sqrt(50), rel=0.15)


def test_resamples_without_a_class_are_left_out() -> None:
    is_all, p_all = np.array([True, False, False]), np.array([0.9, 0.1, 0.2])
    interval = interval_over_images(lambda cells: auc(is_all[cells], p_all[cells]), np.array(["a", "b", "c"]), n=50)
    assert interval == (1.0, 1.0)
