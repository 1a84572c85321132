"""The run folder: what a run is made from, its cells, and what its members say of them."""

import csv
import hashlib
import io
import json
import logging
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import all_detect_training
import napari_all_detect
from all_detect_training.dataset import Cells, read_cells
from all_detect_training.presets import FitParams, MemberSpec
from all_detect_training.splits import SPLITS, split_contiguous
from all_detect_training.starting import Trunks, trunk_weights
from all_detect_training.training_set import TrainingSet, refuse_doubles
from napari_all_detect.bundle.verified import file_digest
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.params import SegmentationParams
from napari_all_detect.segmentation import describe_method

__all__ = ["Run", "load_run", "open_cells", "plan_run", "read_record", "split_of", "versions", "write_record"]

log = logging.getLogger(__name__)
IMAGES = "images.csv"
COLUMNS = ("image", "subject", "split")
PARTIAL = ".partial"

LIBRARIES = {"tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax", "jaxlib"), "torch": ("torch",)}
"""What Keras's backends are called when they are installed."""


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
    subject : (N,) str or None
        Whose each cell is, where that is known.
    """

    folder: Path
    record: Mapping[str, Any]
    params: FitParams
    cells: Cells
    split: NDArray[np.str_]
    p_all: NDArray[np.float32]
    subject: NDArray[np.str_] | None = None


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
        "images_sha256": _images_digest(given),
    }
    if given.sides is not None:
        data |= {"split": given.split, "subjects": len({i.subject for i in given.images})}
    plan = {
        "preset": preset,
        "params": asdict(params),
        "data": data,
        "trunks": {m.architecture: _start(trunk_weights(trunks, m)) for m in params.members},
    }
    return dict(json.loads(json.dumps(plan)))


def _images_digest(given: TrainingSet) -> str:
    """Return the digest of the images' names, sizes in bytes, classes, subjects and sides."""
    rows = [
        (i.image, i.path.stat().st_size if i.path.is_file() else 0, i.is_all, i.subject, side)
        for i, side in zip(given.images, given.sides or [""] * len(given.images), strict=True)
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def write_record(run: Path, plan: Mapping[str, Any], cells: Cells, split: NDArray[np.str_] | None = None) -> None:
    """Write `run.json`: the plan, what was found in the images, the versions at work, and today's date.

    `split` is the side of each cell; by default what `split_of` says.
    """
    if split is None:
        split, _ = split_of(run, cells, plan["params"]["train_share"], plan["params"]["validation_share"])
    record = {
        "created": date.today().isoformat(),
        **plan,
        "counts": {side: _counts(cells.image[split == side]) for side in SPLITS},
        "versions": versions(),
    }
    _write_whole(run / "run.json", json.dumps(record, indent=2) + "\n")


def _write_whole(path: Path, text: str) -> None:
    """Write beside and rename, so that an interrupted run leaves no half of it."""
    partial = path.with_name(path.name + PARTIAL)
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)


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
    split, subject = split_of(folder, cells, params.train_share, params.validation_share)
    return Run(folder, record, params, cells, split, np.stack(columns, axis=-1).astype(np.float32), subject)


def split_of(
    run: Path, cells: Cells, train_share: float, validation_share: float
) -> tuple[NDArray[np.str_], NDArray[np.str_] | None]:
    """Return the side of each cell, and whose it is where that is known.

    They stand in the run folder's `images.csv` (image, subject, split); without one the blocks are contiguous.
    """
    table = run / IMAGES
    if not table.is_file():
        return split_contiguous(cells.image, train_share, validation_share), None
    with table.open(encoding="utf-8", newline="") as file:
        rows = {row["image"]: (row["split"], row["subject"]) for row in csv.DictReader(file)}
    found = [rows[image] for image in cells.image.tolist()]
    return np.array([side for side, _ in found]), np.array([subject for _, subject in found])


def _images_table(given: TrainingSet) -> str | None:
    """Return the text of `images.csv`, if sides are given."""
    if given.sides is None:
        return None
    rows = {i.image: (i.subject, side) for i, side in zip(given.images, given.sides, strict=True)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((image, *row) for image, row in rows.items())
    return text.getvalue()


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
        _refuse_other(run, plan)
        if (run / "cells.npz").exists():
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
    )
    split = _split(given, plan, cells)
    _refuse_lost_side(given, split, cells)
    refuse_doubles(given, split, cells)
    table = _images_table(given)
    try:
        run.mkdir(parents=True, exist_ok=True)
        # First: with it alone a folder is begun, and all else is written again.
        if not begun:
            write_record(run, plan, cells, split)
        if table is not None:
            _write_whole(run / IMAGES, table)
        # Last, and renamed when complete: it says that the others are there.
        cells.save(run / "partial.npz")
        (run / "partial.npz").replace(run / "cells.npz")
    except OSError as error:
        raise OutputError(f"{run}: can't be written ({error.strerror}); name another folder") from error
    return cells


def _can_begin_in(run: Path) -> bool:
    """Return whether a folder is empty, or holds but what a fit that was killed early leaves."""
    if not run.is_dir():
        return False
    names = {path.name for path in run.iterdir()} - {f"run.json{PARTIAL}"}
    # Earlier versions wrote the table first. Another table of that name is somebody's own.
    return not names or (names == {IMAGES} and _is_own_table(run / IMAGES))


def _is_own_table(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(",".join(COLUMNS).encode() + b"\n")


def _split(given: TrainingSet, plan: Mapping[str, Any], cells: Cells) -> NDArray[np.str_]:
    """Return the side of each cell."""
    if given.sides is None:
        return split_contiguous(cells.image, plan["params"]["train_share"], plan["params"]["validation_share"])
    side_of = {i.image: side for i, side in zip(given.images, given.sides, strict=True)}
    return np.array([side_of[image] for image in cells.image.tolist()])


def _refuse_lost_side(given: TrainingSet, split: NDArray[np.str_], cells: Cells) -> None:
    """Raise InputError if, for want of readable images, a side has no cell of a class."""
    for side in SPLITS:
        for name, there in (("ALL", cells.is_all), ("Hem", ~cells.is_all)):
            if not (there & (split == side)).any():
                raise InputError(
                    f"{given.source}: no {name} cell for {side} could be read; see above which images were left out, "
                    "and replace them or take another split"
                )


def _refuse_other(run: Path, plan: Mapping[str, Any]) -> None:
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
