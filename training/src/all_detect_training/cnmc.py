"""C-NMC 2019 as published: its folders, its names, and what should be there.

Gupta and Gupta, "C_NMC_2019 dataset: ALL challenge dataset of ISBI 2019", The Cancer Imaging Archive, 2019.
"""

import csv
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from all_detect_training.listing import LabelledImage
from all_detect_training.telling import Telling
from napari_all_detect.errors import InputError

__all__ = [
    "PRELIMINARY",
    "PUBLISHED",
    "CnmcCheck",
    "check_cnmc",
    "describe",
    "list_cnmc",
    "refuse_empty_folds",
    "subject_of",
]

log = logging.getLogger(__name__)

FOLDS = ("fold_0", "fold_1", "fold_2")
PRELIMINARY = "preliminary"
PUBLISHED = {
    ("fold_0", "ALL"): 2397,
    ("fold_0", "Hem"): 1130,
    ("fold_1", "ALL"): 2418,
    ("fold_1", "Hem"): 1163,
    ("fold_2", "ALL"): 2457,
    ("fold_2", "Hem"): 1096,
    (PRELIMINARY, "ALL"): 1219,
    (PRELIMINARY, "Hem"): 648,
}
"""Images of each part and class."""

FINAL = "testing_data/C-NMC_test_final_phase_data"
PUBLISHED_FINAL = 2586
"""Images of the final test set, named 1.bmp to 2586.bmp, whose labels were never published."""

NAMED = 50
"""Faults of one kind that are named."""

NAME = re.compile(r"UID_([A-Za-z0-9]+)_(\d+)_(\d+)_(all|hem)\.(?i:bmp)")
LABEL = re.compile(r"([01])(\.0*)?")
"""A table that was saved again by other software has 1.0 for 1."""

LABELS = "validation_data/C-NMC_test_prelim_phase_data_labels.csv"
IMAGES = "validation_data/C-NMC_test_prelim_phase_data"


@dataclass(frozen=True)
class CnmcCheck:
    """What a folder holds beside what was published.

    Attributes
    ----------
    images : list of LabelledImage
        Those that are there and can be read.
    counts : dict
        (part, class) to the number of images there.
    final : int
        Images of the final test set that are there and can be read. Nobody outside has their labels: no training or
        testing needs them.
    faults : list of str
        A line for each of the first files that are damaged or strangely named, or that a table names and that are
        missing, and for each part that is not whole.
    """

    images: list[LabelledImage]
    counts: dict[tuple[str, str], int]
    faults: list[str]
    final: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every published image is there."""
        return not self.faults and self.counts == PUBLISHED and self.final == PUBLISHED_FINAL

    @property
    def can_train(self) -> bool:
        """Whether every labelled image is there and sound."""
        return self.counts == PUBLISHED


def subject_of(name: str) -> tuple[str, bool]:
    """Return the subject of an image's published name, and whether the cell is ALL.

    >>> subject_of("UID_h3_4_1_hem.bmp")
    ('H3', False)

    Raises
    ------
    InputError
        If it is no such name.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise InputError(f"{name}: no name of C-NMC 2019; expected UID_<subject>_<image>_<cell>_<all or hem>.bmp")
    # The prefix of normal subjects comes in both cases.
    return match[1].upper(), match[4] == "all"


def list_cnmc(folder: Path) -> list[LabelledImage]:
    """List the labelled images: the training folds and the preliminary set.

    Parameters
    ----------
    folder : Path
        Holds `training_data` and `validation_data`, or `C-NMC_Leukemia`, which does.

    Returns
    -------
    images : list of LabelledImage
        Named `all/<published name>` or `hem/<published name>`; `group` is the fold, or `preliminary`. Where there are
        fewer than were published, a line of the log says so.

    Raises
    ------
    InputError
        If the folder is not laid out as published, or a file is not named as published.
    """
    there = [image for image in _all_named(folder) if image.path.is_file()]
    counts = _counts(there)
    fewer = [
        f"{part} {counts[part, name]} of {n} {name}" for (part, name), n in PUBLISHED.items() if counts[part, name] < n
    ]
    if fewer:
        said = "%s: fewer images than were published: %s; see what is missing: all-detect-train check %s"
        log.warning(said, folder, ", ".join(fewer), folder)
    return there


