"""The commands that make the same bundle again."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from all_detect_training.preset_file import checked_params
from all_detect_training.presets import PRESETS, FitParams, with_options
from all_detect_training.training_set import CONTIGUOUS, GIVEN
from all_detect_training.trusting import TrustTargets
from napari_all_detect.bundle.manifest import Manifest

__all__ = ["reproduce_section"]

PRESET = "PRESET"
"""Stands for this bundle's own `bundle.json`."""


def reproduce_section(manifest: Manifest, has_notes: bool) -> str:
    """Give the commands that make the same bundle again."""
    fit = _fit_command(manifest.training)
    of_file = f", {PRESET} this bundle's `bundle.json`" if f"--preset {PRESET} " in fit else ""
    return (
        "## How to reproduce\n\n"
        "DATA is the folder of the images, or their list, TRUNKS the folder that holds the trunks' weights, NOTES the "
        f"text on the data set{of_file}.{_halved(manifest.training)}\n\n"
        f"```sh\n{fit}\n{_export_command(manifest, has_notes)}\n```\n"
    )


def _batch_sizes(training: Mapping[str, Any]) -> list[int]:
    """Return in which batches members were trained, the largest first; none where that is not known."""
    return sorted({n for facts in training["trained"].values() for n in facts["batch_sizes"]}, reverse=True)


def _halved(training: Mapping[str, Any]) -> str:
    """Say that memory ran out after a first epoch, which no command does again."""
    sizes = _batch_sizes(training)
    if len(sizes) < 2:
        return ""
    return (
        " Memory ran out while members were trained, and their batches went from "
        f"{' to '.join(map(str, sizes))} cells: where it does not run out likewise, they will be others."
    )


def _fit_command(training: Mapping[str, Any]) -> str:
    """Return the command that trains the same members again."""
    data, params, sizes = training["dataset"], checked_params(training["params"]), _batch_sizes(training)
    # Of one size throughout, perhaps as memory ran out in the first epoch: the same as with that size from the start.
    trained = replace(params, batch_size=sizes[0]) if len(sizes) == 1 else params
    preset, options = _preset_and_options(training["preset"], params, trained)
    words = [f"--preset {preset}", *_data_words(data)]
    if data["mask_corner_px"]:
        words += [f"--mask-corner {data['mask_corner_px']}"]
    if any(start != "random" for start in training["trunks"].values()):
        words += [f"--trunks {'imagenet' if 'imagenet' in training['trunks'].values() else 'TRUNKS'}"]
    words += [
        f"--{name.replace('_', '-')} {','.join(value) if isinstance(value, list) else value}"
        for name, value in options.items()
        if value is not None
    ]
    return " ".join(["all-detect-train fit", *words, "--out RUN"])


def _preset_and_options(name: str, params: FitParams, trained: FitParams) -> tuple[str, dict[str, Any]]:
    """Return a shipped preset and the options beside it, or the bundle itself where these can't give every value."""
    shipped = PRESETS.get(name)
    if shipped is not None:
        members = [m.architecture for m in trained.members]
        options: dict[str, Any] = {
            "epochs": _other(shipped.epochs, trained.epochs),
            "members": _other([m.architecture for m in shipped.members], members),
            "batch_size": _other(shipped.batch_size, trained.batch_size),
            "stain_jitter": _other(shipped.stain_jitter, trained.stain_jitter),
            "stain_normalisation": _other(shipped.stain_normalisation, trained.stain_normalisation),
            "seed": trained.seed,
        }
        if with_options(shipped, **options) == trained:
            return name, options
    return PRESET, {"batch_size": _other(params.batch_size, trained.batch_size)}


def _other(usual: Any, value: Any) -> Any:
    """Return a value that is not the usual one."""
    return None if value == usual else value


def _data_words(data: Mapping[str, Any]) -> list[str]:
    """Return the options that name the images and their split."""
    split = data.get("split")
    if split is None:
        classes = ",".join(f"{folder}={name}" for folder, name in data["classes"].items())
        return [f"--{data['kind']} DATA", f"--classes {shlex.quote(classes)}"]
    source = "--cnmc DATA" if "all" in data["classes"] else "--manifest DATA"
    smears = ["--of-smears"] if data["kind"] == "smears" else []
    return [source, *smears, *([] if split in (GIVEN, CONTIGUOUS) else [f"--split {split}"])]


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
    trust, usual = manifest.metrics["trust"], asdict(TrustTargets())
    words += [f"--{name.replace('_', '-')} {rate:g}" for name, rate in trust["targets"].items() if rate != usual[name]]
    words += ["--bf16"] if "bf16" in trust else []
    words += ["--data-notes NOTES"] if has_notes else []
    return " \\\n    ".join(["all-detect-train export RUN --out BUNDLE", *words])
