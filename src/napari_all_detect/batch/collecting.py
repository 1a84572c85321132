"""Results into the tables, in the order of the inputs, whatever order they come in."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from napari_all_detect.atomic import write_atomically
from napari_all_detect.batch.containers import write_containers
from napari_all_detect.batch.progress import BatchProgress
from napari_all_detect.batch.reporting import gather_report
from napari_all_detect.batch.resuming import changed_part
from napari_all_detect.batch.store import UnitStore
from napari_all_detect.batch.units import Unit, UnitResult
from napari_all_detect.batch.writing import PlaneWriter, rest_goes_on
from napari_all_detect.errors import OutputError
from napari_all_detect.export.csv import write_csv
from napari_all_detect.export.h5ad import write_h5ad
from napari_all_detect.export.parquet import write_parquet_parts
from napari_all_detect.export.report import report_html
from napari_all_detect.results import Failure, ResultTables
from napari_all_detect.samplesheet import sum_samples, sum_subjects

__all__ = ["Collector", "write_at_the_end"]


class Collector:
    """Keeps each result in the store; moves what is next in order from there into the tables.

    Tables are filled from the store whether a unit was done now or before an interruption: there is one road, so there
    is one result.

    Parameters
    ----------
    tables : ResultTables
    store : UnitStore
    units : sequence of Unit
        All of them.
    done : collection of int
        Numbers of those that are in the store already.
    progress : BatchProgress
    expected : mapping of str to mapping
        For a run that is repeated, what `expected_images` says.
    """

    def __init__(
        self,
        tables: ResultTables,
        store: UnitStore,
        units: Sequence[Unit],
        done: Collection[int],
        progress: BatchProgress,
        expected: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.sources: dict[str, dict[str, Any]] = {}
        self._tables, self._store, self._units, self._progress = tables, store, units, progress
        self._done, self._expected = set(done), expected
        self._failed: dict[int, Failure] = {}
        self._writer = PlaneWriter()
        self._next = 0

    def fail(self, failure: Failure) -> None:
        """Record an input that gave no units."""
        self._tables.add_failure(failure)
        self._progress.failed(failure)

    def add(self, unit: Unit, result: UnitResult | Failure) -> None:
        """Keep a unit's result, and bring the tables as far as they can be brought."""
        if isinstance(result, UnitResult):
            result = self._keep(unit, result) or result
        if isinstance(result, Failure):
            self._failed[unit.number] = result
        else:
            self._done.add(unit.number)
        self.advance()
        self._progress.plane()

    def end(self) -> None:
        """Bring the tables to their end.

        Raises
        ------
        OutputError
            If the result of a unit that is done can't be read back: the tables would lack it and all that follow.
        """
        self.advance()
        if self._next < len(self._units):
            name = self._units[self._next].name
            raise OutputError(f"the result of {name} can't be read back; go on with --resume, which scores it again")

    def _keep(self, unit: Unit, result: UnitResult) -> Failure | None:
        part = changed_part(self._expected.get(unit.plane.image, {}), unit.plane.plane, result.source)
        if part:
            reason = f"{unit.plane.path}: not the {part} that the repeated run scored; bring them back"
            return Failure(unit.name, "read", reason)
        return self._writer.write(unit, partial(self._store.write, unit, result))

    def advance(self) -> None:
        """Bring the tables as far as they can be brought."""
        while self._next < len(self._units):
            unit = self._units[self._next]
            if unit.number in self._failed:
                self.fail(self._failed.pop(unit.number))
            elif unit.number in self._done and (result := self._store.read(unit)):
                self._tables.add_plane(result.cells, result.summary)
                self._note_source(unit, result)
            else:
                return
            self._next += 1

    def _note_source(self, unit: Unit, result: UnitResult) -> None:
        """Collect what `run.json` says of an image: a file's digest, or one for each plane of a store."""
        facts = self.sources.setdefault(unit.plane.image, {})
        if "sha256" in result.source:
            facts["sha256"] = result.source["sha256"]
        else:
            facts.setdefault("pixels_sha256", {})[unit.plane.plane] = result.source["pixels_sha256"]
        if "labels_sha256" in result.source:
            facts.setdefault("labels_sha256", {})[unit.plane.plane] = result.source["labels_sha256"]


def write_at_the_end(
    tables: ResultTables,
    store: UnitStore,
    units: Sequence[Unit],
    formats: Sequence[str],
    sheet: pd.DataFrame | None,
    run: Mapping[str, Any],
    fail: Callable[[Failure], None],
    begin: Callable[[str], None],
) -> None:
    """Write what can only be written when all units are done.

    A table or container that can't be written becomes a failure, and is tried again with `--resume`. The report comes
    last, so that it shows these, too.

    Parameters
    ----------
    tables : ResultTables
        In whose folder all is written.
    store : UnitStore
        Holds the results of the units that were done.
    units : sequence of Unit
    formats : sequence of str
        Those that were asked for.
    sheet : DataFrame or None
        The sample sheet; None writes no table of samples.
    run : mapping
        The record of the run.
    fail : callable
        Is told each failure.
    begin : callable
        Is told what is written next.
    """
    folder, samples = tables.folder, None
    if "parquet" in formats:
        begin("cells.parquet")
        with _whole_or_failed(fail, folder / "cells.parquet") as path:
            cells = (result.cells for _, result in store.read_all(units))
            write_parquet_parts(chain([store.no_cells], cells), path)
    if "h5ad" in formats:
        begin("cells.h5ad")
        with _whole_or_failed(fail, folder / "cells.h5ad") as path:
            write_h5ad(_joined([result.cells for _, result in store.read_all(units)], store.no_cells), path)
    if "ome-zarr" in formats:
        write_containers(folder, store, units, fail, begin)
    if sheet is not None:
        begin("samples.csv")
        images = _joined([result.summary for _, result in store.read_all(units)], store.no_images)
        samples = sum_samples(images, sheet)
        write_csv(samples, folder / "samples.csv")
        subjects = sum_subjects(images, sheet)
        if len(subjects):
            write_csv(subjects, folder / "subjects.csv")
    begin("report.html")
    report = gather_report(store.read_all(units), units, tables, run, samples)
    write_atomically(folder / "report.html", report_html(report).encode(errors="backslashreplace"))


@contextlib.contextmanager
def _whole_or_failed(fail: Callable[[Failure], None], path: Path) -> Iterator[Path]:
    """Record a failure if a table can't be written; half of one is deleted."""
    with rest_goes_on(fail, path.name, path):
        try:
            yield path
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _joined(parts: list[pd.DataFrame], empty: pd.DataFrame) -> pd.DataFrame:
    """Concatenate; tables without a row would spoil the types if they took part."""
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else empty
