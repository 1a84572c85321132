"""Figures that know which cells belong together: whole images, or subjects, are drawn again and again."""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DIGITS",
    "LEVEL",
    "NO_INTERVAL",
    "RESAMPLES",
    "RESAMPLING_SEED",
    "confusion_by_group",
    "resamples",
    "weighted_auc",
    "with_interval",
]

Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]
Floats = NDArray[np.floating]

LEVEL = 0.95
RESAMPLES = 1000
RESAMPLING_SEED = 0
BLOCK = 64
"""Resamples that are measured at once."""

DIGITS = 6
"""Figures are written with so many decimals."""

NO_INTERVAL = "No brackets: every resample gives the same, which says nothing of how far off the figure may be."


def resamples(n_groups: int) -> Counts:
    """Return how often each group counts: once in the first row, as often as drawn in each further one."""
    rng = np.random.default_rng(RESAMPLING_SEED)
    draws = (rng.integers(n_groups, size=n_groups) for _ in range(RESAMPLES))
    return np.stack([np.ones(n_groups, np.int64), *(np.bincount(d, minlength=n_groups) for d in draws)])


def weighted_auc(is_all: Bools, p_all: Floats, times: Counts, group: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the AUC of each resample: the share of (ALL, Hem) pairs in which ALL scores higher; a tie is half.

    Parameters
    ----------
    is_all : (N,) bool
    p_all : (N,) float
    times : (R, G) int
        How often each group counts.
    group : (N,) int
        That of each item.

    Returns
    -------
    auc : (R,) float64
        NaN where a class is missing.
    """
    order = np.argsort(p_all, kind="stable")
    ranked, group, is_all = p_all[order], group[order], is_all[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    # In blocks: all resamples at once take 8 KB a cell, several times over.
    blocks = np.split(times, range(BLOCK, len(times), BLOCK))
    return np.concatenate([_auc_of(is_all, block[:, group], starts) for block in blocks])


def _auc_of(is_all: Bools, times: Counts, starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return each row's AUC of items in the order of their scores, of which equal ones begin at `starts`."""
    n_all, n_hem = (np.add.reduceat(times * side, starts, axis=1) for side in (is_all, ~is_all))
    below = np.cumsum(n_hem, axis=1) - n_hem
    won = (n_all * (below + n_hem / 2)).sum(axis=1)
    pairs = n_all.sum(axis=1) * n_hem.sum(axis=1)
    share = np.full(len(times), np.nan)
    np.divide(won, pairs, out=share, where=pairs > 0)
    return share


def confusion_by_group(is_all: Bools, called: Bools, group: NDArray[np.intp], n_groups: int) -> Counts:
    """Count for each group Hem called Hem, Hem called ALL, ALL called Hem and ALL called ALL; (n_groups, 4)."""
    outcome = 2 * is_all + called
    return np.bincount(4 * group + outcome, minlength=4 * n_groups).reshape(n_groups, 4)


def with_interval(values: NDArray[np.float64]) -> dict[str, float | None]:
    """Return the first value and the interval that the others span; resamples without a value are left out.

    An interval of no width is left out too: where every resample gives the same, as of an AUC of 1, they say nothing of
    how far off it may be.

    >>> with_interval(np.array([1.0, 1.0, 1.0, np.nan]))
    {'value': 1.0, 'low': None, 'high': None}
    """
    finite = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(finite) else (np.nan, np.nan)
    named = {"value": values[0], "low": low, "high": high}
    found = {name: round(float(v), DIGITS) if np.isfinite(v) else None for name, v in named.items()}
    return found | {"low": None, "high": None} if found["low"] == found["high"] else found
