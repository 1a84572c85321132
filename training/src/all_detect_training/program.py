"""`all-detect-train`: train the members of an ensemble, and pack them into a bundle."""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from all_detect_training import __version__
from all_detect_training.commands.export import add_export
from all_detect_training.commands.fit import add_fit, add_preset
from all_detect_training.commands.measuring import add_ablation, add_check, add_evaluate
from all_detect_training.commands.publishing import add_bioimageio, add_card
from all_detect_training.commands.segmenter import add_measure, add_segmenter
from napari_all_detect.cli import INTERRUPTED
from napari_all_detect.errors import AllDetectError
from napari_all_detect.research_use import RESEARCH_USE
from napari_all_detect.streams import BROKEN_PIPE, flushed, one_line, prepare_streams

__all__ = ["main", "run"]

log = logging.getLogger("all_detect_training")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 after an error of the input, or 130 where it was interrupted."""
    args = _parser().parse_args(argv)
    with _log_to_stderr():
        try:
            args.command(args)
        except AllDetectError as error:
            sys.stderr.write(f"all-detect-train: {one_line(' '.join(str(error).split()))}\n")
            return 1
        except BrokenPipeError:
            return BROKEN_PIPE
        except KeyboardInterrupt:
            sys.stderr.write(f"all-detect-train: interrupted{getattr(args, 'interrupted', '')}\n")
            return INTERRUPTED
    return 0


def run() -> None:
    """Run `all-detect-train` as a program, whose streams and exit status are its own."""
    prepare_streams()
    status = main()
    sys.exit(flushed(status))


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
    parser = argparse.ArgumentParser(prog="all-detect-train", description=__doc__, epilog=RESEARCH_USE)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_fit(commands.add_parser("fit", help="train the members of an ensemble"))
    add_preset(commands.add_parser("preset", help="print a preset's values, to change them in a file for fit"))
    add_check(commands.add_parser("check", help="say what is there of C-NMC 2019, and what is missing"))
    add_export(commands.add_parser("export", help="pack a finished run into a bundle"))
    add_ablation(commands.add_parser("ablation", help="write the table of members and ensembles, and a report"))
    add_evaluate(commands.add_parser("evaluate", help="score labelled images with a bundle, and measure it"))
    add_card(commands.add_parser("card", help="write a bundle's model card as a page with its curves"))
    add_bioimageio(commands.add_parser("bioimageio", help="write a bundle as a package for bioimage.io's tools"))
    add_segmenter(commands.add_parser("segmenter", help="train the network that finds cells, and write its bundle"))
    add_measure(commands.add_parser("measure", help="measure a way of finding cells on drawn masks and boxes"))
    return parser
