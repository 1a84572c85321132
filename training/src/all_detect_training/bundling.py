"""A run folder -> a bundle folder: the members, their facts, and how well they do on images never trained on."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from all_detect_training.card import model_card
from all_detect_training.dataset import Cells
from all_detect_training.metrics import image_means, member_figures
from all_detect_training.presets import FitParams, MemberSpec
from all_detect_training.splits import split_contiguous
from napari_all_detect.bundle.manifest import Manifest, Validation, parse_manifest
from napari_all_detect.bundle.verified import file_digest
from napari_all_detect.ensemble import combine, member_weights
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.networks import ARCHITECTURES
from napari_all_detect.params import WEIGHTINGS

__all__ = ["About", "Run", "export_bundle", "held_out_figures", "load_run", "read_record"]

Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]
Floats = NDArray[np.floating]

THRESHOLD = 0.5
LEVEL = 0.95
RESAMPLES = 1000
RESAMPLING_SEED = 0
DIGITS = 6
"""Figures are written with so many decimals."""

METHOD = (
    "Mondal C. et al., Ensemble of convolutional neural networks to diagnose acute lymphoblastic leukemia from "
    "microscopic images, Informatics in Medicine Unlocked 27 (2021) 100794"
)


@dataclass(frozen=True)
class About:
    """What a bundle says of itself that no run can know.

    Attributes
    ----------
    name, version : str
        Of the bundle; the name in lower case.
    description : str
        One sentence; composed from the members if empty.
    license, citation : str
        Of the bundle's weights.
    dataset_name, dataset_citation : str
        Of the images it was trained on.
    data_notes : str
        Markdown that stands in the model card as it is, under "Training data".
    """

    name: str
    version: str
    description: str = ""
    license: str = "Research use only; the terms of the training data apply"
    citation: str = METHOD
    dataset_name: str = ""
    dataset_citation: str = ""
    data_notes: str = ""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    folder : Path
    record : mapping
        What `run.json` says.
    params : FitParams
    cells : Cells
    split : (N,) str
        `train`, `validation` or `test` for each cell.
    p_all : (N, M) float32
        What each member says of each cell.
    """

    folder: Path
    record: Mapping[str, Any]
    params: FitParams
    cells: Cells
    split: NDArray[np.str_]
    p_all: NDArray[np.float32]


def export_bundle(run: Path, out: Path, about: About) -> Manifest:
    """Write a bundle folder: `bundle.json`, `members/<architecture>.weights.h5` and `MODEL_CARD.md`.

    The same run gives the same bytes: the date is the run's.

    Parameters
    ----------
    run : Path
        A folder that `fit` completed.
    out : Path
        A new or an empty folder.
    about : About

    Returns
    -------
    manifest : Manifest
        What `bundle.json` holds.

    Raises
    ------
    InputError
        If the run is not complete.
    OutputError
        If `out` holds something already or can't be written.
    BundleError
        If the name is none that a bundle can have.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already; name a new or an empty folder")
    manifest = _manifest(load_run(run), about)
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    card = model_card(manifest, about.data_notes)
    try:
        (out / "members").mkdir(parents=True)
        for member in manifest.members:
            shutil.copyfile(run / member.weights_file, out / member.weights_file)
        (out / "bundle.json").write_text(text, encoding="utf-8", newline="\n")
        (out / "MODEL_CARD.md").write_text(card, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"{out}: the bundle can't be written ({error.strerror}); name another folder") from error
    return manifest


def read_record(run: Path) -> dict[str, Any]:
    """Return what a run folder's `run.json` says; InputError if there is none."""
    path = run / "run.json"
    if not path.is_file():
        raise InputError(f"{run}: no run.json; expected a folder that `all-detect-train fit` made")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); train into a new folder") from error
    return record


def load_run(folder: Path) -> Run:
    """Read a run folder; InputError if a part of it is missing."""
    record = read_record(folder)
    values = record["params"]
    params = FitParams(**{**values, "members": tuple(MemberSpec(**m) for m in values["members"])})
    names = [f"{m.architecture}.npy" for m in params.members]
    names += [f"members/{m.architecture}.weights.h5" for m in params.members]
    missing = [name for name in ("cells.npz", *names) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder}: no {', '.join(missing)}; go on with the same `all-detect-train fit`")
    cells = Cells.load(folder / "cells.npz")
    columns = [np.load(folder / f"{m.architecture}.npy") for m in params.members]
    lengths = {len(column) for column in columns}
    if lengths != {len(cells)}:
        raise InputError(f"{folder}: predictions for {lengths} cells and {len(cells)} cells; train into a new folder")
    split = split_contiguous(cells.image, params.train_share, params.validation_share)
    return Run(folder, record, params, cells, split, np.stack(columns, axis=-1).astype(np.float32))


