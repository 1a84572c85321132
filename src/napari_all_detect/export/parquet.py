"""Parquet, with the columns' types."""

from pathlib import Path

import pandas as pd

from napari_all_detect.errors import MissingDependencyError

__all__ = ["check_parquet", "write_parquet"]


def check_parquet() -> None:
    """Raise MissingDependencyError where Parquet can't be written."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("parquet needs pyarrow: pip install 'napari-all-detect[parquet]'") from error


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet."""
    check_parquet()
    table.to_parquet(path, index=False)
