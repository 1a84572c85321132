"""`all-detect-train fit`: train the members of an ensemble; `preset`: print what a file for it can start from."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from all_detect_training.cells import Cells
from all_detect_training.commands.arguments import add_images, at_least, classes_of, kind_of, seed, share
from all_detect_training.fit import fit_ensemble
from all_detect_training.metrics import auc
from all_detect_training.plans import plan_run
from all_detect_training.preset_file import checked_params, read_preset
from all_detect_training.presets import PRESETS, FitParams, with_options
from all_detect_training.run_cells import locked_run, open_cells, split_of
from all_detect_training.starting import refuse_no_network, refuse_no_trunks
from all_detect_training.training_set import TrainingSet, cnmc_set, folder_set, manifest_set
from napari_all_detect.cores import n_cores
from napari_all_detect.stain import METHODS

__all__ = ["add_fit", "add_preset"]


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fit`."""
    interrupted = "; the same command goes on from what is saved"
    parser.set_defaults(command=_fit, refuse=parser.error, interrupted=interrupted)
    parser.add_argument(
        "--preset",
        required=True,
        metavar="NAME|JSON",
        help=f"what is trained and how: {', '.join(sorted(PRESETS))}, or a file of all values: what `all-detect-train "
        "preset` printed, the run.json of a run, or the bundle.json of a bundle",
    )
    add_images(parser)
    parser.add_argument(
        "--split",
        metavar="HOW",
        help="of --cnmc: paper (the default), fold_0, fold_1 or fold_2 (which validates); of it or --manifest: K/N, "
        "the K-th of N folds of whole subjects tests",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder; an interrupted fit goes on")
    parser.add_argument(
        "--trunks",
        type=lambda text: text if text == "imagenet" else Path(text),
        metavar="DIR|imagenet",
        help="trunk weights, <architecture>_notop.weights.h5, or Keras's own; at random if not given",
    )
    parser.add_argument(
        "--workers", type=at_least(1), default=n_cores(), metavar="N", help="reading processes (default: %(default)s)"
    )
    _add_params(parser)


def _add_params(parser: argparse.ArgumentParser) -> None:
    """Add what replaces the preset's values."""
    parser.add_argument(
        "--epochs",
        type=at_least(1),
        metavar="N",
        help="instead of the preset's, times each member's stretch in it (in lite 3 for vgg16 and inception_resnet_v2, "
        "4 for densenet121); the rate's cycle stretches along",
    )
    parser.add_argument(
        "--members", type=lambda text: text.split(","), metavar="A,B", help="train these of the preset's members only"
    )
    parser.add_argument(
        "--batch-size", type=at_least(1), metavar="N", help="instead of the preset's: cells that an update sees"
    )
    parser.add_argument(
        "--seed",
        type=seed,
        metavar="N",
        help="instead of the preset's; it also draws which subjects are on which side of --split paper and K/N",
    )
    parser.add_argument(
        "--stain-jitter",
        type=share,
        metavar="SHARE",
        help="show every cell stained a little otherwise each time, by this share at most, such as 0.2",
    )
    parser.add_argument(
        "--stain-normalisation",
        choices=METHODS,
        help="bring each cell's colours to a reference's first; the bundle will do so when it scores",
    )


def add_preset(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `preset`."""
    parser.add_argument("name", choices=sorted(PRESETS), help="of the preset")
    parser.set_defaults(command=_print_preset)


def _print_preset(args: argparse.Namespace) -> None:
    """Print a preset as the JSON that `fit --preset` reads."""
    sys.stdout.write(json.dumps(asdict(PRESETS[args.name]), indent=2) + "\n")


def _fit(args: argparse.Namespace) -> None:
    """Train what is still to be trained, and print each member's AUC."""
    preset, params = _params(args)
    if isinstance(args.trunks, Path):
        refuse_no_trunks(args.trunks, params.members)
    given = _training_set(args, params)
    plan = plan_run(given, mask_corner_px=args.mask_corner, preset=preset, params=params, trunks=args.trunks)
    with locked_run(args.out):
        cells = open_cells(args.out, given, plan, args.workers)
        split, _ = split_of(args.out, cells, params.train_share, params.validation_share)
        fit_ensemble(cells, split, params, args.out, args.trunks)
    sys.stdout.write(_summary(cells, split, params, args.out))


def _training_set(args: argparse.Namespace, params: FitParams) -> TrainingSet:
    """List the images that the run is trained on."""
    if args.split is not None and (args.smears or args.cells):
        args.refuse("argument --split: goes with --cnmc or --manifest, which know the subjects")
    kind = kind_of(args)
    if args.cnmc:
        return cnmc_set(args.cnmc, args.split or "paper", params.seed)
    if args.manifest:
        return manifest_set(args.manifest, kind, args.split, params.seed)
    return folder_set(args.smears or args.cells, classes_of(args), kind)


def _params(args: argparse.Namespace) -> tuple[str, FitParams]:
    """Return what the preset is called, and its values with what was asked for otherwise."""
    preset, params = _preset(args)
    names = [m.architecture for m in params.members]
    if args.members is not None and not set(args.members) <= set(names):
        args.refuse(f"argument --members: {','.join(args.members)}; expected some of {','.join(names)}")
    options = ("epochs", "members", "batch_size", "seed", "stain_jitter", "stain_normalisation")
    params = with_options(params, **{name: getattr(args, name) for name in options})
    try:
        return preset, checked_params(asdict(params))
    except ValueError as error:
        args.refuse(f"options beside --preset {args.preset}: {error}")
        raise


def _preset(args: argparse.Namespace) -> tuple[str, FitParams]:
    """Return a shipped preset, or that of a file, whose networks are tried before any image is read."""
    if args.preset in PRESETS:
        return args.preset, PRESETS[args.preset]
    path = Path(args.preset)
    if not path.is_file():
        args.refuse(f"argument --preset: {args.preset!r}; expected {', '.join(sorted(PRESETS))}, or a JSON file")
    preset, params = read_preset(path)
    refuse_no_network(path, params.members)
    return preset, params


def _summary(cells: Cells, split: NDArray[np.str_], params: FitParams, run: Path) -> str:
    """Return a table of the members' AUC for cells."""
    lines = [f"{'member':<22}{'validation AUC':>15}{'test AUC':>10}"]
    for spec in params.members:
        p_all = np.load(run / f"{spec.architecture}.npy")
        validation, test = (auc(cells.is_all[split == s], p_all[split == s]) for s in ("validation", "test"))
        lines.append(f"{spec.architecture:<22}{validation:>15.4f}{test:>10.4f}")
    return "\n".join(lines) + "\n"
