"""`check`, `evaluate` and `ablation`: what is there, and how well it does."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from all_detect_training.ablating import write_ablation
from all_detect_training.cnmc import check_cnmc, describe
from all_detect_training.commands.arguments import add_images, listed
from all_detect_training.evaluate import evaluate, evaluation_figures, write_evaluation
from all_detect_training.listing import LabelledImage
from all_detect_training.out_folder import check_out
from all_detect_training.seen_images import sides_in_training
from napari_all_detect.bundle import load_bundle
from napari_all_detect.errors import InputError
from napari_all_detect.params import ScoreParams

__all__ = ["add_ablation", "add_check", "add_evaluate"]

log = logging.getLogger(__name__)


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
        help="of --cnmc: preliminary, fold_0, fold_1 or fold_2; of --manifest: a value of its column split; of the "
        "very images that the bundle's run split by subject: train, validation or test",
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
    check_out(args.out)
    images, kind = listed(args)
    manifest = load_bundle(args.bundle).manifest
    chosen = _chosen(images, sides_in_training(manifest, images), args.only)
    table = evaluate(chosen, kind, ScoreParams(bundle=args.bundle), args.mask_corner)
    figures = evaluation_figures(table, manifest.ensemble.threshold, len(chosen))
    sys.stdout.write(write_evaluation(args.out, table, figures))


def _chosen(images: Sequence[LabelledImage], sides: Sequence[str] | None, only: str | None) -> list[LabelledImage]:
    """Return the images of a part; log how many of them the bundle has seen in its training."""
    sided = list(zip(images, sides or [""] * len(images), strict=True))
    # In the words of a run's sides, those of the bundle's own run count, whatever the list calls a part.
    of_run = only in sides if sides else False
    chosen = [(image, side) for image, side in sided if only in (None, side if of_run else image.group)]
    if not chosen:
        parts = sorted({part for image, side in sided for part in (image.group, side) if part})
        raise InputError(f"no image in part {only!r}; expected {', '.join(parts) or 'no --only'}")
    seen = sum(side in ("train", "validation") for _, side in chosen)
    if seen:
        log.warning(
            "%d of %d images trained or validated this bundle, whose figures they flatter; --only test leaves them out",
            *(seen, len(chosen)),
        )
    elif sides and not any(sides):
        log.warning("these are the images that the bundle was trained on; most of them flatter its figures")
    return [image for image, _ in chosen]


def _ablation(args: argparse.Namespace) -> None:
    """Write the table and the report of runs, and print the table."""
    check_out(args.out)
    sys.stdout.write(write_ablation(args.runs, args.out))
