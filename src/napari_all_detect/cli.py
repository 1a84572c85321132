"""The command line, built from `params.py`."""

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from napari_all_detect import __version__
from napari_all_detect.batch import BatchProgress, BatchSummary, Failure, score_batch, segment_batch
from napari_all_detect.errors import AllDetectError, InputError, ParameterError
from napari_all_detect.params import (
    ClusterParams,
    ExplainParams,
    OutputParams,
    Params,
    ReadParams,
    ScoreParams,
    SegmentationParams,
)
from napari_all_detect.results import read_run
from napari_all_detect.sources import Plane, find_images, open_planes

__all__ = ["main", "run"]

RESEARCH_USE = "For research use only. Not for diagnosis or any clinical decision."

INTERRUPTED = 130

P = TypeVar("P", bound=Params)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `all-detect`; return its exit status.

    0: everything was done. 3: some inputs failed, the rest is complete. 1: nothing could be done. 2: bad usage.
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
    except (AllDetectError, OSError) as error:
        _say(f"all-detect: {error}")
        return 1
    except KeyboardInterrupt:
        _say("all-detect: interrupted; what was done so far is in the output folder, go on with --resume")
        return INTERRUPTED
    return status


def run() -> None:
    """Run `all-detect` as a program: a SIGTERM, as clusters send it, ends it as Ctrl-C does, at once."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if status == INTERRUPTED:
        os._exit(status)  # not when the threads are done with their planes: nothing that they do is written any more
    sys.exit(status)


def _say(message: str) -> None:
    """Print one line on standard error, whatever the names of files in it hold."""
    print(" ".join(message.splitlines()), file=sys.stderr)


def _recorded(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record of a run says of each option; `repeated` is the record."""
    parameters = run["parameters"]
    given = parameters | parameters.get("segmentation", {}) | parameters.get("reading", {})
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name in ("segmentation", "reading", "overwrite", "resume"):
        options.pop(name, None)
    return options | {"inputs": run["inputs"], "repeated": run}


def _parser(defaults: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="all-detect",
        description="Find white blood cells in stained smears and score each as ALL or Hem.",
        epilog=RESEARCH_USE,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    score = commands.add_parser("score", help="score the cells of images", epilog=RESEARCH_USE)
    _add_inputs(score)
    for params in (ScoreParams, SegmentationParams, ReadParams, OutputParams, ClusterParams):
        _add_params(score, params)
    score.add_argument(
        "--from-run",
        type=Path,
        metavar="JSON",
        help="Repeat the run of this run.json; inputs and options that are given beside it replace those in it",
    )
    score.set_defaults(**{"run": _score, "repeated": None, "error": score.error} | dict(defaults or {}))

    segment = commands.add_parser("segment", help="find cells and write label images")
    _add_inputs(segment)
    for params in (SegmentationParams, ReadParams):
        _add_params(segment, params)
    segment.add_argument("--nuclei", action="store_true", help="Write <image>_nuclei.tif too")
    segment.add_argument("--overwrite", action="store_true", help="Replace label images that are there")
    segment.set_defaults(run=_segment, error=segment.error)

    explain = commands.add_parser("explain", help="draw where the networks see signs of ALL in a cell")
    explain.add_argument("image", metavar="IMAGE", help="an image that `score` takes")
    explain.add_argument("--out", required=True, type=Path, metavar="PNG", help="Image to write")
    _add_params(explain, ExplainParams)
    _add_params(explain, ScoreParams)
    _add_params(explain, SegmentationParams)
    explain.set_defaults(run=_explain)

    bundles = commands.add_parser("bundles", help="list, show, verify or install model bundles")
    actions = bundles.add_subparsers(metavar="ACTION", required=True)
    actions.add_parser("list", help="list the installed ones").set_defaults(run=_list_bundles)
    show = actions.add_parser("show", help="print a bundle's card and contents")
    show.add_argument("bundle", metavar="NAME")
    show.set_defaults(run=_show_bundle)
    verify = actions.add_parser("verify", help="check a bundle's schema and digests")
    verify.add_argument("bundle", metavar="PATH")
    verify.set_defaults(run=_verify_bundle)
    tune = actions.add_parser(
        "tune", help="find out on your images how few bits are enough for the same calls; later runs take them"
    )
    tune.add_argument("bundle", metavar="BUNDLE", help="name or path")
    tune.add_argument("inputs", metavar="INPUT", nargs="+", help="images with 1,000 cells or more, as for score")
    tune.set_defaults(run=_tune_bundle)
    install = actions.add_parser("install", help="install a bundle from a zip, a folder or a URL")
    install.add_argument("bundle", metavar="FILE_OR_URL")
    install.set_defaults(run=_install_bundle)

    sample = commands.add_parser("sample", help="write sample smears, drawn, with their truth")
    sample.add_argument("folder", metavar="DIR", type=Path)
    sample.set_defaults(run=_write_samples)
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="PNG, JPEG, BMP, TIFF, a folder of them, a pattern, a zarr array, an OME-Zarr image or plate, or a URL",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="Folder for the results")


