"""The cells of one labels layer: their rows, which are selected, the threshold, an expert's verdicts. No Qt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from psygnal import Signal

from napari_all_detect import trust
from napari_all_detect._napari.cells.colours import COLOURINGS
from napari_all_detect._napari.cells.crops_again import CropsOnDemand
from napari_all_detect._napari.process.messages import Opened, ScoredPart

__all__ = ["VERDICTS", "CellResults", "Rows", "called", "joined"]

VERDICTS = ("ALL", "Hem", "unsure")
FIRST_FEATURES = ("label", "call", "p_all", "spread", "votes_all", "flags")
"""What the status bar says of a cell comes first; all columns would not fit."""
CHANGING = ("call", "votes_all")
"""Columns that a threshold changes."""
MOST_EMPTY, LEAST_CELLS = 20, 1000
"""A table with more rows for each cell than this would be mostly air; few cells may have what numbers they want."""


@dataclass(frozen=True)
class Rows:
    """Cells as they were scored.

    Attributes
    ----------
    table : DataFrame
        N rows, the columns of `cells.csv`.
    numbers : (N,) int64
        Each cell's number in the layer: its label, and in a stack that and all labels of the planes before.
    index : (N, L) int64
        Where its plane lies on the layer's L leading axes.
    crops : (N, s, s, 3) uint8, CropsOnDemand or None
        What the networks saw; None if it is not known any more.
    summary : DataFrame
        A row per plane, the columns of `images.csv`.
    nuclei : bool array of the layer's shape, or None
        Where the nuclei are, if they were looked for.
    """

    table: pd.DataFrame
    numbers: NDArray[np.int64]
    index: NDArray[np.int64]
    crops: NDArray[np.uint8] | CropsOnDemand | None
    summary: pd.DataFrame
    nuclei: NDArray[np.bool_] | None = None


class CellResults:
    """The results of a labels layer, which widgets watch and change.

    Parameters
    ----------
    rows : Rows
    run : Opened
        What scored them.
    moved_to : float, optional
        The threshold that calls them now, if it was moved since.
    """

    changed = Signal()
    """Calls are others."""
    verdicts_changed = Signal()
    """Beside calls and colours, so that a verdict costs nothing where none is shown."""
    colours_changed = Signal()
    """The colours mean something else."""
    selection_changed = Signal()

    def __init__(self, rows: Rows, run: Opened, moved_to: float | None = None) -> None:
        self.rows = rows
        self.run = run
        self._threshold = run.threshold
        self._colouring = COLOURINGS[0]
        self._table = rows.table
        self.n_left_open = 0
        """Cells that are uncertain since fast calls ran too few members for the present threshold."""
        self._verdicts = np.full(len(rows.table), "", object)
        self.saved_crops: set[str] = set()
        """Names of the files of judged cells that were saved."""
        self._selected = np.zeros(0, np.int64)
        self._features: pd.DataFrame | None = None
        if moved_to is not None:
            self._call(moved_to)

    def __len__(self) -> int:
        return len(self.rows.table)

    def __deepcopy__(self, memo: dict[int, Any]) -> "CellResults":
        """Return results of their own for a duplicated layer, which nothing watches yet."""
        other = CellResults(self.rows, self.run)
        other._threshold, other._colouring, other._table = self._threshold, self._colouring, self._table
        other.n_left_open = self.n_left_open
        other._verdicts, other.saved_crops = self._verdicts.copy(), set(self.saved_crops)
        return other

    @property
    def table(self) -> pd.DataFrame:
        """The columns of `cells.csv`, with the calls of the present threshold."""
        return self._table

    @property
    def threshold(self) -> float:
        """Probability from which a cell is called ALL.

        As with `--threshold`, setting it calls every cell, unless an error rate was asked for, or the cell was scored
        with fast calls and the members that ran leave its call open.
        """
        return self._threshold

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        if threshold == self._threshold:
            return
        self._call(threshold)
        self.changed.emit()

    def _call(self, threshold: float) -> None:
        self._threshold = threshold
        self._table, self.n_left_open = called(self.rows.table, self.run.members, threshold, self.run.bounds)

    def restore_calls(self) -> None:
        """Take the calls back that scoring gave, at the bundle's threshold, with those that are uncertain."""
        self._threshold, self._table, self.n_left_open = self.run.threshold, self.rows.table, 0
        self.changed.emit()

    @property
    def called_by(self) -> trust.Bounds | None:
        """From which p_all a cell can be ALL, and up to which Hem; None if the threshold alone decides."""
        return self.run.bounds if self.is_moved else self.run.called_by

    @property
    def is_moved(self) -> bool:
        """Whether calls are those of a threshold that was set since scoring, if only to the same value."""
        return self._table is not self.rows.table

    @property
    def colouring(self) -> str:
        """What colours mean: one of `colours.COLOURINGS`."""
        return self._colouring

    @colouring.setter
    def colouring(self, colouring: str) -> None:
        if colouring != self._colouring:
            self._colouring = colouring
            self.colours_changed.emit()

    @property
    def verdicts(self) -> NDArray[np.object_]:
        """(N,) str: one of `VERDICTS`, or empty where nobody has judged."""
        return self._verdicts

    def judge(self, row: int, verdict: str) -> None:
        """Note what an expert says of a cell; an empty text takes it back."""
        self._verdicts[row] = verdict
        self.verdicts_changed.emit()

    def take_verdicts(self, verdicts: Sequence[str]) -> None:
        """Note the verdicts on all cells at once."""
        self._verdicts[:] = verdicts
        self.verdicts_changed.emit()

    @property
    def selected(self) -> NDArray[np.int64]:
        """Selected rows; the last one is the cell that was chosen last."""
        return self._selected

    def select(self, rows: Iterable[int]) -> None:
        """Select these rows and no others."""
        rows = np.fromiter(rows, np.int64)
        if not np.array_equal(rows, self._selected):
            self._selected = rows
            self.selection_changed.emit()

    def row_of(self, number: int) -> int | None:
        """Return the row of a number in the layer, if it was scored."""
        (found,) = np.nonzero(self.rows.numbers == number)
        return int(found[0]) if len(found) else None

    def name_of(self, row: int) -> str:
        """Return what tells a cell from the others: its label, and its plane where there are several."""
        cell = self.rows.table.iloc[row]
        return f"{cell['label']} of {cell['plane']}" if self.is_stack else str(cell["label"])

    @property
    def is_stack(self) -> bool:
        """Whether several planes were scored, whose labels may repeat."""
        return len(self.rows.summary) > 1

    def position(self, row: int) -> tuple[float, ...]:
        """Return a cell's centre in the layer's data coordinates."""
        cell = self.rows.table.iloc[row]
        return (*map(float, self.rows.index[row]), float(cell["y_px"]), float(cell["x_px"]))

    def export_table(self) -> pd.DataFrame:
        """Return the table for a file: the columns of `cells.csv`, and the verdicts if there are any."""
        return self.table.assign(verdict=self._verdicts) if self._verdicts.any() else self.table

    def features(self) -> pd.DataFrame:
        """Return the table for the layer: row k is label k, as napari wants it; empty where no cell has the number.

        Where numbers are few and high, rows are the cells alone and a column `index` has their numbers.
        """
        if self._features is None:
            table = self.table.assign(verdict=self._verdicts)
            table = table[[*FIRST_FEATURES, *(name for name in table.columns if name not in FIRST_FEATURES)]]
            self._features = pd.DataFrame({name: self._taken(table[name]) for name in table.columns})
            if self._is_sparse:
                self._features.insert(0, "index", self._at_number[1])
        # The others stay as they were scored.
        changing = {name: self._taken(self.table[name]) for name in CHANGING}
        return self._features.assign(**changing, verdict=self.verdict_feature())

    def verdict_feature(self) -> NDArray[np.object_]:
        """Return the column `verdict` of the features."""
        return np.asarray(self._taken(pd.Series(self._verdicts)), object)

    @cached_property
    def _is_sparse(self) -> bool:
        return int(self.rows.numbers.max(initial=0)) > MOST_EMPTY * (len(self) + LEAST_CELLS)

    @cached_property
    def _at_number(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each row of the features: the cell's row, -1 for none, and its number."""
        rows, numbers = np.arange(len(self)), self.rows.numbers
        if self._is_sparse:
            return np.append(-1, rows), np.append(0, numbers)
        at = np.full(int(numbers.max(initial=0)) + 1, -1)
        at[numbers] = rows
        return at, np.arange(len(at))

    def _taken(self, column: "pd.Series[Any]") -> Any:
        """Take the features' rows of a column; empty: NaN of numbers, None of texts, which napari passes over."""
        at, _ = self._at_number
        values = column.to_numpy(object if column.dtype.kind not in "iuf" else np.float64, na_value=np.nan)
        taken = values[at] if len(values) else np.full(len(at), np.nan, values.dtype)
        taken[at < 0] = None if taken.dtype == object else np.nan
        return taken


def called(
    scores: pd.DataFrame, members: Sequence[str], threshold: float, bounds: trust.Bounds | None
) -> tuple[pd.DataFrame, int]:
    """Call every cell anew.

    Parameters
    ----------
    scores : DataFrame
        The columns of `cells.csv`.
    members : sequence of str
    threshold : float
    bounds : Bounds or None

    Returns
    -------
    table : DataFrame
        With other calls and votes.
    n_left_open : int
        Cells that are uncertain since fast calls ran too few members for this threshold.
    """
    votes = scores[[f"p_all_{name}" for name in members]].to_numpy(np.float32)
    calls = trust.calls(scores["p_all"].to_numpy(), threshold, bounds)
    # What fast calls settled at their threshold, another one may leave open.
    low, high = (scores[f"{side}_p_all"].to_numpy(np.float32) for side in ("least", "most"))
    settled = trust.settled(low, high, threshold, bounds)
    table = scores.assign(
        call=np.where(settled, calls, "uncertain").astype(object),
        votes_all=trust.votes_all(np.stack([1 - votes, votes], axis=-1), threshold),
    )
    return table, int((~settled).sum())


def joined(parts: Sequence[tuple[tuple[int, ...], ScoredPart]], shape: Sequence[int]) -> tuple[NDArray[np.int32], Rows]:
    """Put planes together into one layer.

    Parameters
    ----------
    parts : sequence of (index, ScoredPart)
        At least one plane, and where each lies on the leading axes.
    shape : sequence of int
        Of the layer.

    Returns
    -------
    labels : shape, int32
        In a stack no number stands in two planes.
    rows : Rows
    """
    labels = np.zeros(shape, np.int32)
    nuclei = None if any(part.scored.nuclei is None for _, part in parts) else np.zeros(shape, bool)
    offset, numbers = 0, []
    for index, part in parts:
        found = np.asarray(part.scored.labels)
        labels[index] = np.where(found > 0, found + offset, 0)
        if nuclei is not None and part.scored.nuclei is not None:
            nuclei[index] = np.asarray(part.scored.nuclei) > 0
        numbers.append(part.scored.table["label"].to_numpy(np.int64) + offset)
        offset += int(found.max(initial=0))
    tables = [part.scored.table for _, part in parts]
    # The empty ones carry the types and would spoil them if they took part.
    filled = [table for table in tables if len(table)] or tables[:1]
    counts = [len(table) for table in tables]
    rows = Rows(
        table=pd.concat(filled, ignore_index=True),
        numbers=np.concatenate(numbers),
        index=np.repeat(np.array([index for index, _ in parts], np.int64).reshape(len(parts), -1), counts, axis=0),
        crops=np.concatenate([part.scored.crops for _, part in parts]),
        summary=pd.concat([part.scored.summary for _, part in parts], ignore_index=True),
        nuclei=nuclei,
    )
    return labels, rows
