"""Which rows a table or gallery shows, and in which order. No Qt."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["ANY", "RowFilter", "ordered_rows"]

ANY = "any"


@dataclass(frozen=True)
class RowFilter:
    """What rows must have to be shown.

    Attributes
    ----------
    call : str
        `any` or a call.
    flags : str
        `any`, `none`, `flagged` or one flag.
    least_p, most_p : float
        Range of p_all, both ends included.
    """

    call: str = ANY
    flags: str = ANY
    least_p: float = 0.0
    most_p: float = 1.0

    def passes(self, table: pd.DataFrame) -> NDArray[np.bool_]:
        """Return which rows pass; (N,)."""
        p_all = table["p_all"].to_numpy(np.float64)
        # A table's float32 next to a float64 that was typed.
        keep = (p_all >= self.least_p - 1e-6) & (p_all <= self.most_p + 1e-6)
        if self.call != ANY:
            keep &= (table["call"] == self.call).to_numpy()
        flags = table["flags"]
        if self.flags == "none":
            keep &= (flags == "").to_numpy()
        elif self.flags == "flagged":
            keep &= (flags != "").to_numpy()
        elif self.flags != ANY:
            keep &= (";" + flags + ";").str.contains(f";{self.flags};", regex=False).to_numpy()
        return np.asarray(keep, bool)


def ordered_rows(
    table: pd.DataFrame, keep: RowFilter, column: str | None = None, descending: bool = False
) -> NDArray[np.int64]:
    """Return the numbers of the rows that pass, in the order of a column; what is empty comes last.

    Rows of the same value stay in the table's order.
    """
    (rows,) = np.nonzero(keep.passes(table))
    if column is None:
        return rows.astype(np.int64)
    values = table[column].iloc[rows]
    order = values.reset_index(drop=True).sort_values(ascending=not descending, kind="stable", na_position="last")
    return np.asarray(rows[order.index.to_numpy()], np.int64)
