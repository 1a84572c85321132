"""Figures of a classifier on cells."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, roc_auc_score

__all__ = ["THRESHOLD", "auc", "member_figures"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]

THRESHOLD = 0.5
"""From which P(ALL) a cell is called ALL, before a bundle sets its own."""


def auc(is_all: Bools, p_all: Floats) -> float:
    """Return the area under the ROC curve; NaN where a class is missing."""
    return float(roc_auc_score(is_all, p_all)) if 0 < is_all.sum() < len(is_all) else float("nan")


def member_figures(is_all: Bools, p_all: Floats) -> dict[str, float]:
    """Return accuracy, AUC, F1 of ALL and Cohen's kappa: the weights of Eq. 2 in Mondal et al. (2021)."""
    call = p_all >= THRESHOLD
    return {
        "accuracy": float(accuracy_score(is_all, call)),
        "auc": auc(is_all, p_all),
        "f1": float(f1_score(is_all, call)),
        "kappa": float(cohen_kappa_score(is_all, call)),
    }