def _add_params(parser: argparse.ArgumentParser, params: type[Params]) -> None:
    """Add an option for each field of a dataclass of parameters."""
    for f in fields(params):
        if "tooltip" not in f.metadata:
            continue
        options: dict[str, Any] = {"dest": f.name, "default": f.default, "help": _help(f.metadata, f.default)}
        if isinstance(f.default, bool):
            options["action"] = "store_true"
        else:
            options |= {
                "type": _reader(f.type),
                "metavar": f.metadata.get("metavar"),
                "choices": f.metadata.get("choices"),
            }
        parser.add_argument(f"--{f.metadata.get('flag', f.name.replace('_', '-'))}", **options)


def _help(form: Any, default: Any) -> str:
    text = str(form["tooltip"]).replace("%", "%%")
    if default is None or isinstance(default, bool):
        return text
    shown = ",".join(default) if isinstance(default, tuple) else default
    return f"{text} (default: {shown})"


def _reader(annotation: Any) -> Any:
    """Return what turns an argument's text into a field's type."""
    readers = {
        int: int,
        float: float,
        float | None: float,
        str | float: _word_or_number,
        str | int: _word_or_whole,
        tuple[str, ...]: lambda text: tuple(text.split(",")),
        tuple[int, ...] | None: _whole_numbers,
    }
    return readers.get(annotation, str)


def _word_or_number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _word_or_whole(text: str) -> str | int:
    return int(text) if text.lstrip("-").isdecimal() else text


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _params(kind: type[P], arguments: argparse.Namespace, **more: Any) -> P:
    given = {f.name: getattr(arguments, f.name) for f in fields(kind) if "tooltip" in f.metadata}
    return kind(**given, **more)


class _Bar(BatchProgress):
    """A progress bar on standard error: planes, time left, cells and cells a second."""

    def start(self, planes: int) -> None:
        self.n_cells = 0
        self.bar = tqdm(total=planes, unit="image", file=sys.stderr, dynamic_ncols=True)

    def cells(self, n: int) -> None:
        self.n_cells += n
        elapsed = self.bar.format_dict["elapsed"]
        rate = self.n_cells / elapsed if elapsed > 0 else 0.0
        self.bar.set_postfix_str(f"{self.n_cells} cells, {rate:.0f} cells/s", refresh=False)

    def plane(self) -> None:
        self.bar.update()

    def failed(self, failure: Failure) -> None:
        text = f"{failure.input} failed ({failure.stage}): {failure.reason}"
        self.bar.write(" ".join(text.splitlines()), file=sys.stderr)

    def close(self) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


def _require_inputs(arguments: argparse.Namespace) -> None:
    if not arguments.inputs and getattr(arguments, "samples", None) is None:
        arguments.error("the following arguments are required: INPUT")


def _score(arguments: argparse.Namespace) -> int:
    _require_inputs(arguments)
    repeated = arguments.repeated
    if repeated is not None and arguments.inputs != repeated["inputs"]:
        repeated = None  # its settings, but other images
    nested = {"segmentation": _params(SegmentationParams, arguments), "reading": _params(ReadParams, arguments)}
    params = _params(ScoreParams, arguments, **nested)
    bar = _Bar()
    print(f"loading the networks of {params.bundle} ...", file=sys.stderr)
    try:
        output = _params(OutputParams, arguments)
        cluster = _params(ClusterParams, arguments)
        summary = score_batch(arguments.inputs, arguments.out, params, output, bar, repeated, cluster)
    finally:
        bar.close()
    uncertain = f", {summary.uncertain} uncertain" if summary.uncertain else ""
    print(
        f"{summary.cells} cells in {summary.planes} images: "
        f"{summary.called_all} ALL, {summary.called_hem} Hem{uncertain}"
    )
    _print_end(summary)
    print(RESEARCH_USE)
    return summary.exit_status


def _segment(arguments: argparse.Namespace) -> int:
    _require_inputs(arguments)
    bar = _Bar()
    params, reading = _params(SegmentationParams, arguments), _params(ReadParams, arguments)
    try:
        summary = segment_batch(
            arguments.inputs, arguments.out, params, arguments.overwrite, bar, arguments.nuclei, reading
        )
    finally:
        bar.close()
    print(f"{summary.cells} cells in {summary.planes} images")
    _print_end(summary)
    return summary.exit_status


