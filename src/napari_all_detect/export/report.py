"""A run on one page of HTML that needs nothing else: no script, no font, no picture from elsewhere."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import isnan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_all_detect.export.colours import CALL_COLOURS, probability_colours
from napari_all_detect.research_use import RESEARCH_USE

__all__ = ["POLICY", "ROWS_SHOWN", "CellPicture", "Histogram", "Plate", "Report", "most_first", "report_html"]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Browsers refuse to fetch anything for the page, or to run anything in it."""

ROWS_SHOWN = 200
"""Rows of a table on the page; the CSV has all."""

STYLE = """
:root { color-scheme: light; --line: #d8dade; --soft: #5b6068; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; color: #1b1d21;
  background: #fff; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); font-size: .9rem; }
.use { border: 2px solid #d55e00; border-radius: .4rem; padding: .5rem .8rem; font-weight: 600; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; overflow-wrap: normal; }
td.n, th.n { text-align: right; } td.long { min-width: 16rem; }
.totals { display: grid; grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.totals div { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .7rem; }
.totals b { display: block; font-size: 1.5rem; line-height: 1.2; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } svg { width: 100%; height: auto; display: block; } figcaption { font-size: .85rem; }
.cells { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.2rem, 1fr)); gap: .6rem; }
.cells img { width: 100%; aspect-ratio: 1; display: block; border: 4px solid; border-radius: .3rem; }
.plate td { width: 3.2rem; min-width: 3.2rem; text-align: center; border: 2px solid #fff; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: .15em; margin: 0 .3em 0 .6em; }
"""


@dataclass(frozen=True)
class CellPicture:
    """A cell with what is around it.

    Attributes
    ----------
    jpeg : bytes
    name : str
        Image, plane and label.
    p_all : float
    spread : float
        NaN if not all members ran.
    flags : str
    """

    jpeg: bytes
    name: str
    p_all: float
    spread: float
    flags: str


@dataclass(frozen=True, eq=False)
class Histogram:
    """Cells by a measure, parted by their call.

    Attributes
    ----------
    title, unit : str
    edges : (N + 1,) float
        Drawn at equal distances.
    counts : mapping of call to (N,) int
    """

    title: str
    unit: str
    edges: NDArray[np.floating]
    counts: Mapping[str, NDArray[np.integer]]


@dataclass(frozen=True)
class Plate:
    """Fractions of cells called ALL in the wells of a plate.

    Attributes
    ----------
    name : str
    wells : mapping of (row, column) to (fraction or None, cells)
    """

    name: str
    wells: Mapping[tuple[str, str], tuple[float | None, int]]


@dataclass(frozen=True, eq=False)
class Report:
    """What the page shows.

    Attributes
    ----------
    run : mapping
        The record of the run, `run.json`.
    counts : mapping of str to int
        `planes, cells, all, hem, uncertain`, and `out_of_domain` if the bundle knows a domain.
    images : DataFrame
        The first rows of `images.csv`.
    samples : DataFrame or None
        The table of `samples.csv`.
    histograms : sequence of Histogram
    galleries : mapping of title to cells
    plates : sequence of Plate
    flags : mapping of flag to number of cells
    notes : mapping of note to number of planes
    failures : DataFrame
        The table of `failures.csv`.
    caution : str
        What is to be said beside the calls, if anything.
    rule : str
        How an error rate calls cells; empty where the threshold alone does.
    unread : int
        Cells that the galleries lack, as their planes can't be read any more.
    """

    run: Mapping[str, Any]
    counts: Mapping[str, int]
    images: pd.DataFrame
    samples: pd.DataFrame | None
    histograms: Sequence[Histogram]
    galleries: Mapping[str, Sequence[CellPicture]]
    plates: Sequence[Plate]
    flags: Mapping[str, int]
    notes: Mapping[str, int]
    failures: pd.DataFrame
    caution: str = ""
    rule: str = ""
    unread: int = 0


