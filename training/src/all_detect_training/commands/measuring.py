"""`check`, `evaluate` and `ablation`: what is there, and how well it does."""

import argparse
import sys
from pathlib import Path

from all_detect_training.ablating import write_ablation
from all_detect_training.cnmc import check_cnmc, describe
from all_detect_training.commands.arguments import add_images, listed
from all_detect_training.evaluate import evaluate, evaluation_figures, write_evaluation
from all_detect_training.out_folder import refuse_filled
from napari_all_detect.bundle import load_bundle
from napari_all_detect.errors import InputError
from napari_all_detect.params import ScoreParams

__all__ = ["add_ablation", "add_check", "add_evaluate"]


def add_check(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `check`."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="C-NMC 2019, in its folders as published")
    parser.set_defaults(command=_check)


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evaluate`."""
    parser.set_defaults(command=_evaluate, refuse=parser.error)
    parser.add_argument("bundle", metavar="NAME|PATH", help="of the bundle")
    add_images(parser)
    parser.add_argument(
        "--only",
        metavar="PART",
        help="of --cnmc: preliminary, fold_0, fold_1 or fold_2; of --manifest: a value of its column split",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder for cells and figures")


def add_ablation(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ablation`."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders that fit completed")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder for the report")
    parser.set_defaults(command=_ablation)


def _check(args: argparse.Namespace) -> None:
    """Print what is there of C-NMC 2019, and what is missing."""
    check = check_cnmc(args.folder)
    sys.stdout.write("\n".join(describe(check)) + "\n")
    if not check.is_whole:
        raise InputError(f"{args.folder}: not the whole of C-NMC 2019 as published")


def _evaluate(args: argparse.Namespace) -> None:
    """Score labelled images, and print how well the bundle does."""
    refuse_filled(args.out)
    images, kind = listed(args)
    chosen = [image for image in images if args.only in (None, image.group)]
    if not chosen:
        parts = sorted({image.group for image in images} - {""})
        raise InputError(f"no image in part {args.only!r}; expected {', '.join(parts) or 'no --only'}")
    params = ScoreParams(bundle=args.bundle)
    table = evaluate(chosen, kind, params, args.mask_corner)
    figures = evaluation_figures(table, load_bundle(args.bundle).manifest.ensemble.threshold)
    sys.stdout.write(write_evaluation(args.out, table, figures))


def _ablation(args: argparse.Namespace) -> None:
    """Write the table and the report of runs, and print the table."""
    refuse_filled(args.out)
    sys.stdout.write(write_ablation(args.runs, args.out))