def _explain(arguments: argparse.Namespace) -> int:
    from napari_all_detect.explain import grad_cam
    from napari_all_detect.export.heatmaps import write_heatmaps
    from napari_all_detect.pipeline import PlaneInput, open_scorer, score_plane
    from napari_all_detect.sources.labels import find_labels, read_labels

    params = _params(ScoreParams, arguments, segmentation=_params(SegmentationParams, arguments))
    which = _params(ExplainParams, arguments)
    plane = _one_plane(arguments.image, which.plane)
    labels = read_labels(find_labels(Path(which.labels), plane)) if which.labels else None
    # A heat map of the ensemble is one of all members.
    scorer = open_scorer(replace(params, fast_calls=False))
    scored = score_plane(scorer, PlaneInput(plane.read(), plane.image, plane.plane, labels, plane.pixel_size_um))
    rows = scored.table[scored.table["label"] == which.label]
    if rows.empty:
        there = scored.table["label"]
        raise InputError(
            f"{arguments.image}: no cell {which.label}; "
            + (f"{len(there)} cells are there, numbered from {there.min()} to {there.max()}" if len(there) else "none")
        )
    cell, crops = rows.iloc[0], scored.crops[rows.index]
    maps = grad_cam(scorer.bundle, crops, scorer.weights, device=params.device)
    titles = [f"{name} {cell[f'p_all_{name}']:.2f}" for name in scorer.members]
    summary = f"cell {which.label}: {cell['call']}, P(ALL) {cell['p_all']:.2f}"
    heat = np.concatenate([maps.members[0], maps.ensemble])
    write_heatmaps(arguments.out, crops[0], summary, heat, [*titles, f"ensemble {cell['p_all']:.2f}"])
    print(f"{summary}; {arguments.out}")
    print(RESEARCH_USE)
    return 0


def _one_plane(image: str, name: str | None) -> Plane:
    """Return the plane of that name, or the only one of an image."""
    planes = [plane for file in find_images([image]) for plane in open_planes(file)]
    chosen = [plane for plane in planes if name is None or plane.plane == name]
    if len(chosen) != 1:
        names = ", ".join(plane.plane for plane in planes[:8]) + (" ..." if len(planes) > 8 else "")
        given = "--plane is not given" if name is None else f"--plane is {name}"
        raise ParameterError(f"{image}: {given}; expected one image, and one of its planes: {names}")
    return chosen[0]


def _print_end(summary: BatchSummary) -> None:
    if summary.failures:
        print(f"{len(summary.failures)} inputs failed")
    print(f"results: {summary.folder}")


def _list_bundles(arguments: argparse.Namespace) -> int:
    from napari_all_detect.bundle import list_bundles

    listed = list_bundles()
    for bundle in listed:
        place = "builtin" if bundle.builtin else "installed"
        if bundle.error is None:
            description = " ".join(bundle.description.split())
            print(f"{bundle.name}-{bundle.version}  {place}  {description}  {bundle.path}")
        else:
            print(f"{bundle.name}  {place}  broken: {bundle.error}")
    if not listed:
        print("no bundles; install one with: all-detect bundles install FILE_OR_URL")
    return 0


def _show_bundle(arguments: argparse.Namespace) -> int:
    from napari_all_detect.bundle import load_any_bundle

    bundle = load_any_bundle(arguments.bundle)
    print(f"{bundle.label} in {bundle.folder}\ndigest {bundle.digest}\n")
    print(bundle.card)
    return 0


def _verify_bundle(arguments: argparse.Namespace) -> int:
    from napari_all_detect.bundle import load_any_bundle

    bundle = load_any_bundle(Path(arguments.bundle))
    print(f"{bundle.label}: schema and {len(bundle.manifest.weights_files)} digests are right")
    return 0


def _tune_bundle(arguments: argparse.Namespace) -> int:
    from napari_all_detect.batch.tuning import tune_bundle
    from napari_all_detect.engines.precision import fastest_that_agrees

    tuning = tune_bundle(arguments.bundle, arguments.inputs, lambda text: print(text, file=sys.stderr))
    print("precision                     ms of a core a cell  same call  kappa  mean and largest change of P(ALL)")
    for row in tuning.measured:
        print(
            f"{row.precision:<30}{row.ms_per_cell:>19.1f}{row.agreement:>11.2%}{row.kappa:>7.3f}"
            f"{row.mean_change:>9.4f} {row.largest_change:.4f}"
        )
    print(f"--precision auto takes {fastest_that_agrees(tuning).precision} from now on")
    return 0


def _install_bundle(arguments: argparse.Namespace) -> int:
    from napari_all_detect.bundle import Manifest, install_bundle

    bundle = install_bundle(arguments.bundle)
    option = "--bundle" if isinstance(bundle.manifest, Manifest) else "--segmentation"
    print(f"{bundle.label} is installed in {bundle.folder}; use it with {option} {bundle.manifest.name}")
    return 0


def _write_samples(arguments: argparse.Namespace) -> int:
    from napari_all_detect.samples import write_samples

    paths = write_samples(arguments.folder)
    print(f"{len(paths)} files; score them: all-detect score {arguments.folder / 'smears'} --out results")
    return 0


if __name__ == "__main__":
    run()
