"""`all-detect-train`: train the members of an ensemble, and pack them into a bundle."""

import argparse
import logging
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from all_detect_training.ablating import write_ablation
from all_detect_training.bundling import About, export_bundle
from all_detect_training.cnmc import check_cnmc, describe, list_cnmc
from all_detect_training.dataset import Cells, Kind, list_folders
from all_detect_training.evaluate import evaluate, evaluation_figures, write_evaluation
from all_detect_training.fit import fit_ensemble
from all_detect_training.listing import LabelledImage, read_manifest
from all_detect_training.metrics import auc
from all_detect_training.presets import PRESETS, FitParams
from all_detect_training.runs import open_cells, plan_run, split_of
from all_detect_training.segmenter.cli import add_measure, add_segmenter
from all_detect_training.training_set import TrainingSet, cnmc_set, folder_set, manifest_set
from all_detect_training.trusting import TrustTargets
from napari_all_detect.bundle import load_bundle
from napari_all_detect.errors import AllDetectError, InputError, OutputError
from napari_all_detect.params import ScoreParams

__all__ = ["main"]

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


def _fit(args: argparse.Namespace) -> None:
    """Train what is still to be trained, and print each member's AUC."""
    params = _params(args)
    if args.mask_corner and not (args.smears or args.of_smears):
        args.refuse("argument --mask-corner: goes with --smears or --of-smears; an image of one cell would be lost")
    if isinstance(args.trunks, Path) and not args.trunks.is_dir():
        raise InputError(f"{args.trunks}: no such folder; expected one with <architecture>_notop.weights.h5")
    given = _training_set(args, params)
    plan = plan_run(given, mask_corner_px=args.mask_corner, preset=args.preset, params=params, trunks=args.trunks)
    cells = open_cells(args.out, given, plan, args.workers)
    split, _ = split_of(args.out, cells, params.train_share, params.validation_share)
    fit_ensemble(cells, split, params, args.out, args.trunks)
    sys.stdout.write(_summary(cells, split, params, args.out))


def _training_set(args: argparse.Namespace, params: FitParams) -> TrainingSet:
    """List the images that the run is trained on."""
    if args.split is not None and (args.smears or args.cells):
        args.refuse("argument --split: goes with --cnmc or --manifest, which know the subjects")
    kind: Kind = "smears" if args.smears or args.of_smears else "cells"
    if args.cnmc:
        return cnmc_set(args.cnmc, args.split or "paper", params.seed)
    if args.manifest:
        return manifest_set(args.manifest, kind, args.split, params.seed)
    return folder_set(args.smears or args.cells, args.classes, kind)


def _check(args: argparse.Namespace) -> None:
    """Print what is there of C-NMC 2019, and what is missing."""
    check = check_cnmc(args.folder)
    sys.stdout.write("\n".join(describe(check)) + "\n")
    if not check.is_whole:
        raise InputError(f"{args.folder}: not the whole of C-NMC 2019 as published")


def _export(args: argparse.Namespace) -> None:
    """Write the bundle, and print where it is and how well it does."""
    values = {k: v for k, v in vars(args).items() if k in About.__dataclass_fields__ and v is not None}
    if args.data_notes is not None:
        try:
            values["data_notes"] = args.data_notes.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{args.data_notes}: can't be read as UTF-8 text ({error})") from error
    targets = TrustTargets(**{f.name: getattr(args, f.name) for f in fields(TrustTargets)})
    manifest = export_bundle(args.run, args.out, About(**values), targets)
    figure = manifest.metrics["ensembles"]["kappa"]["cell"]["auc"]
    calibration = manifest.metrics["trust"]["calibration"]["ensemble"]
    sys.stdout.write(
        f"{args.out}: {manifest.name} {manifest.version}, {len(manifest.members)} members; WEN-kappa on "
        f"{manifest.metrics['cells']} test cells: AUC {figure['value']:.3f}, calibration error "
        f"{calibration['before']['calibration_error']:.3f} before and {calibration['after']['calibration_error']:.3f} "
        "after\n"
    )


def _evaluate(args: argparse.Namespace) -> None:
    """Score labelled images, and print how well the bundle does."""
    _refuse_filled(args.out)
    images, kind = _listed(args)
    chosen = [image for image in images if args.only in (None, image.group)]
    if not chosen:
        parts = sorted({image.group for image in images} - {""})
        raise InputError(f"no image in part {args.only!r}; expected {', '.join(parts) or 'no --only'}")
    params = ScoreParams(bundle=args.bundle)
    table = evaluate(chosen, kind, params)
    figures = evaluation_figures(table, load_bundle(args.bundle).manifest.ensemble.threshold)
    sys.stdout.write(write_evaluation(args.out, table, figures))


