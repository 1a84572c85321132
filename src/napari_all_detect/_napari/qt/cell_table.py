"""The table of cells: sorted, filtered, and linked to the layer both ways."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from napari.utils.notifications import show_error, show_info
from numpy.typing import NDArray
from qtpy.QtCore import QItemSelection, QItemSelectionModel, Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QTableView,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_all_detect._napari.cells.followed import Followed
from napari_all_detect._napari.cells.layer_link import show_cell
from napari_all_detect._napari.cells.row_order import ANY, RowFilter
from napari_all_detect._napari.counted import n_cells
from napari_all_detect._napari.files.exporting import (
    EXPORT_FORMATS,
    Exported,
    copied_text,
    export,
    proposed_name,
    smear_of,
)
from napari_all_detect._napari.layers.viewers import finest
from napari_all_detect._napari.qt.bridge import Bridge
from napari_all_detect._napari.qt.edits_line import EditsLine
from napari_all_detect._napari.qt.file_to_write import file_to_write
from napari_all_detect._napari.qt.layout import as_room_allows, button, row
from napari_all_detect._napari.qt.table_model import CellTableModel
from napari_all_detect.table import CALLS
from napari_all_detect.trust import FLAGS

__all__ = ["CellTable"]

FEW_COLUMNS = ("label", "call", "verdict", "p_all", "spread", "votes_all", "flags")
LEAST_ZOOM = 2.0
ROW_PX = 20
MOST_COLUMN_PX, BESIDE_PX = 300, 12
"""Width of a column at most, and of what Qt leaves free beside its text."""
LEAST_PX = 170
"""Header, scroll bar and five rows."""


class CellTable(QWidget):
    """The table with its filters and exports.

    Parameters
    ----------
    followed : Followed
        Whose results it shows.
    """

    def __init__(self, followed: Followed) -> None:
        super().__init__()
        self._followed = followed
        self._bridge = Bridge(self)
        self.model = CellTableModel()
        self.view = QTableView()
        self.view.setModel(self.model)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.view.setTabKeyNavigation(False)  # Tab would go from cell to cell, and never out of the table
        self.view.verticalHeader().hide()
        self.view.verticalHeader().setDefaultSectionSize(ROW_PX)
        as_room_allows(self.view, LEAST_PX)
        self.view.horizontalHeader().setStretchLastSection(True)
        self.view.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.view.setSortingEnabled(True)
        # With the view's own, the header asks for every cell of a column whether it is selected.
        self.view.horizontalHeader().setSelectionModel(QItemSelectionModel(self.model, self.view))
        self.calls = _choice((ANY, *CALLS), "Show cells of this call", self._filter)
        self.flags = _choice((ANY, "none", "flagged", *FLAGS), "Show cells with these flags", self._filter)
        self.least_p = _probability(0.0, "Show cells with at least this probability of ALL", self._filter)
        self.most_p = _probability(1.0, "Show cells with at most this probability of ALL", self._filter)
        self.all_columns = QCheckBox("All columns")
        self.all_columns.setToolTip("Show every column of the exported table, not only the scores")
        self.all_columns.toggled.connect(self._show_results)
        self.count = QLabel()
        self.edits = EditsLine(followed)
        self.export_button = button("Export…", "Write the whole table, as the command line does", self._export)
        copy_button = button("Copy", "The selected rows, or all that are shown, for a spreadsheet (Ctrl+C)", self.copy)
        QShortcut(QKeySequence.StandardKey.Copy, self.view, self.copy, context=Qt.ShortcutContext.WidgetShortcut)

        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addLayout(row(QLabel("Call"), self.calls, QLabel("Flags"), self.flags))
        layout.addLayout(row(QLabel("P(ALL)"), self.least_p, QLabel("to"), self.most_p, self.all_columns))
        layout.addWidget(self.view)
        layout.addWidget(self.edits)
        layout.setStretchFactor(self.view, 1)
        layout.addLayout(row(self.count, copy_button, self.export_button))
        followed.layer_changed.connect(self._show_results)
        followed.layer_changed.connect(self._fit_columns)
        followed.changed.connect(self._show_results)
        followed.verdicts_changed.connect(self._show_verdicts)
        followed.selection_changed.connect(self._show_selection)
        # Sorting resets the model, and with it the view's selection.
        self.model.modelReset.connect(self._show_selection)
        self.view.selectionModel().selectionChanged.connect(self._select)
        self._showing = self._exporting = False
        self._show_results()
        self._fit_columns()

    def copy(self) -> None:
        """Copy the selected rows, or all that are shown."""
        results = self._followed.results
        if results is not None:
            seen = self.model.order[np.isin(self.model.order, results.selected)]
            rows = seen if len(seen) else self.model.order
            QApplication.clipboard().setText(copied_text(results.export_table().iloc[rows]))

    def export(self, path: Path) -> None:
        """Write the table, without keeping the window waiting; a notification says when it is done."""
        results, layer = self._followed.results, self._followed.layer
        if results is None:
            return
        labels = finest(layer)
        # As they are now, whatever is painted or called meanwhile.
        shown, labels = deepcopy(results), labels.copy() if isinstance(labels, np.ndarray) else labels
        layers = list(self._followed.viewer.layers)

        def write() -> list[Path]:
            return export(Exported(shown, labels, smear_of(layers, layer, shown)), path)

        def written(paths: list[Path]) -> None:
            self._show_exporting(False)
            beside = f" and {len(paths) - 1} more beside it, a file for each plane" if len(paths) > 1 else ""
            show_info(f"{n_cells(len(shown))} written to {paths[0]}{beside}")

        def failed(message: str) -> None:
            self._show_exporting(False)
            show_error(message)

        self._show_exporting(True)
        self._bridge.work(write, written, failed)

    def _show_exporting(self, busy: bool) -> None:
        self._exporting = busy
        self.export_button.setText("Exporting…" if busy else "Export…")
        self.export_button.setEnabled(not busy and self._followed.results is not None)

    def _export(self) -> None:
        results = self._followed.results
        if results is None:
            return
        formats = {known.name: known.suffix for known in EXPORT_FORMATS}
        path = file_to_write(self, "Export cells", proposed_name(results), formats)
        if path is not None:
            self.export(path)

    def _filter(self, *_: object) -> None:
        self.model.filter = RowFilter(
            self.calls.currentText(), self.flags.currentText(), self.least_p.value(), self.most_p.value()
        )
        self._show_results()

    def _show_results(self, *_: object) -> None:
        results = self._followed.results
        table = pd.DataFrame() if results is None else results.table.assign(verdict=results.verdicts)
        columns = list(table.columns) if self.all_columns.isChecked() else [n for n in FEW_COLUMNS if n in table]
        if results is not None and not results.verdicts.any():
            columns.remove("verdict")
        if results is not None and results.is_stack and "plane" not in columns:
            columns.insert(0, "plane")
        before = self.model.columns
        with self._on_its_own():
            self.model.show_table(table, columns)
            self._mark_sorted()
        if columns != before:
            self._fit_columns()
        self._show_exporting(self._exporting)
        self.count.setText(
            f"{len(self.model.order)} of {n_cells(len(table))}" if results is not None else "No scores yet"
        )
        self._show_selection()

    def _fit_columns(self) -> None:
        """Let columns be as wide as their names and longest texts need, so that flags have room in a narrow dock."""
        widths, header = self.view.fontMetrics(), self.view.horizontalHeader()
        for place, name in enumerate(self.model.columns):
            texts = CALLS if name == "call" else self.model.longest_texts(name)  # a threshold may bring other calls
            longest = max(map(widths.horizontalAdvance, (name, *texts)))
            header.resizeSection(place, min(longest + BESIDE_PX, MOST_COLUMN_PX))

    def _show_verdicts(self) -> None:
        results = self._followed.results
        if results is None:
            return
        sorted_by, _ = self.model.sorted_by or ("", False)
        if sorted_by == "verdict" or results.verdicts.any() != ("verdict" in self.model.columns):
            self._show_results()
        else:
            self.model.show_verdicts(results.verdicts)

    def _mark_sorted(self) -> None:
        """Mark the column that the rows are sorted by, wherever it stands by now."""
        by, descending = self.model.sorted_by or ("", False)
        header = self.view.horizontalHeader()
        place = self.model.columns.index(by) if by in self.model.columns else -1
        with signals_blocked(header):
            header.setSortIndicator(place, Qt.SortOrder.DescendingOrder if descending else Qt.SortOrder.AscendingOrder)

    def _show_selection(self) -> None:
        """Select in the view what is selected in the results, and bring the last into sight."""
        if self._showing or self._followed.results is None:
            return
        selected = self._followed.results.selected
        (places,) = np.nonzero(np.isin(self.model.order, selected))
        chosen = QItemSelection()
        for first, last in _runs(places):
            chosen.select(self.model.index(first, 0), self.model.index(last, 0))
        flags = QItemSelectionModel.SelectionFlag
        with self._on_its_own():
            self.view.selectionModel().select(chosen, flags.ClearAndSelect | flags.Rows)
            if len(places):
                chosen_last = places[self.model.order[places] == selected[-1]]
                current = self.model.index(int(chosen_last[0] if len(chosen_last) else places[-1]), 0)
                self.view.selectionModel().setCurrentIndex(current, flags.NoUpdate)
                self.view.scrollTo(current)

    def _select(self, *_: object) -> None:
        """Take the view's selection over into the results and the canvas."""
        results = self._followed.results
        if self._showing or results is None:
            return
        runs = [np.arange(part.top(), part.bottom() + 1) for part in self.view.selectionModel().selection()]
        rows = self.model.order[np.unique(np.concatenate(runs))] if runs else self.model.order[:0]
        current = self.view.currentIndex()
        if current.isValid() and (last := self.model.order[current.row()]) in rows:
            rows = np.append(rows[rows != last], last)
        with self._on_its_own():
            results.select(rows)
        if len(rows):
            show_cell(self._followed.viewer, self._followed.layer, int(rows[-1]), LEAST_ZOOM)

    @contextmanager
    def _on_its_own(self) -> Iterator[None]:
        """Let the table change rows and selection without answering to that as to the user's doing."""
        self._showing = True
        try:
            yield
        finally:
            self._showing = False


def _runs(places: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the first and the last of each run of places without a gap; a range for each place would take seconds."""
    if len(places) == 0:
        return []
    parts = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return [(int(part[0]), int(part[-1])) for part in parts]


def _choice(choices: tuple[str, ...], tooltip: str, changed: Any) -> QComboBox:
    box = QComboBox()
    box.addItems(choices)
    box.setToolTip(tooltip)
    box.currentTextChanged.connect(changed)
    return box


def _probability(value: float, tooltip: str, changed: Any) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setToolTip(tooltip)
    box.setRange(0, 1)
    box.setSingleStep(0.05)
    box.setValue(value)
    box.valueChanged.connect(changed)
    return box