def refuse_empty_folds(images: Sequence[LabelledImage], folder: Path) -> None:
    """Raise InputError if a training fold has no image: a split by folds would be another than it says."""
    there = {image.group for image in images}
    empty = [fold for fold in FOLDS if fold not in there]
    if empty:
        raise InputError(
            f"{folder}: no image in {', '.join(empty)}; expected all three folds in training_data, as published; see "
            f"what is missing: all-detect-train check {folder}"
        )


def check_cnmc(folder: Path) -> CnmcCheck:
    """Compare a folder with what was published, and open every image.

    Raises
    ------
    InputError
        If the folder is not laid out as published.
    """
    strange: list[str] = []
    found = _all_named(folder, strange)
    there = [image for image in found if image.path.is_file()]
    missing = [f"missing: {image.path}" for image in found if not image.path.is_file()]
    fault_of = _faults_of([image.path for image in there], "checking labelled images")
    whole = [image for image in there if image.path not in fault_of]
    counts = _counts(whole)
    fewer = [
        f"{part}, {name}: {counts[part, name]} images; {n} were published"
        for (part, name), n in PUBLISHED.items()
        if counts[part, name] != n
    ]
    final, faults_of_final = _check_final(_root(folder) / FINAL)
    faults = [*_first(strange), *_first(missing), *_first(list(fault_of.values())), *fewer, *faults_of_final]
    return CnmcCheck(whole, counts, faults, final)


def _counts(images: Sequence[LabelledImage]) -> dict[tuple[str, str], int]:
    """Count the images of each part and class."""
    counts = Counter((image.group, "ALL" if image.is_all else "Hem") for image in images)
    return {key: counts[key] for key in PUBLISHED}


def _check_final(folder: Path) -> tuple[int, list[str]]:
    """Count the sound images of the final test set, and name the others; of a set that is not there at all one line."""
    paths = [folder / f"{number}.bmp" for number in range(1, PUBLISHED_FINAL + 1)]
    there = [path for path in paths if path.is_file()]
    missing = [f"missing: {path}" for path in paths if there and not path.is_file()]
    damaged = list(_faults_of(there, "checking final images").values())
    sound = len(there) - len(damaged)
    counted = [] if sound == PUBLISHED_FINAL else [f"final: {sound} images; {PUBLISHED_FINAL} were published"]
    return sound, [*_first(missing), *_first(damaged), *counted]


def _first(faults: Sequence[str]) -> list[str]:
    """Return the first of faults of one kind, and how many more there are, so that all kinds are seen."""
    more = [f"and {len(faults) - NAMED} more like these"] if len(faults) > NAMED else []
    return [*faults[:NAMED], *more]


def _faults_of(paths: Sequence[Path], what: str) -> dict[Path, str]:
    """Open images, and return what is wrong with those with which something is."""
    telling, faults = Telling(log, what, len(paths)), {}
    for done, path in enumerate(paths, 1):
        fault = _fault_of(path)
        if fault:
            faults[path] = fault
        telling.reach(done)
    return faults


def _all_named(folder: Path, faults: list[str] | None = None) -> list[LabelledImage]:
    """Name the labelled images; what can't be named is added to the faults or, without a list of them, refused."""
    root = _root(folder)
    return [*_training(root, faults), *_preliminary(root, faults)]


@contextmanager
def _collected(faults: list[str] | None) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        if faults is None:
            raise
        faults.append(str(error))


def _root(folder: Path) -> Path:
    for root in (folder, folder / "C-NMC_Leukemia"):
        if (root / "training_data").is_dir():
            return root
    raise InputError(f"{folder}: no training_data; expected the folder C-NMC_Leukemia as published")


