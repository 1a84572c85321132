"""The engine of `--fast-calls`: members one after the other, until those that are left can't change a cell's call.

What bounds p_all meanwhile is exact, by Eq. 2.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.engines import MemberEngine, Progress

__all__ = ["FastCalls", "cost_order", "p_all_bounds"]

CELLS_AT_ONCE = 512
"""What is picked out of the crops for a member is a copy; whole networks' 512 crops are 140 MB."""


class FastCalls:
    """An engine whose probabilities are NaN where a member can't change a cell's call any more, and did not run.

    Parameters
    ----------
    engine : MemberEngine
        Runs the members.
    weights : (M,) float
        Of Eq. 2.
    costs : sequence of float
        What a cell costs each member.
    settled : callable
        Takes the bounds of p_all of K cells; returns which have one call from end to end.
    """

    def __init__(
        self,
        engine: MemberEngine,
        weights: NDArray[np.floating],
        costs: Sequence[float],
        settled: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.bool_]],
    ) -> None:
        self.name, self.device = engine.name, engine.device
        self._engine, self._weights, self._settled = engine, weights, settled
        self._order = cost_order(weights, costs)

    def predict(self, crops: NDArray[np.uint8], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return the probabilities of the members that ran: see `Engine`."""
        probabilities = np.full((len(crops), len(self._weights), 2), np.nan, np.float32)
        for start in range(0, len(crops), CELLS_AT_ONCE):
            part = crops[start : start + CELLS_AT_ONCE]
            self._fill(probabilities[start : start + len(part)], part)
            if progress is not None:
                progress(len(part))
        return probabilities

    def _fill(self, probabilities: NDArray[np.float32], crops: NDArray[np.uint8]) -> None:
        """Ask each member about the cells whose call is still open."""
        open_cells = np.arange(len(crops))
        for k in self._order:
            if not len(open_cells):
                break
            asked = crops if len(open_cells) == len(crops) else crops[open_cells]
            probabilities[open_cells, k] = self._engine.predict(asked, members=[k])[:, 0]
            open_cells = open_cells[~self._settled(*p_all_bounds(probabilities[open_cells], self._weights))]


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
