"""A run's cells on disk: their crops, the side of each, and whose each is."""

import csv
import errno
import io
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from all_detect_training.cells import Cells
from all_detect_training.out_folder import removed_if_empty, write_whole
from all_detect_training.plans import refuse_other, write_record
from all_detect_training.reading import read_cells
from all_detect_training.splits import SPLITS, refuse_shared_cells, split_contiguous
from all_detect_training.training_set import TrainingSet
from napari_all_detect.atomic import PART
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.results import LOCK, locked_folder

__all__ = ["locked_run", "open_cells", "split_of", "training_diameter_px"]

log = logging.getLogger(__name__)
NO_LOCK = (errno.EROFS, errno.EACCES, errno.ENOLCK, errno.EOPNOTSUPP)
"""What a disk answers that is read only, or knows no locks."""

IMAGES = "images.csv"
COLUMNS = ("image", "subject", "split")


@contextmanager
def locked_run(run: Path) -> Iterator[None]:
    """Keep other fits out of a run folder; folders that are new and stay empty are removed again.

    A folder that is there and can't be locked, as on a disk that is read only, is used all the same, and told.

    Raises
    ------
    OutputError
        If another fit writes into it now, or it can't be made. The lock of one that was killed is open.
    """
    with removed_if_empty(run), ExitStack() as stack:
        try:
            stack.enter_context(locked_folder(run))
        except OutputError as error:
            if not run.is_dir() or getattr(error.__cause__, "errno", None) not in NO_LOCK:
                raise
            log.warning("%s can't be locked: see that no other fit writes into it", run)
        yield


def open_cells(run: Path, given: TrainingSet, plan: Mapping[str, Any], workers: int) -> Cells:
    """Return the run folder's cells; read them from the images and begin the folder if there are none yet.

    Raises
    ------
    OutputError
        If the folder was made from something else, holds other things or can't be written.
    InputError
        If the images give no cells of both classes.
    """
    begun = (run / "run.json").exists()
    if begun:
        refuse_other(run, plan)
        if (run / "cells.npz").exists():
            log.info("%s: reading the crops of its cells", run)
            return Cells.load(run / "cells.npz")
    elif run.exists() and not _can_begin_in(run):
        raise OutputError(f"{run} holds something, but no run.json of an earlier fit; name a new or an empty folder")
    log.info("reading cells of %s", given.source)
    cells = read_cells(
        given.images,
        given.source,
        kind=given.kind,
        crop_size=plan["params"]["crop_size"],
        mask_corner_px=plan["data"]["mask_corner_px"],
        workers=workers,
        training_px=lambda cells: training_diameter_px(cells, _split(given, plan, cells)),
    )
    split = _split(given, plan, cells)
    log.info("%s: comparing and saving %d cells", run, len(cells))
    refuse_shared_cells(split, cells.image, cells.crops, cells.is_all)
    table = _images_table(given)
    try:
        run.mkdir(parents=True, exist_ok=True)
        # First: with it alone a folder is begun, and all else is written again.
        if not begun:
            write_record(run, plan, cells, split)
        if table is not None:
            write_whole(run / IMAGES, table)
        # Last: it says that the others are there.
        cells.save(run / "cells.npz")
    except OSError as error:
        raise OutputError(
            f"{run}: can't be written ({error.strerror or error}); make room, then go on with the same "
            "`all-detect-train fit`"
        ) from error
    return cells


def training_diameter_px(cells: Cells, split: NDArray[np.str_]) -> float:
    """Return the median diameter of the cells that train, to a tenth of a pixel: what a bundle brings cells to."""
    return round(float(np.median(cells.diameter_px[split == "train"])), 1)


def _can_begin_in(run: Path) -> bool:
    """Return whether a folder is empty, or holds but what a fit that was killed early leaves."""
    return run.is_dir() and {path.name for path in run.iterdir()} <= {f"run.json{PART}", LOCK}


def _split(given: TrainingSet, plan: Mapping[str, Any], cells: Cells) -> NDArray[np.str_]:
    """Return the side of each cell; raise InputError if one has no cell of a class."""
    if given.sides is None:
        split = split_contiguous(cells.image, plan["params"]["train_share"], plan["params"]["validation_share"])
    else:
        side_of = {i.image: side for i, side in zip(given.images, given.sides, strict=True)}
        split = np.array([side_of[image] for image in cells.image.tolist()])
    _refuse_lost_side(given, split, cells)
    return split


def _refuse_lost_side(given: TrainingSet, split: NDArray[np.str_], cells: Cells) -> None:
    """Raise InputError if, for want of readable images, a side has no cell of a class."""
    for side in SPLITS:
        for name, there in (("ALL", cells.is_all), ("Hem", ~cells.is_all)):
            if not (there & (split == side)).any():
                raise InputError(
                    f"{given.source}: no {name} cell for {side} could be read; see above which images were left out, "
                    "and replace them or take another split"
                )


def _images_table(given: TrainingSet) -> str | None:
    """Return the text of `images.csv`, if sides are given."""
    if given.sides is None:
        return None
    known = given.n_subjects is not None
    rows = {i.image: (i.subject if known else "", side) for i, side in zip(given.images, given.sides, strict=True)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((image, *row) for image, row in rows.items())
    return text.getvalue()


def split_of(
    run: Path, cells: Cells, train_share: float, validation_share: float
) -> tuple[NDArray[np.str_], NDArray[np.str_] | None]:
    """Return the side of each cell, and whose it is where that is known.

    They stand in the run folder's `images.csv` (image, subject, split); without one the blocks are contiguous. Where
    patients are unknown, its subjects are empty.

    Raises
    ------
    InputError
        If that table is damaged.
    """
    table = run / IMAGES
    if not table.is_file():
        return split_contiguous(cells.image, train_share, validation_share), None
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = {row["image"]: (row["split"], row["subject"]) for row in csv.DictReader(file)}
        found = [rows[image] for image in cells.image.tolist()]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise InputError(f"{table}: damaged ({error}); train into a new folder") from error
    subjects = np.array([subject for _, subject in found])
    return np.array([side for side, _ in found]), None if (subjects == "").any() else subjects
