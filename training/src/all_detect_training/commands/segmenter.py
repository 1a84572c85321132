"""`segmenter` and `measure`: train the network that finds cells; and how well cells are found."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from all_detect_training.commands.arguments import at_least, seed
from all_detect_training.naming import check_name
from all_detect_training.out_folder import check_out, move_bundle, refuse_filled, scratch_in
from all_detect_training.segmenter.fit import SegmenterParams, fit_segmenter
from all_detect_training.segmenter.masks import DrawnImage, hold_out, read_boxed, read_masked
from all_detect_training.segmenter.measure import box_figures, mask_figures
from all_detect_training.segmenter.pack import pack_segmenter
from all_detect_training.segmenter.scenes import compose
from all_detect_training.segmenter.sure import read_smears, with_sure_cells
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.params import SegmentationParams

__all__ = ["add_measure", "add_segmenter"]

Sets = dict[str, list[DrawnImage]]

READERS: Mapping[str, Callable[[Path], list[DrawnImage]]] = {
    "masks": read_masked,
    "boxes": read_boxed,
    "smears": read_smears,
}
"""Options that name folders, and what reads one."""


def add_segmenter(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `segmenter`."""
    parser.set_defaults(command=_train)
    _add_data(parser, required=True)
    parser.add_argument(
        "--smears",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="smears in which nobody drew: taught by what the classical method is sure of; can be repeated",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder for the bundle")
    parser.add_argument("--name", default="cells", help="of the bundle, in lower case (default: %(default)s)")
    parser.add_argument("--version", required=True, help="of the bundle, such as 1.0.0")
    for name, least, default, text in (
        ("steps", 1, SegmenterParams.steps, "of training"),
        ("scenes", 1, SegmenterParams.n_scenes, "composed to learn from"),
    ):
        help_text = f"{text} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=at_least(least), default=default, metavar="N", help=help_text)
    parser.add_argument(
        "--seed", type=seed, default=SegmenterParams.seed, metavar="N", help="of all chance (default: %(default)s)"
    )


def add_measure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `measure`."""
    parser.set_defaults(command=_measure)
    _add_data(parser, required=False)
    parser.add_argument(
        "--segmentation", default=SegmentationParams().method, metavar="NAME|PATH", help="(default: %(default)s)"
    )


def _add_data(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument(
        "--masks",
        type=Path,
        action="append",
        default=[],
        required=required,
        metavar="DIR",
        help="<name>_image.png with <name>_mask.png: 255 nucleus, 128 cytoplasm, 0 the rest; can be repeated",
    )
    parser.add_argument(
        "--boxes",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="images with boxes around white cells (Pascal VOC XML, object name WBC); can be repeated",
    )
    parser.add_argument(
        "--hold-out",
        type=at_least(0),
        default=0,
        metavar="N",
        help="leave every N-th image of a folder out of training; measure on these alone (default: none, and all)",
    )


def _train(args: argparse.Namespace) -> None:
    """Train, measure on what was held out, and write the bundle that says so."""
    check_name(args.name, args.version)
    check_out(args.out)
    params = replace(SegmenterParams(), steps=args.steps, n_scenes=args.scenes, seed=args.seed)
    masked, held_masked = _parted(_read(args, "masks"), args.hold_out)
    boxed, held_boxed = _parted(_read(args, "boxes"), args.hold_out)
    if not _joined(masked):
        raise InputError(
            f"--hold-out {args.hold_out} leaves no image with a mask to train on; give a larger number, or more images"
        )
    smears = _read(args, "smears")
    scenes = compose(
        params.n_scenes,
        _joined(masked),
        with_sure_cells(_joined(boxed)) + _joined(smears),
        cell_diameter_px=params.cell_diameter_px,
        seed=params.seed,
    )
    network = fit_segmenter(scenes, params)
    held = held_masked | held_boxed
    data = {
        name: {"train": len(images), "held_out": len(held.get(name, []))}
        for name, images in (masked | boxed | smears).items()
    }
    facts: dict[str, Any] = {"name": args.name, "version": args.version, "params": params, "data": data}
    pack = partial(pack_segmenter, network, **facts)
    measure = partial(_figures, held_masked, held_boxed)
    try:
        metrics = _write(args.out, pack, measure)
    except OutputError as error:
        raise OutputError(f"{error}; {_kept_elsewhere(args.name, pack, measure)}") from error
    sys.stdout.write(f"{args.out}: {args.name} {args.version}\n{json.dumps(metrics, indent=2)}\n")


def _write(out: Path, pack: Callable[..., Any], measure: Callable[[SegmentationParams], dict[str, Any]]) -> Any:
    """Write the bundle, whole or not at all, with its figures: measured as it will run, from a bundle."""
    refuse_filled(out)  # again, as training took hours
    try:
        out.mkdir(parents=True, exist_ok=True)
        with scratch_in(out) as folder:
            draft, whole = folder / "draft", folder / "whole"
            pack(draft, metrics={})
            metrics = measure(SegmentationParams(method=str(draft)))
            pack(whole, metrics=metrics)
            move_bundle(whole, out)
    except OSError as error:
        raise OutputError(f"{out}: the bundle can't be written ({error.strerror or error})") from error
    return metrics


def _kept_elsewhere(name: str, pack: Callable[..., Any], measure: Callable[[SegmentationParams], Any]) -> str:
    """Write the bundle among the temporary files, as its training took hours; say where it is."""
    try:
        kept = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        _write(kept, pack, measure)
    except (OSError, OutputError) as error:
        return f"nor can it be kept among the temporary files ({error}); make room, and train again"
    return f"it is in {kept} instead: move it to where there is room"


def _measure(args: argparse.Namespace) -> None:
    """Print a method's figures."""
    if not args.masks and not args.boxes:
        raise InputError("nothing to measure on; name folders with --masks or --boxes")
    every = args.hold_out or 1
    _, masked = _parted(_read(args, "masks"), every)
    _, boxed = _parted(_read(args, "boxes"), every)
    if not _joined(masked) + _joined(boxed):
        raise InputError(f"--hold-out {every} leaves no image to measure on; give a smaller number, or none")
    figures = _figures(masked, boxed, SegmentationParams(method=args.segmentation))
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


def _read(args: argparse.Namespace, option: str) -> Sets:
    """Read the folders of an option, by a name for each that none of another option has."""
    given = [(kind, folder) for kind in READERS for folder in getattr(args, kind, ())]
    return {
        name: READERS[kind](folder) for name, (kind, folder) in zip(_names(given), given, strict=True) if kind == option
    }


def _names(given: Sequence[tuple[str, Path]]) -> list[str]:
    """Name each folder by its own name; by its path where two have the same, and its kind where it is given as two."""
    names = [folder.resolve().name for _, folder in given]
    paths = [str(folder) if names.count(name) > 1 else name for name, (_, folder) in zip(names, given, strict=True)]
    return [f"{path} ({kind})" if paths.count(path) > 1 else path for path, (kind, _) in zip(paths, given, strict=True)]


def _parted(sets: Sets, every: int) -> tuple[Sets, Sets]:
    """Part each set into images to train on and images held out."""
    parts = {name: hold_out(images, every) for name, images in sets.items()}
    return {name: train for name, (train, _) in parts.items()}, {name: held for name, (_, held) in parts.items()}


def _joined(sets: Sets) -> list[DrawnImage]:
    return [image for images in sets.values() for image in images]


def _figures(
    masked: Mapping[str, list[DrawnImage]], boxed: Mapping[str, list[DrawnImage]], method: SegmentationParams
) -> dict[str, Any]:
    """Measure a method on every data set that has images for it."""
    figures = {name: mask_figures(images, method) for name, images in masked.items() if images}
    return figures | {name: box_figures(images, method) for name, images in boxed.items() if images}
