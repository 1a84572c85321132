"""From cells to subjects: what an ensemble says of each, and how sure the cells are of it."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from all_detect_training.resampling import DIGITS, resamples, weighted_auc, with_interval

__all__ = ["subject_auc", "subject_table"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]
Names = NDArray[np.str_]


def subject_table(subject: Names, image: Names, is_all: Bools, p_all: Floats, threshold: float) -> pd.DataFrame:
    """Return a row per subject.

    Parameters
    ----------
    subject : (N,) str
        Whose each cell is.
    image : (N,) str
        That each cell is in.
    is_all : (N,) bool
    p_all : (N,) float
    threshold : float
        From which a cell is called ALL.

    Returns
    -------
    table : DataFrame
        `subject, class, cells, called_all` (share of its cells), `mean_p_all`, and `mean_p_all_low` and
        `mean_p_all_high`: 95% percentile bootstrap interval from resampled images of the subject, each with all its
        cells, as these are no independent draws; empty of a subject with one image. Sorted by `mean_p_all`, the highest
        first.
    """
    own = ((name, subject == name) for name in np.unique(subject))
    rows = [_row(name, image[there], is_all[there], p_all[there], threshold) for name, there in own]
    return pd.DataFrame(rows).sort_values("mean_p_all", ascending=False, kind="stable", ignore_index=True)


def subject_auc(subject: Names, is_all: Bools, p_all: Floats) -> dict[str, float | None]:
    """Return the AUC of the subjects' mean p_all, and its interval from resampled subjects; None if not defined."""
    subjects, index = np.unique(subject, return_inverse=True)
    n = np.bincount(index)
    of_all = np.bincount(index, weights=is_all) / n > 0.5
    score = np.bincount(index, weights=p_all) / n
    return with_interval(weighted_auc(of_all, score, resamples(len(subjects)), np.arange(len(subjects))))


def _row(name: str, image: Names, is_all: Bools, p_all: Floats, threshold: float) -> dict[str, object]:
    mean = _mean(image, p_all)
    return {
        "subject": str(name),
        "class": "ALL" if is_all.mean() > 0.5 else "Hem",
        "cells": len(p_all),
        "called_all": round(float((p_all >= np.float32(threshold)).mean()), DIGITS),
        "mean_p_all": mean["value"],
        "mean_p_all_low": mean["low"],
        "mean_p_all_high": mean["high"],
    }


def _mean(image: Names, p_all: Floats) -> dict[str, float | None]:
    """Return the mean over all cells, and its interval from resampled images; one image has none."""
    _, index = np.unique(image, return_inverse=True)
    cells, sums = np.bincount(index), np.bincount(index, weights=p_all)
    times = resamples(len(cells))
    return with_interval(times @ sums / (times @ cells))
