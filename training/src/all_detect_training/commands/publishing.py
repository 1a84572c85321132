"""`card` and `bioimageio`: a bundle for people and tools that don't have this one."""

import argparse
import sys
from pathlib import Path

from all_detect_training.bioimageio_package import write_bioimageio_package
from all_detect_training.card.page import card_page
from napari_all_detect.atomic import written_atomically
from napari_all_detect.bundle import load_any_bundle, load_bundle
from napari_all_detect.errors import OutputError

__all__ = ["add_bioimageio", "add_card"]


def add_card(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `card`."""
    parser.add_argument("bundle", metavar="NAME|PATH", help="a bundle of either kind")
    parser.add_argument("--out", type=Path, required=True, metavar="HTML", help="new file for the page")
    parser.set_defaults(command=_card)


def add_bioimageio(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `bioimageio`."""
    parser.add_argument("bundle", metavar="NAME|PATH", help="a bundle that scores cells")
    parser.add_argument("--out", type=Path, required=True, metavar="ZIP", help="new file for the package")
    parser.set_defaults(command=_bioimageio)


def _card(args: argparse.Namespace) -> None:
    """Write the page, and print where it is."""
    if args.out.exists():
        raise OutputError(f"{args.out} exists already; name a new file")
    bundle = load_any_bundle(args.bundle)
    try:
        with written_atomically(args.out) as file:  # opened first: drawing takes seconds
            file.write(card_page(bundle).encode())
    except OSError as error:
        raise OutputError(f"{args.out}: can't be written ({error.strerror or error}); name another file") from error
    sys.stdout.write(f"{args.out}: one page that needs no other file\n")


def _bioimageio(args: argparse.Namespace) -> None:
    """Write the package, and print where it is."""
    bundle = load_bundle(args.bundle)
    write_bioimageio_package(bundle, args.out)
    sys.stdout.write(f"{args.out}: {bundle.label} as a bioimage.io package, validated and run by bioimageio.core\n")
