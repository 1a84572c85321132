"""The ablation as files that people read: a CSV, a Markdown table, and one HTML page that needs nothing else."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from all_detect_training.ablation import FIGURES, Classifier
from napari_all_detect.errors import OutputError

__all__ = ["Panel", "chosen_cells", "write_report"]

Panel = tuple[str, Any]
"""A caption and a `PIL.Image.Image`."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd }
th { border-bottom: 2px solid #888; font-weight: 600 } th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left }
td.best { font-weight: 700 } small { color: #666 } .paper { color: #8a4b00 }
.row { display: flex; flex-wrap: wrap; gap: 2rem } figure { margin: 1rem 0 } svg, img { max-width: 100%; height: auto }
"""


def write_report(
    out: Path,
    table: pd.DataFrame,
    of: Sequence[Classifier],
    panels: Sequence[Panel],
    facts: Mapping[str, str],
    subjects: Mapping[str, pd.DataFrame],
) -> None:
    """Write `table4.csv`, `table4.md`, `report.html`, and `subjects.csv` where subjects are known.

    Parameters
    ----------
    out : Path
        A folder, made if it is not there.
    table : DataFrame
        Of `table_4`.
    of : sequence of Classifier
        Those of its rows.
    panels : sequence of (str, image)
        Grad-CAM of cells, with captions.
    facts : mapping of str to str
        What was trained on what, a line each.
    subjects : mapping of str to DataFrame
        Caption and `subject_table` of each run whose subjects are known.

    Raises
    ------
    OutputError
        If the folder can't be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "table4.csv").write_text(table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
        (out / "table4.md").write_text(_markdown(table), encoding="utf-8")
        (out / "report.html").write_text(_page(table, of, panels, facts, subjects), encoding="utf-8")
        if subjects:
            joined = pd.concat(subjects, names=["run"]).reset_index(level="run")
            (out / "subjects.csv").write_text(joined.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out}: can't be written ({error.strerror}); name another folder") from error


def _markdown(table: pd.DataFrame) -> str:
    head = ["input", "classifier", *FIGURES.values()]
    rows = [
        [f"{row['input_px']} px", str(row["classifier"]), *(_text(row, name) for name in FIGURES)]
        for _, row in table.iterrows()
    ]
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines)
        + "\n\nIn brackets: 95% intervals. After a slash: Mondal et al. (2021), on the preliminary set of C-NMC 2019.\n"
    )


def _text(row: Any, name: str) -> str:
    """Return a figure, its interval and the paper's own."""
    low, high, paper = row[f"{name}_low"], row[f"{name}_high"], row[f"{name}_paper"]
    interval = "" if pd.isna(low) else f" ({low:.3f} to {high:.3f})"
    return (
        ("n/a" if pd.isna(row[name]) else f"{row[name]:.3f}") + interval + ("" if pd.isna(paper) else f" / {paper:.3f}")
    )


def _page(
    table: pd.DataFrame,
    of: Sequence[Classifier],
    panels: Sequence[Panel],
    facts: Mapping[str, str],
    subjects: Mapping[str, pd.DataFrame],
) -> str:
    lines = "".join(f"<li><b>{escape(name)}</b>: {escape(text)}</li>" for name, text in facts.items())
    sizes = sorted({one.input_px for one in of})
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>Ablation</title>"
        f"<style>{STYLE}</style></head><body>\n<h1>Members and ensembles, side by side</h1>\n"
        "<p><b>For research only. Not for diagnosis or any other clinical use.</b></p>\n"
        f"<ul>{lines}</ul>\n<h2>Figures on the test cells</h2>\n{_html_table(table)}\n"
        "<p><small>In brackets: 95% percentile bootstrap intervals; what is drawn is said above. "
        "<span class='paper'>Brown</span>: printed by Mondal et al. (2021, Table 4), on the preliminary set of C-NMC "
        "2019. WP, WR, WFS: precision, recall and F1 weighted by the classes' numbers of cells. ACC: accuracy. BA: "
        "balanced accuracy. Calls at 0.5. SAP: simple average (Eq. 1). WEN: weighted by that validation figure "
        "(Eq. 2). Bold: the best of an input size.</small></p>\n<h2>ROC curves</h2>\n<div class='row'>"
        + "".join(f"<figure>{_roc(of, size)}<figcaption>{size} px</figcaption></figure>" for size in sizes)
        + "</div>\n<h2>Confusion matrices</h2>\n<div class='row'>"
        + "".join(_confusion(one) for one in of if one.name in ("WEN-kappa", "SAP"))
        + "</div>\n"
        + "".join(_subjects(caption, rows) for caption, rows in subjects.items())
        + _panels(panels)
        + "</body></html>\n"
    )