def held_out_figures(run: Run, validation: Mapping[str, Validation]) -> dict[str, Any]:
    """Measure every member and every ensemble on the test images.

    Parameters
    ----------
    run : Run
    validation : mapping of str to Validation
        Each member's figures on the validation cells, which weigh its votes.

    Returns
    -------
    figures : dict
        `members` and `ensembles`: a row each, with figures for cells and for images (mean p_all of an image's
        cells), each with its interval from resampling whole images; `kappa_detail`: confusion matrices and the AUC of
        every ALL folder against all Hem cells. A figure that is not defined is None.
    """
    test = run.split == "test"
    cells, p_all = run.cells[test], run.p_all[test].astype(np.float64)
    times = _resamples(len(np.unique(cells.image)))
    ensembles = {w: _ensemble_p_all(p_all, list(validation.values()), w) for w in WEIGHTINGS}
    return {
        "split": "test",
        "cells": len(cells),
        "images": times.shape[1],
        "threshold": THRESHOLD,
        "interval": {
            "level": LEVEL,
            "method": "percentile bootstrap over images",
            "resamples": RESAMPLES,
            "seed": RESAMPLING_SEED,
        },
        "members": {name: _row(cells, p_all[:, k], times) for k, name in enumerate(validation)},
        "ensembles": {name: _row(cells, p, times) for name, p in ensembles.items()},
        "kappa_detail": _detail(cells, ensembles["kappa"], times),
    }


def _manifest(run: Run, about: About) -> Manifest:
    """Compose what `bundle.json` holds."""
    validation = _validation(run)
    content = {
        "schema_version": 1,
        "name": about.name,
        "version": about.version,
        "description": about.description or _description(run.params),
        "license": about.license,
        "citation": about.citation,
        "created": run.record["created"],
        "research_use_only": True,
        "classes": ("Hem", "ALL"),
        "crop": {"size": run.params.crop_size, "cell_diameter_px": _training_diameter_px(run)},
        "members": [_member(run, spec, validation[spec.architecture]) for spec in run.params.members],
        "ensemble": {"weighting": "kappa", "threshold": THRESHOLD},
        "training": _training(run, about),
        "metrics": held_out_figures(run, validation),
    }
    return parse_manifest(json.dumps(content).encode(), str(run.folder))


def _description(params: FitParams) -> str:
    cut = " cut early" if any(m.cut for m in params.members) else ""
    names = ", ".join(m.architecture for m in params.members)
    return f"Weighted ensemble (Mondal et al. 2021) of CNNs{cut}: {names}. Research use only."


def _validation(run: Run) -> dict[str, Validation]:
    """Return each member's figures on the validation cells."""
    side = run.split == "validation"
    figures = (member_figures(run.cells.is_all[side], p[side], THRESHOLD) for p in run.p_all.T)
    return {
        spec.architecture: Validation(**{k: round(v, DIGITS) for k, v in f.items()}, n=int(side.sum()))
        for spec, f in zip(run.params.members, figures, strict=True)
    }


def _member(run: Run, spec: MemberSpec, validation: Validation) -> dict[str, Any]:
    weights_file = f"members/{spec.architecture}.weights.h5"
    return {
        "name": spec.architecture,
        **asdict(spec),
        "preprocessing": ARCHITECTURES[spec.architecture].preprocessing,
        "weights_file": weights_file,
        "sha256": file_digest(run.folder / weights_file),
        "validation": validation.model_dump(),
    }


def _training_diameter_px(run: Run) -> float:
    return round(float(np.median(run.cells.diameter_px[run.split == "train"])), 1)


def _training(run: Run, about: About) -> dict[str, Any]:
    """Say from what and how the members were trained."""
    record = run.record
    return {
        "dataset": {"name": about.dataset_name, "citation": about.dataset_citation, **record["data"]},
        "split": {
            "method": "contiguous blocks of image numbers in each class folder",
            "subjects": "unknown",
            "counts": record["counts"],
        },
        "seed": run.params.seed,
        "preset": record["preset"],
        "params": record["params"],
        "trunks": record["trunks"],
        "versions": record["versions"],
    }


def _ensemble_p_all(p_all: Floats, validation: list[Validation], weighting: str) -> NDArray[np.float32]:
    """Return P(ALL) of the members' weighted votes."""
    weights = member_weights(validation, weighting)
    if weights.sum() == 0:
        raise InputError(
            f"no member's validation {weighting} is above 0, so nothing was learned; train on more cells or longer"
        )
    return combine(np.stack([1 - p_all, p_all], axis=-1), weights)[:, 1]


