"""Judged cells as folders of crops with a table, which training reads. No Qt."""

import csv
from collections.abc import Sequence
from hashlib import sha256
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.cells.same_cells import Identity, identities
from napari_all_detect._napari.files.file_names import plain
from napari_all_detect.errors import OutputError
from napari_all_detect.export.csv import csv_text

__all__ = ["save_crops"]

CLASS_FOLDERS = {"ALL": "all", "Hem": "hem"}
"""What `all-detect-train fit --cells` takes by default."""
VERDICTS_TABLE = "verdicts.csv"
DIGEST_DIGITS = 8


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