def _html_table(table: pd.DataFrame) -> str:
    head = "".join(f"<th>{text}</th>" for text in ("input", "classifier", *FIGURES.values()))
    best = {(size, name): group[name].max() for size, group in table.groupby("input_px") for name in FIGURES}
    rows = []
    for _, row in table.iterrows():
        cells = "".join(
            f"<td{' class=best' if row[name] == best[row['input_px'], name] else ''}>{_html_figure(row, name)}</td>"
            for name in FIGURES
        )
        rows.append(f"<tr><td>{row['input_px']} px</td><td>{escape(str(row['classifier']))}</td>{cells}</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _html_figure(row: Any, name: str) -> str:
    low, high, paper = row[f"{name}_low"], row[f"{name}_high"], row[f"{name}_paper"]
    text = "n/a" if pd.isna(row[name]) else f"{row[name]:.3f}"
    text += "" if pd.isna(low) else f"<br><small>({low:.3f} to {high:.3f})</small>"
    return text + ("" if pd.isna(paper) else f"<br><span class='paper'>{paper:.3f}</span>")


def _roc(of: Sequence[Classifier], size: int) -> str:
    """Draw the ROC curves of an input size as SVG."""
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_curve

    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for one in of:
        if one.input_px == size and 0 < one.is_all.sum() < len(one.is_all):
            false, true, _ = roc_curve(one.is_all, one.p_all)
            is_ensemble = one.name in ("SAP", "WEN-kappa")
            if is_ensemble or not one.name.startswith("WEN"):
                axes.plot(false, true, label=one.name, linewidth=2.2 if is_ensemble else 1.1)
    axes.set(xlabel="Hem called ALL", ylabel="ALL called ALL", xlim=(0, 1), ylim=(0, 1.005))
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    svg = io.StringIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    text = svg.getvalue()
    return text[text.index("<svg") :]


def _confusion(one: Classifier) -> str:
    rows = "".join(
        f"<tr><td>true {name}</td><td></td>"
        + "".join(f"<td>{n} <small>({n / max(sum(row), 1):.1%})</small></td>" for n in row)
        + "</tr>"
        for name, row in zip(("Hem", "ALL"), one.confusion.tolist(), strict=True)
    )
    return (
        f"<figure><table><tr><th>{escape(one.name)}, {one.input_px} px</th><th></th><th>called Hem</th>"
        f"<th>called ALL</th></tr>{rows}</table></figure>"
    )


def _subjects(caption: str, rows: pd.DataFrame) -> str:
    """Return a table of a row per subject."""
    head = "".join(f"<th>{text}</th>" for text in ("subject", "class", "cells", "called ALL", "mean P(ALL)"))
    lines = "".join(
        f"<tr><td>{escape(str(row['subject']))}</td><td>{row['class']}</td><td>{row['cells']}</td>"
        f"<td>{row['called_all']:.1%}</td><td>{row['mean_p_all']:.3f} "
        f"<small>({row['mean_p_all_low']:.3f} to {row['mean_p_all_high']:.3f})</small></td></tr>"
        for _, row in rows.iterrows()
    )
    return f"<h2>Subjects</h2>\n<p>{escape(caption)}</p>\n<table><tr>{head}</tr>{lines}</table>\n"


def _panels(panels: Sequence[Panel]) -> str:
    if not panels:
        return ""
    parts = [
        "<h2>What the networks look at</h2>\n<p>Grad-CAM: where a cell speaks for ALL, by each member; the "
        "ensemble's map is the weighted sum. Each map is relative to its own maximum.</p>\n"
    ]
    for caption, image in panels:
        png = io.BytesIO()
        image.save(png, format="PNG", optimize=True)
        data = base64.b64encode(png.getvalue()).decode("ascii")
        image_tag = f"<img alt='' src='data:image/png;base64,{data}'>"
        parts.append(f"<figure>{image_tag}<figcaption>{escape(caption)}</figcaption></figure>\n")
    return "".join(parts)


def chosen_cells(one: Classifier, n: int = 2) -> list[int]:
    """Return indices of test cells to look at: the surest right and the surest wrong calls of both classes."""
    chosen: list[int] = []
    for is_all, called_all in ((True, True), (False, False), (True, False), (False, True)):
        there = np.flatnonzero((one.is_all == is_all) & ((one.p_all >= 0.5) == called_all))
        order = np.argsort(-one.p_all[there] if called_all else one.p_all[there], kind="stable")
        chosen += there[order[:n]].tolist()
    return chosen
