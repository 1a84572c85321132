"""An expert's verdicts: in which order cells are judged, how far they agree, and saving them for training. No Qt."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_all_detect._napari.file_names import plain
from napari_all_detect._napari.gallery import ORDERS, gallery_order
from napari_all_detect._napari.results import CellResults
from napari_all_detect._napari.same_cells import Identity, identities
from napari_all_detect.errors import OutputError
from napari_all_detect.export.csv import csv_text

__all__ = ["CLASS_FOLDERS", "Agreement", "Reviewer", "agreement", "save_crops"]

CLASS_FOLDERS = {"ALL": "all", "Hem": "hem"}
"""What `all-detect-train fit --cells` takes by default."""
VERDICTS_TABLE = "verdicts.csv"
DIGEST_DIGITS = 8


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


def save_crops(results: CellResults, folder: Path) -> dict[str, int]:
    """Save the judged cells as `all-detect-train fit --cells` reads them.

    Parameters
    ----------
    results : CellResults
    folder : Path
        Gets `all/` and `hem/` with a PNG for each cell, named by image, plane and place, and `<image>_verdicts.csv`
        with their rows. What is there of other cells stays. A cell that is judged otherwise by now changes its folder;
        one that is `unsure`, or whose verdict was taken back since it was saved, is deleted.

    Returns
    -------
    counts : dict
        Cells of each class in the folder, those that were there included.

    Raises
    ------
    OutputError
        If nothing was judged ALL or Hem, there are no crops, or the folder can't be written to.
    """
    files = _file_names(results.table)
    # Of cells without a verdict those that were saved have lost theirs; others may have one from an earlier session.
    told = results.saved_crops | {file for file, verdict in zip(files, results.verdicts, strict=True) if verdict}
    judged = np.flatnonzero(np.isin(results.verdicts, list(CLASS_FOLDERS))).tolist()
    places = [f"{CLASS_FOLDERS[results.verdicts[row]]}/{files[row]}" for row in judged]
    left = {f"{name}/{file}" for name in CLASS_FOLDERS.values() for file in told}.difference(places)
    gone = [folder / place for place in left if (folder / place).exists()]
    if not places and not gone:
        raise OutputError("no cell has the verdict ALL or Hem yet; judge some first")
    if results.rows.crops is None:
        raise OutputError("the crops of these cells are not known; score the image again")
    try:
        for name in CLASS_FOLDERS.values():
            (folder / name).mkdir(parents=True, exist_ok=True)
        _write_crops(results.rows.crops[judged], [folder / place for place in places])
        _write_verdicts(results.export_table().iloc[judged].assign(file=places), told, folder / _table_name(results))
        for path in gone:
            path.unlink()
    except OSError as error:
        raise OutputError(f"{folder} can't be written to ({error.strerror or error}); choose another folder") from error
    results.saved_crops.update(files[row] for row in judged)
    return {verdict: len(list((folder / name).glob("*.png"))) for verdict, name in CLASS_FOLDERS.items()}


def _write_crops(crops: NDArray[np.uint8], paths: Sequence[Path]) -> None:
    from PIL import Image

    for path, crop in zip(paths, crops, strict=True):
        Image.fromarray(crop).save(path)


def _write_verdicts(cells: pd.DataFrame, told: set[str], path: Path) -> None:
    """Write rows of cells in place of those that are there of cells with these files, beside all others."""
    new = csv.DictReader(StringIO(csv_text(cells)))
    try:
        old = csv.DictReader(StringIO(path.read_text(encoding="utf-8-sig") if path.exists() else ""))
        rows = [row for row in old if Path(row.get("file") or "").name not in told] + list(new)
    except (UnicodeDecodeError, csv.Error) as error:
        raise OutputError(f"{path} can't be added to ({error}); move it elsewhere") from error
    columns = dict.fromkeys([*(new.fieldnames or ()), *(old.fieldnames or ())])
    text = StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")


def _file_names(table: pd.DataFrame) -> list[str]:
    """Return the names of the cells' crops; the digest tells apart what is alike in all else."""
    named = zip(identities(table), *(table[name] for name in ("image", "plane", "y_px", "x_px")), strict=True)
    return [
        f"{plain(image)}_{plain(plane)}_y{y:.0f}_x{x:.0f}_{_digest(cell)}.png" for cell, image, plane, y, x in named
    ]


def _table_name(results: CellResults) -> str:
    return f"{plain(results.table['image'].iloc[0])}_{VERDICTS_TABLE}"


def _digest(cell: Identity) -> str:
    return sha256("\0".join(cell).encode()).hexdigest()[:DIGEST_DIGITS]
