"""What became of a layer's cells since they were scored: erased, redrawn, or others drawn beside them. No Qt."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.counted import n_cells
from napari_all_detect.errors import InputError

__all__ = ["Edits", "edits", "refuse_changed"]

NAMED_AT_MOST = 10
"""Cells that a message names one by one."""


@dataclass(frozen=True)
class Edits:
    """What differs between the scores and the labels.

    Attributes
    ----------
    changed : list of int
        The numbers of cells that have not as many pixels in their plane as were scored.
    n_unscored : int
        Cells without scores.
    """

    changed: list[int]
    n_unscored: int

    @property
    def sentence(self) -> str:
        """What is to be said of it beside the table; nothing if nothing differs."""
        counts = {"erased or redrawn since the scores": len(self.changed), "without scores": self.n_unscored}
        told = [f"{n_cells(n)} {what}" for what, n in counts.items() if n]
        return f"{', '.join(told)}: score the labels again" if told else ""


def edits(results: CellResults, labels: Any) -> Edits:
    """Compare a layer's labels with its scores.

    Parameters
    ----------
    results : CellResults
    labels : (..., H, W) integer array-like
        The layer's, of its finest level.
    """
    rows, changed, n_unscored = results.rows, list[int](), 0
    scored_px = rows.table["area_px"].to_numpy()
    for index in np.ndindex(*labels.shape[:-2]):
        own = np.flatnonzero((rows.index == index).all(axis=1))
        plane, numbers = np.asarray(labels[index]), rows.numbers[own]
        found, counts = np.unique(plane[plane > 0], return_counts=True)
        area_px = pd.Series(counts, found).reindex(numbers, fill_value=0).to_numpy()
        changed += numbers[area_px != scored_px[own]].tolist()
        n_unscored += len(np.setdiff1d(found, numbers))
    return Edits(changed, n_unscored)


def refuse_changed(results: CellResults, labels: Any) -> None:
    """Check that a table tells of the cells that are there, before it is written; new ones don't disturb it.

    Raises
    ------
    InputError
        If cells have been erased or redrawn since they were scored.
    """
    changed = edits(results, labels).changed
    if changed:
        more = f" and {len(changed) - NAMED_AT_MOST} more" if len(changed) > NAMED_AT_MOST else ""
        named = ", ".join(map(str, changed[:NAMED_AT_MOST])) + more
        cells = f"cell {named} was" if len(changed) == 1 else f"cells {named} were"
        raise InputError(f"{cells} erased or redrawn since the scores; score the labels again")
