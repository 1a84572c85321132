"""From the members' votes to calibrated probabilities and calls at a stated rate of errors."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LEAST_PROBABILITY",
    "Bounds",
    "calibrate",
    "calibrate_bounds",
    "calls",
    "log_odds",
    "settled",
    "spread",
    "votes_all",
]

LEAST_PROBABILITY = 1e-7
"""Probabilities are kept so far from 0 and 1: nearer to 1, float32 can't tell log-odds apart."""


@dataclass(frozen=True)
class Bounds:
    """Which classes a probability leaves possible: split-conformal prediction, each class by itself.

    Attributes
    ----------
    least_all : float
        A cell can be ALL from this p_all on.
    most_hem : float
        A cell can be Hem up to this p_all.
    """

    least_all: float
    most_hem: float

    @classmethod
    def at_rates(
        cls,
        rates: Sequence[float],
        least_all: Sequence[float],
        most_hem: Sequence[float],
        error_rate_all: float,
        error_rate_hem: float,
    ) -> "Bounds":
        """Look bounds up that are tabled by ascending rates: a rate between two takes those of the lower one.

        Below the lowest rate nothing is ruled out.

        >>> Bounds.at_rates([0.01, 0.05], [0.2, 0.4], [0.9, 0.7], 0.03, 0.001)
        Bounds(least_all=0.2, most_hem=1.0)
        """
        of_all, of_hem = (bisect_right(rates, rate) for rate in (error_rate_all, error_rate_hem))
        return cls((0.0, *least_all)[of_all], (1.0, *most_hem)[of_hem])

    def in_words(self) -> str:
        """Say which calls they give.

        >>> Bounds(least_all=0.4, most_hem=0.7).in_words()
        'Hem below 0.400, ALL above 0.700, uncertain between them'
        >>> Bounds(least_all=0.6, most_hem=0.5).in_words()
        'Hem up to 0.500, ALL from 0.600; the threshold only between them'
        """
        if self.least_all > self.most_hem:
            return f"Hem up to {self.most_hem:.3f}, ALL from {self.least_all:.3f}; the threshold only between them"
        return f"Hem below {self.least_all:.3f}, ALL above {self.most_hem:.3f}, uncertain between them"


def log_odds(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return log(p / (1 - p)), finite for 0 and 1 too."""
    p = np.asarray(p, np.float64).clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.asarray(np.log(p) - np.log1p(-p))


def calibrate(p_all: NDArray[np.floating], temperature: float) -> NDArray[np.float32]:
    """Divide the log-odds by a temperature (Guo et al. 2017): above 1 doubts more, below 1 less.

    The order of cells, and on which side of 0.5 each is, stay the same.

    >>> calibrate(np.array([0.1, 0.5, 0.9]), 2.0).round(3).tolist()
    [0.25, 0.5, 0.75]
    """
    if temperature == 1.0:
        return np.asarray(p_all, np.float32)
    return np.asarray(1 / (1 + np.exp(-log_odds(p_all) / temperature)), np.float32)


def calibrate_bounds(
    low: NDArray[np.floating], high: NDArray[np.floating], temperature: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Calibrate bounds of p_all, rounded outwards by the step that `calibrate` can be off: it holds what lies between.

    >>> low, high = calibrate_bounds(np.array([0.1]), np.array([0.9]), 2.0)
    >>> bool(low[0] < calibrate(np.array([0.1]), 2.0)[0] < calibrate(np.array([0.9]), 2.0)[0] < high[0])
    True
    """
    return (
        np.nextafter(calibrate(low, temperature), np.float32(0)),
        np.nextafter(calibrate(high, temperature), np.float32(1)),
    )


def calls(p_all: NDArray[np.floating], threshold: float, bounds: Bounds | None = None) -> NDArray[np.str_]:
    """Call each cell `ALL`, `Hem` or `uncertain`.

    Parameters
    ----------
    p_all : (N,) float
    threshold : float
        `ALL` from this probability on, else `Hem`, where the bounds don't decide.
    bounds : Bounds, optional
        `uncertain` where both classes are possible; where one is, the cell is called that.

    Returns
    -------
    calls : (N,) str

    Examples
    --------
    >>> calls(np.array([0.2, 0.5, 0.9]), 0.5).tolist()
    ['Hem', 'ALL', 'ALL']
    >>> calls(np.array([0.2, 0.5, 0.9]), 0.5, Bounds(least_all=0.4, most_hem=0.7)).tolist()
    ['Hem', 'uncertain', 'ALL']
    """
    p_all = np.asarray(p_all, np.float32)
    called = np.where(p_all >= np.float32(threshold), "ALL", "Hem").astype("<U9")
    if bounds is not None:
        all_possible, hem_possible = p_all >= np.float32(bounds.least_all), p_all <= np.float32(bounds.most_hem)
        called[all_possible & ~hem_possible] = "ALL"
        called[hem_possible & ~all_possible] = "Hem"
        called[all_possible & hem_possible] = "uncertain"
    return called


def settled(
    low: NDArray[np.floating], high: NDArray[np.floating], threshold: float, bounds: Bounds | None = None
) -> NDArray[np.bool_]:
    """Return which cells have the same call wherever between two values their p_all lies; (N,) bool.

    From p_all 0 to 1 calls only change from Hem, perhaps by uncertain, to ALL: the two ends tell.

    >>> settled(np.array([0.1, 0.4, 0.8]), np.array([0.2, 0.6, 0.9]), 0.5).tolist()
    [True, False, True]
    """
    return np.asarray(calls(low, threshold, bounds) == calls(high, threshold, bounds))


def spread(probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the standard deviation of the members' p_all; (N, M, 2) -> (N,) float32, in 0 to 0.5."""
    return np.asarray(probabilities[..., 1].std(axis=1, dtype=np.float64), np.float32)


def votes_all(probabilities: NDArray[np.floating], threshold: float) -> NDArray[np.int64]:
    """Return how many members call a cell ALL; (N, M, 2) -> (N,) int64."""
    return np.asarray((probabilities[..., 1] >= np.float32(threshold)).sum(axis=1), np.int64)
