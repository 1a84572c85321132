"""An expert's verdicts: in which order cells are judged, and how far verdicts and calls agree. No Qt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_all_detect._napari.cells.gallery import ORDERS, gallery_order
from napari_all_detect._napari.cells.results import CellResults

__all__ = ["Agreement", "Reviewer", "agreement"]


class Reviewer:
    """Walks through the cells, the most uncertain first; those that were judged already are passed over.

    The cell to judge is the one that is selected: whoever selects another, judged or not, judges that one.

    Parameters
    ----------
    results : CellResults
    """

    def __init__(self, results: CellResults) -> None:
        self.results = results
        # Fixed at the start: a threshold that moves meanwhile must not shuffle what is still to come.
        self.order = gallery_order(results, ORDERS[2])
        self._before: list[tuple[int, str]] = []
        """Rows that were judged, and the verdicts that they had before."""

    @property
    def current(self) -> int | None:
        """The row to judge: the one selected last, or the next if none is; None when all are judged."""
        selected = self.results.selected
        return int(selected[-1]) if len(selected) else self._next()

    @property
    def n_judged(self) -> int:
        """How many cells have a verdict."""
        return int((self.results.verdicts != "").sum())

    @property
    def can_go_back(self) -> bool:
        """Whether there is a verdict to take back."""
        return bool(self._before)

    def judge(self, verdict: str) -> None:
        """Note a verdict on the current cell, in place of the one that it may have, and go on."""
        row = self.current
        if row is not None:
            self._before.append((row, self.results.verdicts[row]))
            self.results.judge(row, verdict)
            self.go_on()

    def go_on(self) -> None:
        """Select the next cell without a verdict; none when all are judged."""
        row = self._next()
        self.results.select([] if row is None else [row])

    def back(self) -> None:
        """Take back the last verdict: its cell is selected and has the one from before again, or none."""
        if self._before:
            row, verdict = self._before.pop()
            self.results.judge(row, verdict)
            self.results.select([row])

    def _next(self) -> int | None:
        left = self.order[self.results.verdicts[self.order] == ""]
        return int(left[0]) if len(left) else None


@dataclass(frozen=True)
class Agreement:
    """How far verdicts and calls agree.

    Attributes
    ----------
    confusion : (2, 2) int
        Rows: verdict Hem, ALL. Columns: call Hem, ALL. Verdicts `unsure` and calls `uncertain` count nowhere.
    kappa : float
        Cohen's; NaN if one of both always says the same.
    """

    confusion: NDArray[np.int64]
    kappa: float

    @property
    def n(self) -> int:
        """Cells that count."""
        return int(self.confusion.sum())


def agreement(results: CellResults) -> Agreement:
    """Compare the verdicts with the calls of the present threshold."""
    calls = results.table["call"].to_numpy()
    classes = ("Hem", "ALL")
    confusion = np.array([[((results.verdicts == v) & (calls == c)).sum() for c in classes] for v in classes], np.int64)
    n = confusion.sum()
    if n == 0:
        return Agreement(confusion, float("nan"))
    observed = np.trace(confusion) / n
    expected = float(confusion.sum(axis=0) @ confusion.sum(axis=1)) / n**2
    return Agreement(confusion, float("nan") if expected == 1 else float((observed - expected) / (1 - expected)))
