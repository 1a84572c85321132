import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from all_detect_training.metrics import auc, member_figures

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
