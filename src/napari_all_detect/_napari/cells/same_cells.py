"""Which cells of two tables are the same, so that an expert's verdicts stay theirs. No Qt."""

import csv
from io import StringIO

import numpy as np
import pandas as pd

from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect.export.csv import csv_text

__all__ = ["Identity", "identities", "keep_verdicts"]

PLANE = ("image", "plane")
PLACE = ("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1", "area_px", "y_px", "x_px")
"""A cell that was redrawn is another one; its number and scores don't count, as other parameters give others."""

Identity = tuple[str, ...]


def identities(table: pd.DataFrame) -> list[Identity]:
    """Return what tells each cell from all others of all images, as `cells.csv` has it."""
    return _lines(table[[*PLANE, *PLACE]])


def keep_verdicts(before: CellResults, after: CellResults) -> int:
    """Give cells the verdicts that they had when their labels were scored before.

    What counts is where they lie in the layer: a store that was opened again calls its image otherwise.

    Returns
    -------
    lost : int
        Verdicts that found no cell.
    """
    if not before.verdicts.any():
        return 0
    axes = min(before.rows.index.shape[1], after.rows.index.shape[1])
    known = dict(zip(_in_layer(before, axes), before.verdicts.tolist(), strict=True))
    after.take_verdicts([known.get(cell, "") for cell in _in_layer(after, axes)])
    return int(np.count_nonzero(before.verdicts != "") - np.count_nonzero(after.verdicts != ""))


def _in_layer(results: CellResults, axes: int) -> list[Identity]:
    """Return where each cell lies, on so many axes: those of length 1 may be there or not."""
    index = results.rows.index
    while index.shape[1] > axes and not index.any(axis=0).all():
        index = np.delete(index, index.any(axis=0).argmin(), axis=1)
    return _lines(pd.DataFrame(index).assign(**{name: results.table[name] for name in PLACE}))


def _lines(table: pd.DataFrame) -> list[Identity]:
    """Return each row's values, to the digits that tables have."""
    return [tuple(line) for line in csv.reader(StringIO(csv_text(table, header=False)))]
