"""The output folder of `score`: what lies in it, refused when it holds results, filled plane by plane."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from napari_all_detect import table
from napari_all_detect.errors import OutputError
from napari_all_detect.export.csv import csv_text, write_csv
from napari_all_detect.export.h5ad import write_h5ad
from napari_all_detect.export.parquet import write_parquet

__all__ = ["FAILURE_COLUMNS", "Failure", "ResultsFolder", "check_folder", "prepare_folder"]

TABLES = ("cells.csv", "cells.parquet", "cells.h5ad", "images.csv", "samples.csv", "failures.csv", "run.json")
FOLDERS = {"labels": "*_labels.tif", "geojson": "*.geojson", "ome-zarr": "*.zarr"}
"""Folders of results, and the names of what we write into them."""

RESULTS = (*TABLES, *FOLDERS)
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


def check_folder(folder: Path, overwrite: bool, needed: Sequence[Path] = ()) -> None:
    """Refuse an output folder before anything is loaded or deleted.

    Parameters
    ----------
    folder : Path
    overwrite : bool
        Whether results that it holds may be replaced.
    needed : sequence of Path
        What the run reads: it must not be among the results that would be replaced.

    Raises
    ------
    OutputError
        If the folder holds results and `overwrite` is not set, or something needed would be deleted with them.
    """
    held = _held(folder)
    if held and not overwrite:
        raise OutputError(f"{folder} holds results already ({', '.join(held)}); name another folder or add --overwrite")
    for name in held:
        for path in needed:
            if path.resolve().is_relative_to((folder / name).resolve()):
                raise OutputError(f"{path} is among the results that would be replaced; name another output folder")


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Make the output folder, or clear it of the results that it holds; other files stay.

    Raises
    ------
    OutputError
        If it holds results and `overwrite` is not set, or can't be written to.
    """
    check_folder(folder, overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _held(folder):
            results = folder / name
            for path in list(results.rglob(FOLDERS[name])) if results.is_dir() else [results]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise OutputError(
            f"{folder} can't be written to ({error.strerror}); name a folder that you may write to"
        ) from error


def _held(folder: Path) -> list[str]:
    return [name for name in RESULTS if (folder / name).exists()]


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
        if "h5ad" in self.formats:
            write_h5ad(self.cells, self.folder / "cells.h5ad")

    def _start(self, name: str, empty: pd.DataFrame) -> None:
        write_csv(empty, self.folder / name)

    def _append(self, name: str, rows: pd.DataFrame) -> None:
        with (self.folder / name).open("a", encoding="utf-8", newline="") as file:
            file.write(csv_text(rows, header=False))


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate; the empty ones carry the types and would spoil them if they took part."""
    filled = [t for t in tables if len(t)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]
