"""The ablation's page: one HTML file that needs nothing else."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from all_detect_training.ablation import UNCALIBRATED, Classifier
from all_detect_training.figures import ENSEMBLES, FIGURES, figure_in, figure_text
from all_detect_training.metrics import THRESHOLD
from all_detect_training.plots import comparison_plot, reliability_figures, roc_plot
from all_detect_training.published import METHODS, PublishedMethod
from all_detect_training.reporting import Findings, Panel
from all_detect_training.resampling import NO_INTERVAL
from napari_all_detect.research_use import RESEARCH_USE

__all__ = ["chosen_cells", "report_page"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd }
th { border-bottom: 2px solid #888; font-weight: 600 } th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left }
td.best { font-weight: 700 } small { color: #666 } .paper { color: #8a4b00 }
.row { display: flex; flex-wrap: wrap; gap: 2rem } figure { margin: 1rem 0 } svg, img { max-width: 100%; height: auto }
"""

DRAWN = ENSEMBLES["equal"], ENSEMBLES["kappa"]
"""The ensembles whose curves are drawn."""


def report_page(found: Findings) -> str:
    """Return the page."""
    lines = "".join(f"<li><b>{escape(name)}</b>: {escape(text)}</li>" for name, text in found.facts.items())
    doubts = "".join(f"<p><b>{escape(text)}</b></p>\n" for text in (found.doubt, found.not_the_papers) if text)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>Ablation</title>"
        f"<style>{STYLE}</style></head><body>\n<h1>Members and ensembles, side by side</h1>\n"
        f"<p><b>{RESEARCH_USE}</b></p>\n"
        f"<ul>{lines}</ul>\n{doubts}<h2>Figures on the test cells</h2>\n{_html_table(found.table)}\n"
        f"<p><small>In brackets: 95% percentile bootstrap intervals; what is drawn is said above. {NO_INTERVAL} "
        "<span class='paper'>Brown</span>: in the preprint of Mondal et al. (2021, arXiv:2105.03995, Table 4), on "
        "the preliminary set of C-NMC 2019; we have it of their best member and their best ensemble only. WP, WR, WFS: "
        "precision, recall and F1 weighted by the classes' numbers of cells. ACC: accuracy. BA: balanced accuracy. "
        f"Calls at {THRESHOLD}. SAP: simple average (Eq. 1). WEN: weighted by that validation figure (Eq. 2). Bold: "
        f"the best of an input size. {UNCALIBRATED}</small></p>"
        + _roc(found.classifiers)
        + "<h2>Confusion matrices</h2>\n<div class='row'>"
        + "".join(_confusion(one) for one in found.classifiers if one.name in DRAWN and one.is_defined)
        + "</div>\n"
        + _published(found)
        + "".join(_calibration(caption, figures) for caption, figures in found.calibration.items())
        + "".join(_subjects(caption, rows) for caption, rows in found.subjects.values())
        + _panels(found.panels)
        + "</body></html>\n"
    )


def _roc(of: Sequence[Classifier]) -> str:
    """Draw the members and two ensembles of each input size."""
    figures = []
    for size in sorted({one.input_px for one in of}):
        curves = {
            one.name: (one.is_all, one.p_all)
            for one in of
            if one.input_px == size and one.is_defined and (one.name in DRAWN or not one.name.startswith("WEN"))
        }
        figures.append(f"<figure>{roc_plot(curves, DRAWN)}<figcaption>{size} px</figcaption></figure>")
    return f"<h2>ROC curves</h2>\n<div class='row'>{''.join(figures)}</div>\n"


def _published(found: Findings) -> str:
    """Compare runs on the preliminary set with what others printed for it."""
    own = [
        (f"these runs, {row['input_px']} px", row["weighted_f1"], row["weighted_f1_low"], row["weighted_f1_high"])
        for _, row in found.table.iterrows()
        if row["classifier"] == ENSEMBLES["kappa"]
        and row["input_px"] in found.on_preliminary_px
        and not pd.isna(row["weighted_f1"])
    ]
    if not own:
        return ""
    theirs = [(m.authors, m.preliminary, None, None) for m in METHODS if m.preliminary is not None]
    rows = sorted([*own, *theirs], key=lambda row: -row[1])
    return (
        "<h2>Beside published methods</h2>\n<p>Weighted F1 on the preliminary set of C-NMC 2019, as printed; ours with "
        "its interval. How many of the set's 1,867 cells ours is measured on is said at the top.</p>\n"
        f"<figure>{comparison_plot(rows, 'weighted F1')}</figure>\n<table><tr><th>authors</th><th>method</th>"
        f"<th>preliminary</th><th>final</th></tr>{''.join(_method(one) for one in METHODS)}</table>\n<p><small>Empty: "
        "not printed, or not known to us. Not listed: methods measured on a split of their own.</small></p>\n"
    )


def _method(one: PublishedMethod) -> str:
    figures = "".join(f"<td>{'' if f is None else f'{f:.3f}'}</td>" for f in (one.preliminary, one.final))
    return (
        f"<tr><td>{escape(one.authors)}</td><td>{escape(one.method)}<br><small>{escape(one.source)}</small></td>"
        f"{figures}</tr>"
    )


def _calibration(caption: str, figures: Mapping[str, Any]) -> str:
    """Draw the reliability of the members and the ensemble before and after calibration."""
    return (
        f"<h2>Reliability</h2>\n<p>{escape(caption)}: of the test cells given a probability, how many are ALL, before "
        "and after calibration by a temperature fitted on the validation cells. Both classes weigh the same; a dot's "
        f"area is the weight of its cells.</p>\n<div class='row'>{reliability_figures(figures)}</div>\n"
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
    paper = row[f"{name}_paper"]
    return _figure(row, name, "<br>") + ("" if pd.isna(paper) else f"<br><span class='paper'>{paper:.3f}</span>")


def _figure(row: Any, name: str, gap: str) -> str:
    """Return a figure and its interval, which is smaller and stands after the gap."""
    return figure_text(figure_in(row, name), interval=f"{gap}<small>({{low:.3f}} to {{high:.3f}})</small>")


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
        f"<td>{row['called_all']:.1%}</td><td>{_figure(row, 'mean_p_all', ' ')}</td></tr>"
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


def chosen_cells(one: Classifier) -> list[int]:
    """Return indices of test cells to look at: the two surest right and wrong calls of each class."""
    chosen: list[int] = []
    for is_all, called_all in ((True, True), (False, False), (True, False), (False, True)):
        there = np.flatnonzero((one.is_all == is_all) & ((one.p_all >= THRESHOLD) == called_all))
        order = np.argsort(-one.p_all[there] if called_all else one.p_all[there], kind="stable")
        chosen += there[order[:2]].tolist()
    return chosen