def _resamples(n_images: int) -> Counts:
    """Return how often each image counts: once in the first row, as often as drawn in each further one."""
    rng = np.random.default_rng(RESAMPLING_SEED)
    draws = (rng.integers(n_images, size=n_images) for _ in range(RESAMPLES))
    return np.stack([np.ones(n_images, np.int64), *(np.bincount(d, minlength=n_images) for d in draws)])


def _row(cells: Cells, p_all: Floats, times: Counts) -> dict[str, Any]:
    """Return the figures of one classifier for cells and for images."""
    images, index = np.unique(cells.image, return_inverse=True)
    is_all, score = image_means(cells.image, cells.is_all) > 0.5, image_means(cells.image, p_all)
    return {
        "cell": _figures(cells.is_all, p_all, index, times),
        "image": _figures(is_all, score, np.arange(len(images)), times),
    }


def _figures(is_all: Bools, p_all: Floats, image: NDArray[np.intp], times: Counts) -> dict[str, Any]:
    """Return AUC and the figures of the calls, each with its interval."""
    calls = _call_figures(times @ _confusion_by_image(is_all, p_all, image, times.shape[1]))
    values = {"auc": _auc(is_all, p_all, times[:, image]), **calls}
    return {name: _with_interval(v) for name, v in values.items()}


def _auc(is_all: Bools, p_all: Floats, times: Counts) -> NDArray[np.float64]:
    """Return for each row of `times` the AUC when items count so often; NaN where a class is missing.

    It is the share of (ALL, Hem) pairs in which ALL scores higher; a tie is half.
    """
    order = np.argsort(p_all, kind="stable")
    ranked = p_all[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    n_all, n_hem = (np.add.reduceat(times[:, order] * side[order], starts, axis=1) for side in (is_all, ~is_all))
    below = np.cumsum(n_hem, axis=1) - n_hem
    won = (n_all * (below + n_hem / 2)).sum(axis=1)
    pairs = n_all.sum(axis=1) * n_hem.sum(axis=1)
    share = np.full(len(times), np.nan)
    np.divide(won, pairs, out=share, where=pairs > 0)
    return share


def _confusion_by_image(is_all: Bools, p_all: Floats, image: NDArray[np.intp], n_images: int) -> Counts:
    """Count for each image Hem called Hem, Hem called ALL, ALL called Hem and ALL called ALL; (n_images, 4)."""
    outcome = 2 * is_all + (p_all >= THRESHOLD)
    return np.bincount(4 * image + outcome, minlength=4 * n_images).reshape(n_images, 4)


def _call_figures(confusion: Counts) -> dict[str, NDArray[np.float64]]:
    """Return the figures of (R, 4) confusion counts; NaN where one is not defined."""
    tn, fp, fn, tp = confusion.T.astype(np.float64)
    n = tn + fp + fn + tp
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
        chance = ((tp + fp) * (tp + fn) + (tn + fn) * (tn + fp)) / n**2
        return {
            "accuracy": (tp + tn) / n,
            "f1": 2 * tp / (2 * tp + fp + fn),
            "kappa": ((tp + tn) / n - chance) / (1 - chance),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "sensitivity": sensitivity,
            "specificity": specificity,
        }


def _with_interval(values: NDArray[np.float64]) -> dict[str, float | None]:
    """Return the first value and the interval that the others span; resamples without a value are left out."""
    finite = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(finite) else (np.nan, np.nan)
    named = {"value": values[0], "low": low, "high": high}
    return {name: round(float(v), DIGITS) if np.isfinite(v) else None for name, v in named.items()}


def _detail(cells: Cells, p_all: Floats, times: Counts) -> dict[str, Any]:
    """Return the confusion matrices, and the AUC of every ALL folder against all Hem cells."""
    images, index = np.unique(cells.image, return_inverse=True)
    is_all, score = image_means(cells.image, cells.is_all) > 0.5, image_means(cells.image, p_all)
    folders = np.array([name.split("/", 1)[0] for name in images])
    by_folder = {}
    for folder in np.unique(folders[is_all]).tolist():
        among = (folders == folder) | ~is_all
        there = among[index]
        by_folder[folder] = {
            "cell": _with_interval(_auc(cells.is_all[there], p_all[there], times[:, index[there]])),
            "image": _with_interval(_auc(is_all[among], score[among], times[:, among])),
        }
    return {
        "confusion": {
            "order": "rows: true Hem, ALL; columns: called Hem, ALL",
            "cell": _confusion(cells.is_all, p_all),
            "image": _confusion(is_all, score),
        },
        "auc_by_folder": by_folder,
    }


def _confusion(is_all: Bools, p_all: Floats) -> list[list[int]]:
    counts: list[list[int]] = np.bincount(2 * is_all + (p_all >= THRESHOLD), minlength=4).reshape(2, 2).tolist()
    return counts
