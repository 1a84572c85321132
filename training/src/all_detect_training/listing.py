"""Which images a training set is made of, their class, and whose they are."""

import csv
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO
from unicodedata import normalize

from all_detect_training.splits import SPLITS
from napari_all_detect.errors import InputError
from napari_all_detect.sources import find_images
from napari_all_detect.sources.zarr_store import looks_like_zarr

__all__ = ["Kind", "LabelledImage", "list_folders", "read_manifest", "some"]

log = logging.getLogger(__name__)

Kind = Literal["smears", "cells"]
"""Of images: each shows many cells, or one."""

COLUMNS = ("path", "class", "subject", "split")
NEEDED = {"path", "class", "subject"}

FORMATS = "PNG, JPEG, BMP, TIFF or zarr"
NO_IMAGES = frozenset(
    {".csv", ".tsv", ".txt", ".md", ".json", ".xml", ".html", ".pdf", ".xls", ".xlsx", ".db", ".ini", ".tif", ".tiff"}
)
"""Suffixes of what lies beside images; a TIFF that is not listed is a label image, which is left out on purpose."""


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


def list_folders(folder: Path, classes: Mapping[str, str]) -> list[LabelledImage]:
    """List the images of a folder that holds one sub-folder per class; whose they are is unknown.

    Files of formats that are not read are logged.

    Raises
    ------
    InputError
        If a sub-folder is missing or empty, or a class is none.
    """
    wrong = sorted(set(classes.values()) - {"ALL", "Hem"})
    if wrong:
        raise InputError(f"classes map to {', '.join(wrong)}; expected ALL or Hem")
    images = list(_images(folder, classes))
    listed = {image.path for image in images}
    others = [str(path.relative_to(folder)) for sub in classes for path in _others(folder / sub, listed)]
    if others:
        log.warning("left out: %d files that are no %s: %s", len(others), FORMATS, some(others))
    return images


def _images(folder: Path, classes: Mapping[str, str]) -> Iterator[LabelledImage]:
    for sub, name in classes.items():
        if not (folder / sub).is_dir():
            raise InputError(f"{folder}: no sub-folder {sub!r}; expected one for each of: {', '.join(classes)}")
        files = find_images([folder / sub])
        # Of a folder without an image the folder itself comes back.
        if [file.path for file in files] == [folder / sub]:
            raise InputError(f"{folder / sub}: no image; put {FORMATS} there, or leave {sub!r} out of --classes")
        for file in files:
            yield LabelledImage(file.path, f"{sub}/{file.image}", name == "ALL")


def _others(folder: Path, listed: Set[Path]) -> Iterator[Path]:
    """Yield the files in a folder and below it that are not listed but may be images of other formats.

    Not what is hidden, inside a zarr store, or put there by macOS and Synology (`__MACOSX`, `@eaDir`).
    """
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if entry in listed or entry.name.startswith((".", "__", "@")):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from () if looks_like_zarr(entry) else _others(entry, listed)
        elif entry.is_file() and entry.suffix.lower() not in NO_IMAGES:
            yield entry


def read_manifest(path: Path) -> list[LabelledImage]:
    """Read a CSV with the columns path, class (ALL or Hem), subject and, if the sides are given, split.

    Parameters
    ----------
    path : Path
        UTF-8, separated by commas, semicolons or tabs. Paths in it are relative to its folder, and may be written with
        backslashes. Headings may be in any case; empty rows are skipped. Where patients are unknown, all subjects are
        empty.

    Returns
    -------
    images : list of LabelledImage
        In the order of the rows.

    Raises
    ------
    InputError
        If a column or a value is missing or unknown, some subjects are empty, a column is there twice, a quote is not
        closed, a file is missing, two rows name one file, or a subject is spelt in two ways.
    """
    (_, head), *rows = _rows_of(path) or [(1, [])]
    columns = _headings(head)
    if not NEEDED.issubset(columns):
        found = ", ".join(columns) or "none"
        raise InputError(f"{path}: columns {found}; expected path, class, subject, separated by commas")
    for name in COLUMNS:
        if columns.count(name) > 1:
            raise InputError(f"{path}: {columns.count(name)} columns are called {name}; keep one, or rename the others")
    if not rows:
        raise InputError(f"{path}: no row below the header; expected one for each image")
    images = {
        line: _image_of(dict(zip(columns, row, strict=False)), f"{path}, line {line}", path.parent)
        for line, row in rows
    }
    nameless = [line for line, image in images.items() if not image.subject]
    if 0 < len(nameless) < len(images):
        raise InputError(
            f"{path}, line {nameless[0]}: no subject; expected whose each image is, or nothing in the whole column if "
            "patients are unknown"
        )
    missing = [str(image.path) for image in images.values() if not _is_file(image.path)]
    if missing:
        raise InputError(f"{path}: {len(missing)} of {len(images)} files are missing: {some(missing)}")
    twice = _named_twice(images)
    if twice:
        raise InputError(f"{path}: one file in several rows: {some(twice)}; name each file once, with its one class")
    respelt = _spelt_twice(image.subject for image in images.values())
    if respelt:
        raise InputError(
            f"{path}: subjects {some(respelt)} differ in case, zeros, separators or Unicode form only; write one "
            "patient one way, or give them different names"
        )
    return list(images.values())


