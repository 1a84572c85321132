"""What a run is trained on: which images, and on which side of the split each is."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from all_detect_training.cnmc import FOLDS, PRELIMINARY, list_cnmc, refuse_empty_folds
from all_detect_training.listing import Kind, LabelledImage, list_folders, read_manifest, some
from all_detect_training.splits import (
    PAPER_IMAGES,
    PAPER_SUBJECTS,
    SPLITS,
    of_both_classes,
    refuse_shared_subjects,
    split_by_subject,
    split_folds,
)
from napari_all_detect.errors import InputError

__all__ = ["CONTIGUOUS", "GIVEN", "TrainingSet", "cnmc_set", "folder_set", "manifest_set", "sides_of"]

log = logging.getLogger(__name__)

CONTIGUOUS = "contiguous"
"""Blocks of each folder's images, where whose they are is unknown."""

GIVEN = "given"
"""By the column `split` of a manifest."""

AS_MANY = 0.9
"""From this share of subjects among images of one cell on, they are taken for the images' names."""


@dataclass(frozen=True)
class TrainingSet:
    """The images of a run.

    Attributes
    ----------
    source : Path
        Where they were listed; error messages begin with it.
    kind : {"smears", "cells"}
    classes : mapping of str to {"ALL", "Hem"}
        Of the first part of the images' names.
    images : list of LabelledImage
    split : str or None
        How it was split, in one word; None of folders, which know no other way than contiguous blocks.
    sides : list of str or None
        `train`, `validation` or `test` for each image; None where the run splits it into contiguous blocks.
    n_subjects : int or None
        How many patients the images are of; None where that is unknown.
    """

    source: Path
    kind: Kind
    classes: Mapping[str, str]
    images: Sequence[LabelledImage]
    split: str | None = None
    sides: Sequence[str] | None = None
    n_subjects: int | None = None


def folder_set(folder: Path, classes: Mapping[str, str], kind: Kind) -> TrainingSet:
    """List a folder with one sub-folder per class; subjects are unknown.

    Raises
    ------
    InputError
        If a sub-folder is missing or empty, or none is of ALL or of Hem.
    """
    lacking = sorted({"ALL", "Hem"} - set(classes.values()))
    if lacking:
        raise InputError(f"no folder of {lacking[0]} among the classes; training needs cells of both")
    return TrainingSet(folder, kind, classes, list_folders(folder, classes))


def cnmc_set(folder: Path, split: str, seed: int) -> TrainingSet:
    """List C-NMC 2019 and split it.

    Parameters
    ----------
    folder : Path
    split : str
        `paper`: the training folds by subject, in the numbers of Mondal et al. (2021); the preliminary set tests.
        `fold_0`, `fold_1`, `fold_2`: that fold validates, the two others train, the preliminary set tests.
        `K/N`: of N folds of whole subjects of all labelled images the K-th (from 1) tests, the next one validates.
    seed : int

    Raises
    ------
    InputError
        If the folder is not as published, or the split is none or can't be made of it.
    """
    if split not in ("paper", *FOLDS) and "/" not in split:
        raise InputError(f"split is {split!r}; expected paper, {', '.join(FOLDS)}, or K/N such as 1/5")
    images = list_cnmc(folder)
    if split in FOLDS:
        refuse_empty_folds(images, folder)
    try:
        sides = sides_of(images, split, seed)
    except InputError as error:
        if split != "paper":
            raise
        raise InputError(f"{folder}: {error}; see what is missing: all-detect-train check {folder}") from error
    complete, n_subjects = _complete(sides, images, folder), len({image.subject for image in images})
    return TrainingSet(folder, "cells", {"all": "ALL", "hem": "Hem"}, images, split, complete, n_subjects)


