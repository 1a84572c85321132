"""Which cells of two tables are the same, so that an expert's verdicts stay theirs. No Qt."""

import csv
from io import StringIO

import numpy as np
import pandas as pd

from napari_all_detect._napari.results import CellResults
from napari_all_detect.export.csv import csv_text

__all__ = ["Identity", "identities", "keep_verdicts"]

PLACE = ("image", "plane", "bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1", "area_px", "y_px", "x_px")
"""A cell that was redrawn is another one, and so is one of another image of this name; its number and scores don't
count, as other parameters give others."""

Identity = tuple[str, ...]


def identities(table: pd.DataFrame) -> list[Identity]:
    """Return what tells each cell from all others: `PLACE`, as `cells.csv` has it."""
    return [tuple(line) for line in csv.reader(StringIO(csv_text(table[list(PLACE)], header=False)))]


def keep_verdicts(before: CellResults, after: CellResults) -> int:
    """Give cells the verdicts that they had when they were scored before; return how many verdicts found no cell."""
    if not before.verdicts.any():
        return 0
    known = dict(zip(identities(before.table), before.verdicts.tolist(), strict=True))
    after.take_verdicts([known.get(cell, "") for cell in identities(after.table)])
    return int(np.count_nonzero(before.verdicts != "") - np.count_nonzero(after.verdicts != ""))
