"""Which crops the gallery shows, page by page. No Qt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.cells.row_order import RowFilter

__all__ = ["ORDERS", "PER_PAGE", "Page", "gallery_order", "page_of"]

ORDERS = (
    "P(ALL), high to low",
    "P(ALL), low to high",
    "most uncertain first",
    "spread, high to low",
    "distance, far first",
)
PER_PAGE = 100
"""Drawn at once; ten thousand would not stay smooth."""


@dataclass(frozen=True)
class Page:
    """One page of a gallery: its number from 0, how many there are, and its rows."""

    number: int
    count: int
    rows: NDArray[np.int64]


def gallery_order(results: CellResults, order: str, keep: RowFilter | None = None) -> NDArray[np.int64]:
    """Return the rows that a gallery shows, in order; cells without the value come last."""
    table = results.table
    p_all = table["p_all"].to_numpy(np.float64)
    keys = {
        ORDERS[0]: -p_all,
        ORDERS[1]: p_all,
        ORDERS[2]: np.abs(p_all - results.threshold),
        ORDERS[3]: -table["spread"].to_numpy(np.float64),
        ORDERS[4]: -table["domain_distance"].to_numpy(np.float64),
    }
    rows = np.argsort(keys[order], kind="stable").astype(np.int64)
    return rows if keep is None else rows[keep.passes(table)[rows]]


def page_of(rows: NDArray[np.int64], number: int) -> Page:
    """Return a page of rows; a number beyond the last gives the last."""
    count = max(1, -(-len(rows) // PER_PAGE))
    number = min(max(number, 0), count - 1)
    return Page(number, count, rows[number * PER_PAGE : (number + 1) * PER_PAGE])
