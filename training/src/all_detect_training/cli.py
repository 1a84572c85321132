"""`all-detect-train`: train the members of an ensemble, and pack them into a bundle."""

import argparse
import hashlib
import json
import logging
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import all_detect_training
import napari_all_detect
from all_detect_training.bundling import About, export_bundle, read_record
from all_detect_training.dataset import Cells, Kind, read_cells
from all_detect_training.fit import Trunks, fit_ensemble, trunk_weights
from all_detect_training.metrics import auc
from all_detect_training.presets import PRESETS, FitParams
from all_detect_training.splits import SPLITS, split_contiguous
from napari_all_detect.bundle.verified import file_digest
from napari_all_detect.errors import AllDetectError, InputError, OutputError
from napari_all_detect.sources import find_images

__all__ = ["main", "plan_run", "write_record"]

log = logging.getLogger("all_detect_training")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 after an error of the input."""
    args = _parser().parse_args(argv)
    with _log_to_stderr():
        try:
            args.command(args)
        except AllDetectError as error:
            sys.stderr.write(f"all-detect-train: {' '.join(str(error).split())}\n")
            return 1
    return 0


def plan_run(
    folder: Path,
    classes: Mapping[str, str],
    *,
    kind: Kind,
    mask_corner_px: int,
    preset: str,
    params: FitParams,
    trunks: Trunks,
) -> dict[str, Any]:
    """Describe what a run is made from: the part of `run.json` that a run folder can't change.

    Images and trunk weights are told by name, size and digest, never by where they lie.
    """
    images = [
        f"{sub}/{file.image} {file.path.stat().st_size if file.path.is_file() else 0}"
        for sub in classes
        for file in find_images([folder / sub])
    ]
    plan = {
        "preset": preset,
        "params": asdict(params),
        "data": {
            "kind": kind,
            "classes": dict(classes),
            "mask_corner_px": mask_corner_px,
            "images": len(images),
            "images_sha256": hashlib.sha256("\n".join(images).encode()).hexdigest(),
        },
        "trunks": {m.architecture: _start(trunk_weights(trunks, m)) for m in params.members},
    }
    return dict(json.loads(json.dumps(plan)))


def write_record(run: Path, plan: Mapping[str, Any], cells: Cells) -> None:
    """Write `run.json`: the plan, what was found in the images, the versions at work, and today's date."""
    params = plan["params"]
    split = split_contiguous(cells.image, params["train_share"], params["validation_share"])
    record = {
        "created": date.today().isoformat(),
        **plan,
        "counts": {side: _counts(cells.image[split == side]) for side in SPLITS},
        "versions": _versions(),
    }
    (run / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8", newline="\n")


def _fit(args: argparse.Namespace) -> None:
    """Train what is still to be trained, and print each member's AUC."""
    params = _params(args)
    if args.cells and args.mask_corner:
        args.refuse("argument --mask-corner: goes with --smears; an image of one cell would be lost")
    if isinstance(args.trunks, Path) and not args.trunks.is_dir():
        raise InputError(f"{args.trunks}: no such folder; expected one with <architecture>_notop.weights.h5")
    kind: Kind = "smears" if args.smears else "cells"
    plan = plan_run(
        args.smears or args.cells,
        args.classes,
        kind=kind,
        mask_corner_px=args.mask_corner,
        preset=args.preset,
        params=params,
        trunks=args.trunks,
    )
    cells = _cells(args, kind, plan)
    split = split_contiguous(cells.image, params.train_share, params.validation_share)
    fit_ensemble(cells, split, params, args.out, args.trunks)
    sys.stdout.write(_summary(cells, split, params, args.out))


def _export(args: argparse.Namespace) -> None:
    """Write the bundle, and print where it is and how well it does."""
    values = {k: v for k, v in vars(args).items() if k in About.__dataclass_fields__ and v is not None}
    if args.data_notes is not None:
        try:
            values["data_notes"] = args.data_notes.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{args.data_notes}: can't be read as UTF-8 text ({error})") from error
    manifest = export_bundle(args.run, args.out, About(**values))
    figure = manifest.metrics["ensembles"]["kappa"]["cell"]["auc"]
    sys.stdout.write(
        f"{args.out}: {manifest.name} {manifest.version}, {len(manifest.members)} members; WEN-kappa on "
        f"{manifest.metrics['cells']} test cells: AUC {figure['value']:.3f}\n"
    )


def _params(args: argparse.Namespace) -> FitParams:
    """Return the preset with what was asked for otherwise; its cycle of the rate is stretched along with epochs."""
    params = PRESETS[args.preset]
    names = [m.architecture for m in params.members]
    if args.members is not None:
        if not set(args.members) <= set(names):
            args.refuse(f"argument --members: {','.join(args.members)}; expected some of {','.join(names)}")
        params = replace(params, members=tuple(m for m in params.members if m.architecture in args.members))
    if args.epochs is not None:
        step = params.step_epochs * args.epochs / params.epochs
        params = replace(params, epochs=args.epochs, step_epochs=step)
    return params if args.seed is None else replace(params, seed=args.seed)


def _cells(args: argparse.Namespace, kind: Kind, plan: Mapping[str, Any]) -> Cells:
    """Return the run folder's cells; read them from the images and begin the folder if there are none yet."""
    run: Path = args.out
    begun = (run / "run.json").exists()
    if begun:
        _refuse_other(run, plan)
        if (run / "cells.npz").exists():
            return Cells.load(run / "cells.npz")
    elif run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise OutputError(f"{run} holds something, but no run.json of an earlier fit; name a new or an empty folder")
    log.info("reading cells of %s", args.smears or args.cells)
    cells = read_cells(
        args.smears or args.cells,
        args.classes,
        kind=kind,
        crop_size=plan["params"]["crop_size"],
        mask_corner_px=args.mask_corner,
        workers=args.workers,
    )
    try:
        run.mkdir(parents=True, exist_ok=True)
        if not begun:
            write_record(run, plan, cells)
        # Renamed when complete, so that an interrupted run leaves no half of it.
        cells.save(run / "partial.npz")
        (run / "partial.npz").replace(run / "cells.npz")
    except OSError as error:
        raise OutputError(f"{run}: can't be written ({error.strerror}); name another folder") from error
    return cells


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
    if record["versions"] != _versions():
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


def _versions() -> dict[str, str]:
    """Return the versions of all that the figures depend on."""
    found = {
        "python": platform.python_version(),
        "napari-all-detect": napari_all_detect.__version__,
        "all-detect-training": all_detect_training.__version__,
    }
    for name in ("keras", "tensorflow", "tensorflow-cpu", "numpy"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _summary(cells: Cells, split: NDArray[np.str_], params: FitParams, run: Path) -> str:
    """Return a table of the members' AUC for cells."""
    lines = [f"{'member':<22}{'validation AUC':>15}{'test AUC':>10}"]
    for spec in params.members:
        p_all = np.load(run / f"{spec.architecture}.npy")
        validation, test = (auc(cells.is_all[split == s], p_all[split == s]) for s in ("validation", "test"))
        lines.append(f"{spec.architecture:<22}{validation:>15.4f}{test:>10.4f}")
    return "\n".join(lines) + "\n"


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="all-detect-train", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_fit(commands.add_parser("fit", help="train the members of an ensemble"))
    _add_export(commands.add_parser("export", help="pack a finished run into a bundle"))
    return parser


def _add_fit(fit: argparse.ArgumentParser) -> None:
    fit.set_defaults(command=_fit, refuse=fit.error)
    fit.add_argument("--preset", required=True, choices=sorted(PRESETS), help="what is trained and how")
    data = fit.add_mutually_exclusive_group(required=True)
    data.add_argument("--smears", type=Path, metavar="DIR", help="class folders of smears, which are segmented")
    data.add_argument("--cells", type=Path, metavar="DIR", help="class folders of images of one cell each")
    fit.add_argument(
        "--classes",
        type=_classes,
        default="all=ALL,hem=Hem",
        metavar="FOLDER=CLASS,...",
        help="what the images of each class folder are, ALL or Hem (default: %(default)s)",
    )
    fit.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder; an interrupted fit goes on")
    fit.add_argument(
        "--trunks",
        type=lambda text: text if text == "imagenet" else Path(text),
        metavar="DIR|imagenet",
        help="trunk weights, <architecture>_notop.weights.h5, or Keras's own; at random if not given",
    )
    fit.add_argument(
        "--mask-corner",
        type=_at_least(0),
        default=0,
        metavar="PX",
        help="leave out cells of smears in a square of this side in the lower right corner: a scale bar",
    )
    fit.add_argument("--workers", type=_at_least(1), default=os.cpu_count() or 1, metavar="N", help="reading processes")
    fit.add_argument(
        "--epochs", type=_at_least(1), metavar="N", help="instead of the preset's; the rate's cycle stretches along"
    )
    fit.add_argument(
        "--members", type=lambda text: text.split(","), metavar="A,B", help="train these of the preset's members only"
    )
    fit.add_argument("--seed", type=_at_least(0), metavar="N", help="instead of the preset's")


def _add_export(export: argparse.ArgumentParser) -> None:
    export.set_defaults(command=_export)
    export.add_argument("run", type=Path, metavar="RUN", help="folder that fit completed")
    export.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder for the bundle")
    export.add_argument("--name", required=True, help="of the bundle, in lower case")
    export.add_argument("--version", required=True, help="of the bundle, such as 1.0.0")
    texts = {
        "--description": "one sentence on the bundle",
        "--license": "of its weights",
        "--citation": "of the bundle",
        "--dataset-name": "what it was trained on",
        "--dataset-citation": "whom to cite for the images",
    }
    for flag, text in texts.items():
        export.add_argument(flag, metavar="TEXT", help=text)
    export.add_argument("--data-notes", type=Path, metavar="FILE", help="Markdown on the data, for the model card")


def _classes(text: str) -> dict[str, str]:
    """Parse `Benign=Hem,Early=ALL`."""
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not sub or "/" in sub or name not in ("ALL", "Hem") for sub, _, name in pairs):
        raise argparse.ArgumentTypeError(f"{text!r}; expected folders and ALL or Hem, such as Benign=Hem,Early=ALL")
    return {sub: name for sub, _, name in pairs}


def _at_least(least: int) -> Any:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number of at least {least}")
        return int(text)

    return number
