"""How well the members and every ensemble of them do on the test images: for their cells, the images, the subjects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from all_detect_training.by_subject import subject_table
from all_detect_training.cells import Cells
from all_detect_training.figures import call_figures, confusion_of
from all_detect_training.resampling import (
    LEVEL,
    RESAMPLES,
    RESAMPLING_SEED,
    confusion_by_group,
    resamples,
    weighted_auc,
    with_interval,
)
from all_detect_training.runs import Run
from all_detect_training.voting import ensemble_p_all
from napari_all_detect.bundle.manifest import Validation
from napari_all_detect.params import WEIGHTINGS
from napari_all_detect.trust import calibrate

__all__ = ["held_out_figures"]

Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]
Floats = NDArray[np.floating]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Level:
    """Cells taken together, or each by itself.

    Attributes
    ----------
    item : (N,) int
        The cell's image, subject or itself.
    group : (I,) int
        What each item is drawn with.
    is_all : (I,) bool
        The class of each item; of an image or a subject that of most of its cells.
    """

    item: Indices
    group: Indices
    is_all: Bools

    def score(self, p_all: Floats) -> Floats:
        """Return the mean p_all of each item's cells, (N,) -> (I,)."""
        return np.bincount(self.item, weights=p_all) / np.bincount(self.item)


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
        From which a cell, or an image or a subject by the mean of its cells, is called ALL.

    Returns
    -------
    figures : dict
        `members` and `ensembles`: a row each, with figures for `cell`, `image` and, where subjects are known, `subject`
        (by the mean p_all of its cells), each with its interval from resampling whole subjects, or images where
        subjects are unknown; `kappa_detail`: confusion matrices, the AUC of every ALL folder against all Hem cells, and
        a row per subject, which is not named. A figure or an interval that is not defined is None.
    """
    test = run.split == "test"
    cells, p_all = run.cells[test], run.p_all[test].astype(np.float64)
    subject = None if run.subject is None else run.subject[test]
    levels = _levels(cells, subject)
    times = resamples(int(levels["cell"].group.max()) + 1)
    figures = list(validation.values())
    ensembles = {w: calibrate(ensemble_p_all(p_all, figures, w), temperatures[w]) for w in WEIGHTINGS}
    return {
        "split": "test",
        "cells": len(cells),
        "images": len(levels["image"].is_all),
        **({} if subject is None else {"subjects": len(levels["subject"].is_all)}),
        "threshold": threshold,
        "interval": {
            "level": LEVEL,
            "method": f"percentile bootstrap over {run.drawn}",
            "resamples": RESAMPLES,
            "seed": RESAMPLING_SEED,
        },
        "members": {name: _row(levels, p_all[:, k], times, threshold) for k, name in enumerate(validation)},
        "ensembles": {name: _row(levels, p, times, threshold) for name, p in ensembles.items()},
        "kappa_detail": _detail(cells, levels, ensembles["kappa"], times, threshold)
        | ({} if subject is None else {"subjects": _subjects(subject, cells, ensembles["kappa"], threshold)}),
    }


def _levels(cells: Cells, subject: NDArray[np.str_] | None) -> dict[str, Level]:
    """Return cells, images and, where they are known, subjects; the widest of them are what is drawn."""
    items = {
        "cell": np.arange(len(cells)),
        "image": np.unique(cells.image, return_inverse=True)[1],
        **({} if subject is None else {"subject": np.unique(subject, return_inverse=True)[1]}),
    }
    drawn = items["image" if subject is None else "subject"]
    first = {name: np.unique(item, return_index=True)[1] for name, item in items.items()}
    share_all = {name: np.bincount(item, weights=cells.is_all) / np.bincount(item) for name, item in items.items()}
    return {name: Level(item, drawn[first[name]], share_all[name] > 0.5) for name, item in items.items()}


def _row(levels: Mapping[str, Level], p_all: Floats, times: Counts, threshold: float) -> dict[str, Any]:
    """Return the figures of one classifier at each level."""
    return {name: _figures(level, level.score(p_all), times, threshold) for name, level in levels.items()}


def _figures(level: Level, score: Floats, times: Counts, threshold: float) -> dict[str, Any]:
    """Return AUC and the figures of the calls, each with its interval."""
    called = score >= np.float32(threshold)
    calls = call_figures(times @ confusion_by_group(level.is_all, called, level.group, times.shape[1]))
    values = {"auc": weighted_auc(level.is_all, score, times, level.group), **calls}
    return {name: with_interval(v) for name, v in values.items()}


def _detail(
    cells: Cells, levels: Mapping[str, Level], p_all: Floats, times: Counts, threshold: float
) -> dict[str, Any]:
    """Return the confusion matrices, and the AUC of every ALL folder against all Hem cells."""
    folders = np.array([name.split("/", 1)[0] for name in cells.image.tolist()])
    return {
        "confusion": {
            "order": "rows: true Hem, ALL; columns: called Hem, ALL",
            **{
                name: confusion_of(one.is_all, one.score(p_all) >= np.float32(threshold)).tolist()
                for name, one in levels.items()
            },
        },
        "auc_by_folder": {
            folder: {
                name: _auc_of_some(levels[name], p_all, times, (folders == folder) | ~cells.is_all)
                for name in ("cell", "image")
            }
            for folder in np.unique(folders[cells.is_all]).tolist()
        },
    }


def _auc_of_some(level: Level, p_all: Floats, times: Counts, among: Bools) -> dict[str, float | None]:
    """Return the AUC of those items whose cells are `among` all."""
    there = np.bincount(level.item[among], minlength=len(level.is_all)) > 0
    auc = weighted_auc(level.is_all[there], level.score(p_all)[there], times, level.group[there])
    return with_interval(auc)


def _subjects(subject: NDArray[np.str_], cells: Cells, p_all: Floats, threshold: float) -> list[dict[str, Any]]:
    """Return a row per subject; a bundle goes out of the house, so that it names none."""
    rows = subject_table(subject, cells.image, cells.is_all, p_all, threshold).drop(columns="subject")
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()} for row in rows.to_dict("records")
    ]
