"""A trained segmenter -> a bundle folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from all_detect_training.naming import check_name
from all_detect_training.out_folder import write_facts
from all_detect_training.plans import versions
from all_detect_training.segmenter.fit import SegmenterParams
from all_detect_training.weights import save_half_precision
from napari_all_detect.bundle import SegmenterManifest
from napari_all_detect.bundle.manifest import validated
from napari_all_detect.digest import file_digest
from napari_all_detect.research_use import RESEARCH_USE

__all__ = ["pack_segmenter"]

WEIGHTS = "network.weights.h5"
CITATION = "Ronneberger O. et al., U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015"


def pack_segmenter(
    network: Any,
    out: Path,
    *,
    name: str,
    version: str,
    params: SegmenterParams,
    data: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> SegmenterManifest:
    """Write `bundle.json`, the weights and `MODEL_CARD.md`.

    Parameters
    ----------
    network : keras.Model
    out : Path
        A new folder.
    name, version : str
    params : SegmenterParams
    data : mapping
        What it was trained on: for each data set the images of training and those held out.
    metrics : mapping
        For each data set the figures on the images held out.

    Raises
    ------
    BundleError
        If the name is none that a bundle can have.
    OSError
        If the folder is there already, or a file can't be written.
    """
    check_name(name, version)
    out.mkdir(parents=True)
    save_half_precision(network, out / WEIGHTS)
    content = _content(name, version, params, file_digest(out / WEIGHTS), data, metrics)
    manifest = validated(SegmenterManifest, json.dumps(content).encode(), str(out))
    write_facts(out, manifest, _card(manifest))
    return manifest


def _content(
    name: str,
    version: str,
    params: SegmenterParams,
    digest: str,
    data: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> dict[str, Any]:
    """Compose what `bundle.json` holds."""
    return {
        "schema_version": 1,
        "kind": "segmenter",
        "name": name,
        "version": version,
        "description": "U-Net that finds white blood cells and their nuclei in stained smears. Research use only.",
        "license": "Research use only; the terms of the training data apply",
        "citation": CITATION,
        "created": datetime.now(UTC).date().isoformat(),
        "research_use_only": True,
        "network": {
            "architecture": "unet",
            "widths": params.widths,
            "cell_diameter_px": params.cell_diameter_px,
            "weights_file": WEIGHTS,
            "sha256": digest,
        },
        "training": {"data": dict(data), "params": asdict(params), "versions": versions()},
        "metrics": dict(metrics),
    }


def _card(manifest: SegmenterManifest) -> str:
    data, params = manifest.training["data"], manifest.training["params"]
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        f"**{RESEARCH_USE}**",
        "",
        "A U-Net that sees a smear's light relative to its empty field, at a scale where white cells are about "
        f"{manifest.network.cell_diameter_px:g} px wide, and gives for each pixel whether it is part of a white cell, "
        "of its nucleus, and how deep in its cell it lies. Seeds of depth part the cells that touch.",
        "",
        "## Training data",
        "",
        "| data set | images trained on | held out |",
        "|---|---:|---:|",
        *(f"| {name} | {counts['train']} | {counts['held_out']} |" for name, counts in data.items()),
        "",
        f"From these, {params['n_scenes']} scenes were composed: drawn cells on their own slide, pasted beside each "
        "other and between the red cells of smears, and smears drawn by this package; their absorbed light "
        f"was mixed anew in each of {params['steps']} steps of {params['batch_size']} patches, so that no stain is "
        "learned by heart. Outside of its boxes an image holds no white cell; inside, a cell was taught where the "
        "classical method finds one that fills its box. In smears that nobody drew in, cells that the classical "
        "method is sure of were taught, and that there is none far from any that it found.",
        "",
        "## Held out",
        "",
        *_figures(manifest.metrics),
        "## Limits",
        "",
        "Cells far from those scenes (other species, fluorescence, tissue) were never seen. Neighbours that overlap "
        "are parted by a line; a cell under another stays hidden. Look at the outlines before you trust a table.",
        "",
    ]
    return "\n".join(lines)


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    """Return a table of Dice and one of boxes, as far as there are any."""
    masks = [(name, m) for name, m in metrics.items() if "cell" in m]
    boxes = [(name, m) for name, m in metrics.items() if "found" in m]
    lines = []
    if masks:
        lines += ["| masks | images | whole cell, Dice | worst tenth | nucleus, Dice |", "|---|---:|---:|---:|---:|"]
        lines += [
            f"| {name} | {m['images']} | {m['cell']['dice']:.3f} | {m['cell']['worst_tenth']:.3f} | "
            f"{m['nucleus']['dice']:.3f} |"
            for name, m in masks
        ]
        lines.append("")
    if boxes:
        lines += ["| boxes | images | cells found (IoU 0.5) | false cells an image |", "|---|---:|---:|---:|"]
        lines += [
            f"| {name} | {m['images']} | {'n/a' if m['found'] is None else format(m['found'], '.3f')} | "
            f"{m['false_per_image']:.3f} |"
            for name, m in boxes
        ]
        lines.append("")
    return lines or ["Nothing was held out.", ""]
