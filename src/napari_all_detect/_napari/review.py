"""An expert's verdicts: in which order cells are judged, how far they agree, and saving them for training. No Qt."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_all_detect._napari.gallery import ORDERS, gallery_order
from napari_all_detect._napari.results import CellResults
from napari_all_detect.errors import OutputError
from napari_all_detect.export.csv import write_csv

__all__ = ["CLASS_FOLDERS", "Agreement", "Reviewer", "agreement", "save_crops"]

CLASS_FOLDERS = {"ALL": "all", "Hem": "hem"}
"""What `all-detect-train fit --cells` takes by default."""
VERDICTS_TABLE = "verdicts.csv"


class Reviewer:
    """Walks through the cells, the most uncertain first; those that were judged already are passed over.

    Parameters
    ----------
    results : CellResults
    """

    def __init__(self, results: CellResults) -> None:
        self.results = results
        # Fixed at the start: a threshold that moves meanwhile must not shuffle what is still to come.
        self.order = gallery_order(results, ORDERS[2])
        self._judged: list[int] = []

    @property
    def current(self) -> int | None:
        """The row to judge; None when all are."""
        left = self.order[self.results.verdicts[self.order] == ""]
        return int(left[0]) if len(left) else None

    @property
    def n_judged(self) -> int:
        """How many cells have a verdict."""
        return int((self.results.verdicts != "").sum())

    def judge(self, verdict: str) -> None:
        """Note a verdict on the current cell; the next one becomes current."""
        row = self.current
        if row is not None:
            self._judged.append(row)
            self.results.judge(row, verdict)

    def back(self) -> None:
        """Take back the last verdict; its cell becomes current again."""
        if self._judged:
            self.results.judge(self._judged.pop(), "")


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
        Gets `all/` and `hem/` with a PNG for each cell, named by image, plane and label, and `<image>_verdicts.csv`
        with their rows. Cells of other images that are there stay; a cell that is judged otherwise now changes its
        folder.

    Returns
    -------
    counts : dict
        Cells of each class in the folder, those that were there included.

    Raises
    ------
    OutputError
        If nothing was judged ALL or Hem, there are no crops, or the folder can't be written to.
    """
    from PIL import Image

    judged = np.flatnonzero(np.isin(results.verdicts, list(CLASS_FOLDERS)))
    if len(judged) == 0:
        raise OutputError("no cell has the verdict ALL or Hem yet; judge some first")
    if results.rows.crops is None:
        raise OutputError("the crops of these cells are not known; score the image again")
    try:
        for name in CLASS_FOLDERS.values():
            (folder / name).mkdir(parents=True, exist_ok=True)
        for row in map(int, judged):
            file = _file_name(results, row)
            for verdict, name in CLASS_FOLDERS.items():
                path = folder / name / file
                if verdict == results.verdicts[row]:
                    Image.fromarray(results.rows.crops[row]).save(path)
                else:
                    path.unlink(missing_ok=True)
        write_csv(results.export_table().iloc[judged], folder / _verdicts_name(results))
    except OSError as error:
        raise OutputError(f"{folder} can't be written to ({error.strerror}); choose another folder") from error
    return {verdict: len(list((folder / name).glob("*.png"))) for verdict, name in CLASS_FOLDERS.items()}


def _file_name(results: CellResults, row: int) -> str:
    cell = results.table.iloc[row]
    return f"{_plain(cell['image'])}_{_plain(cell['plane'])}_{int(cell['label']):05d}.png"


def _verdicts_name(results: CellResults) -> str:
    return f"{_plain(results.table['image'].iloc[0])}_{VERDICTS_TABLE}"


def _plain(name: str) -> str:
    """Return a name that is one on every file system."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", str(name)).strip("-.") or "image"
