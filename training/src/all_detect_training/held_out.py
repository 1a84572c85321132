"""How well the members and every ensemble of them do on the test images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from all_detect_training.dataset import Cells
from all_detect_training.metrics import image_means
from all_detect_training.resampling import (
    LEVEL,
    RESAMPLES,
    RESAMPLING_SEED,
    call_figures,
    confusion_by_group,
    resamples,
    weighted_auc,
    with_interval,
)
from all_detect_training.runs import Run
from napari_all_detect.bundle.manifest import Validation
from napari_all_detect.ensemble import combine, member_weights
from napari_all_detect.errors import InputError
from napari_all_detect.params import WEIGHTINGS
from napari_all_detect.trust import calibrate

__all__ = ["ensemble_p_all", "held_out_figures"]

Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]
Floats = NDArray[np.floating]


def held_out_figures(
    run: Run, validation: Mapping[str, Validation], temperatures: Mapping[str, float], threshold: float
) -> dict[str, Any]:
    """Measure every member and every ensemble on the test images.

    Parameters
    ----------
    run : Run
        Its predictions are the calibrated ones.
    validation : mapping of str to Validation
        Each member's figures on the validation cells, which weigh its votes.
    temperatures : mapping of str to float
        Of the combined vote, for each weighting.
    threshold : float
        From which a cell, or an image by the mean of its cells, is called ALL.

    Returns
    -------
    figures : dict
        `members` and `ensembles`: a row each, with figures for cells and for images (mean p_all of an image's
        cells), each with its interval from resampling whole images; `kappa_detail`: confusion matrices and the AUC of
        every ALL folder against all Hem cells. A figure that is not defined is None.
    """
    test = run.split == "test"
    cells, p_all = run.cells[test], run.p_all[test].astype(np.float64)
    times = resamples(len(np.unique(cells.image)))
    figures = list(validation.values())
    ensembles = {w: calibrate(ensemble_p_all(p_all, figures, w), temperatures[w]) for w in WEIGHTINGS}
    return {
        "split": "test",
        "cells": len(cells),
        "images": times.shape[1],
        "threshold": threshold,
        "interval": {
            "level": LEVEL,
            "method": "percentile bootstrap over images",
            "resamples": RESAMPLES,
            "seed": RESAMPLING_SEED,
        },
        "members": {name: _row(cells, p_all[:, k], times, threshold) for k, name in enumerate(validation)},
        "ensembles": {name: _row(cells, p, times, threshold) for name, p in ensembles.items()},
        "kappa_detail": _detail(cells, ensembles["kappa"], times, threshold),
    }


def ensemble_p_all(p_all: Floats, validation: Sequence[Validation], weighting: str) -> NDArray[np.float32]:
    """Return P(ALL) of the members' weighted votes, (N, M) -> (N,), at temperature 1.

    Raises
    ------
    InputError
        If no member weighs anything.
    """
    weights = member_weights(validation, weighting)
    if weights.sum() == 0:
        raise InputError(
            f"no member's validation {weighting} is above 0, so nothing was learned; train on more cells or longer"
        )
    return combine(np.stack([1 - p_all, p_all], axis=-1), weights)[:, 1]


def _row(cells: Cells, p_all: Floats, times: Counts, threshold: float) -> dict[str, Any]:
    """Return the figures of one classifier for cells and for images."""
    images, index = np.unique(cells.image, return_inverse=True)
    is_all, score = image_means(cells.image, cells.is_all) > 0.5, image_means(cells.image, p_all)
    return {
        "cell": _figures(cells.is_all, p_all, index, times, threshold),
        "image": _figures(is_all, score, np.arange(len(images)), times, threshold),
    }


def _figures(is_all: Bools, p_all: Floats, image: NDArray[np.intp], times: Counts, threshold: float) -> dict[str, Any]:
    """Return AUC and the figures of the calls, each with its interval."""
    calls = call_figures(times @ confusion_by_group(is_all, p_all >= np.float32(threshold), image, times.shape[1]))
    values = {"auc": weighted_auc(is_all, p_all, times[:, image]), **calls}
    return {name: with_interval(v) for name, v in values.items()}


def _detail(cells: Cells, p_all: Floats, times: Counts, threshold: float) -> dict[str, Any]:
    """Return the confusion matrices, and the AUC of every ALL folder against all Hem cells."""
    images, index = np.unique(cells.image, return_inverse=True)
    is_all, score = image_means(cells.image, cells.is_all) > 0.5, image_means(cells.image, p_all)
    folders = np.array([name.split("/", 1)[0] for name in images])
    by_folder = {}
    for folder in np.unique(folders[is_all]).tolist():
        among = (folders == folder) | ~is_all
        there = among[index]
        by_folder[folder] = {
            "cell": with_interval(weighted_auc(cells.is_all[there], p_all[there], times[:, index[there]])),
            "image": with_interval(weighted_auc(is_all[among], score[among], times[:, among])),
        }
    return {
        "confusion": {
            "order": "rows: true Hem, ALL; columns: called Hem, ALL",
            "cell": _confusion(cells.is_all, p_all >= np.float32(threshold)),
            "image": _confusion(is_all, score >= np.float32(threshold)),
        },
        "auc_by_folder": by_folder,
    }


def _confusion(is_all: Bools, called: Bools) -> list[list[int]]:
    counts: list[list[int]] = np.bincount(2 * is_all + called, minlength=4).reshape(2, 2).tolist()
    return counts
