"""`all-detect-train export`: pack a finished run into a bundle."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from all_detect_training.bundling import About, export_bundle
from all_detect_training.commands.arguments import share
from all_detect_training.figures import figure_text
from all_detect_training.trusting import TrustTargets
from napari_all_detect.errors import InputError

__all__ = ["add_export"]


def add_export(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `export`."""
    parser.set_defaults(command=_export)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder that fit completed")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder for the bundle")
    parser.add_argument("--name", required=True, help="of the bundle, in lower case")
    parser.add_argument("--version", required=True, help="of the bundle, such as 1.0.0")
    texts = {
        "--description": "one sentence on the bundle",
        "--license": "of its weights",
        "--citation": "of the bundle",
        "--dataset-name": "what it was trained on",
        "--dataset-citation": "whom to cite for the images",
    }
    for flag, text in texts.items():
        parser.add_argument(flag, metavar="TEXT", help=text)
    rates = {
        "--error-rate-all": "share of ALL cells that may be called Hem; what can't be told apart so well is uncertain",
        "--error-rate-hem": "share of Hem cells that may be called ALL, likewise",
        "--sensitivity": "share of ALL cells not to be called Hem: --error-rate-all is 1 minus it at most, and the "
        "threshold, for where every cell is called, is set by it instead of at 0.5",
        "--false-alarm-rate": "share of cells like the training cells that may be out of domain",
        "--confidence": "with which error rates and sensitivity are to be kept to, over subjects, or images, like "
        "those that validate",
    }
    for (flag, text), target in zip(rates.items(), fields(TrustTargets), strict=True):
        shown = "" if target.default is None else " (default: %(default)s)"
        parser.add_argument(flag, type=share, default=target.default, metavar="SHARE", help=text + shown)
    parser.add_argument(
        "--bf16",
        action="store_true",
        help="find out which members may compute in bf16, for --precision auto (takes OpenVINO and such a processor)",
    )
    parser.add_argument("--data-notes", type=Path, metavar="FILE", help="Markdown on the data, for the model card")


def _export(args: argparse.Namespace) -> None:
    """Write the bundle, and print where it is and how well it does."""
    values = {k: v for k, v in vars(args).items() if k in About.__dataclass_fields__ and v is not None}
    if args.data_notes is not None:
        try:
            values["data_notes"] = args.data_notes.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{args.data_notes}: can't be read as UTF-8 text ({error})") from error
    targets = TrustTargets(**{f.name: getattr(args, f.name) for f in fields(TrustTargets)})
    manifest = export_bundle(args.run, args.out, About(**values), targets, args.bf16)
    figure = manifest.metrics["ensembles"]["kappa"]["cell"]["auc"]
    calibration = manifest.metrics["trust"]["calibration"]["ensemble"]
    sys.stdout.write(
        f"{args.out}: {manifest.name} {manifest.version}, {len(manifest.members)} members; WEN-kappa on "
        f"{manifest.metrics['cells']} test cells: AUC {figure_text(figure, interval='')}, calibration error "
        f"{calibration['before']['calibration_error']:.3f} before and {calibration['after']['calibration_error']:.3f} "
        "after\n"
    )
