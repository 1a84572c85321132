"""A bundle on labelled images: what it says of every cell, and how often it is right, as it scores."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from all_detect_training.by_subject import subject_auc, subject_table
from all_detect_training.calibration import calibration_error, reliability
from all_detect_training.figures import FIGURES, call_figures, figure_text, paper_figures
from all_detect_training.listing import Kind, LabelledImage, some
from all_detect_training.reading import in_corner, warn_no_cell
from all_detect_training.resampling import (
    DIGITS,
    NO_INTERVAL,
    confusion_by_group,
    resamples,
    weighted_auc,
    with_interval,
)
from all_detect_training.single_cells import (
    cut_centre,
    diameter_px,
    first_plane,
    is_on_black,
    read_on_black,
    warn_not_on_black,
)
from all_detect_training.telling import Telling
from napari_all_detect.crops import crop_scale
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.export.csv import write_csv
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import PlaneInput, Scorer, open_scorer
from napari_all_detect.pipeline.cutting import CutCells, cut_cells
from napari_all_detect.pipeline.scoring import score_cells
from napari_all_detect.sources import RgbPlane
from napari_all_detect.table import CALLS

__all__ = ["evaluate", "evaluation_figures", "subjects_known", "write_evaluation"]

log = logging.getLogger(__name__)


def evaluate(images: Sequence[LabelledImage], kind: Kind, params: ScoreParams, mask_corner_px: int = 0) -> pd.DataFrame:
    """Score labelled images: smears as `all-detect score` does, images of one cell cut as `fit` cuts them.

    Parameters
    ----------
    images : sequence of LabelledImage
    kind : {"smears", "cells"}
        In `cells` every image is one cell on black: it is not segmented, and its own centre is cut out. Where pixel
        sizes are unknown, the median diameter of all of them gives one scale, so that those like the bundle's own stay
        as they are, small and large ones too.
    params : ScoreParams
        The bundle, and how it calls.
    mask_corner_px : int
        Cells of smears that reach into a square of this side in the lower right corner are left out, as `fit` does.

    Returns
    -------
    table : DataFrame
        The columns of `cells.csv`, then `class` (the image's) and `subject`.

    Raises
    ------
    InputError
        If no cell is found. An image that can't be read, or in which no cell is found, is left out, and logged.
    BundleError
        If the bundle can't be used.
    """
    scorer = open_scorer(params)
    cut = partial(_cut_smear, scorer) if kind == "smears" else partial(_cut_cell, scorer, _diameters(images))
    tables, telling = [], Telling(log, "scoring images", len(images))
    for image in images:
        tables.append(_scored(scorer, image, cut, mask_corner_px))
        telling.reach(len(tables))
    filled = [table for table in tables if table is not None and len(table)]
    if not filled:
        raise InputError(f"no cell found in {len(images)} images; check that they are smears, or cells on black")
    empty = [i.image for i, table in zip(images, tables, strict=True) if table is not None and not len(table)]
    warn_no_cell(empty, len(images))
    return pd.concat(filled, ignore_index=True)


def evaluation_figures(table: pd.DataFrame, threshold: float, images_given: int | None = None) -> dict[str, Any]:
    """Measure what `evaluate` scored.

    Parameters
    ----------
    table : DataFrame
    threshold : float
        From which a cell counts as called ALL where every cell is called.
    images_given : int, optional
        How many images were to be scored; those with cells if not given.

    Returns
    -------
    figures : dict
        `cells`, `images` (with cells), `images_given`, `in_domain` (share, None without a domain), `calls` (of each
        class), `calibration_error`, and the figures of the paper, kappa, sensitivity and specificity with intervals
        from resampled subjects, or images where subjects are unknown; `subjects`, where they are known: their number
        and the AUC of the mean p_all of their cells, without those with cells of both classes, which are logged. What
        is not defined is None.
    """
    is_all, p_all = _truth_and_score(table)
    by_subject, alike = subjects_known(table), _of_one_class(table)
    mixed = set(table["subject"]) - set(alike["subject"])
    if by_subject and mixed:
        log.warning("left out of the figures of subjects, for cells of both classes: %s", some(sorted(mixed)))
    groups, group = np.unique(table["subject" if by_subject else "image"].to_numpy(str), return_inverse=True)
    times = resamples(len(groups))
    confusion = times @ confusion_by_group(is_all, p_all >= np.float32(threshold), group, len(groups))
    of_calls = call_figures(confusion)
    measured = {"auc": weighted_auc(is_all, p_all, times, group), **paper_figures(confusion)}
    measured |= {name: of_calls[name] for name in ("kappa", "sensitivity", "specificity")}
    known = table["in_domain"].notna()
    n_images = int(table["image"].nunique())
    return {
        "cells": len(table),
        "images": n_images,
        "images_given": n_images if images_given is None else images_given,
        **({"subjects": _subject_figures(alike)} if len(alike) else {}),
        "resampled": "subjects" if by_subject else "images",
        "threshold": threshold,
        "in_domain": round(float(table["in_domain"][known].astype(bool).mean()), DIGITS) if known.any() else None,
        "calls": {name: _counts(table["call"][there]) for name, there in (("ALL", is_all), ("Hem", ~is_all))},
        "calibration_error": round(calibration_error(reliability(is_all, p_all)), DIGITS),
        "figures": {name: with_interval(values) for name, values in measured.items()},
    }


def subjects_known(table: pd.DataFrame) -> bool:
    """Return whether every cell's subject is known."""
    return bool((table["subject"] != "").all())


def write_evaluation(out: Path, table: pd.DataFrame, figures: Mapping[str, Any]) -> str:
    """Write `cells.csv`, `figures.json` and, where subjects are known, `subjects.csv`; return what is to be printed.

    Raises
    ------
    OutputError
        If the folder can't be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_csv(table, out / "cells.csv")
        alike = _of_one_class(table)
        if len(alike):
            subject, image = (alike[name].to_numpy(str) for name in ("subject", "image"))
            rows = subject_table(subject, image, *_truth_and_score(alike), figures["threshold"])
            write_csv(rows, out / "subjects.csv")
        (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out}: can't be written ({error.strerror or error}); name another folder") from error
    return _printed(figures)


def _diameters(images: Sequence[LabelledImage]) -> NDArray[np.float64]:
    """Return the diameters of images of one cell, without those that can't be read; log which are not on black."""
    diameters, not_on_black = [], []
    telling = Telling(log, "measuring the cells of images", len(images))
    for done, image in enumerate(images):
        telling.reach(done)
        # What can't be read is logged when it is to be scored.
        with suppress(InputError):
            rgb = read_on_black(first_plane(image.path, tell=False))
            diameters.append(diameter_px(rgb))
            not_on_black += [] if is_on_black(rgb) else [image.image]
    warn_not_on_black(not_on_black, len(images))
    return np.array(diameters)


def _scored(
    scorer: Scorer, image: LabelledImage, cut: Callable[[LabelledImage], CutCells], mask_corner_px: int
) -> pd.DataFrame | None:
    """Score one image; None of one that can't be read or is black."""
    try:
        scored = score_cells(scorer, cut(image))
    except InputError as error:
        log.warning("left out: %s", error)
        return None
    kept = ~scored.table["label"].isin(in_corner(scored.labels, mask_corner_px))
    return scored.table[kept].assign(**{"class": "ALL" if image.is_all else "Hem", "subject": image.subject})


def _cut_smear(scorer: Scorer, image: LabelledImage) -> CutCells:
    plane = first_plane(image.path)
    given = PlaneInput(plane.read(), image.image, plane.plane, None, plane.pixel_size_um)
    return cut_cells(given, scorer.params, scorer.bundle.manifest.crop)


def _cut_cell(scorer: Scorer, diameters: NDArray[np.float64], image: LabelledImage) -> CutCells:
    """Cut an image of one cell as `fit` does; what the table says of its shape is that of what is not black."""
    plane, crop = first_plane(image.path), scorer.bundle.manifest.crop
    rgb = read_on_black(plane)
    labels = np.asarray(rgb.any(axis=-1), np.int32)
    cut = cut_cells(
        PlaneInput(RgbPlane(rgb), image.image, plane.plane, labels, plane.pixel_size_um), scorer.params, crop
    )
    scale = crop_scale(
        scorer.params.rescale,
        pixel_size_um=cut.pixel_size_um,
        diameters_px=diameters,
        bundle_pixel_size_um=crop.pixel_size_um,
        bundle_diameter_px=crop.cell_diameter_px,
    )
    return replace(cut, crops=cut_centre(rgb, crop.size, image.path, scale), scale=scale)


def _of_one_class(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of the subjects that have one class; none where subjects are unknown."""
    classes = table.groupby("subject")["class"].transform("nunique")
    return table[(classes == 1) & subjects_known(table)]


def _subject_figures(table: pd.DataFrame) -> dict[str, Any]:
    subject = table["subject"].to_numpy(str)
    return {"n": len(np.unique(subject)), "auc": subject_auc(subject, *_truth_and_score(table))}


def _truth_and_score(table: pd.DataFrame) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Return whether each cell is ALL, and its p_all."""
    return (table["class"] == "ALL").to_numpy(), table["p_all"].to_numpy(np.float32)


def _counts(calls: pd.Series) -> dict[str, int]:
    return {call: int((calls == call).sum()) for call in CALLS}


def _printed(figures: Mapping[str, Any]) -> str:
    of = "" if figures["images"] == figures["images_given"] else f" of {figures['images_given']}"
    lines = [f"{figures['cells']} cells of {figures['images']}{of} images; intervals resample {figures['resampled']}"]
    for name, figure in figures["figures"].items():
        lines.append(f"{FIGURES.get(name, name):<14}{figure_text(figure)}")
    shown = [*figures["figures"].values(), *([figures["subjects"]["auc"]] if "subjects" in figures else [])]
    if "subjects" in figures:
        of_subjects = figures["subjects"]
        lines.append(f"{of_subjects['n']} subjects, AUC of their mean P(ALL) {figure_text(of_subjects['auc'])}")
    for name, counts in figures["calls"].items():
        n = max(sum(counts.values()), 1)
        lines.append(f"{name} cells called " + ", ".join(f"{call} {counts[call] / n:.1%}" for call in CALLS))
    lines.append(f"calibration error {figures['calibration_error']:.3f} (both classes weighing the same)")
    if figures["in_domain"] is not None:
        lines.append(f"in domain {figures['in_domain']:.1%}")
    if any(figure["value"] is not None and figure["low"] is None for figure in shown):
        lines.append(NO_INTERVAL)
    return "\n".join(lines) + "\n"
