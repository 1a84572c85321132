"""The sample sheet, and sums by sample and by subject."""

import csv
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from napari_all_detect import table
from napari_all_detect.errors import InputError
from napari_all_detect.interval import fraction_interval

__all__ = ["SAMPLE_COLUMNS", "SUBJECT_COLUMNS", "read_sample_sheet", "sum_samples", "sum_subjects"]

SAMPLE_COLUMNS = (
    table.Column("sample", "str", "", "Sample, as the sheet names it"),
    table.Column("subject", "str", "", "Subject that the sample is from; empty if the sheet does not say"),
    table.Column("images", "int64", "", "Planes scored"),
    *(column for column in table.IMAGE_COLUMNS if column.name in ("cells", "all", "hem", "uncertain")),
    table.Column("fraction_all", "float32", "", "Cells called ALL among those called ALL or Hem"),
    table.Column("fraction_all_low", "float32", "", "Lower end of its 95 % interval over images; empty with one image"),
    table.Column("fraction_all_high", "float32", "", "Upper end; empty likewise"),
    table.Column("mean_p_all", "float32", "", "Mean of p_all over the cells"),
)
SUBJECT_COLUMNS = (
    table.Column("subject", "str", "", "Subject, as the sheet names it"),
    table.Column("samples", "int64", "", "Samples of the subject with planes that were scored"),
    *SAMPLE_COLUMNS[2:],
)


def read_sample_sheet(path: Path) -> pd.DataFrame:
    """Read a CSV with the columns image, sample and, optionally, subject.

    Raises
    ------
    InputError
        If the file can't be read, a column is missing, a row has too many fields, or an image is listed twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, str(error)) from error
    if not columns:
        raise _unreadable(path, "it is empty")
    missing = {"image", "sample"} - set(columns)
    if missing:
        raise InputError(
            f"{path}: no column {' or '.join(sorted(missing))}; it has {', '.join(columns)}; "
            "expected image, sample and, if known, subject"
        )
    for number, row in enumerate(rows, start=2):
        # Commas at the end of a row are the spreadsheet's; a further field is somebody's mistake.
        if any(row.pop(None, ())):
            raise _unreadable(path, f"row {number} has more fields than the header")
    sheet = pd.DataFrame(rows, columns=columns)
    twice = sheet["image"][sheet["image"].duplicated()]
    if len(twice):
        raise InputError(f"{path}: {twice.iloc[0]} is listed twice; expected each image once")
    return sheet if "subject" in sheet else sheet.assign(subject="")


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: no sample sheet that can be read ({reason}); expected a CSV: image,sample,subject")


def sum_samples(images: pd.DataFrame, sheet: pd.DataFrame) -> pd.DataFrame:
    """Sum the rows of `images.csv` by sample; images that the sheet does not list are left out.

    A line of the sheet stands for an image, or for all below a folder, plate or well: `plate.zarr/A/1`.

    Parameters
    ----------
    images : DataFrame
        The table of `images.csv`.
    sheet : DataFrame
        From `read_sample_sheet`; its samples keep their order.
    """
    return _summed(images, sheet, ["sample", "subject"], SAMPLE_COLUMNS)


def sum_subjects(images: pd.DataFrame, sheet: pd.DataFrame) -> pd.DataFrame:
    """Sum the rows of `images.csv` by subject, over all its samples; images of no known subject are left out."""
    return _summed(images, sheet[sheet["subject"] != ""], ["subject"], SUBJECT_COLUMNS)


def _summed(
    images: pd.DataFrame, sheet: pd.DataFrame, keys: list[str], columns: Sequence[table.Column]
) -> pd.DataFrame:
    """Sum images by what the sheet says of them."""
    listed = frozenset(sheet["image"])
    lines: list[Any] = [_line(image, listed) for image in images["image"]]
    images = images.rename(columns={"image": "file"}).assign(image=lines)
    joined = sheet[["image", "sample", "subject"]].merge(images, on="image", how="inner")
    joined["sum_p_all"] = joined["mean_p_all"].fillna(0).astype("float64") * joined["cells"]
    rows = []
    for named, group in joined.groupby(keys, sort=False):
        counts = {name: int(group[name].sum()) for name in ("cells", "all", "hem", "uncertain")}
        called = counts["all"] + counts["hem"]
        of_files = group.groupby("file", sort=False)[["all", "hem"]].sum()  # planes of one image are no two images
        low, high = fraction_interval(of_files["all"], of_files["all"] + of_files["hem"]) or (None, None)
        values = {
            **dict(zip(keys, named, strict=True)),
            "samples": group["sample"].nunique(),
            "images": len(group),
            **counts,
            "fraction_all": counts["all"] / called if called else None,
            "fraction_all_low": low,
            "fraction_all_high": high,
            "mean_p_all": group["sum_p_all"].sum() / counts["cells"] if counts["cells"] else None,
        }
        rows.append(table.typed(columns, values, 1))
    return pd.concat(rows, ignore_index=True) if rows else table.typed(columns, {}, 0)


def _line(image: str, listed: frozenset[str]) -> str | None:
    """Return the line of the sheet that stands for an image: the image itself, else the nearest folder."""
    path = PurePosixPath(image)
    return next((str(place) for place in (path, *path.parents) if str(place) in listed), None)