def _listed(args: argparse.Namespace) -> tuple[Sequence[LabelledImage], Kind]:
    """List labelled images, and say whether they are smears or cells."""
    kind: Kind = "smears" if args.smears or args.of_smears else "cells"
    if args.cnmc:
        return list_cnmc(args.cnmc), kind
    if args.manifest:
        return read_manifest(args.manifest), kind
    return list_folders(args.smears or args.cells, args.classes), kind


def _refuse_filled(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already; name a new or an empty folder")


def _ablation(args: argparse.Namespace) -> None:
    """Write the table and the report of runs, and print the table."""
    _refuse_filled(args.out)
    sys.stdout.write(write_ablation(args.runs, args.out))


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
    check = commands.add_parser("check", help="say what is there of C-NMC 2019, and what is missing")
    check.add_argument("folder", type=Path, metavar="DIR", help="C-NMC 2019, in its folders as published")
    check.set_defaults(command=_check)
    _add_export(commands.add_parser("export", help="pack a finished run into a bundle"))
    ablation = commands.add_parser("ablation", help="write the table of members and ensembles, and a report")
    ablation.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders that fit completed")
    ablation.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder for the report")
    ablation.set_defaults(command=_ablation)
    _add_evaluate(commands.add_parser("evaluate", help="score labelled images with a bundle, and measure it"))
    add_segmenter(
        commands.add_parser("segmenter", help="train the network that finds cells, and write its bundle"), _at_least
    )
    add_measure(
        commands.add_parser("measure", help="measure a way of finding cells on drawn masks and boxes"), _at_least
    )
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    """Add what names labelled images."""
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--smears", type=Path, metavar="DIR", help="class folders of smears, which are segmented")
    data.add_argument("--cells", type=Path, metavar="DIR", help="class folders of images of one cell each")
    data.add_argument("--cnmc", type=Path, metavar="DIR", help="C-NMC 2019, in its folders as published")
    data.add_argument(
        "--manifest",
        type=Path,
        metavar="CSV",
        help="columns path, class (ALL or Hem), subject, and split if it is given",
    )
    parser.add_argument("--of-smears", action="store_true", help="the images of --manifest are smears, not cells")
    parser.add_argument(
        "--classes",
        type=_classes,
        default="all=ALL,hem=Hem",
        metavar="FOLDER=CLASS,...",
        help="what the images of each class folder are, ALL or Hem (default: %(default)s)",
    )


def _add_fit(fit: argparse.ArgumentParser) -> None:
    fit.set_defaults(command=_fit, refuse=fit.error)
    fit.add_argument("--preset", required=True, choices=sorted(PRESETS), help="what is trained and how")
    _add_data(fit)
    fit.add_argument(
        "--split",
        metavar="HOW",
        help="of --cnmc: paper (the default), fold_0, fold_1 or fold_2 (which validates); of it or --manifest: K/N, "
        "the K-th of N folds of whole subjects tests",
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


def _add_evaluate(evaluating: argparse.ArgumentParser) -> None:
    evaluating.set_defaults(command=_evaluate, refuse=evaluating.error)
    evaluating.add_argument("bundle", metavar="NAME|PATH", help="of the bundle")
    _add_data(evaluating)
    evaluating.add_argument(
        "--only",
        metavar="PART",
        help="of --cnmc: preliminary, fold_0, fold_1 or fold_2; of --manifest: a value of its column split",
    )
    evaluating.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="new folder for cells and figures"
    )


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
    rates = {
        "--error-rate-all": "share of ALL cells that may be called Hem; what can't be told apart so well is uncertain",
        "--error-rate-hem": "share of Hem cells that may be called ALL, likewise",
        "--sensitivity": "set the threshold so that this share of ALL cells is called ALL, instead of at 0.5",
        "--false-alarm-rate": "share of cells like the training cells that may be out of domain",
    }
    for (flag, text), target in zip(rates.items(), fields(TrustTargets), strict=True):
        shown = "" if target.default is None else " (default: %(default)s)"
        export.add_argument(flag, type=_share, default=target.default, metavar="SHARE", help=text + shown)
    export.add_argument("--data-notes", type=Path, metavar="FILE", help="Markdown on the data, for the model card")


def _classes(text: str) -> dict[str, str]:
    """Parse `Benign=Hem,Early=ALL`."""
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not sub or "/" in sub or name not in ("ALL", "Hem") for sub, _, name in pairs):
        raise argparse.ArgumentTypeError(f"{text!r}; expected folders and ALL or Hem, such as Benign=Hem,Early=ALL")
    return {sub: name for sub, _, name in pairs}


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number between 0 and 1")
    return value


def _at_least(least: int) -> Any:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number of at least {least}")
        return int(text)

    return number
