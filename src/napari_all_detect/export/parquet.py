"""Parquet, with the columns' types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from napari_all_detect.export.formats import check_formats

if TYPE_CHECKING:
    import pyarrow

__all__ = ["write_parquet", "write_parquet_parts"]

ROW_GROUP = 100_000
"""Rows that are held in memory and written together, and the least that a reader reads."""


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet."""
    write_parquet_parts([table], path)


def write_parquet_parts(parts: Iterable[pd.DataFrame], path: Path, row_group: int = ROW_GROUP) -> None:
    """Write tables with the same columns one below the other, without holding all of them in memory.

    Parameters
    ----------
    parts : iterable of DataFrame
        At least one; it may be without a row.
    path : Path
    row_group : int
        Rows that are written together, at least.

    Raises
    ------
    MissingDependencyError
        If `pyarrow` is not installed.
    """
    check_formats(["parquet"])
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    writer: ParquetWriter | None = None
    try:
        for rows in _groups(parts, row_group):
            writer = writer or ParquetWriter(path, _schema(rows))
            writer.write_table(Table.from_pandas(rows, schema=writer.schema, preserve_index=False))
    finally:
        if writer is not None:
            writer.close()


def _groups(parts: Iterable[pd.DataFrame], least: int) -> Iterator[pd.DataFrame]:
    """Join tables until they have enough rows; those without a row would spoil the types if they took part."""
    waiting: list[pd.DataFrame] = []
    n_rows, first = 0, True
    for part in parts:
        waiting = [*waiting, part] if n_rows and len(part) else waiting if n_rows else [part]
        n_rows += len(part)
        if n_rows >= least:
            yield pd.concat(waiting, ignore_index=True)
            waiting, n_rows, first = [], 0, False
    if n_rows or first:
        yield pd.concat(waiting, ignore_index=True)


def _schema(rows: pd.DataFrame) -> pyarrow.Schema:
    """Return the types; those of a text column without a row can't be told from it."""
    import pyarrow

    schema = pyarrow.Schema.from_pandas(rows, preserve_index=False)
    for i, name in enumerate(rows.columns):
        if rows[name].dtype == object:
            schema = schema.set(i, pyarrow.field(name, pyarrow.string()))
    return schema
