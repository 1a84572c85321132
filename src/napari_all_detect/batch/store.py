"""Results of the units that are done, a file for each, until all are there and collected."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from napari_all_detect import table
from napari_all_detect.atomic import write_atomically
from napari_all_detect.batch.units import Unit, UnitResult

__all__ = ["UnitStore"]


class UnitStore:
    """The folder `units` of an output folder.

    Parameters
    ----------
    folder : Path
        The output folder.
    members : list of str
        The bundle's members.

    Attributes
    ----------
    no_cells, no_images : DataFrame
        The tables without a row.
    """

    def __init__(self, folder: Path, members: Sequence[str]) -> None:
        self.folder = folder
        self.no_cells = table.empty_cells(members)
        self.no_images = table.typed(table.IMAGE_COLUMNS, {}, 0)
        self._columns = table.cell_columns(members)

    @property
    def exists(self) -> bool:
        """Whether there is anything to collect: nothing before a run's first unit, nor after its end."""
        return (self.folder / "units").is_dir()

    def write(self, unit: Unit, result: UnitResult) -> None:
        """Keep a result: its files first, the unit's own last, so that a unit is done if that is there."""
        for path, data in result.files.items():
            write_atomically(self.folder / path, data)
        record = {
            "image": unit.plane.image,
            "plane": unit.plane.plane,
            "source": dict(result.source),
            "stem": unit.stem,
            "files": list(result.files),
            "summary": _columns(result.summary),
            "cells": _columns(result.cells),
        }
        write_atomically(self._path(unit), json.dumps(record, separators=(",", ":")).encode())

    def read(self, unit: Unit) -> UnitResult | None:
        """Return a unit's result, or None if it is not done: there is no file, or one that is damaged."""
        try:
            record = json.loads(self._path(unit).read_bytes())
            cells = table.typed(self._columns, record["cells"], len(record["cells"]["label"]))
            return UnitResult(cells, table.typed(table.IMAGE_COLUMNS, record["summary"], 1), record["source"])
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return None

    def read_all(self, units: Sequence[Unit]) -> Iterator[tuple[Unit, UnitResult]]:
        """Yield the units that are done, in their order, with their results."""
        for unit in units:
            result = self.read(unit)
            if result is not None:
                yield unit, result

    def delete_renamed(self, units: Sequence[Unit]) -> Iterator[str]:
        """Delete what planes left whose files are called otherwise now; what others left may be wanted again.

        A unit's own file goes first, so that none is done without the others. To be called before units are written:
        a file of these may be called as one of those was.

        Yields
        ------
        stem : str
            What the files of one were called.
        """
        own = {self._path(unit) for unit in units}
        planes = {(unit.plane.image, unit.plane.plane) for unit in units}
        for path in [path for path in (self.folder / "units").glob("*/*.json") if path not in own]:
            plane, stem, files = _left_by(path)
            if plane not in planes:
                continue
            path.unlink()
            for file in files:
                (self.folder / file).unlink(missing_ok=True)
            yield stem

    def clear(self) -> None:
        """Delete all; their content is in the tables."""
        shutil.rmtree(self.folder / "units", ignore_errors=True)

    def _path(self, unit: Unit) -> Path:
        """Return a unit's file: not by its number, as inputs before it may come and go, but by what it is called.

        If its other files are to be called otherwise, it is another unit. There are 256 folders, as file systems grow
        slow with a million files in one.
        """
        digest = hashlib.sha256(json.dumps([unit.plane.image, unit.plane.plane, unit.stem]).encode()).hexdigest()
        return self.folder / "units" / digest[:2] / f"{digest[2:]}.json"


def _left_by(path: Path) -> tuple[tuple[str, str], str, list[str]]:
    """Return a unit's image and plane, what its other files were called, and these; nothing of a damaged record."""
    try:
        record = json.loads(path.read_bytes())
        stem, files = record["stem"], record["files"]
        # What a folder that somebody handed over says is to be deleted may lie elsewhere.
        if any(name.is_absolute() or ".." in name.parts for name in map(PurePath, (stem, *files))):
            raise ValueError
        return (record["image"], record["plane"]), stem, files
    except (ValueError, LookupError, TypeError):
        return ("", ""), "", []


def _columns(rows: pd.DataFrame) -> dict[str, list[Any]]:
    """Return a table as lists that JSON keeps to the last bit; a missing value (NaN is no other) is None."""
    return {
        str(name): [None if value is pd.NA or value != value else value for value in column.tolist()]
        for name, column in rows.items()
    }
