"""The table's formats: the same functions as the command line's, so the same bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from napari_all_detect._napari.results import CellResults
from napari_all_detect.errors import OutputError
from napari_all_detect.export.csv import write_csv
from napari_all_detect.export.parquet import write_parquet

__all__ = ["TABLE_FORMATS", "TableFormat", "copied_text", "export_table"]


@dataclass(frozen=True)
class TableFormat:
    """A format that a table of cells can be written in."""

    name: str
    suffix: str
    write: Callable[[CellResults, Path], None]


TABLE_FORMATS = (
    TableFormat("CSV", ".csv", lambda results, path: write_csv(results.export_table(), path)),
    TableFormat("Parquet", ".parquet", lambda results, path: write_parquet(results.export_table(), path)),
)


def export_table(results: CellResults, path: Path) -> None:
    """Write the table in the format that the suffix names.

    Raises
    ------
    OutputError
        If no format has this suffix, or the file can't be written.
    MissingDependencyError
        If the format needs a package that is not there.
    """
    for table_format in TABLE_FORMATS:
        if path.suffix.lower() == table_format.suffix:
            try:
                table_format.write(results, path)
            except OSError as error:
                raise OutputError(f"{path} can't be written ({error.strerror}); choose another folder") from error
            return
    known = ", ".join(table_format.suffix for table_format in TABLE_FORMATS)
    raise OutputError(f"{path.name}: no format has the suffix {path.suffix!r}; expected one of: {known}")


def copied_text(table: pd.DataFrame) -> str:
    """Return rows as a spreadsheet takes them from the clipboard: tabs between columns."""
    return table.to_csv(sep="\t", index=False, lineterminator="\n")
