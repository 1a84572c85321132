"""What several commands are asked for in the same words."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from all_detect_training.cnmc import list_cnmc
from all_detect_training.listing import Kind, LabelledImage, list_folders, read_manifest

__all__ = ["add_images", "at_least", "classes_of", "kind_of", "listed", "seed", "share"]

CLASSES = "all=ALL,hem=Hem"


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add what names labelled images."""
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--smears", type=Path, metavar="DIR", help="class folders of smears, which are segmented")
    data.add_argument("--cells", type=Path, metavar="DIR", help="class folders of images of one cell each, on black")
    data.add_argument("--cnmc", type=Path, metavar="DIR", help="C-NMC 2019, in its folders as published")
    data.add_argument(
        "--manifest",
        type=Path,
        metavar="CSV",
        help="images of one cell each, on black: columns path, class (ALL or Hem), subject, and split if it is given",
    )
    parser.add_argument("--of-smears", action="store_true", help="the images of --manifest are smears, not cells")
    parser.add_argument(
        "--classes",
        type=_classes,
        metavar="FOLDER=CLASS,...",
        help=f"what the images of each class folder are, ALL or Hem (default: {CLASSES})",
    )
    parser.add_argument(
        "--mask-corner",
        type=at_least(0),
        default=0,
        metavar="PX",
        help="leave out cells of smears in a square of this side in the lower right corner: a scale bar",
    )


def kind_of(args: argparse.Namespace) -> Kind:
    """Return whether the images that were named are smears or cells; refuse options that go with others."""
    if args.of_smears and not args.manifest:
        args.refuse("argument --of-smears: goes with --manifest")
    if args.classes and (args.manifest or args.cnmc):
        args.refuse("argument --classes: goes with --smears or --cells, which have class folders")
    if args.smears or args.of_smears:
        return "smears"
    if args.mask_corner:
        args.refuse("argument --mask-corner: goes with --smears or --of-smears; an image of one cell would be lost")
    return "cells"


def classes_of(args: argparse.Namespace) -> dict[str, str]:
    """Return what the images of each class folder are."""
    return args.classes or _classes(CLASSES)


def listed(args: argparse.Namespace) -> tuple[Sequence[LabelledImage], Kind]:
    """List the labelled images that were named, and say whether they are smears or cells."""
    kind = kind_of(args)
    if args.cnmc:
        return list_cnmc(args.cnmc), kind
    if args.manifest:
        return read_manifest(args.manifest), kind
    return list_folders(args.smears or args.cells, classes_of(args)), kind


def at_least(least: int, at_most: int | None = None) -> Callable[[str], int]:
    """Return what reads whole numbers from `least` on, up to and with `at_most` where it is given."""
    expected = f"of at least {least}" if at_most is None else f"from {least} to {at_most}"

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (at_most is not None and int(text) > at_most):
            raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number {expected}")
        return int(text)

    return number


def seed(text: str) -> int:
    """Read a seed, as NumPy and Keras take it."""
    return at_least(0, at_most=2**32 - 1)(text)


def share(text: str) -> float:
    """Read a number between 0 and 1, without either."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number between 0 and 1")
    return value


def _classes(text: str) -> dict[str, str]:
    """Parse `Benign=Hem,Early=ALL`."""
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not sub or "/" in sub or name not in ("ALL", "Hem") for sub, _, name in pairs):
        raise argparse.ArgumentTypeError(f"{text!r}; expected folders and ALL or Hem, such as Benign=Hem,Early=ALL")
    classes = {sub: name for sub, _, name in pairs}
    if len(classes) < len(pairs):
        raise argparse.ArgumentTypeError(f"{text!r}; expected each folder once")
    return classes
