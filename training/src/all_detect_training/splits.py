"""Which images train, which validate, which test."""

from collections.abc import Mapping, Sequence
from hashlib import sha1

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import InputError
from napari_all_detect.sources.folders import natural_key

__all__ = [
    "PAPER_IMAGES",
    "PAPER_SUBJECTS",
    "SPLITS",
    "of_both_classes",
    "refuse_shared_cells",
    "refuse_shared_subjects",
    "split_by_subject",
    "split_contiguous",
    "split_folds",
]

SPLITS = ("train", "validation", "test")

Crops = NDArray[np.uint8]
ONE_SIDE = "put it on one side, or leave it out"

PAPER_SUBJECTS = {"ALL": (32, 15), "Hem": (19, 7)}
PAPER_IMAGES = {"ALL": (5822, 1450), "Hem": (2703, 686)}
"""Subjects and images that train and validate in Mondal et al. (2021), section 2.1. Which subjects is not published."""

DRAWS = 5000
"""Choices of subjects among which the one closest to the numbers of images is taken."""


def split_contiguous(images: NDArray[np.str_], train_share: float, validation_share: float) -> NDArray[np.str_]:
    """Split each class folder into three contiguous blocks of its images.

    Where subjects are unknown, neighbouring numbers are often one patient's: a random split would put a patient's
    cells on both sides and flatter every figure.

    Parameters
    ----------
    images : (N,) str
        For each cell `<class folder>/<file>`.
    train_share, validation_share : float
        Shares of each folder's images, the first ones and the next; the rest tests.

    Returns
    -------
    split : (N,) str
        `train`, `validation` or `test` for each cell; all cells of an image are on one side.

    Raises
    ------
    InputError
        If a folder has too few images for three blocks.

    Examples
    --------
    >>> split_contiguous(np.array(["a/10", "a/2", "a/2", "a/1", "a/3"]), 0.5, 0.25).tolist()
    ['test', 'train', 'train', 'train', 'validation']
    """
    split = np.full(len(images), "validation", dtype="U10")
    folders = np.array([image.split("/", 1)[0] for image in images])
    for folder in np.unique(folders):
        names = sorted(np.unique(images[folders == folder]).tolist(), key=natural_key)
        first, second = (round(len(names) * share) for share in (train_share, train_share + validation_share))
        if not 0 < first < second < len(names):
            raise InputError(f"{folder}: {len(names)} images are too few to train, validate and test on")
        split[np.isin(images, names[:first])] = "train"
        split[np.isin(images, names[second:])] = "test"
    return split


def split_by_subject(
    subjects: NDArray[np.str_],
    is_all: NDArray[np.bool_],
    n_subjects: Mapping[str, tuple[int, int]],
    n_images: Mapping[str, tuple[int, int]],
    seed: int,
) -> NDArray[np.str_]:
    """Choose which subjects train and which validate, so that the numbers of images come close to the wanted ones.

    Parameters
    ----------
    subjects : (N,) str
        Whose each image is.
    is_all : (N,) bool
    n_subjects, n_images : mapping of {"ALL", "Hem"} to (int, int)
        How many of each class train, and how many validate.
    seed : int
        Of the 5,000 random choices, of which the closest is taken.

    Returns
    -------
    split : (N,) str

    Raises
    ------
    InputError
        If a subject has images of both classes, or there are other numbers of subjects than wanted.
    """
    both = of_both_classes(subjects, is_all)
    if both:
        raise InputError(
            f"the same subject has images of both classes: {', '.join(both)}; leave out those of one class, or split "
            "by K/N"
        )
    rng = np.random.default_rng(seed)
    split = np.full(len(subjects), "train", dtype="U10")
    for name, there in (("ALL", is_all), ("Hem", ~is_all)):
        own, counts = np.unique(subjects[there], return_counts=True)
        n_train, n_validation = n_subjects[name]
        if len(own) != n_train + n_validation:
            raise InputError(
                f"{len(own)} {name} subjects; expected {n_train} that train and {n_validation} that validate"
            )
        chosen = np.stack([rng.permutation(len(own))[:n_validation] for _ in range(DRAWS)])
        missed = np.abs(counts[chosen].sum(axis=1) - n_images[name][1])
        split[there & np.isin(subjects, own[chosen[missed.argmin()]])] = "validation"
    return split


def split_folds(
    subjects: NDArray[np.str_], is_all: NDArray[np.bool_], n_folds: int, fold: int, seed: int
) -> NDArray[np.str_]:
    """Split into folds of whole subjects: one tests, the next one validates, the others train.

    Parameters
    ----------
    subjects : (N,) str
    is_all : (N,) bool
    n_folds : int
        At least 3.
    fold : int
        Which one tests, from 0.
    seed : int

    Raises
    ------
    InputError
        If a class has fewer subjects than there are folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    for name, there in (("ALL", is_all), ("Hem", ~is_all)):
        n = len(np.unique(subjects[there]))
        if n < n_folds:
            advice = (
                f"take {n} folds at most"
                if n >= 3
                else f"a split by subject takes 3 {name} subjects at least: add some"
            )
            raise InputError(f"{n} {name} subjects for {n_folds} folds; {advice}")
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(subjects, is_all, subjects)
    tests = [test for _, test in folds]
    split = np.full(len(subjects), "train", dtype="U10")
    split[tests[(fold + 1) % n_folds]] = "validation"
    split[tests[fold]] = "test"
    return split


def of_both_classes(subjects: NDArray[np.str_], is_all: NDArray[np.bool_]) -> list[str]:
    """Return the subjects that have images of both classes; an empty one is unknown."""
    return sorted((set(subjects[is_all].tolist()) & set(subjects[~is_all].tolist())) - {""})


def refuse_shared_subjects(split: Sequence[str], subjects: Sequence[str]) -> None:
    """Raise InputError if a subject is on two sides; an empty one is unknown."""
    _refuse_both(subjects, split, subjects, "the same subject is on two sides of the split", ONE_SIDE)


def refuse_shared_cells(
    split: NDArray[np.str_], images: NDArray[np.str_], crops: Crops, is_all: NDArray[np.bool_]
) -> None:
    """Raise InputError if the same pixels have both classes, or are on two sides.

    Parameters
    ----------
    split, images : (N,) str
        Of each cell.
    crops : (N, s, s, 3) uint8
    is_all : (N,) bool
    """
    cell, names = [sha1(c.tobytes()).hexdigest() for c in crops], images.tolist()
    _refuse_both(cell, is_all.tolist(), names, "the same cell has both classes", "leave out what is wrong")
    _refuse_both(cell, split.tolist(), names, "the same cell is on two sides of the split", ONE_SIDE)


def _refuse_both(key: Sequence[str], value: Sequence[object], names: Sequence[str], what: str, advice: str) -> None:
    """Raise InputError, with the names, if items of one key differ in their value; an empty key is unknown."""
    values: dict[str, set[object]] = {}
    named: dict[str, set[str]] = {}
    for k, v, name in zip(key, value, names, strict=True):
        values.setdefault(k, set()).add(v)
        named.setdefault(k, set()).add(name)
    # Of two images that are the same, every cell is found.
    found = list(dict.fromkeys(" = ".join(sorted(named[k])) for k, v in values.items() if k and len(v) > 1))
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise InputError(f"{what}: {', '.join(found[:5])}{more}; {advice}")
