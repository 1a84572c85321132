"""The engine of `--fast-calls`: the members of a bundle one after the other, as far as a cell's call needs them."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.cascade import cost_order, run_members
from napari_all_detect.engines import MemberEngine, Progress

__all__ = ["FastCalls"]

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
        probabilities = np.empty((len(crops), len(self._weights), 2), np.float32)
        for start in range(0, len(crops), CELLS_AT_ONCE):
            part = crops[start : start + CELLS_AT_ONCE]
            probabilities[start : start + len(part)] = self._cascade(part)
            if progress is not None:
                progress(len(part))
        return probabilities

    def _cascade(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        def ask(cells: NDArray[np.intp], member: int) -> NDArray[np.float32]:
            asked = crops if len(cells) == len(crops) else crops[cells]
            return self._engine.predict(asked, members=[member])[:, 0]

        return run_members(ask, len(crops), self._weights, self._order, self._settled)
