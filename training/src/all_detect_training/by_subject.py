"""From cells to subjects: what the best ensemble says of each, and how sure the cells are of it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from all_detect_training.ablation import THRESHOLD, Classifier
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


def subject_table(one: Classifier) -> pd.DataFrame:
    """Return a row per subject of the test cells.

    Parameters
    ----------
    one : Classifier
        Its groups are subjects.

    Returns
    -------
    table : DataFrame
        `subject, class, cells, called_all` (share of its cells), `mean_p_all`, and `mean_p_all_low` and
        `mean_p_all_high`: 95% percentile bootstrap interval over the subject's cells. Sorted by `mean_p_all`, the
        highest first.
    """
    rows = [_row(one, subject) for subject in np.unique(one.group).tolist()]
    return pd.DataFrame(rows).sort_values("mean_p_all", ascending=False, kind="stable", ignore_index=True)


def subject_auc(one: Classifier) -> dict[str, float | None]:
    """Return the AUC of the subjects' mean p_all, and its interval from resampled subjects; None if not defined."""
    subjects, index = np.unique(one.group, return_inverse=True)
    n = np.bincount(index)
    is_all = np.bincount(index, weights=one.is_all) / n > 0.5
    score = np.bincount(index, weights=one.p_all) / n
    return with_interval(weighted_auc(is_all, score, resamples(len(subjects))))


def _row(one: Classifier, subject: str) -> dict[str, object]:
    there = one.group == subject
    p_all = np.asarray(one.p_all[there], np.float64)
    low, high = _interval_of_mean(p_all)
    return {
        "subject": subject,
        "class": "ALL" if one.is_all[there].mean() > 0.5 else "Hem",
        "cells": int(there.sum()),
        "called_all": round(float((p_all >= THRESHOLD).mean()), DIGITS),
        "mean_p_all": round(float(p_all.mean()), DIGITS),
        "mean_p_all_low": round(low, DIGITS),
        "mean_p_all_high": round(high, DIGITS),
    }


def _interval_of_mean(values: NDArray[np.float64]) -> Sequence[float]:
    rng = np.random.default_rng(RESAMPLING_SEED)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
