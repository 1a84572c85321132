"""From cells to subjects: what an ensemble says of each, and how sure the cells are of it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from all_detect_training.resampling import (
    DIGITS,
    LEVEL,
    RESAMPLES,
    RESAMPLING_SEED,
    resamples,
    weighted_auc,
    with_interval,
)

__all__ = ["subject_auc", "subject_table"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]
Names = NDArray[np.str_]


def subject_table(subject: Names, is_all: Bools, p_all: Floats, threshold: float) -> pd.DataFrame:
    """Return a row per subject.

    Parameters
    ----------
    subject : (N,) str
        Whose each cell is.
    is_all : (N,) bool
    p_all : (N,) float
    threshold : float
        From which a cell is called ALL.

    Returns
    -------
    table : DataFrame
        `subject, class, cells, called_all` (share of its cells), `mean_p_all`, and `mean_p_all_low` and
        `mean_p_all_high`: 95% percentile bootstrap interval over the subject's cells. Sorted by `mean_p_all`, the
        highest first.
    """
    rows = [_row(name, is_all[subject == name], p_all[subject == name], threshold) for name in np.unique(subject)]
    return pd.DataFrame(rows).sort_values("mean_p_all", ascending=False, kind="stable", ignore_index=True)


def subject_auc(subject: Names, is_all: Bools, p_all: Floats) -> dict[str, float | None]:
    """Return the AUC of the subjects' mean p_all, and its interval from resampled subjects; None if not defined."""
    subjects, index = np.unique(subject, return_inverse=True)
    n = np.bincount(index)
    of_all = np.bincount(index, weights=is_all) / n > 0.5
    score = np.bincount(index, weights=p_all) / n
    return with_interval(weighted_auc(of_all, score, resamples(len(subjects)), np.arange(len(subjects))))


def _row(name: str, is_all: Bools, p_all: Floats, threshold: float) -> dict[str, object]:
    low, high = _interval_of_mean(p_all.astype(np.float64))
    return {
        "subject": str(name),
        "class": "ALL" if is_all.mean() > 0.5 else "Hem",
        "cells": len(p_all),
        "called_all": round(float((p_all >= np.float32(threshold)).mean()), DIGITS),
        "mean_p_all": round(float(p_all.mean()), DIGITS),
        "mean_p_all_low": round(low, DIGITS),
        "mean_p_all_high": round(high, DIGITS),
    }


def _interval_of_mean(values: NDArray[np.float64]) -> Sequence[float]:
    rng = np.random.default_rng(RESAMPLING_SEED)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
