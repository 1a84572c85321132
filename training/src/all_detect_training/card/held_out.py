"""The part of a model card on how well the members and their ensembles do, and how far that can be trusted."""

from collections.abc import Mapping
from typing import Any

from all_detect_training.calibration import FEW
from all_detect_training.card.tables import figures_table, table
from all_detect_training.figures import ENSEMBLES, figure_in, figure_text
from napari_all_detect.bundle.manifest import Manifest

__all__ = ["confusion_section", "held_out_section", "subjects_section", "trust_section"]

CELL_COLUMNS = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "f1": "F1 of ALL",
    "kappa": "kappa",
    "balanced_accuracy": "balanced accuracy",
}
IMAGE_COLUMNS = {"auc": "AUC", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}


def held_out_section(manifest: Manifest) -> str:
    """Tabulate members and ensembles on the test cells and images, and on subjects where they are known."""
    metrics = manifest.metrics
    rows = _classifiers(metrics)
    of_subjects = f" of {metrics['subjects']} subjects" if "subjects" in metrics else ""
    return (
        f"## Held-out figures: {metrics['cells']} cells of {metrics['images']} test images{of_subjects}\n\n"
        f"Cells (a cell's truth is its image's class):\n\n{figures_table(rows, 'cell', CELL_COLUMNS)}\n\n"
        "Images (an image's score is the mean probability of its cells):\n\n"
        f"{figures_table(rows, 'image', IMAGE_COLUMNS)}\n"
    )


