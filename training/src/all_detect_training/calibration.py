"""From predictions on validation cells to temperatures and bounds; and how true probabilities are.

Members are trained with both classes alike (oversampled), and how many ALL cells a new image holds is unknown. So are
probabilities fitted and measured here: as if both classes were equally frequent, each cell weighing 1 / (2 n) where n
is the number of its class. Without that, a temperature would make up for the frequencies of the validation set by
flattening a member that is otherwise right.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from all_detect_training.resampling import resamples
from napari_all_detect.trust import Bounds, log_odds

__all__ = ["CONFIDENCE", "FEW", "RATES", "bounds_at", "calibration_error", "fit_temperature", "log_loss", "reliability"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2)
"""Rates of wrong calls for which a bundle holds bounds."""

CONFIDENCE = 0.95
"""With which such a rate is kept to."""

FEW = 10
"""Of fewer images or subjects, resamples don't tell what others are like."""

TEMPERATURES = (0.1, 10.0)
"""A temperature at the upper one means that the member learned nothing, at the lower one that it was right on every
validation cell, or so nearly that they don't show how sure to be."""

N_BINS = 15


def fit_temperature(is_all: Bools, p_all: Floats) -> float | None:
    """Return the temperature at which the probabilities have the least log loss (Guo et al. 2017).

    Parameters
    ----------
    is_all : (N,) bool
    p_all : (N,) float

    Returns
    -------
    temperature : float or None
        In 0.1 to 10. None where it would be 0.1 or less: such cells are all told apart, or nearly, and don't show how
        sure to be.
    """
    signed, weights = _signed_log_odds(is_all, p_all), _weights(is_all)

    def loss(log_temperature: float) -> float:
        return float(weights @ np.logaddexp(0, -signed / math.exp(log_temperature)))

    low, high = (math.log(t) for t in TEMPERATURES)
    best = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return None if loss(low) <= best.fun else math.exp(best.x)


def _signed_log_odds(is_all: Bools, p_all: Floats) -> Floats:
    """Return the log-odds of the true class against the other."""
    return np.where(is_all, 1.0, -1.0) * log_odds(p_all)


def _weights(is_all: Bools) -> Floats:
    """Return what each cell weighs, so that both classes weigh the same; their sum is 1."""
    n = np.where(is_all, is_all.sum(), (~is_all).sum())
    weights = 1 / n
    return np.asarray(weights / weights.sum())


def bounds_at(is_all: Bools, p_all: Floats, rate: float, group: NDArray[Any], confidence: float = CONFIDENCE) -> Bounds:
    """Return the bounds between which a call is uncertain: split-conformal prediction for each class by itself.

    Of n ALL cells, the k-th lowest p_all bounds ALL from below. With k = floor(rate (n + 1)) a new ALL cell that is
    exchangeable with them falls below it with a probability of `rate` at most, but only on average over all the sets
    that might have been drawn to validate (Vovk 2012). To hold for most of these, k is the highest at which the k
    lowest cells are `rate` of all ALL cells, or less, in a share `confidence` of the resamples of whole groups
    (percentile bootstrap): cells of an image are alike. Hem likewise from above.

    Parameters
    ----------
    is_all : (N,) bool
    p_all : (N,) float
        Of cells that no weight was fitted to.
    rate : float
        In (0, 1). With too few cells or groups of a class for it, that class is always possible.
    group : (N,)
        What was drawn as one: each cell's subject or image.
    confidence : float
        In (0, 1). Nearly reached with some 50 groups or more, not with `FEW` (docs/trust.md).

    Examples
    --------
    >>> p_all = np.linspace(0, 1, 400)
    >>> bounds_at(p_all > 0.4, p_all, 0.1, group=np.arange(400)).in_words()
    'Hem up to 0.373, ALL from 0.441; the threshold only between them'
    """
    least_all = _kth_lowest(p_all[is_all], rate, group[is_all], confidence)
    least_hem = _kth_lowest(-p_all[~is_all], rate, group[~is_all], confidence)
    return Bounds(0.0 if least_all is None else least_all, 1.0 if least_hem is None else -least_hem)


def _kth_lowest(p: Floats, rate: float, group: NDArray[Any], confidence: float) -> float | None:
    """Return the k-th lowest probability of a class, None for k = 0."""
    lowest = np.argsort(p, kind="stable")[: math.floor(rate * (len(p) + 1) + 1e-9)]
    if not len(lowest):
        return None
    groups, index = np.unique(group, return_inverse=True)
    times = resamples(len(groups))[1:]
    shares = times[:, index[lowest]].cumsum(axis=1) / (times @ np.bincount(index))[:, None]
    k = int((np.quantile(shares, confidence, axis=0) <= rate).sum())
    return float(p[lowest[k - 1]]) if k else None


def log_loss(is_all: Bools, p_all: Floats) -> float:
    """Return the mean negative log likelihood, both classes weighing the same."""
    return float(_weights(is_all) @ np.logaddexp(0, -_signed_log_odds(is_all, p_all)))


def reliability(is_all: Bools, p_all: Floats) -> list[dict[str, float]]:
    """Return the reliability diagram, both classes weighing the same.

    Returns
    -------
    bins : list of dict
        For each of 15 bins of p_all that holds a cell: `n` cells, their `weight`, mean `p_all` and `share_all`.
    """
    weights, p_all = _weights(is_all), np.asarray(p_all, np.float64)
    index = np.minimum((p_all * N_BINS).astype(int), N_BINS - 1)
    rows = []
    for i in np.unique(index):
        there = index == i
        w = weights[there]
        weight = float(w.sum())
        share, mean = float(w @ is_all[there]) / weight, float(w @ p_all[there]) / weight
        rows.append({"n": int(there.sum()), "weight": weight, "p_all": mean, "share_all": share})
    return rows


def calibration_error(diagram: Sequence[dict[str, float]]) -> float:
    """Return the expected calibration error of a reliability diagram: the mean gap, by the bins' weight."""
    return sum(row["weight"] * abs(row["p_all"] - row["share_all"]) for row in diagram)
