"""What a run is made from, and what else its `run.json` says."""

import hashlib
import json
import logging
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import all_detect_training
import napari_all_detect
from all_detect_training.cells import Cells
from all_detect_training.listing import LabelledImage
from all_detect_training.out_folder import write_whole
from all_detect_training.presets import FitParams
from all_detect_training.splits import SPLITS
from all_detect_training.starting import Trunks, trunk_weights
from all_detect_training.training_set import TrainingSet
from napari_all_detect.digest import file_digest
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.params import SegmentationParams
from napari_all_detect.segmentation import describe_method

__all__ = ["images_digest", "plan_run", "read_record", "refuse_other", "versions", "write_record"]

log = logging.getLogger(__name__)

LIBRARIES = {"tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax", "jaxlib"), "torch": ("torch",)}
"""What Keras's backends are called when they are installed."""

PARTS = {"created": str, "preset": str, **dict.fromkeys(("params", "data", "trunks", "counts", "versions"), dict)}
"""What `run.json` holds."""


def plan_run(
    given: TrainingSet,
    *,
    mask_corner_px: int,
    preset: str,
    params: FitParams,
    trunks: Trunks,
) -> dict[str, Any]:
    """Describe what a run is made from: the part of `run.json` that a run folder can't change.

    Images and trunk weights are told by name, size and digest, never by where they lie. An image's class, subject
    and side are in the images' digest too; its pixels are not.
    """
    data = {
        "kind": given.kind,
        "classes": dict(given.classes),
        "mask_corner_px": mask_corner_px,
        "images": len(given.images),
        "segmentation": describe_method(SegmentationParams().method) if given.kind == "smears" else None,
        "images_sha256": images_digest(given.images, given.sides),
        "rescale": "auto" if given.kind == "smears" else "none",
    }
    if given.split is not None:
        data |= {"split": given.split, "subjects": given.n_subjects or "unknown"}
    plan = {
        "preset": preset,
        "params": asdict(params),
        "data": data,
        "trunks": {m.architecture: _start(trunk_weights(trunks, m)) for m in params.members},
    }
    return dict(json.loads(json.dumps(plan)))


def images_digest(images: Sequence[LabelledImage], sides: Sequence[str] | None) -> str:
    """Return the digest of the images' names, sizes in bytes, classes, subjects and sides."""
    rows = [
        (i.image, i.path.stat().st_size if i.path.is_file() else 0, i.is_all, i.subject, side)
        for i, side in zip(images, sides or [""] * len(images), strict=True)
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def write_record(run: Path, plan: Mapping[str, Any], cells: Cells, split: NDArray[np.str_]) -> None:
    """Write `run.json`: the plan, what was found in the images, the versions at work, and today's date."""
    record = {
        "created": date.today().isoformat(),
        **plan,
        "counts": {side: _counts(cells.image[split == side]) for side in SPLITS},
        "versions": versions(),
    }
    write_whole(run / "run.json", json.dumps(record, indent=2) + "\n")


def read_record(run: Path) -> dict[str, Any]:
    """Return what a run folder's `run.json` says; InputError if there is none, or it is damaged."""
    path = run / "run.json"
    if not path.is_file():
        raise InputError(f"{run}: no run.json; expected a folder that `all-detect-train fit` made")
    try:
        record: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); train into a new folder") from error
    held = record if isinstance(record, dict) else {}
    lacking = [key for key, kind in PARTS.items() if not isinstance(held.get(key), kind)]
    if lacking:
        raise InputError(f"{path}: damaged, or of another version (no {', '.join(lacking)}); train into a new folder")
    return held


def refuse_other(run: Path, plan: Mapping[str, Any]) -> None:
    """Raise OutputError if the run folder was made from something else, and say what differs."""
    record = read_record(run)
    there, here = _flat({key: record.get(key) for key in plan}), _flat(plan)
    differ = [
        f"{key} is {there.get(key)} there and {here.get(key)} here"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key)
    ]
    if differ:
        raise OutputError(f"{run} was made otherwise: {'; '.join(differ)}. Name another folder")
    if record["versions"] != versions():
        log.warning("%s was begun with other versions: %s", run, record["versions"])


def _flat(nested: Any, name: str = "") -> dict[str, Any]:
    """Name each value of nested dicts by its path."""
    if not isinstance(nested, dict):
        return {name: nested}
    pairs = ((f"{name}.{key}" if name else key, value) for key, value in nested.items())
    return {k: v for key, value in pairs for k, v in _flat(value, key).items()}


def _start(weights: str | Path | None) -> str:
    """Say what a trunk starts from."""
    if weights is None:
        return "random"
    if isinstance(weights, str):
        return weights
    return f"{weights.name}, SHA-256 {file_digest(weights)}"


def _counts(images: NDArray[np.str_]) -> dict[str, dict[str, int]]:
    """Count images with cells, and cells, of each class folder."""
    folders = np.array([image.split("/", 1)[0] for image in images])
    return {
        folder: {"images": len(np.unique(images[folders == folder])), "cells": int((folders == folder).sum())}
        for folder in np.unique(folders).tolist()
    }


def versions() -> dict[str, str]:
    """Return the versions of all that the figures depend on; of Keras's backends, the one at work."""
    import keras

    found = {
        "python": platform.python_version(),
        "napari-all-detect": napari_all_detect.__version__,
        "all-detect-training": all_detect_training.__version__,
    }
    for name in ("keras", *LIBRARIES.get(keras.backend.backend(), ()), "numpy", "scikit-image"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