def manifest_set(path: Path, kind: Kind, split: str | None, seed: int) -> TrainingSet:
    """List the images of a CSV.

    Parameters
    ----------
    path : Path
    kind : {"smears", "cells"}
    split : str or None
        `K/N` as for `cnmc_set`; None takes the column `split` or, where that and all subjects are empty, contiguous
        blocks of images.
    seed : int

    Raises
    ------
    InputError
        If the CSV can't be used, or no split is given.
    """
    images, classes = read_manifest(path), {"ALL": "ALL", "Hem": "Hem"}
    has_subjects = any(image.subject for image in images)
    if split is not None:
        if not has_subjects:
            raise InputError(f"{path}: no subjects, of which --split {split} makes folds; fill them in, or do without")
        sides = _k_of_n(images, split, seed)
    elif all(image.group for image in images):
        split, sides = GIVEN, sides_of(images, GIVEN, seed)
    elif has_subjects or any(image.group for image in images):
        raise InputError(f"{path}: no value in column split for some images; fill it in, or give --split 1/5")
    else:
        return TrainingSet(path, kind, classes, images, CONTIGUOUS)
    return TrainingSet(path, kind, classes, images, split, _complete(sides, images, path), _n_subjects(images, kind))


def _n_subjects(images: Sequence[LabelledImage], kind: Kind) -> int | None:
    """Count subjects; None where there are none, or so many that they are the images' names rather."""
    subjects = {image.subject for image in images}
    if kind == "cells" and len(subjects) >= AS_MANY * len(images):
        log.warning(
            "%d subjects for %d images of one cell are taken for the images' names, and patients as unknown; with an "
            "empty column subject, contiguous blocks of images are the sides, which flatters the figures less",
            *(len(subjects), len(images)),
        )
        return None
    return None if "" in subjects else len(subjects)


def sides_of(images: Sequence[LabelledImage], split: str, seed: int) -> NDArray[np.str_]:
    """Return the side of each image in a split that is told in one word.

    Parameters
    ----------
    images : sequence of LabelledImage
    split : str
        As for `cnmc_set`, or `given`: the side that an image comes with.
    seed : int

    Raises
    ------
    InputError
        If these images can't be split so.
    """
    group = np.array([image.group for image in images])
    if split == GIVEN:
        return group
    if split in FOLDS:
        return np.where(group == PRELIMINARY, "test", np.where(group == split, "validation", "train"))
    if split != "paper":
        return _k_of_n(images, split, seed)
    training = group != PRELIMINARY
    sides = np.full(len(images), "test", dtype="U10")
    subjects, is_all = _subjects(images)[training], _is_all(images)[training]
    sides[training] = split_by_subject(subjects, is_all, PAPER_SUBJECTS, PAPER_IMAGES, seed)
    return sides


def _k_of_n(images: Sequence[LabelledImage], split: str, seed: int) -> NDArray[np.str_]:
    match = re.fullmatch(r"(\d+)/(\d+)", split)
    if match is None or int(match[2]) < 3 or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"split is {split!r}; expected K/N such as 1/5, with N of 3 or more")
    return split_folds(_subjects(images), _is_all(images), int(match[2]), int(match[1]) - 1, seed)


def _complete(sides: NDArray[np.str_], images: Sequence[LabelledImage], source: Path) -> list[str]:
    """Return the sides, or refuse if one of them lacks a class, or two share a subject."""
    is_all = _is_all(images)
    for side in SPLITS:
        for name, there in (("ALL", is_all), ("Hem", ~is_all)):
            if not (there & (sides == side)).any():
                raise InputError(f"{source}: no {name} image for {side} in this split; take another split or more data")
    named: list[str] = sides.tolist()
    subjects = _subjects(images)
    refuse_shared_subjects(named, subjects.tolist())
    both = of_both_classes(subjects, is_all)
    if both:
        log.warning("in figures of subjects, those with cells of both classes count for most of them: %s", some(both))
    return named


def _subjects(images: Sequence[LabelledImage]) -> NDArray[np.str_]:
    return np.array([image.subject for image in images])


def _is_all(images: Sequence[LabelledImage]) -> NDArray[np.bool_]:
    return np.array([image.is_all for image in images])
