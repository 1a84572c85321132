"""Which images train, which validate, which test."""

import re

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import InputError

__all__ = ["SPLITS", "split_contiguous"]

SPLITS = ("train", "validation", "test")


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
        names = sorted(np.unique(images[folders == folder]).tolist(), key=_natural)
        first, second = (round(len(names) * share) for share in (train_share, train_share + validation_share))
        if not 0 < first < second < len(names):
            raise InputError(f"{folder}: {len(names)} images are too few to train, validate and test on")
        split[np.isin(images, names[:first])] = "train"
        split[np.isin(images, names[second:])] = "test"
    return split


def _natural(name: str) -> list[str | int]:
    """Sort 2 before 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