def _rows_of(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV that are not wholly empty, each with the line on which it begins."""
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for row in reader:
                if any(value.strip() for value in row):
                    rows.append((line, row))
                line = reader.line_num + 1
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 ({error}); save it as CSV UTF-8") from error
    except csv.Error as error:
        raise InputError(
            f"{path}, line {line}: {error}; see whether a quote was not closed, or text follows one"
        ) from error
    return rows


def _delimiter(file: TextIO) -> str:
    """Return what separates the columns: that by which the first line has those that are needed."""
    for delimiter in ",;\t":
        file.seek(0)
        with suppress(csv.Error):
            if NEEDED.issubset(_headings(next(csv.reader(file, delimiter=delimiter, strict=True), []))):
                return delimiter
    return ","


def _headings(row: Sequence[str]) -> list[str]:
    """Return headings in small letters, but for those of which there is one in small letters already."""
    names = [name.strip() for name in row]
    return [name if name.casefold() in names else name.casefold() for name in names]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a character that none can
        return False


def _image_of(row: Mapping[str, str], place: str, folder: Path) -> LabelledImage:
    values = {key: row.get(key, "").strip() for key in COLUMNS}
    if not values["path"]:
        raise InputError(f"{place}: no path")
    for key in COLUMNS[1:]:
        if len(values[key].splitlines()) > 1:
            raise InputError(f"{place}: a line break in its {key}; a quote was not closed")
    if values["class"] not in ("ALL", "Hem"):
        raise InputError(f"{place}: class is {values['class']!r}; expected ALL or Hem")
    if values["split"] not in ("", *SPLITS):
        raise InputError(f"{place}: split is {values['split']!r}; expected {', '.join(SPLITS)}")
    name = f"{values['class']}/{values['path']}"
    path = folder / values["path"]
    if not _is_file(path):
        path = folder / values["path"].replace("\\", "/")  # as Windows writes it
    return LabelledImage(path, name, values["class"] == "ALL", values["subject"], values["split"])


def _named_twice(images: Mapping[int, LabelledImage]) -> list[str]:
    """Return the rows that name one file, under whatever path or class."""
    rows: dict[Path, list[str]] = {}
    for line, image in images.items():
        rows.setdefault(image.path.resolve(), []).append(f"line {line} ({image.image})")
    return [" = ".join(same) for same in rows.values() if len(same) > 1]


def _spelt_twice(subjects: Iterable[str]) -> list[str]:
    """Return the subjects that are probably one, in all their spellings: `a3 and A-03`, `1 and 01 and 1.0`."""
    spellings: dict[str, list[str]] = {}
    for subject in dict.fromkeys(subjects):
        spellings.setdefault(_plainest(subject), []).append(subject)
    return [" and ".join(same) for same in spellings.values() if len(same) > 1]


def _plainest(subject: str) -> str:
    """Return a subject without what spellings of one differ in: `P 01` and `p_1` are `p1`, `1.10` is not `11.0`."""
    text = normalize("NFKC", subject).casefold()
    whole = re.fullmatch(r"(\d+)\.0*", text)
    text = re.sub(r"[\s_.-]+", "-", whole[1] if whole else text)
    apart = re.sub(r"(?<!\d)-|-(?!\d)", "", text)
    return re.sub(r"(?<!\d)0+(?=\d)", "", apart) or subject


def some(names: Sequence[str]) -> str:
    """Join the first five names, and say how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