def _classifiers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the members and the ensembles."""
    names = {**ENSEMBLES, "equal": f"{ENSEMBLES['equal']} (simple average)"}
    return {**metrics["members"], **{name: metrics["ensembles"][key] for key, name in names.items()}}


def subjects_section(manifest: Manifest) -> str:
    """Tabulate the test subjects by their cells, where subjects are known."""
    metrics = manifest.metrics
    if "subjects" not in metrics:
        return ""
    rows = _classifiers(metrics)
    body = [
        [
            row["class"],
            f"{row['cells']}",
            f"{row['called_all']:.1%}",
            figure_text(figure_in(row, "mean_p_all")),
        ]
        for row in metrics["kappa_detail"]["subjects"]
    ]
    return (
        "### Subjects\n\nA subject's score is the mean probability of its cells:\n\n"
        f"{figures_table(rows, 'subject', IMAGE_COLUMNS)}\n\n"
        "WEN-kappa, a row a test subject, with a 95% interval from resampling its images, of which one alone gives "
        "none:\n\n"
        f"{table(['class', 'cells', 'called ALL', 'mean P(ALL)'], body)}\n"
    )


def confusion_section(manifest: Manifest) -> str:
    """Tabulate the calls of the ensemble weighted by kappa."""
    metrics = manifest.metrics
    kappa, detail = metrics["ensembles"]["kappa"], metrics["kappa_detail"]
    parts = ["### WEN-kappa in detail"]
    for level, name in (("cell", "Cells"), ("image", "Images")):
        rows = [
            [f"true {c}", *map(str, row)] for c, row in zip(("Hem", "ALL"), detail["confusion"][level], strict=True)
        ]
        parts += [
            f"{name} at {metrics['threshold']:g}: sensitivity {figure_text(kappa[level]['sensitivity'])}, specificity "
            f"{figure_text(kappa[level]['specificity'])}.",
            table(["", "called Hem", "called ALL"], rows),
        ]
    rows = [[name, figure_text(f["cell"]), figure_text(f["image"])] for name, f in detail["auc_by_folder"].items()]
    hem = ", ".join(k for k, v in manifest.training["dataset"]["classes"].items() if v == "Hem")
    parts += [f"AUC of each ALL folder against {hem}:", table(["folder", "cells", "images"], rows)]
    return "\n\n".join(parts) + "\n"


def trust_section(manifest: Manifest) -> str:
    """Say how true the probabilities are, what is called uncertain, and what lies out of the domain."""
    figures = manifest.metrics["trust"]
    return "\n\n".join([*_calibrated(manifest, figures), *_called(manifest, figures)]) + "\n"


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
        table(head, rows),
        "The ensemble's reliability after calibration, bin by bin:",
        table(["cells", "mean probability", "share of ALL"], diagram),
    ]


def _called(manifest: Manifest, figures: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            f"{row['error_rate_all']:g} / {row['error_rate_hem']:g}" + (" (the bundle's own)" if i == 0 else ""),
            *(_called_wrongly(row, name, other) for name, other in (("ALL", "Hem"), ("Hem", "ALL"))),
            *(_share_of(row[name], "uncertain") for name in ("ALL", "Hem")),
        ]
        for i, row in enumerate([figures["calls"]["own"], *figures["calls"]["by_rate"]])
    ]
    head = ["error rate asked for, ALL / Hem", "ALL called Hem", "Hem called ALL", "ALL uncertain", "Hem uncertain"]
    parts = [
        "A call is `uncertain` where either class is possible at the error rate asked for (split-conformal, each class "
        f"by itself, on the validation cells{_confidence(figures)}). On the test cells:",
        table(head, rows),
    ]
    domain, of_test = manifest.domain, figures["domain"]
    if domain is not None and of_test is not None:
        parts += [
            f"The domain is that of the colours of {domain.n} training cells; its border leaves out "
            f"{100 * domain.false_alarm_rate:g}% of the validation cells at most. Of {of_test['cells']} test cells "
            f"{of_test['in_domain'] / of_test['cells']:.1%} are in it, and {of_test['blurred'] / of_test['cells']:.1%} "
            "are flagged as blurred."
        ]
    return [*parts, *_rounded(manifest, figures)]


def _confidence(figures: Mapping[str, Any]) -> str:
    """Say how surely the rate is to be kept to."""
    of = figures["validation"]
    if min(of["ALL"], of["Hem"]) < FEW:
        return (
            f"; these are of {of['ALL']} {of['drawn']} with ALL and {of['Hem']} with Hem cells, too few to tell how "
            "often cells of others are called wrongly"
        )
    return (
        f"; aimed at a confidence of {100 * figures['targets']['confidence']:g}% over {of['drawn']} like the "
        f"{of['ALL']} with ALL and the {of['Hem']} with Hem cells that these are of; where 95 of 100 simulated sets "
        "were to keep to the rate, 82 to 97 did with 50 images of a class, 74 to 84 with 10: docs/trust.md"
    )


def _rounded(manifest: Manifest, figures: Mapping[str, Any]) -> list[str]:
    """Say which members may compute in bf16, if that was found out."""
    rounded = manifest.bf16
    if rounded is None:
        return []
    on_test = figures["bf16"]
    names, given = [m.name for m in manifest.members], rounded.precision.split(",")
    in_fp32 = [name for name, precision in zip(names, given, strict=False) if precision == "fp32"]
    which = f"All members but {', '.join(in_fp32)}" if in_fp32 else "All members"
    return [
        f"{which} may compute in bf16, and do so with `--precision auto` where the processor can (OpenVINO): "
        f"{rounded.same_calls:.2%} of the {rounded.n} validation cells, by which this was chosen, and "
        f"{on_test['same_calls']:.2%} of the {on_test['n']} test cells get the call that they get in fp32; on these "
        f"P(ALL) changes by {on_test['mean_change']:.4f} on average, {on_test['largest_change']:.3f} at most."
    ]


def _called_wrongly(row: Mapping[str, Any], name: str, other: str) -> str:
    """Write the share of a class that is called the other, with its interval."""
    figure = row[f"{name}_called_{other}"]
    interval = "" if figure["low"] is None else f" ({figure['low']:.1%} to {figure['high']:.1%})"
    return _share_of(row[name], other) + interval


def _share_of(counts: Mapping[str, int], call: str) -> str:
    n = sum(counts.values())
    return f"{counts[call] / n:.1%}" if n else "n/a"
