"""Which images a training set is made of, their class, and whose they are."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_all_detect.errors import InputError

__all__ = ["LabelledImage", "read_manifest", "some"]

SIDES = ("train", "validation", "test")


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
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: can't be read as a UTF-8 CSV ({error})") from error
    columns = set(rows[0]) if rows else set()
    if not {"path", "class", "subject"} <= columns:
        raise InputError(f"{path}: columns {', '.join(map(str, columns)) or 'none'}; expected path, class, subject")
    images = [_image_of(row, f"{path}, line {i}", path.parent) for i, row in enumerate(rows, start=2)]
    twice = _named_twice(images)
    if twice:
        raise InputError(f"{path}: one file in several rows: {some(twice)}; name each file once, with its one class")
    missing = [str(image.path) for image in images if not image.path.is_file()]
    if missing:
        raise InputError(f"{path}: {len(missing)} of {len(images)} files are missing: {some(missing)}")
    return images


def _image_of(row: dict[str, str | None], place: str, folder: Path) -> LabelledImage:
    values = {key: (row.get(key) or "").strip() for key in ("path", "class", "subject", "split")}
    if not values["path"]:
        raise InputError(f"{place}: no path")
    if values["class"] not in ("ALL", "Hem"):
        raise InputError(f"{place}: class is {values['class']!r}; expected ALL or Hem")
    if not values["subject"]:
        raise InputError(f"{place}: no subject; expected the patient's number, or the image's name if it is unknown")
    if values["split"] not in ("", *SIDES):
        raise InputError(f"{place}: split is {values['split']!r}; expected {', '.join(SIDES)}")
    name = f"{values['class']}/{values['path']}"
    return LabelledImage(folder / values["path"], name, values["class"] == "ALL", values["subject"], values["split"])


def _named_twice(images: Sequence[LabelledImage]) -> list[str]:
    """Return the rows that name one file, under whatever path or class."""
    rows: dict[Path, list[str]] = {}
    for line, image in enumerate(images, start=2):
        rows.setdefault(image.path.resolve(), []).append(f"line {line} ({image.image})")
    return [" = ".join(same) for same in rows.values() if len(same) > 1]


def some(names: Sequence[str], n: int = 5) -> str:
    """Join the first names, and say how many more there are."""
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")