def report_html(report: Report) -> str:
    """Return the page. It fetches nothing and runs no script; all text from outside is escaped."""
    sections = [
        _head(report),
        _section("Samples", [] if report.samples is None else [_listed(report.samples, "samples.csv")]),
        *(_section(f"Plate {plate.name}: fraction ALL by well", [_plate(plate)]) for plate in report.plates),
        _section(
            "Distributions", [_legend(), f'<div class="plots">{"".join(map(_histogram, report.histograms))}</div>']
        ),
        *(_section(title, [_gallery(cells)] if cells else []) for title, cells in report.galleries.items()),
        _section("Cells without a picture", [_unread(report.unread)] if report.unread else []),
        _section("Flags", [_flags(report)]),
        _section("Notes on images", [_notes(report)] if report.notes else []),
        _section("Failures", [_listed(report.failures, "failures.csv") if len(report.failures) else "<p>None.</p>"]),
        _section("Images", [_table(report.images), _more(report.counts["planes"], "images.csv")]),
        _section("The run", [_run(report)]),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>White blood cells: {report.counts['cells']} scored</title><style>{STYLE}</style></head>\n<body>"
        f'{"".join(sections)}<p class="use">{RESEARCH_USE}</p></body></html>\n'
    )


def _head(report: Report) -> str:
    called = report.counts["all"] + report.counts["hem"]
    fraction = f"{report.counts['all'] / called:.1%}" if called else "none called"
    totals = {
        "images": report.counts["planes"],
        "cells": report.counts["cells"],
        "ALL": report.counts["all"],
        "Hem": report.counts["hem"],
        "uncertain": report.counts["uncertain"],
        "ALL of called": fraction,
        "out of domain": report.counts.get("out_of_domain", "unknown"),
        "failed": len(report.failures),
    }
    boxes = "".join(f"<div><b>{escape(str(value))}</b>{name}</div>" for name, value in totals.items())
    bundle = report.run["bundle"]
    return (
        f'<h1>White blood cells, scored</h1><p class="use">{RESEARCH_USE}</p>'
        f"<p>Bundle {escape(bundle['name'])}-{escape(bundle['version'])}, {escape(str(report.run['created']))}</p>"
        f'<div class="totals">{boxes}</div>' + (f'<p class="use">{report.caution}</p>' if report.caution else "")
    )


def _section(title: str, parts: Iterable[str]) -> str:
    content = "".join(parts)
    return f"<section><h2>{escape(title)}</h2>{content}</section>\n" if content else ""


def _table(rows: pd.DataFrame) -> str:
    numeric = [pd.api.types.is_numeric_dtype(rows[name]) for name in rows]
    kinds = ["n" if number else "long" if name == "reason" else "" for name, number in zip(rows, numeric, strict=True)]
    header = "".join(f'<th class="{kind}">{escape(str(name))}</th>' for name, kind in zip(rows, kinds, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{kind}">{_text(value)}</td>' for value, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows.head(ROWS_SHOWN).itertuples(index=False, name=None)
    )
    return f'<div class="scroll"><table><tr>{header}</tr>{body}</table></div>'


def _text(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.3g}" if isinstance(value, (float, np.floating)) else escape(str(value))


def _listed(rows: pd.DataFrame, file: str) -> str:
    return _table(rows) + _more(len(rows), file)


def _more(n: int, file: str) -> str:
    return f'<p class="soft">The first {ROWS_SHOWN} of {n}; all are in {file}.</p>' if n > ROWS_SHOWN else ""


def _legend() -> str:
    return (
        "<p>"
        + "".join(
            f'<span class="swatch" style="background:{_css(colour)}"></span>{call} '
            for call, colour in CALL_COLOURS.items()
        )
        + "</p>"
    )


def _css(colour: Iterable[Any]) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in colour)


def _histogram(histogram: Histogram) -> str:
    width, height, left, foot = 360, 180, 40, 20
    total = np.sum(list(histogram.counts.values()), axis=0)
    highest = max(1, int(total.max(initial=0)))
    step = (width - left - 8) / len(total)
    bars, below = [], np.zeros(len(total))
    for call, counts in histogram.counts.items():
        for i, n in enumerate(counts):
            size = n / highest * (height - foot - 10)
            if n:
                y = height - foot - below[i] - size
                bars.append(
                    f'<rect x="{left + i * step + 0.5:.1f}" y="{y:.1f}" width="{step - 1:.1f}" height="{size:.1f}" '
                    f'fill="{_css(CALL_COLOURS[call])}"><title>{n} {call}</title></rect>'
                )
            below[i] += size
    floor, edges = height - foot, histogram.edges
    ticks = "".join(
        f'<text x="{left + i * step:.0f}" y="{floor + 15}" text-anchor="{anchor}">{edges[i]:.3g}</text>'
        for i, anchor in ((0, "start"), (len(total) // 2, "middle"), (len(total), "end"))
    )
    unit = f", {escape(histogram.unit)}" if histogram.unit else ""
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(histogram.title)}" font-size="11">'
        f'<line x1="{left}" x2="{width - 8}" y1="{floor}" y2="{floor}" stroke="#5b6068"/>{"".join(bars)}'
        f'<text x="{left - 5}" y="14" text-anchor="end">{highest}</text>'
        f'<text x="{left - 5}" y="{floor}" text-anchor="end">0</text>{ticks}'
        f"</svg><figcaption>{escape(histogram.title)}{unit}</figcaption></figure>"
    )


