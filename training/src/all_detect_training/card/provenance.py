"""The part of a model card on what its members were trained on, and how."""

from collections.abc import Mapping
from typing import Any

from all_detect_training.card.tables import table
from all_detect_training.history import epochs_at_most
from all_detect_training.preset_file import checked_params
from all_detect_training.presets import departures
from all_detect_training.training_set import CONTIGUOUS
from napari_all_detect.bundle.manifest import Manifest

__all__ = ["split_section", "training_data_section", "training_section"]


def training_data_section(manifest: Manifest, notes: str) -> str:
    """Say what it was trained on; `notes` are included as they are."""
    data, counts = manifest.training["dataset"], manifest.training["split"]["counts"]
    rows = [
        [folder, name, *(_images_and_cells(side.get(folder, {})) for side in counts.values())]
        for folder, name in data["classes"].items()
    ]
    origin = (
        f"Cells were found in whole smears{_finder(data)}, and a cell takes the class of its image: a **weak label**, "
        "as a smear of leukemia holds normal cells too."
        if data["kind"] == "smears"
        else "Every image shows one cell, of the class of its folder."
    )
    masked = data["mask_corner_px"]
    parts = [
        "## Training data",
        "\n".join(line for line in (data["name"], data["citation"]) if line),
        f"{data['images']} images. {origin}"
        + (
            f" Cells that reach into the lower right {masked} x {masked} px were left out: a scale bar is there."
            if masked
            else ""
        )
        + (
            " Smears of another scale were rescaled, as when the bundle scores."
            if data.get("rescale") == "auto"
            else ""
        ),
        "Images with cells / cells:",
        table(["folder", "class", *counts], rows),
        notes.strip(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _images_and_cells(count: Mapping[str, int]) -> str:
    """Write a count; of a folder whose images were all left out there is none."""
    return f"{count.get('images', 0)} / {count.get('cells', 0)}"


def _finder(data: Mapping[str, Any]) -> str:
    """Say what found the cells."""
    finder = data.get("segmentation") or {}
    return f" (segmentation `{finder.get('bundle', finder['method'])}`)" if finder else ""


def split_section(manifest: Manifest) -> str:
    """Say what trained, validated and tested."""
    params, split = manifest.training["params"], manifest.training["split"]
    if split["subjects"] != "unknown":
        return (
            f"## How it was split\n\n{split['subjects']} subjects, {split['method']}. No subject, and no cell, is on "
            "two sides. The validation cells choose each member's best epoch and its weight; the test images choose "
            "nothing in a run.\n"
        )
    if manifest.training["dataset"].get("split") not in (None, CONTIGUOUS):
        return (
            f"## How it was split\n\nBy image, {split['method']}; of which patients they are is unknown. No cell is on "
            "two sides. The validation cells choose each member's best epoch and its weight; the test images choose "
            "nothing in a run.\n"
        )
    train, validation = params["train_share"], params["validation_share"]
    return (
        "## How it was split\n\n"
        "Of each class, the images in which cells are found, in the order of their names, numbers in them by value: "
        f"the first {train:.0%} train, the next {validation:.0%} validate, the last "
        f"{1 - train - validation:.0%} test. All cells of an image are on one side. The validation cells choose each "
        "member's best epoch and its weight; the test images choose nothing in a run.\n"
    )


def training_section(manifest: Manifest) -> str:
    """Say how it was trained, with every value."""
    training = manifest.training
    params = checked_params(training["params"])
    values = {k: v for k, v in training["params"].items() if k != "members"}
    other = departures(training["preset"], params)
    but = f", but for {', '.join(f'`{name}`' for name in other)}" if other else ""
    trained = training["trained"]
    head = ["member", "its trunk started from", "epochs at most"]
    head += ["trained", "kept", "batches of"] if trained else []
    members = [
        [
            spec.architecture,
            training["trunks"][spec.architecture],
            f"{epochs_at_most(params, spec)}",
            *(_trained(trained.get(spec.architecture)) if trained else []),
        ]
        for spec in params.members
    ]
    return (
        "## How it was trained\n\n"
        "As by Mondal et al. (2021): Adamax with the cyclical learning rate triangular2, categorical cross-entropy, "
        "random oversampling of the smaller class, flips, rotation, zoom and shift. The epoch with the best "
        f"validation AUC is kept. Weights are rounded to half precision before anything is measured. Preset "
        f"`{training['preset']}`{but}:\n\n"
        f"{table(['parameter', 'value'], [[f'`{k}`', f'{v}'] for k, v in values.items()])}\n\n"
        f"{table(head, members)}\n\n"
        f"Made with {', '.join(f'{k} {v}' for k, v in training['versions'].items() if v)}.\n"
    )


def _trained(facts: Mapping[str, Any] | None) -> list[str]:
    """Write for how many epochs a member was trained, which one was kept, and in which batches."""
    if facts is None:
        return ["not known"] * 3
    batches = ", then ".join(map(str, facts["batch_sizes"])) or "not known"
    return [f"{facts['epochs']}", f"{facts['kept']}", batches]
