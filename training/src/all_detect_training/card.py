"""The model card: what a bundle is, what it was trained on, how well it does, and what it must not be used for."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from all_detect_training.presets import PRESETS
from napari_all_detect.bundle.manifest import Manifest

__all__ = ["model_card"]

CELL_COLUMNS = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "f1": "F1 of ALL",
    "kappa": "kappa",
    "balanced_accuracy": "balanced accuracy",
}
IMAGE_COLUMNS = {"auc": "AUC", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
ENSEMBLES = {
    "equal": "SAP (simple average)",
    "accuracy": "WEN-accuracy",
    "auc": "WEN-AUC",
    "f1": "WEN-F1",
    "kappa": "WEN-kappa",
}

INTENDED_USE = """\
## Intended use

Research on stained smears: to find out where in a set of images cells look more like leukemic lymphoblasts (ALL) or
more like normal cells (Hem), to compare methods, to sort cells for a closer look by people who can judge them.

## What it must not be used for

- Diagnosis, screening, decisions on treatment, or anything else that touches a patient's care. It is no medical
  device, nobody has validated it clinically, and a high probability is not a finding.
- Images of other stains, species, specimens, microscopes or magnifications than those it was trained on, unless you
  have checked it on labelled images of your own first.
- Other diseases: it knows two classes and calls every cell one of them, whatever it is.
"""

PATIENTS_UNKNOWN = """\
- **Patients are unknown.** The split knows images, not patients. Contiguous blocks make it less likely that a patient
  is on both sides, but cannot rule it out, least of all at their borders. The figures are therefore optimistic: expect
  less on a new patient, and less again on images of another laboratory.
"""

LIMITS = """\
- **Part of what is learned may be the slide.** Where the classes come from different slides, patients or batches of
  stain, their colours differ too, and nothing in these figures parts the disease from the stain.