def _training(root: Path, faults: list[str] | None) -> Iterator[LabelledImage]:
    for fold in FOLDS:
        for part in ("all", "hem"):
            paths: list[Path] = []
            with _collected(faults):
                folder = _in_any_case(_in_any_case(root / "training_data", fold), part)
                # Beside x.bmp, macOS keeps what it knows of it in ._x.bmp.
                paths = sorted(p for p in folder.glob("[!.]*") if p.suffix.lower() == ".bmp")
            for path in paths:
                with _collected(faults):
                    yield _of_training(path, part, fold)


def _in_any_case(folder: Path, name: str) -> Path:
    """Return the sub-folder that has this name in whatever case, or would have it."""
    found = sorted(path for path in folder.glob("*") if path.name.lower() == name)
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(f"{folder}: {names} differ in case only; expected one: put their images together")
    return found[0] if found else folder / name


def _of_training(path: Path, part: str, fold: str) -> LabelledImage:
    try:
        subject, is_all = subject_of(path.name)
    except InputError as error:
        raise InputError(f"{path.parent}: {error}") from error
    if is_all != (part == "all"):
        raise InputError(f"{path}: its name says otherwise than its folder; get the data again")
    return LabelledImage(path, f"{part}/{path.name}", is_all, subject, fold)


def _preliminary(root: Path, faults: list[str] | None) -> Iterator[LabelledImage]:
    """Join the preliminary images with their table of published names and labels."""
    table = root / LABELS
    if not table.is_file():
        lost = f"missing: {table}, without which the preliminary images have no class"
        if faults is None:
            log.warning(lost)
        else:
            faults.append(lost)
        return
    rows: list[tuple[str, str, str]] = []
    with _collected(faults):
        rows = _rows(table)
    for row in rows:
        with _collected(faults):
            yield _of_preliminary(root, *row)


def _rows(table: Path) -> list[tuple[str, str, str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            return [(row["Patient_ID"], row["new_names"], row["labels"]) for row in csv.DictReader(file)]
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: expected the columns Patient_ID, new_names, labels; get it again") from error


def _of_preliminary(root: Path, published: str, new: str, label: str) -> LabelledImage:
    table = root / LABELS
    try:
        subject, is_all = subject_of(published)
    except InputError as error:
        raise InputError(f"{table}: {error}") from error
    match = LABEL.fullmatch((label or "").strip())
    if match is None or is_all != (match[1] == "1"):
        raise InputError(f"{table}: {published} has label {label}; expected {int(is_all)} by its name; get it again")
    name = f"{'all' if is_all else 'hem'}/{published}"
    path = root / IMAGES / new
    in_capitals = path.with_suffix(path.suffix.upper())
    there = in_capitals if in_capitals.is_file() and not path.is_file() else path
    return LabelledImage(there, name, is_all, subject, PRELIMINARY)


def _fault_of(path: Path) -> str:
    """Say what is wrong with an image, if something is."""
    try:
        with Image.open(path) as image:
            image.load()
            return (
                "" if image.size == (450, 450) else f"{path}: {image.size[0]} x {image.size[1]} px; expected 450 x 450"
            )
    except (OSError, ValueError, SyntaxError) as error:
        return f"damaged: {path} ({' '.join(str(error).split())})"


def describe(check: CnmcCheck) -> Sequence[str]:
    """Return the lines that `all-detect-train check` prints."""
    lines = [f"{'part':<12} {'class':<6} {'there':>6} {'published':>10}  subjects"]
    for (part, name), n in PUBLISHED.items():
        own = {i.subject for i in check.images if i.group == part and i.is_all == (name == "ALL")}
        lines.append(f"{part:<12} {name:<6} {check.counts[part, name]:>6} {n:>10}  {len(own)}")
    lines.append(f"{'final':<12} {'':<6} {check.final:>6} {PUBLISHED_FINAL:>10}  unlabelled")
    trains = "; all that training and testing need is there" if check.can_train else ""
    return [*lines, *check.faults, "whole as published" if check.is_whole else f"not whole{trains}"]
