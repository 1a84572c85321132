"""The rows of the table of cells, in an order, as Qt asks for them."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt

from napari_all_detect._napari.cells.row_order import RowFilter, ordered_rows

__all__ = ["CellTableModel"]


class CellTableModel(QAbstractTableModel):
    """Rows in an order; sorting and filtering make another order, and never move the rows themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.table = pd.DataFrame()
        self.order: NDArray[np.int64] = np.zeros(0, np.int64)
        self.columns: list[str] = []
        self.filter = RowFilter()
        self.sorted_by: tuple[str, bool] | None = None

    def show_table(self, table: pd.DataFrame, columns: list[str]) -> None:
        """Show another table, or the same with other values."""
        self.beginResetModel()
        self.table, self.columns = table, columns
        if self.sorted_by is not None and self.sorted_by[0] not in table:
            self.sorted_by = None
        column, descending = self.sorted_by or (None, False)
        self.order = ordered_rows(table, self.filter, column, descending) if len(table) else self.order[:0]
        self.endResetModel()

    def show_verdicts(self, verdicts: NDArray[np.object_]) -> None:
        """Show other verdicts, in rows that stay where they are."""
        self.table["verdict"] = verdicts
        if len(self.order) and "verdict" in self.columns:
            column = self.columns.index("verdict")
            self.dataChanged.emit(self.index(0, column), self.index(len(self.order) - 1, column))

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Return how many rows pass the filter."""
        return len(self.order)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Return how many columns are shown."""
        return len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a cell's text."""
        if role not in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return None
        value = self.table[self.columns[index.column()]].iat[int(self.order[index.row()])]
        return _text(value)

    def longest_texts(self, column: str) -> list[str]:
        """Return texts of a column, the longest among them."""
        values = self.table[column]
        return [_text(one) for one in ((values.min(), values.max()) if is_numeric_dtype(values) else values.unique())]

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: N802
        """Return a column's name."""
        if role != Qt.ItemDataRole.DisplayRole or orientation != Qt.Orientation.Horizontal:
            return None
        return self.columns[section]

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column."""
        self.sorted_by = (self.columns[column], order == Qt.SortOrder.DescendingOrder) if column >= 0 else None
        self.show_table(self.table, self.columns)


def _text(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.3f}" if isinstance(value, float | np.floating) else str(value)