- The intervals cover the choice of test images only, not that of patients, laboratories or training runs.
"""


def model_card(manifest: Manifest, data_notes: str = "") -> str:
    """Write a bundle's model card.

    Parameters
    ----------
    manifest : Manifest
        Every number in the card is one of its numbers.
    data_notes : str
        Markdown on the data set, included as it is under "Training data".

    Returns
    -------
    card : str
        Markdown.
    """
    parts = [
        _title(manifest),
        _what_it_is(manifest),
        INTENDED_USE,
        _training_data(manifest, data_notes),
        _split(manifest),
        _training(manifest),
        _held_out(manifest),
        _confusion(manifest),
        _trust(manifest),
        _computed(manifest),
        _limits(manifest),
        _reproduce(manifest, bool(data_notes)),
        f"## License\n\n{manifest.license}\n",
        f"## Citation\n\n{manifest.citation}\n",
    ]
    return "\n".join(part for part in parts if part)


def _title(manifest: Manifest) -> str:
    return (
        f"# Model card: {manifest.name} {manifest.version}\n\n{manifest.description}\n\n"
        f"**For research only. Not for diagnosis or any other clinical use.** Trained {manifest.created}.\n"
    )


def _what_it_is(manifest: Manifest) -> str:
    cut = any(m.cut for m in manifest.members)
    rows = [
        [
            m.architecture,
            f"`{m.cut}`" if m.cut else "whole",
            f"{m.input_size} px",
            *(f"{v:.3f}" for v in (m.validation.accuracy, m.validation.auc, m.validation.f1, m.validation.kappa)),
        ]
        for m in manifest.members
    ]
    head = ["member", "ends after", "input", "accuracy", "AUC", "F1", "kappa"]
    return (
        "## What it is\n\n"
        f"{len(manifest.members)} convolutional networks{' cut early' if cut else ''}, whose votes are weighted as by "
        "Mondal et al. (2021), Eq. 2: a cell's probability of ALL is the mean of the members' probabilities, weighted "
        f"by each member's validation {manifest.ensemble.weighting}. A cell is called ALL from "
        f"{manifest.ensemble.threshold:g} on. Cells are shown alone on black, {manifest.crop.size} px wide crops at a "
        f"scale at which the median cell measures {manifest.crop.cell_diameter_px:g} px{_stain(manifest)}.\n\n"
        f"{_table(head, rows)}\n\n"
        f"Accuracy, AUC, F1 and kappa are those on the {manifest.members[0].validation.n} validation cells; they are "
        "the weights W_k that Eq. 2 can use.\n"
    )


def _stain(manifest: Manifest) -> str:
    method = manifest.crop.stain_normalisation
    return f", each cell's colours brought to a reference's ({method})" if method else ""


def _training_data(manifest: Manifest, notes: str) -> str:
    data, counts = manifest.training["dataset"], manifest.training["split"]["counts"]
    rows = [
        [folder, data["classes"][folder], *(f"{side[folder]['images']} / {side[folder]['cells']}" for side in sides)]
        for sides in [list(counts.values())]
        for folder in data["classes"]
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
        ),
        "Images with cells / cells:",
        _table(["folder", "class", *counts], rows),
        notes.strip(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _finder(data: Mapping[str, Any]) -> str:
    """Say what found the cells."""
    finder = data.get("segmentation") or {}
    return f" (segmentation `{finder.get('bundle', finder['method'])}`)" if finder else ""


def _split(manifest: Manifest) -> str:
    params, split = manifest.training["params"], manifest.training["split"]
    if split["subjects"] != "unknown":
        return (
            f"## How it was split\n\n{split['subjects']} subjects, {split['method']}. No subject, and no cell, is on "
            "two sides. The validation cells choose each member's best epoch and its weight; the test images choose "
            "nothing in a run.\n"
        )
    train, validation = params["train_share"], params["validation_share"]
    return (
        "## How it was split\n\n"
        f"In each class folder, in the order of the images' numbers: the first {train:.0%} of the images train, the "
        f"next {validation:.0%} validate, the last {1 - train - validation:.0%} test. All cells of an image are on one "
        "side. The validation cells choose each member's best epoch and its weight; the test images choose "
        "nothing in a run.\n"
    )


def _training(manifest: Manifest) -> str:
    training = manifest.training
    values = {k: v for k, v in training["params"].items() if k != "members"}
    starts = training["trunks"]
    members = [
        [m["architecture"], starts[m["architecture"]], f"{training['params']['epochs'] * m.get('stretch', 1):.0f}"]
        for m in training["params"]["members"]
    ]
    return (
        "## How it was trained\n\n"
        "As by Mondal et al. (2021): Adamax with the cyclical learning rate triangular2, categorical cross-entropy, "
        "random oversampling of the smaller class, flips, rotation, zoom and shift. The epoch with the best "
        f"validation AUC is kept. Weights are rounded to half precision before anything is measured. Preset "
        f"`{training['preset']}`:\n\n"
        f"{_table(['parameter', 'value'], [[f'`{k}`', f'{v}'] for k, v in values.items()])}\n\n"
        f"{_table(['member', 'its trunk started from', 'epochs'], members)}\n\n"
        f"Made with {', '.join(f'{k} {v}' for k, v in training['versions'].items() if v)}.\n"
    )


def _held_out(manifest: Manifest) -> str:
    metrics = manifest.metrics
    rows = {**metrics["members"], **{name: metrics["ensembles"][k] for k, name in ENSEMBLES.items()}}
    return (
        f"## Held-out figures: {metrics['cells']} cells of {metrics['images']} test images\n\n"
        f"Cells (a cell's truth is its image's class):\n\n{_figures_table(rows, 'cell', CELL_COLUMNS)}\n\n"
        "Images (an image's score is the mean probability of its cells):\n\n"
        f"{_figures_table(rows, 'image', IMAGE_COLUMNS)}\n"
    )


def _confusion(manifest: Manifest) -> str:
    metrics = manifest.metrics
    kappa, detail = metrics["ensembles"]["kappa"], metrics["kappa_detail"]
    parts = ["### WEN-kappa in detail"]
    for level, name in (("cell", "Cells"), ("image", "Images")):
        rows = [
            [f"true {c}", *map(str, row)] for c, row in zip(("Hem", "ALL"), detail["confusion"][level], strict=True)
        ]
        parts += [
            f"{name} at {metrics['threshold']:g}: sensitivity {_interval(kappa[level]['sensitivity'])}, specificity "
            f"{_interval(kappa[level]['specificity'])}.",
            _table(["", "called Hem", "called ALL"], rows),
        ]
    rows = [[name, _interval(f["cell"]), _interval(f["image"])] for name, f in detail["auc_by_folder"].items()]
    hem = ", ".join(k for k, v in manifest.training["dataset"]["classes"].items() if v == "Hem")
    parts += [f"AUC of each ALL folder against {hem}:", _table(["folder", "cells", "images"], rows)]
    return "\n\n".join(parts) + "\n"


def _trust(manifest: Manifest) -> str:
    """Say how true the probabilities are, what is called uncertain, and what lies out of the domain."""
    figures = manifest.metrics.get("trust")
    return "" if figures is None else "\n\n".join([*_calibrated(manifest, figures), *_called(manifest, figures)]) + "\n"


def _calibrated(manifest: Manifest, figures: Mapping[str, Any]) -> list[str]:
    temperatures = {m.architecture: m.temperature for m in manifest.members}
    temperatures["ensemble"] = manifest.ensemble.temperatures[manifest.ensemble.weighting]
    rows = [
        [
            name,
            f"{temperatures[name]:.3f}",
            *(f"{f[side][key]:.3f}" for key in ("calibration_error", "log_loss") for side in ("before", "after")),
        ]
        for name, f in figures["calibration"].items()
    ]
    head = ["", "temperature", "calibration error before", "after", "log loss before", "after"]
    diagram = [
        [f"{row['n']}", f"{row['p_all']:.3f}", f"{row['share_all']:.3f}"]
        for row in figures["calibration"]["ensemble"]["after"]["reliability"]
    ]
    return [
        "## How far a score can be trusted",
        "Temperatures were fitted on the validation cells; these are the test cells. Calibration error: the mean gap "
        "between the probability given and the share of ALL cells, over 15 bins. All of it as if both classes were "
        "equally frequent, as in training: where ALL is rarer, fewer cells of a given probability are ALL.",
        _table(head, rows),
        "The ensemble's reliability after calibration, bin by bin:",
        _table(["cells", "mean probability", "share of ALL"], diagram),
    ]


def _called(manifest: Manifest, figures: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            f"{row['error_rate_all']:g} / {row['error_rate_hem']:g}" + (" (the bundle's own)" if i == 0 else ""),
            *(_share_of(row[name], call) for name, call in (("ALL", "Hem"), ("Hem", "ALL"))),
            *(_share_of(row[name], "uncertain") for name in ("ALL", "Hem")),
        ]
        for i, row in enumerate([figures["calls"]["own"], *figures["calls"]["by_rate"]])
    ]
    head = ["error rate kept to, ALL / Hem", "ALL called Hem", "Hem called ALL", "ALL uncertain", "Hem uncertain"]
    parts = [
        "A call is `uncertain` where either class is possible at the error rate kept to (split-conformal, each class "
        "by itself, on the validation cells). On the test cells:",
        _table(head, rows),
    ]
    domain, of_test = manifest.domain, figures["domain"]
    if domain is not None and of_test is not None:
        parts += [
            f"The domain is that of the colours of {domain.n} training cells; its border leaves out "
            f"{domain.false_alarm_rate:.0%} of the validation cells at most. Of {of_test['cells']} test cells "
            f"{of_test['in_domain'] / of_test['cells']:.1%} are in it, and {of_test['blurred'] / of_test['cells']:.1%} "
            "are flagged as blurred."
        ]
    return parts


def _share_of(counts: Mapping[str, int], call: str) -> str:
    n = sum(counts.values())
    return f"{counts[call] / n:.1%}" if n else "n/a"


def _computed(manifest: Manifest) -> str:
    interval = manifest.metrics["interval"]
    return (
        "## How the figures were computed\n\n"
        "With the weights that the bundle holds, on test images only. In brackets: "
        f"{interval['level']:.0%} intervals by a {interval['method']} ({interval['resamples']} resamples, seed "
        f"{interval['seed']}; whole images are drawn, as cells of an image are no independent draws). Calls are made "
        f"at {manifest.metrics['threshold']:g}; members, weights and threshold stay the same in every resample. n/a: "
        "not defined on these images.\n"
    )


def _limits(manifest: Manifest) -> str:
    known = manifest.training["split"]["subjects"] != "unknown"
    return "## Known limits\n\n" + ("" if known else PATIENTS_UNKNOWN) + LIMITS + _calibration(manifest)


def _calibration(manifest: Manifest) -> str:
    if any(m.temperature != 1 for m in manifest.members):
        return ""
    return (
        "- **Probabilities are not calibrated yet.** Of the cells given 0.9, more or fewer than nine in ten may be "
        "ALL; the classes were balanced for training, and are not in a patient.\n"
    )


def _reproduce(manifest: Manifest, has_notes: bool) -> str:
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
    if params.get("stain_jitter"):
        words += [f"--stain-jitter {params['stain_jitter']:g}"]
    if params.get("stain_normalisation"):
        words += [f"--stain-normalisation {params['stain_normalisation']}"]
    return " ".join(["all-detect-train fit", *words, f"--seed {params['seed']} --out RUN"])


def _data_words(data: Mapping[str, Any]) -> list[str]:
    """Return the options that name the images and their split."""
    split = data.get("split")
    if split is None:
        return [f"--{data['kind']} DATA", f"--classes {','.join(f'{k}={v}' for k, v in data['classes'].items())}"]
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
    notes = ["--data-notes NOTES"] if has_notes else []
    return " \\\n    ".join(["all-detect-train export RUN --out BUNDLE", *words, *notes])


def _figures_table(rows: Mapping[str, Any], level: str, columns: Mapping[str, str]) -> str:
    body = [[name, *(_interval(row[level][key]) for key in columns)] for name, row in rows.items()]
    return _table(["", *columns.values()], body)


def _interval(figure: Mapping[str, float | None]) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or low is None or high is None:
        return "n/a" if value is None else f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