def _gallery(cells: Sequence[CellPicture]) -> str:
    figures = []
    for cell in cells:
        picture = f"data:image/jpeg;base64,{base64.b64encode(cell.jpeg).decode()}"
        colour = _css(probability_colours([cell.p_all])[0])
        flags = f"<br>{escape(cell.flags.replace(';', ', '))}" if cell.flags else ""
        figures.append(
            f'<figure><img src="{picture}" alt="Cell {escape(cell.name)}" style="border-color:{colour}">'
            f"<figcaption><b>{cell.p_all:.3f}</b>{_spread(cell.spread)}<br>"
            f'<span class="soft">{escape(cell.name)}{flags}</span></figcaption></figure>'
        )
    return f'<p class="soft">P(ALL) ± spread of the members.</p><div class="cells">{"".join(figures)}</div>'


def _unread(n: int) -> str:
    cells = f"{n} cells that belong above are" if n > 1 else "A cell that belongs above is"
    return f"<p>{cells} not shown: what was scored can't be read any more.</p>"


def _spread(spread: float) -> str:
    return "" if isnan(spread) else f" ± {spread:.2f}"


def _plate(plate: Plate) -> str:
    rows = sorted({row for row, _ in plate.wells}, key=lambda name: (len(name), name))
    columns = sorted({column for _, column in plate.wells}, key=lambda name: (len(name), name))
    header = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr><th>{escape(row)}</th>{''.join(_well(plate.wells.get((row, column))) for column in columns)}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table class="plate"><tr><th></th>{header}</tr>{body}</table></div>'


def _well(well: tuple[float | None, int] | None) -> str:
    if well is None:
        return "<td></td>"
    fraction, cells = well
    if fraction is None:
        return f'<td title="{cells} cells">–</td>'
    colour = _css(probability_colours([fraction])[0])
    return f'<td style="background:{colour};color:#fff" title="{cells} cells">{fraction:.0%}</td>'


def most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return what was counted, the most frequent first and then by name.

    >>> most_first({"merged": 1, "blurred": 1, "fragment": 2})
    [('fragment', 2), ('blurred', 1), ('merged', 1)]
    """
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _flags(report: Report) -> str:
    if not report.flags:
        return "<p>No cell has one.</p>"
    rows = most_first(report.flags)
    share = [f"{n / report.counts['cells']:.1%}" for _, n in rows]
    return _table(pd.DataFrame({"flag": [name for name, _ in rows], "cells": [n for _, n in rows], "share": share}))


def _notes(report: Report) -> str:
    rows = most_first(report.notes)
    table = pd.DataFrame({"note": [note for note, _ in rows], "images": [n for _, n in rows]})
    return _listed(table, "images.csv")


def _run(report: Report) -> str:
    run = report.run
    facts = {
        "inputs": ", ".join(map(str, run["inputs"])),
        "weighting": f"{run['bundle']['weighting']}, threshold {run['bundle']['threshold']}",
        "error rate": report.rule or "none; the threshold calls every cell",
        "segmentation": " ".join(map(str, (run["segmentation"] or {"method": "labels given"}).values())),
        "engine": f"{run['engine']}, {run['device']}",
        "bundle digest": run["bundle"]["digest"],
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
        "seconds": ", ".join(f"{name} {seconds:.1f}" for name, seconds in run["seconds"].items()),
    }
    rows = "".join(f'<tr><th>{name}</th><td class="long">{escape(text)}</td></tr>' for name, text in facts.items())
    return f'<div class="scroll"><table>{rows}</table></div><p class="soft">All of it is in run.json.</p>'
