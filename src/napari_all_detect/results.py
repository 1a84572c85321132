"""The output folder of `score`: what lies in it, refused when it holds results, one run at a time, tables that grow."""

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, InstanceOf, ValidationError

from napari_all_detect import table
from napari_all_detect.atomic import write_atomically
from napari_all_detect.errors import OutputError, ParameterError
from napari_all_detect.export.csv import csv_text, write_csv
from napari_all_detect.sources.places import without_secrets
from napari_all_detect.trust import count_joined, n_out_of_domain

__all__ = [
    "FAILURE_COLUMNS",
    "LOCK",
    "SUMMED",
    "Failure",
    "ResultTables",
    "as_folder",
    "check_folder",
    "locked_folder",
    "prepare_folder",
    "read_run",
    "refuse_links",
    "write_run",
]

TABLES = (
    "cells.csv",
    "cells.parquet",
    "cells.h5ad",
    "images.csv",
    "samples.csv",
    "subjects.csv",
    "failures.csv",
    "run.json",
    "report.html",
)
FOLDERS = {"labels": "*_labels.tif", "geojson": "*.geojson", "ome-zarr": "*.zarr", "units": "*.json"}
"""Folders of results, and the names of what we write into them."""

RESULTS = (*TABLES, *FOLDERS)
LOCK = ".all-detect.lock"
SUMMED = ("cells", "all", "hem", "uncertain")
"""Columns of `images.csv` that are summed up over all planes."""

FAILURE_COLUMNS = (
    table.Column("input", "str", "", "The path or image that failed"),
    table.Column("stage", "str", "", "What was tried: open, read, labels, load, score, write"),
    table.Column("reason", "str", "", "What came, what was expected, what to do"),
)


@dataclass(frozen=True)
class Failure:
    """An input, or a plane of it, that could not be scored; its reason keeps no password or key of an address.

    Attributes
    ----------
    input, stage, reason : str
        See `FAILURE_COLUMNS`.
    passes : bool
        Whether an input can't be opened for the trouble of a disk or server, which may be over the next time.
    """

    input: str
    stage: str
    reason: str
    passes: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", without_secrets(self.reason))


def as_folder(out: str | Path) -> Path:
    """Return the folder that results go to; refuse an empty name, which would be the one that the program runs in."""
    if out == "":
        raise ParameterError("out is empty; expected a folder, such as . for the one that you are in")
    return Path(out)


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
        If the folder holds results and `overwrite` is not set, something needed would be deleted with them, or one of
        them is a link.
    """
    refuse_links(folder)
    held = _held(folder)
    if held and not overwrite:
        more = " or, to go on with an interrupted run, --resume" if "units" in held else ""
        raise OutputError(
            f"{folder} holds results already ({', '.join(held)}); name another folder or add --overwrite{more}"
        )
    for name in held:
        for path in needed:
            if path.resolve().is_relative_to((folder / name).resolve()):
                raise OutputError(f"{path} is among the results that would be replaced; name another output folder")


def refuse_links(folder: Path) -> None:
    """Refuse an output folder, which may itself be a link, if a link in it leads what is written or deleted elsewhere.

    Raises
    ------
    OutputError
        If what results are called is a link, even one that leads nowhere, or a folder below is one.
    """
    below = (Path(place, name) for top in FOLDERS for place, names, _ in os.walk(folder / top) for name in names)
    for path in chain((folder / name for name in RESULTS), below):
        if path.is_symlink():
            raise OutputError(
                f"{path} is a link, which would lead results elsewhere; name another folder or delete the link"
            )


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Make the output folder, or clear it of the results that it holds; other files stay.

    Raises
    ------
    OutputError
        If it holds results and `overwrite` is not set, or can't be written to.
    """
    check_folder(folder, overwrite)
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in _held(folder):
            results = folder / name
            for path in list(results.rglob(FOLDERS[name])) if results.is_dir() else [results]:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)  # what lay in a container of ours is gone with it


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep other runs out of an output folder, which is made if need be; the lock of a run that was killed is open.

    Raises
    ------
    OutputError
        If another run writes into it now, or it can't be written to.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, blocking=False)
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise OutputError(f"another run writes into {folder} now; wait for it, or name another folder") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} can't be written to ({error.strerror or error}); name a folder that you may write to"
        ) from error


def _held(folder: Path) -> list[str]:
    return [name for name in RESULTS if (folder / name).exists()]


def write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Write `run.json`."""
    write_atomically(folder / "run.json", (json.dumps(run, indent=2) + "\n").encode())


def read_run(path: Path) -> dict[str, Any]:
    """Read a `run.json`.

    Raises
    ------
    OutputError
        If it can't be read, or is no record of a run: parts are missing, or of another type.
    """
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} can't be read as the record of a run ({error}); expected a run.json") from error
    try:
        _Run.model_validate(run)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place, why = ".".join(str(step) for step in first["loc"]), first["msg"].partition(" or instance of ")[0]
        raise OutputError(
            f"{path} is no record of a run: {place or 'all of it'} is not valid ({why}); name a run.json as it was "
            "written"
        ) from error
    return run


Text = InstanceOf[str]
"""Names of files may hold what is no Unicode, which pydantic's own texts may not."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Parameters(_Part):
    segmentation: dict[str, Any] = {}
    reading: dict[str, Any] = {}


class _Bundle(_Part):
    digest: str


class _Image(_Part):
    image: Text
    path: Text = ""
    planes: int


class _Run(_Part):
    """What of a `run.json` is relied on; there is more in it, and earlier versions wrote less."""

    inputs: list[Text]
    parameters: _Parameters
    status: str
    bundle: _Bundle
    segmentation: dict[str, Any] | None = None
    images: list[_Image]
    unopened: list[Text] = []


class ResultTables:
    """`cells.csv`, `images.csv` and `failures.csv`, which grow with each plane; only their sums stay in memory.

    Parameters
    ----------
    folder : Path
    members : list of str
        The bundle's members.
    """

    def __init__(self, folder: Path, members: Sequence[str]) -> None:
        self.folder = folder
        self.failures: list[Failure] = []
        self.planes = 0
        self.counts = dict.fromkeys((*SUMMED, "out_of_domain"), 0)
        self.notes = Counter[str]()
        write_csv(table.empty_cells(members), folder / "cells.csv")
        write_csv(table.typed(table.IMAGE_COLUMNS, {}, 0), folder / "images.csv")
        write_csv(table.typed(FAILURE_COLUMNS, {}, 0), folder / "failures.csv")

    def add_plane(self, cells: pd.DataFrame, summary: pd.DataFrame) -> None:
        """Append a plane's rows."""
        self.planes += 1
        for name in SUMMED:
            self.counts[name] += int(summary[name].iloc[0])
        self.counts["out_of_domain"] += n_out_of_domain(cells["flags"])
        self.notes += count_joined(summary["notes"])
        self._append("cells.csv", cells)
        self._append("images.csv", summary)

    def add_failure(self, failure: Failure) -> None:
        """Append a row to `failures.csv`."""
        self.failures.append(failure)
        self._append("failures.csv", table.typed(FAILURE_COLUMNS, vars(failure), 1))

    def _append(self, name: str, rows: pd.DataFrame) -> None:
        with (self.folder / name).open("a", encoding="utf-8", newline="") as file:
            file.write(csv_text(rows, header=False))
