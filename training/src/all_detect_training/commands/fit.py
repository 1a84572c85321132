"""`all-detect-train fit`: train the members of an ensemble."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from all_detect_training.commands.arguments import add_images, at_least, classes_of, kind_of, seed, share
from all_detect_training.dataset import Cells
from all_detect_training.fit import fit_ensemble
from all_detect_training.metrics import auc
from all_detect_training.plans import plan_run
from all_detect_training.presets import PRESETS, FitParams
from all_detect_training.run_cells import locked_run, open_cells, split_of
from all_detect_training.starting import refuse_no_trunks
from all_detect_training.training_set import TrainingSet, cnmc_set, folder_set, manifest_set
from napari_all_detect.cores import n_cores
from napari_all_detect.stain import METHODS

__all__ = ["add_fit"]


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fit`."""
    parser.set_defaults(command=_fit, refuse=parser.error)
    parser.add_argument("--preset", required=True, choices=sorted(PRESETS), help="what is trained and how")
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
        "--epochs", type=at_least(1), metavar="N", help="instead of the preset's; the rate's cycle stretches along"
    )
    parser.add_argument(
        "--members", type=lambda text: text.split(","), metavar="A,B", help="train these of the preset's members only"
    )
    parser.add_argument(
        "--batch-size", type=at_least(1), metavar="N", help="instead of the preset's: cells that an update sees"
    )
    parser.add_argument("--seed", type=seed, metavar="N", help="instead of the preset's")
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


def _fit(args: argparse.Namespace) -> None:
    """Train what is still to be trained, and print each member's AUC."""
    params = _params(args)
    if isinstance(args.trunks, Path):
        refuse_no_trunks(args.trunks, params.members)
    given = _training_set(args, params)
    plan = plan_run(given, mask_corner_px=args.mask_corner, preset=args.preset, params=params, trunks=args.trunks)
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
    given = {name: getattr(args, name) for name in ("batch_size", "seed", "stain_jitter", "stain_normalisation")}
    return replace(params, **{name: value for name, value in given.items() if value is not None})


def _summary(cells: Cells, split: NDArray[np.str_], params: FitParams, run: Path) -> str:
    """Return a table of the members' AUC for cells."""
    lines = [f"{'member':<22}{'validation AUC':>15}{'test AUC':>10}"]
    for spec in params.members:
        p_all = np.load(run / f"{spec.architecture}.npy")
        validation, test = (auc(cells.is_all[split == s], p_all[split == s]) for s in ("validation", "test"))
        lines.append(f"{spec.architecture:<22}{validation:>15.4f}{test:>10.4f}")
    return "\n".join(lines) + "\n"
