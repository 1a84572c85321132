"""Figures of a classifier on cells and on images, with intervals that know which cells belong together."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, roc_auc_score

__all__ = ["auc", "image_means", "interval_over_images", "member_figures"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]


def auc(is_all: Bools, p_all: Floats) -> float:
    """Return the area under the ROC curve; NaN where a class is missing."""
    return float(roc_auc_score(is_all, p_all)) if 0 < is_all.sum() < len(is_all) else float("nan")


def member_figures(is_all: Bools, p_all: Floats, threshold: float = 0.5) -> dict[str, float]:
    """Return accuracy, AUC, F1 of ALL and Cohen's kappa: the weights of Eq. 2 in Mondal et al. (2021)."""
    call = p_all >= threshold
    return {
        "accuracy": float(accuracy_score(is_all, call)),
        "auc": auc(is_all, p_all),
        "f1": float(f1_score(is_all, call)),
        "kappa": float(cohen_kappa_score(is_all, call)),
    }


def image_means(images: NDArray[np.str_], values: Floats | Bools) -> Floats:
    """Return the mean of the values in each image, in the order of `numpy.unique(images)`."""
    _, index = np.unique(images, return_inverse=True)
    return np.bincount(index, weights=values) / np.bincount(index)


def interval_over_images(
    figure: Callable[[NDArray[np.intp]], float],
    images: NDArray[np.str_],
    *,
    n: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval that draws whole images, as cells of an image are no independent draws.

    Parameters
    ----------
    figure : callable
        Takes indices of cells, with repeats, and returns the figure for them.
    images : (N,) str
        The image of each cell.
    n : int
        Resamples; those for which the figure is NaN are left out.
    level : float
        Coverage.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(images, kind="stable")
    members = np.split(order, np.flatnonzero(images[order][1:] != images[order][:-1]) + 1)
    draws = (rng.integers(len(members), size=len(members)) for _ in range(n))
    values = [figure(np.concatenate([members[i] for i in draw])) for draw in draws]
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
