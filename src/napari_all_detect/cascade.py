"""Members one after the other, until those that are left can't change a cell's call: Eq. 2 with exact bounds.

Pure numpy: what a call is, and what runs the members, comes from outside.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["cost_order", "p_all_bounds", "run_members"]


def cost_order(weights: NDArray[np.floating], costs: Sequence[float]) -> tuple[int, ...]:
    """Return the members in the order in which they are asked: what costs least for its weight comes first.

    Members without weight are left out: they have no part in a call.

    Examples
    --------
    >>> cost_order(np.array([0.5, 0.8, 0.0, 0.8]), [10.0, 10.0, 1.0, 2.0])
    (3, 1, 0)
    """
    asked = [k for k, weight in enumerate(weights) if weight > 0]
    return tuple(sorted(asked, key=lambda k: costs[k] / weights[k]))


def p_all_bounds(
    probabilities: NDArray[np.floating], weights: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return between which values p_all by Eq. 2 comes to lie, whatever the members say that were not asked.

    With A and H the sums of W_k P_k over the members asked, and R the weight of the others, which can all say Hem or
    all say ALL, they are A / (A + H + R) and (A + R) / (A + H + R). That needs no more of a member than two
    probabilities of 0 to 1: an engine that rounds them may let them make a bit more or less than 1. Both are rounded
    outwards, by more than the order of a sum and the step to float32 can matter.

    Parameters
    ----------
    probabilities : (N, M, 2) float
        Of (Hem, ALL); NaN for a member that was not asked about a cell.
    weights : (M,) float
        Not negative, not all zero.

    Returns
    -------
    low, high : (N,) float32
        Before calibration.

    Examples
    --------
    >>> votes = np.array([[[0.5, 0.5], [np.nan, np.nan]]])
    >>> [bound.astype(float).round(3).tolist() for bound in p_all_bounds(votes, np.array([3.0, 1.0]))]
    [[0.375], [0.625]]
    """
    votes, rest = np.zeros((len(probabilities), 2)), np.zeros(len(probabilities))
    # Member by member, so that the sums do not depend on how many cells there are.
    for k, weight in enumerate(map(float, weights)):
        asked = ~np.isnan(probabilities[:, k, 1])
        votes[asked] += weight * probabilities[asked, k].astype(np.float64)
        rest[~asked] += weight
    hem, p_all = votes.T
    total = hem + p_all + rest
    low, high = np.asarray(p_all / total, np.float32), np.asarray((p_all + rest) / total, np.float32)
    return np.nextafter(low, np.float32(0)), np.nextafter(high, np.float32(1))


def run_members(
    ask: Callable[[NDArray[np.intp], int], NDArray[np.float32]],
    n_cells: int,
    weights: NDArray[np.floating],
    order: Sequence[int],
    settled: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.bool_]],
) -> NDArray[np.float32]:
    """Ask members about cells, each member only about those whose call is still open.

    Parameters
    ----------
    ask : callable
        Takes the numbers of K cells and that of a member; returns the member's probabilities, (K, 2) float32.
    n_cells : int
    weights : (M,) float
        Of Eq. 2.
    order : sequence of int
        From `cost_order`.
    settled : callable
        Takes the bounds of p_all of K cells; returns which of them have one call from end to end, (K,) bool.

    Returns
    -------
    probabilities : (N, M, 2) float32
        Of (Hem, ALL); NaN for a member that was not asked about a cell.
    """
    probabilities = np.full((n_cells, len(weights), 2), np.nan, np.float32)
    open_cells = np.arange(n_cells)
    for k in order:
        if not len(open_cells):
            break
        probabilities[open_cells, k] = ask(open_cells, k)
        open_cells = open_cells[~settled(*p_all_bounds(probabilities[open_cells], weights))]
    return probabilities
