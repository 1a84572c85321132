"""The sample sheet, and sums by sample and by subject."""

import csv
import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

import pandas as pd

from napari_all_detect import table
from napari_all_detect.errors import InputError
from napari_all_detect.export.csv import unquoted
from napari_all_detect.interval import fraction_interval
from napari_all_detect.sources.places import without_login

__all__ = [
    "SAMPLE_COLUMNS",
    "SUBJECT_COLUMNS",
    "Coverage",
    "coverage",
    "line_name",
    "place_name",
    "read_sample_sheet",
    "sum_samples",
    "sum_subjects",
]

IDLE_SHOWN = 5

SAMPLE_COLUMNS = (
    table.Column("sample", "str", "", "Sample, as the sheet names it"),
    table.Column("subject", "str", "", "Subject that the sample is from; empty if the sheet does not say"),
    table.Column("images", "int64", "", "Planes scored"),
    table.Column("cells", "int64", "", "Cells of all planes: those that several planes of a stack show count in each"),
    *(column for column in table.IMAGE_COLUMNS if column.name in ("all", "hem", "uncertain", "out_of_domain")),
    table.Column("fraction_all", "float32", "", "Cells called ALL among those called ALL or Hem"),
    table.Column(
        "fraction_all_low",
        "float32",
        "",
        "Lower end of its 95 % interval, over files; empty unless two have calls",
    ),
    table.Column("fraction_all_high", "float32", "", "Upper end; empty likewise"),
    table.Column("mean_p_all", "float32", "", "Mean of p_all over the cells"),
)
SUBJECT_COLUMNS = (
    table.Column("subject", "str", "", "Subject, as the sheet names it"),
    table.Column("samples", "int64", "", "Samples of the subject with planes that were scored"),
    *SAMPLE_COLUMNS[2:],
)


