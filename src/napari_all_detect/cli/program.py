"""The program `all-detect`: its commands, and what its exit status says."""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from napari_all_detect import __version__
from napari_all_detect.cli import INTERRUPTED, bundles, explaining, scoring
from napari_all_detect.cli.options import add_inputs, add_params
from napari_all_detect.errors import AllDetectError, ParameterError
from napari_all_detect.params import (
    ClusterParams,
    ExplainParams,
    OutputParams,
    ReadParams,
    ScoreParams,
    SegmentationParams,
)
from napari_all_detect.research_use import RESEARCH_USE
from napari_all_detect.results import read_run
from napari_all_detect.sources.places import without_secrets
from napari_all_detect.streams import BROKEN_PIPE, flushed, one_line, prepare_streams

__all__ = ["main", "run"]

RECORDED = (ScoreParams, SegmentationParams, ReadParams, OutputParams)
NOT_OPTIONS = {"segmentation", "reading", "overwrite", "resume"}
"""Parts that are records themselves, and what is said of one run alone."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `all-detect`; return its exit status.

    0: everything was done. 3: some inputs failed, the rest is complete. 1: nothing was done, for the reason that is
    printed, or all inputs failed. 2: an option or a value that can't be. 130: interrupted.
    """
    arguments = _parser().parse_args(argv)
    try:
        if getattr(arguments, "from_run", None) is not None:
            # Once more: what the record says instead of the defaults, and over that what is typed.
            arguments = _parser(_recorded(read_run(arguments.from_run))).parse_args(argv)
        status: int = arguments.run(arguments)
    except ParameterError as error:
        _say(f"all-detect: {error}")
        return 2
    except BrokenPipeError:
        return BROKEN_PIPE
    except (AllDetectError, OSError) as error:
        _say(f"all-detect: {error}")
        return 1
    except KeyboardInterrupt:
        resumed = "; what was done so far is in the output folder, go on with --resume"
        _say(f"all-detect: interrupted{resumed if arguments.run is scoring.score else ''}")
        return INTERRUPTED
    return status


def run() -> None:
    """Run `all-detect` as a program, whose streams and exit status are its own."""
    # What TensorFlow says of itself as it starts, and of graphs that it traces, is no concern of who scores smears.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").addFilter(lambda record: record.levelno >= logging.ERROR)
    # An interrupted run leaves its workers' semaphores to Python's tracker of resources, which clears and reports them.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    prepare_streams()
    status = flushed(main())
    if status == INTERRUPTED:
        from napari_all_detect.scratch import Scratch

        Scratch.clear()
        os._exit(status)  # not when the threads are done with their planes: nothing that they do is written any more
    sys.exit(status)


def _say(message: str) -> None:
    """Print one line on standard error, whatever the names of files in it hold, without keys of addresses."""
    print(one_line(without_secrets(message)), file=sys.stderr)


def _recorded(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record of a run says of each option that it may hold; `repeated` is the record."""
    parameters = run["parameters"]
    options: dict[str, Any] = parameters | parameters.get("segmentation", {}) | parameters.get("reading", {})
    known = {field.name for params in RECORDED for field in fields(params)} - NOT_OPTIONS
    recorded = {name: value for name, value in options.items() if name in known}
    return recorded | {"inputs": run["inputs"], "repeated": run}


def _parser(defaults: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="all-detect",
        description="Find white blood cells in stained smears and score each as ALL or Hem.",
        epilog=RESEARCH_USE,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    score = commands.add_parser("score", help="score the cells of images", epilog=RESEARCH_USE)
    add_inputs(score)
    for params in (ScoreParams, SegmentationParams, ReadParams, OutputParams, ClusterParams):
        add_params(score, params)
    score.add_argument(
        "--from-run",
        type=Path,
        metavar="JSON",
        help="Repeat the run of this run.json; inputs and options that are given beside it replace those in it",
    )
    score.set_defaults(**{"run": scoring.score, "repeated": None, "error": score.error} | dict(defaults or {}))

    segment = commands.add_parser("segment", help="find cells and write label images", epilog=RESEARCH_USE)
    add_inputs(segment)
    for params in (SegmentationParams, ReadParams):
        add_params(segment, params)
    segment.add_argument("--nuclei", action="store_true", help="Write <image>_nuclei.tif too")
    segment.add_argument("--overwrite", action="store_true", help="Replace label images that are there")
    segment.set_defaults(run=scoring.segment, error=segment.error)

    explain = commands.add_parser(
        "explain", help="draw where the networks see signs of ALL in a cell", epilog=RESEARCH_USE
    )
    explain.add_argument("image", metavar="IMAGE", help="an image that `score` takes")
    explain.add_argument("--out", required=True, type=Path, metavar="PNG", help="Image to write")
    for which in (ExplainParams, ScoreParams, SegmentationParams, ReadParams):
        add_params(explain, which, without=["fast_calls"])
    explain.set_defaults(run=explaining.explain)

    _add_bundle_commands(commands)

    sample = commands.add_parser("sample", help="write sample smears, drawn, with their truth")
    sample.add_argument("folder", metavar="DIR", type=Path)
    sample.set_defaults(run=_write_samples)
    return parser


def _add_bundle_commands(commands: Any) -> None:
    parser = commands.add_parser("bundles", help="list, show, verify, tune or install model bundles")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    actions.add_parser("list", help="list the installed ones").set_defaults(run=bundles.list_all)
    show = actions.add_parser("show", help="print a bundle's card and contents")
    show.add_argument("bundle", metavar="NAME")
    show.set_defaults(run=bundles.show)
    verify = actions.add_parser("verify", help="check a bundle's schema and digests")
    verify.add_argument("bundle", metavar="NAME|PATH")
    verify.set_defaults(run=bundles.verify)
    tune = actions.add_parser(
        "tune", help="find out on your images how few bits are enough for the same calls; later runs take them"
    )
    tune.add_argument("bundle", metavar="BUNDLE", help="name or path")
    tune.add_argument("inputs", metavar="INPUT", nargs="+", help="images with 1,000 cells or more, as for score")
    for name in ("engine", "device"):
        of_score = ScoreParams.__dataclass_fields__[name]
        choices, default = of_score.metadata["choices"], of_score.default
        tune.add_argument(f"--{name}", choices=choices, default=default, help="as for score")
    tune.set_defaults(run=bundles.tune)
    install = actions.add_parser("install", help="install a bundle from a zip, a folder or a URL")
    install.add_argument("bundle", metavar="FILE_OR_URL")
    install.set_defaults(run=bundles.install)


def _write_samples(arguments: argparse.Namespace) -> int:
    from napari_all_detect.samples import write_samples

    paths = write_samples(arguments.folder)
    print(f"{len(paths)} files; score them: all-detect score {arguments.folder / 'smears'} --out results")
    return 0
