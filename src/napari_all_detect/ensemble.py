"""Eq. 1 and 2 of Mondal et al. (2021), and nothing else.

Mondal C. et al., "Ensemble of convolutional neural networks to diagnose acute lymphoblastic leukemia from microscopic
images", Informatics in Medicine Unlocked 27 (2021) 100794.
"""

import warnings
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["combine", "member_weights"]


class Figures(Protocol):
    """A member's figures on validation cells."""

    @property
    def accuracy(self) -> float: ...
    @property
    def auc(self) -> float: ...
    @property
    def f1(self) -> float: ...
    @property
    def kappa(self) -> float: ...


def combine(probabilities: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """Combine the members' class probabilities by their weighted mean.

    With weights W_k it is Eq. 2, P'_j = sum_k W_k P_jk / sum_k W_k. With equal weights it is Eq. 1,
    P'_j = sum_k P_jk / sum_j sum_k P_jk, as each member's probabilities sum to 1.

    Parameters
    ----------
    probabilities : (N, M, 2) float
        For each cell and member the probabilities of (Hem, ALL).
    weights : (M,) float
        Not negative, not all zero; their scale does not matter.

    Returns
    -------
    combined : (N, 2) float32
        Probabilities of (Hem, ALL).

    Raises
    ------
    ValueError
        If a weight is negative or not finite, all are zero, or their number is not the members'.

    Examples
    --------
    >>> votes = np.array([[[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]]])
    >>> combine(votes, np.array([1.0, 1.0, 2.0]))
    array([[0.4, 0.6]], dtype=float32)
    """
    weights = np.asarray(weights, np.float64)
    if weights.shape != probabilities.shape[1:2]:
        raise ValueError(f"{weights.size} weights for {probabilities.shape[1]} members")
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise ValueError(f"weights are {weights.tolist()}; expected finite ones of at least 0, not all of them 0")
    # In float64, member by member, so that the sum does not depend on how many cells there are.
    total = sum(w * probabilities[:, k].astype(np.float64) for k, w in enumerate(weights / weights.sum()))
    return np.asarray(total / np.sum(total, axis=1, keepdims=True), np.float32)


def member_weights(figures: Sequence[Figures], weighting: str) -> NDArray[np.float64]:
    """Return the members' weights W_k.

    Parameters
    ----------
    figures : sequence
        Each member's figures on validation cells.
    weighting : {"kappa", "accuracy", "auc", "f1", "equal"}
        Which of them weighs; `equal` gives the simple average.

    Returns
    -------
    weights : (M,) float64
        At least 0. A negative kappa, worse than chance, counts as 0 and a UserWarning says so.

    Examples
    --------
    >>> from types import SimpleNamespace as Figures
    >>> member_weights([Figures(accuracy=0.9, kappa=0.7), Figures(accuracy=0.8, kappa=0.5)], "kappa").tolist()
    [0.7, 0.5]
    """
    if weighting == "equal":
        return np.ones(len(figures))
    weights = np.array([getattr(f, weighting) for f in figures], np.float64)
    if (weights < 0).any():
        warnings.warn(
            f"{weighting} of members is {weights.tolist()}: negative weights count as 0",
            UserWarning,
            stacklevel=2,
        )
    return weights.clip(0)
