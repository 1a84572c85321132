"""CSV that statistics programs read back to the same values."""

import csv
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["csv_text", "unquoted", "write_csv"]

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as UTF-8 CSV."""
    path.write_text(csv_text(table), encoding="utf-8", newline="")


def csv_text(table: pd.DataFrame, header: bool = True, delimiter: str = ",") -> str:
    r"""Return a table as CSV: a header, `\n` at line ends, empty fields for missing values.

    Floats have the fewest digits that read back to the same float32. Truths are TRUE and FALSE, which R knows. A text
    that a spreadsheet would run as a formula gets a leading apostrophe; a carriage return in a text, which readers take
    for the end of a row, becomes `\n`.

    Parameters
    ----------
    table : DataFrame
    header : bool
        Whether the first line names the columns.
    delimiter : str
        What is between two fields.

    Examples
    --------
    >>> csv_text(pd.DataFrame({"image": ["=1+1.png"], "p_all": np.array([0.1], np.float32)}))
    "image,p_all\n'=1+1.png,0.1\n"
    """
    columns = [_texts(table[name]) for name in table.columns]
    file = StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    if header:
        writer.writerow(table.columns)
    writer.writerows(zip(*columns, strict=True))
    return file.getvalue()


def _texts(column: "pd.Series[Any]") -> list[str]:
    """Return a column's fields."""
    if column.dtype.kind == "f":
        values = column.to_numpy(np.float32)
        return list(np.where(np.isnan(values), "", values.astype(str)).tolist())
    if column.dtype.kind == "O":
        texts = [_safe(str(text)) for text in column]
    elif column.dtype.kind == "b":
        texts = [str(value).upper() for value in column.tolist()]
    else:
        texts = [str(value) for value in column.tolist()]
    return ["" if missing else text for missing, text in zip(column.isna().tolist(), texts, strict=True)]


def _safe(text: str) -> str:
    quoted = f"'{text}" if _looks_like_formula(text) else text
    return quoted.replace("\r\n", "\n").replace("\r", "\n")


def unquoted(text: str) -> str:
    """Return a text of a table as it was before it got an apostrophe.

    >>> unquoted("'-1.png"), unquoted("'a'.png")
    ('-1.png', "'a'.png")
    """
    return text[1:] if text.startswith("'") and _looks_like_formula(text) else text


def _looks_like_formula(text: str) -> bool:
    """Return whether a text is one, or would read back as another if it got no apostrophe."""
    return text.lstrip("'").startswith(FORMULA_STARTS)
