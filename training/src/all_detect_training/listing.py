"""Which images a training set is made of, their class, and whose they are."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from all_detect_training.splits import SPLITS
from napari_all_detect.errors import InputError

__all__ = ["LabelledImage", "read_manifest", "some"]

Row = dict[str, str | None]


@dataclass(frozen=True)
class LabelledImage:
    """An image, its class and its origin.

    Attributes
    ----------
    path : Path
    image : str
        Its name in the run folder: `<class folder>/<file>`.
    is_all : bool
    subject : str
        Whose it is; empty if unknown.
    group : str
        The part of the data set that it comes in: a fold, or a side given; empty if there are none.
    """

    path: Path
    image: str
    is_all: bool
    subject: str = ""
    group: str = ""


def read_manifest(path: Path) -> list[LabelledImage]:
    """Read a CSV with the columns path, class (ALL or Hem), subject and, if the sides are given, split.

    Parameters
    ----------
    path : Path
        UTF-8 CSV. Paths in it are relative to its folder.

    Returns
    -------
    images : list of LabelledImage
        In the order of the rows.

    Raises
    ------
    InputError
        If a column or a value is missing or unknown, a file is missing, or two rows name one file.
    """
    rows, columns = _rows_of(path)
    if not {"path", "class", "subject"} <= set(columns):
        raise InputError(f"{path}: columns {', '.join(columns) or 'none'}; expected path, class, subject")
    if not rows:
        raise InputError(f"{path}: no row below the header; expected one for each image")
    images = {line: _image_of(row, f"{path}, line {line}", path.parent) for line, row in rows}
    missing = [str(image.path) for image in images.values() if not _is_file(image.path)]
    if missing:
        raise InputError(f"{path}: {len(missing)} of {len(images)} files are missing: {some(missing)}")
    twice = _named_twice(images)
    if twice:
        raise InputError(f"{path}: one file in several rows: {some(twice)}; name each file once, with its one class")
    return list(images.values())


def _rows_of(path: Path) -> tuple[list[tuple[int, Row]], list[str]]:
    """Return the rows of a CSV, each with the line on which it ends, and its columns."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            return [(reader.line_num, row) for row in reader], list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: can't be read as a UTF-8 CSV ({error})") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a character that none can
        return False


def _image_of(row: Row, place: str, folder: Path) -> LabelledImage:
    values = {key: (row.get(key) or "").strip() for key in ("path", "class", "subject", "split")}
    if not values["path"]:
        raise InputError(f"{place}: no path")
    if values["class"] not in ("ALL", "Hem"):
        raise InputError(f"{place}: class is {values['class']!r}; expected ALL or Hem")
    if not values["subject"]:
        raise InputError(f"{place}: no subject; expected the patient's number, or the image's name if it is unknown")
    if values["split"] not in ("", *SPLITS):
        raise InputError(f"{place}: split is {values['split']!r}; expected {', '.join(SPLITS)}")
    name = f"{values['class']}/{values['path']}"
    return LabelledImage(folder / values["path"], name, values["class"] == "ALL", values["subject"], values["split"])


def _named_twice(images: Mapping[int, LabelledImage]) -> list[str]:
    """Return the rows that name one file, under whatever path or class."""
    rows: dict[Path, list[str]] = {}
    for line, image in images.items():
        rows.setdefault(image.path.resolve(), []).append(f"line {line} ({image.image})")
    return [" = ".join(same) for same in rows.values() if len(same) > 1]


def some(names: Sequence[str], n: int = 5) -> str:
    """Join the first names, and say how many more there are."""
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")