def read_sample_sheet(path: Path) -> pd.DataFrame:
    """Read a CSV, by commas, semicolons or tabs, with the columns image, sample and, optionally, subject.

    Returns
    -------
    sheet : DataFrame
        Its images as `place_name` spells them; subjects are empty where the sheet names none.

    Raises
    ------
    InputError
        If the file can't be read, a column is missing or there twice, a row has too many fields, no image or no
        sample, an image is listed twice, or only some lines of a sample name its subject.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file)
            reader = csv.DictReader(file, restval="", delimiter=delimiter)
            reader.fieldnames = columns = [name.strip() for name in reader.fieldnames or ()]
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise _unreadable(path, "its letters are not coded as UTF-8: save it as 'CSV UTF-8'") from error
    except (OSError, csv.Error) as error:
        raise _unreadable(path, str(error)) from error
    if not columns:
        raise _unreadable(path, "it is empty")
    missing = {"image", "sample"} - set(columns)
    if missing:
        raise InputError(
            f"{path}: no column {' or '.join(sorted(missing))}; it has {', '.join(columns)}; "
            "expected image, sample and, if known, subject"
        )
    twice = [name for name in ("image", "sample", "subject") if columns.count(name) > 1]
    if twice:
        raise InputError(
            f"{path}: several columns {twice[0]}; it has {', '.join(columns)}; expected one of each name: rename or "
            "delete the others"
        )
    sheet = pd.DataFrame(_checked(path, rows), columns=columns)
    if "subject" not in sheet:
        return sheet.assign(subject="")
    _check_subjects(path, sheet)
    return sheet


def _delimiter(file: TextIO) -> str:
    """Return what parts the columns, by the names it makes of them: tables write, by the country, semicolons."""

    def known(delimiter: str) -> int:
        file.seek(0)
        names = next(csv.reader(file, delimiter=delimiter), [])
        return len({"image", "sample"} & {name.strip() for name in names})

    delimiter = max(",;\t", key=known)
    file.seek(0)
    return delimiter


def place_name(name: str) -> str:
    r"""Return the one spelling of what names an image or a folder, in a sheet or in the tables.

    >>> [place_name(name) for name in ("./day1/", "day1\\a.png", "http://host/day1/")]
    ['day1', 'day1/a.png', 'http://host/day1']
    """
    scheme, path, query = _split(name)
    return f"{scheme}{path}{query}"


def line_name(place: str) -> str:
    """Return what the tables call the image of a line: without a password, and with a digest for a query.

    >>> line_name("day1/a.png"), line_name("https://joe:secret@host/a.png?signature=secret")
    ('day1/a.png', 'https://host/a.png?b2cfc486')
    """
    scheme, path, query = _split(without_login(place))
    return f"{scheme}{path}?{hashlib.sha256(query.encode()).hexdigest()[:8]}" if query else f"{scheme}{path}"


@dataclass(frozen=True)
class Coverage:
    """What a sheet and the images of a run know of each other.

    Attributes
    ----------
    idle : tuple of str
        Lines that stand for no image.
    n_unlisted : int
        Images for which no line stands.
    is_empty : bool
        Whether no line stands for any image.
    """

    idle: tuple[str, ...]
    n_unlisted: int
    is_empty: bool

    def in_words(self) -> str:
        """Say what does not match; empty if all does.

        >>> Coverage(("typo.png",), 2, False).in_words()
        'sample sheet: lines that name no image of this run: 1 (typo.png); images on no line: 2'
        """
        said = []
        if self.idle:
            more = ", ..." if len(self.idle) > IDLE_SHOWN else ""
            shown = ", ".join(self.idle[:IDLE_SHOWN])
            said.append(f"lines that name no image of this run: {len(self.idle)} ({shown}{more})")
        if self.n_unlisted:
            said.append(f"images on no line: {self.n_unlisted}")
        return f"sample sheet: {'; '.join(said)}" if said else ""


def coverage(sheet: pd.DataFrame, images: Iterable[str]) -> Coverage:
    """Compare a sheet, from `read_sample_sheet`, with the names of images, as the column image has them."""
    names = {_composed(line_name(place)): place for place in sheet["image"]}
    listed = frozenset(names)
    lines = [_line(image, listed) for image in dict.fromkeys(images)]
    there = frozenset(lines)
    idle = tuple(line_name(place) for name, place in names.items() if name not in there)
    return Coverage(idle, lines.count(None), len(idle) == len(names))


def _composed(name: str) -> str:
    """Return a name as names are compared: file names from macOS may have two characters where a sheet has one `ä`."""
    return unicodedata.normalize("NFC", name)


def _split(name: str) -> tuple[str, PurePosixPath, str]:
    """Return the scheme of a URL, such as `http://`, of which a path would make `http:/`; the path; and the query."""
    query = name[name.find("?") :] if name.startswith(("http://", "https://")) and "?" in name else ""
    scheme, mark, path = name.removesuffix(query).replace("\\", "/").rpartition("://")
    return scheme + mark, PurePosixPath(path), query


def _checked(path: Path, rows: Iterable[tuple[int, dict[Any, Any]]]) -> Iterator[dict[Any, Any]]:
    """Yield the rows that say something, their images spelled alike; numbers are those of the lines in the file."""
    lines: dict[str, int] = {}
    for number, row in rows:
        # Commas at the end of a row, and rows of nothing else, are the spreadsheet's; a further field is a mistake.
        if any(row.pop(None, ())):
            raise _unreadable(path, f"line {number} has more fields than the header")
        if not any(value.strip() for value in row.values()):
            continue
        # As the tables of a run may have it.
        row = {name: unquoted(value.strip()) for name, value in row.items()}
        for name, expected in (("image", "a file or folder"), ("sample", "what its image is a sample of")):
            if not row[name]:
                raise InputError(f"{path}: line {number} has no {name}; expected {expected}: name it, or delete it")
        image = place_name(row["image"])
        first = lines.setdefault(_composed(image), number)
        if first != number:
            raise InputError(
                f"{path}: {image} is listed twice, in lines {first} and {number}; expected each image once: delete one "
                "of the lines"
            )
        yield row | {"image": image}


def _check_subjects(path: Path, sheet: pd.DataFrame) -> None:
    """Refuse samples of which some lines name a subject and others none: nobody knows whose those are.

    A name may be one of several subjects' samples, as `before` and `after` are.
    """
    unknown = set(sheet.loc[sheet["subject"] == "", "sample"])
    known = sheet[(sheet["subject"] != "") & sheet["sample"].isin(unknown)]
    if len(known):
        sample, subject = known.iloc[0][["sample", "subject"]]
        raise InputError(
            f"{path}: the sample {sample} is of subject {subject} in some lines and of none in others; expected "
            "the subject in each line of a sample, or in none: fill it in"
        )


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: no sample sheet that can be read ({reason}); expected a CSV: image,sample,subject")


def sum_samples(images: pd.DataFrame, sheet: pd.DataFrame) -> pd.DataFrame:
    """Sum the rows of `images.csv` by sample; images that the sheet does not list are left out.

    A line of the sheet stands for an image, or for all below a folder, plate, row or well: `plate.zarr/A/1`.

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
    if images.empty or sheet.empty:  # columns without a value have types that don't merge
        return table.typed(columns, {}, 0)
    sheet = sheet.assign(image=[_composed(line_name(place)) for place in sheet["image"]])
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
            "out_of_domain": group["out_of_domain"].sum(skipna=False),
            "fraction_all": counts["all"] / called if called else None,
            "fraction_all_low": low,
            "fraction_all_high": high,
            "mean_p_all": group["sum_p_all"].sum() / counts["cells"] if counts["cells"] else None,
        }
        rows.append(table.typed(columns, values, 1))
    return pd.concat(rows, ignore_index=True) if rows else table.typed(columns, {}, 0)


def _line(image: str, listed: frozenset[str]) -> str | None:
    """Return the line of the sheet that stands for an image: the image itself, else the nearest folder."""
    scheme, path, query = _split(_composed(image))
    places = (f"{scheme}{path}{query}", *(f"{scheme}{place}" for place in path.parents))
    return next((place for place in places if place in listed), None)
