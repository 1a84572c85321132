"""A scored layer in figures. No Qt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_all_detect import trust
from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.counted import n_cells
from napari_all_detect.interval import wilson
from napari_all_detect.table import CALLS

__all__ = ["N_BINS", "Summary", "summarise"]

N_BINS = 20
Z_95 = 1.959964
"""Of the normal distribution, 95 % lie within this many standard deviations."""


@dataclass(frozen=True)
class Summary:
    """What a summary shows.

    Attributes
    ----------
    cells : int
    calls : dict of str to int
        Cells by call; 0 where there is none.
    fraction_all : float
        ALL among those called ALL or Hem; NaN without any.
    interval : (float, float)
        Wilson's 95 % interval of the fraction: of chance in counting alone, as if cells were independent.
    histogram : (N_BINS,) int
        Cells by P(ALL), from 0 to 1.
    flags : dict of str to int
        Cells by flag, most frequent first.
    """

    cells: int
    calls: dict[str, int]
    fraction_all: float
    interval: tuple[float, float]
    histogram: NDArray[np.int64]
    flags: dict[str, int]

    @property
    def sentence(self) -> str:
        """The figures as one sentence."""
        calls = ", ".join(f"{n} {call}" for call, n in self.calls.items() if n or call != "uncertain")
        low, high = self.interval
        if np.isnan(self.fraction_all):
            return n_cells(self.cells)
        share = f"{100 * self.fraction_all:.1f} % ALL (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
        return f"{n_cells(self.cells)}: {calls}; {share}"

    @property
    def domain_note(self) -> str:
        """What is to be said of cells that are unlike those of the training."""
        return trust.domain_note(self.flags.get("out_of_domain", 0), self.cells)


def summarise(results: CellResults) -> Summary:
    """Sum up the cells of a layer at the present threshold."""
    table = results.table
    calls = {call: int((table["call"] == call).sum()) for call in CALLS}
    called = calls["ALL"] + calls["Hem"]
    fraction, interval = float("nan"), (float("nan"), float("nan"))
    if called:
        fraction = calls["ALL"] / called
        interval = wilson(fraction, called, Z_95)
    histogram, _ = np.histogram(table["p_all"].to_numpy(np.float64), bins=N_BINS, range=(0, 1))
    flags = trust.count_joined(table["flags"])
    return Summary(len(table), calls, fraction, interval, histogram, dict(flags.most_common()))
