"""What the training cells look like, for a bundle to know what it was not trained on."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from all_detect_training.telling import Telling
from napari_all_detect.bundle.manifest import Domain
from napari_all_detect.trust import colour_features, domain_distance, sharpness

__all__ = ["fit_domain", "looked_at"]

log = logging.getLogger(__name__)

SHRINKAGE = 0.05
"""Weight of the variances alone in the covariance, so that it can be inverted whatever the cells."""

LEAST_VARIANCE = np.array([0.25] * 6 + [0.001] * 3)
"""Of each feature, in square grey levels: what rounding to whole grey levels leaves, about; of correlations, less."""

BLURRED_SHARE = 0.05
"""Of the training cells, those less sharp than the bundle's limit."""

LEAST_CELLS = 20
AT_ONCE = 128
"""Crops that are looked at together."""

DIGITS = 6


def looked_at(
    look: Callable[[NDArray[np.uint8]], NDArray[Any]], crops: NDArray[np.uint8], which: NDArray[np.bool_]
) -> NDArray[Any]:
    """Return what a function of crops says of some of them, a few at a time: memory may not hold all a second time."""
    chosen = np.flatnonzero(which)
    telling = Telling(log, "looking at cells", len(chosen))
    found = []
    for start in range(0, max(len(chosen), 1), AT_ONCE):
        found.append(look(crops[chosen[start : start + AT_ONCE]]))
        telling.reach(start + AT_ONCE)
    return np.concatenate(found)


def fit_domain(crops: NDArray[np.uint8], split: NDArray[np.str_], false_alarm_rate: float) -> Domain | None:
    """Measure the colours of training cells, and set the border so that few validation cells lie beyond it.

    Mean and covariance are those of all training cells, the covariance shrunk towards its diagonal.

    Parameters
    ----------
    crops : (N, s, s, 3) uint8
    split : (N,) str
        The side of each: those of `train` and `validation` are looked at.
    false_alarm_rate : float
        Share of the validation cells, at most, that may lie beyond the border.

    Returns
    -------
    domain : Domain or None
        None, which is logged, if there are fewer than 20 cells of either.
    """
    training, validation = split == "train", split == "validation"
    n_training, n_validation = int(training.sum()), int(validation.sum())
    if min(n_training, n_validation) < LEAST_CELLS:
        log.warning(
            "%d training and %d validation cells: fewer than %d do not show what the training domain is",
            *(n_training, n_validation, LEAST_CELLS),
        )
        return None
    mean, covariance = (np.round(values, DIGITS) for values in _moments(looked_at(colour_features, crops, training)))
    distance = np.sort(domain_distance(looked_at(colour_features, crops, validation), mean, covariance, 1.0))
    within = min(int(np.ceil((1 - false_alarm_rate) * (len(distance) + 1))), len(distance))
    sharp = looked_at(sharpness, crops, training)
    sharp = sharp[np.isfinite(sharp)]
    return Domain(
        mean=tuple(mean.tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        # Rounded up, so that the cell at the border stays in.
        threshold=float(np.ceil(distance[within - 1] * 10**DIGITS) / 10**DIGITS) or 1.0,
        false_alarm_rate=false_alarm_rate,
        least_sharpness=round(float(np.quantile(sharp, BLURRED_SHARE)), DIGITS) if len(sharp) else 0.0,
        n=n_training,
    )


def _moments(features: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the shrunk covariance."""
    covariance = np.cov(features.T)
    diagonal = np.diag(np.diag(covariance))
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * diagonal + np.diag(LEAST_VARIANCE)
    return features.mean(axis=0), shrunk
