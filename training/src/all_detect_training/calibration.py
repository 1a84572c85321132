"""From predictions on validation cells to temperatures and bounds; and how true probabilities are.

Members are trained with both classes alike (oversampled), and how many ALL cells a new image holds is unknown. So are
probabilities fitted and measured here: as if both classes were equally frequent, each cell weighing 1 / (2 n) where n
is the number of its class. Without that, a temperature would make up for the frequencies of the validation set by
flattening a member that is otherwise right.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from napari_all_detect.trust import Bounds, log_odds

__all__ = ["RATES", "bounds_at", "calibration_error", "cells_needed", "fit_temperature", "log_loss", "reliability"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2)
"""Rates of wrong calls for which a bundle holds bounds."""

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


def bounds_at(is_all: Bools, p_all: Floats, rate: float) -> Bounds:
    """Return the bounds between which a call is uncertain: split-conformal prediction for each class by itself.

    Of n ALL cells, the k-th lowest p_all with k = floor(rate (n + 1)) bounds ALL from below: a new ALL cell that is
    exchangeable with them falls below it with a probability of `rate` at most (Vovk 2012). Hem likewise from above.

    Parameters
    ----------
    is_all : (N,) bool
    p_all : (N,) float
        Of cells that no weight was fitted to.
    rate : float
        In (0, 1). With too few cells of a class for it, that class is always possible.

    Examples
    --------
    >>> p_all = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
    >>> bounds_at(p_all > 0.35, p_all, 0.4)
    Bounds(least_all=0.6, most_hem=0.3)
    """
    of_all, of_hem = np.sort(p_all[is_all]), np.sort(p_all[~is_all])[::-1]
    k_all, k_hem = (math.floor(rate * (len(p) + 1) + 1e-9) for p in (of_all, of_hem))
    return Bounds(float(of_all[k_all - 1]) if k_all else 0.0, float(of_hem[k_hem - 1]) if k_hem else 1.0)


def cells_needed(rate: float) -> int:
    """Return of how many cells of a class on `bounds_at` can rule that class out.

    >>> cells_needed(0.05)
    19
    """
    return math.ceil(1 / rate - 1e-9) - 1


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
