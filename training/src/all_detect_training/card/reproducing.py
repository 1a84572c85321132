"""The commands that make the same bundle again."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from all_detect_training.presets import PRESETS
from all_detect_training.trusting import TrustTargets
from napari_all_detect.bundle.manifest import Manifest

__all__ = ["reproduce_section"]


def reproduce_section(manifest: Manifest, has_notes: bool) -> str:
    """Give the commands that make the same bundle again."""
    return (
        "## How to reproduce\n\n"
        "DATA is the folder that holds the class folders, TRUNKS the one that holds the trunks' weights, NOTES the "
        "text on the data set.\n\n"
        f"```sh\n{_fit_command(manifest.training)}\n{_export_command(manifest, has_notes)}\n```\n"
    )


def _fit_command(training: Mapping[str, Any]) -> str:
    """Return the command that trains the same members again."""
    data, params, preset = training["dataset"], training["params"], PRESETS.get(training["preset"])
    members = [m["architecture"] for m in params["members"]]
    words = [f"--preset {training['preset']}", *_data_words(data)]
    if data["mask_corner_px"]:
        words += [f"--mask-corner {data['mask_corner_px']}"]
    if any(start != "random" for start in training["trunks"].values()):
        words += [f"--trunks {'imagenet' if 'imagenet' in training['trunks'].values() else 'TRUNKS'}"]
    if preset is None or params["epochs"] != preset.epochs:
        words += [f"--epochs {params['epochs']}"]
    if preset is None or members != [m.architecture for m in preset.members]:
        words += [f"--members {','.join(members)}"]
    if preset is None or params["batch_size"] != preset.batch_size:
        words += [f"--batch-size {params['batch_size']}"]
    if params.get("stain_jitter"):
        words += [f"--stain-jitter {params['stain_jitter']:g}"]
    if params.get("stain_normalisation"):
        words += [f"--stain-normalisation {params['stain_normalisation']}"]
    return " ".join(["all-detect-train fit", *words, f"--seed {params['seed']} --out RUN"])


def _data_words(data: Mapping[str, Any]) -> list[str]:
    """Return the options that name the images and their split."""
    split = data.get("split")
    if split is None:
        classes = ",".join(f"{folder}={name}" for folder, name in data["classes"].items())
        return [f"--{data['kind']} DATA", f"--classes {shlex.quote(classes)}"]
    source = "--cnmc DATA" if "all" in data["classes"] else "--manifest DATA"
    smears = ["--of-smears"] if data["kind"] == "smears" else []
    return [source, *smears, *([] if split == "given" else [f"--split {split}"])]


def _export_command(manifest: Manifest, has_notes: bool) -> str:
    """Return the command that packs them into the same bundle."""
    data = manifest.training["dataset"]
    texts = {
        "--name": manifest.name,
        "--version": manifest.version,
        "--dataset-name": data["name"],
        "--dataset-citation": data["citation"],
        "--description": manifest.description,
        "--license": manifest.license,
        "--citation": manifest.citation,
    }
    words = [f"{flag} {shlex.quote(text)}" for flag, text in texts.items() if text]
    trust = manifest.metrics.get("trust", {})
    targets, usual = trust.get("targets", {}), asdict(TrustTargets())
    words += [f"--{name.replace('_', '-')} {rate:g}" for name, rate in targets.items() if rate != usual[name]]
    words += ["--bf16"] if "bf16" in trust else []
    words += ["--data-notes NOTES"] if has_notes else []
    return " \\\n    ".join(["all-detect-train export RUN --out BUNDLE", *words])
