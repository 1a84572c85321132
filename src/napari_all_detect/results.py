"""The output folder of `score`: what lies in it, refused when it holds results, filled plane by plane."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from napari_all_detect import table
from napari_all_detect.errors import OutputError
from napari_all_detect.export.csv import csv_text
from napari_all_detect.export.parquet import check_parquet, write_parquet

__all__ = ["FAILURE_COLUMNS", "Failure", "ResultsFolder", "prepare_folder"]

RESULTS = (
    "cells.csv",
    "cells.parquet",
    "images.csv",
    "samples.csv",
    "failures.csv",
    "run.json",
    "labels",
)
FAILURE_COLUMNS = (
    table.Column("input", "str", "", "The path or image that failed"),
    table.Column("stage", "str", "", "What was tried: open, read, labels, score"),
    table.Column("reason", "str", "", "What came, what was expected, what to do"),
)


@dataclass(frozen=True)
class Failure:
    """An input, or a plane of it, that could not be scored."""

    input: str
    stage: str
    reason: str


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Make the output folder, or refuse it.

    Raises
    ------
    OutputError
        If it holds results and `overwrite` is not set, or can't be written to.
    """
    held = [name for name in RESULTS if (folder / name).exists()]
    if held and not overwrite:
        raise OutputError(f"{folder} holds results already ({', '.join(held)}); name another folder or add --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in held:
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
            else:
                (folder / name).unlink()
    except OSError as error:
        raise OutputError(
            f"{folder} can't be written to ({error.strerror}); name a folder that you may write to"
        ) from error


class ResultsFolder:
    """Tables that grow with each plane, so that what is done is never lost.

    Parameters
    ----------
    folder : Path
    members : list of str
        The bundle's members.
    formats : tuple of str
        `csv` is always written, as it can grow; the others at the end.
    """

    def __init__(self, folder: Path, members: list[str], formats: tuple[str, ...]) -> None:
        if "parquet" in formats:
            check_parquet()
        self.folder = folder
        self.formats = formats
        self._cells = [table.empty_cells(members)]
        self._images = [table.typed(table.IMAGE_COLUMNS, {}, 0)]
        self.failures: list[Failure] = []
        self._start("cells.csv", self._cells[0])
        self._start("images.csv", self._images[0])
        self._start("failures.csv", table.typed(FAILURE_COLUMNS, {}, 0))

    @property
    def cells(self) -> pd.DataFrame:
        """All rows of `cells.csv` so far."""
        return _joined(self._cells)

    @property
    def images(self) -> pd.DataFrame:
        """All rows of `images.csv` so far."""
        return _joined(self._images)

    def add_plane(self, cells: pd.DataFrame, summary: pd.DataFrame) -> None:
        """Append a plane's rows."""
        self._cells.append(cells)
        self._images.append(summary)
        self._append("cells.csv", cells)
        self._append("images.csv", summary)

    def add_failure(self, failure: Failure) -> None:
        """Append a row to `failures.csv`."""
        self.failures.append(failure)
        self._append("failures.csv", table.typed(FAILURE_COLUMNS, vars(failure), 1))

    def write_run(self, run: Mapping[str, Any]) -> None:
        """Write `run.json`."""
        (self.folder / "run.json").write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")

    def finish(self) -> None:
        """Write the formats that can't grow."""
        if "parquet" in self.formats:
            write_parquet(self.cells, self.folder / "cells.parquet")

    def _start(self, name: str, empty: pd.DataFrame) -> None:
        (self.folder / name).write_text(csv_text(empty), encoding="utf-8", newline="")

    def _append(self, name: str, rows: pd.DataFrame) -> None:
        with (self.folder / name).open("a", encoding="utf-8", newline="") as file:
            file.write(csv_text(rows, header=False))


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate; the empty ones carry the types and would spoil them if they took part."""
    filled = [t for t in tables if len(t)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]
