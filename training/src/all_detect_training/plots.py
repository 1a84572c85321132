"""Curves and diagrams as SVG, for pages that need nothing else."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["comparison_plot", "reliability_figures", "reliability_plot", "roc_plot"]

Diagram = Sequence[Mapping[str, float]]


def roc_plot(curves: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.floating]]], thick: Sequence[str]) -> str:
    """Draw ROC curves.

    Parameters
    ----------
    curves : mapping of str to (is_all, p_all)
        A curve is left out where a class is missing.
    thick : sequence of str
        Names of those that are to stand out.
    """
    from sklearn.metrics import roc_curve

    figure, axes = _axes(5.4, 4.6)
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for name, (is_all, p_all) in curves.items():
        if 0 < is_all.sum() < len(is_all):
            false, true, _ = roc_curve(is_all, p_all)
            axes.plot(false, true, label=name, linewidth=2.2 if name in thick else 1.1)
    axes.set(xlabel="Hem called ALL", ylabel="ALL called ALL", xlim=(0, 1), ylim=(0, 1.005))
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    return _svg(figure)


def reliability_figures(calibration: Mapping[str, Any]) -> str:
    """Return the reliability diagrams of members and ensemble as HTML, with their calibration errors.

    Parameters
    ----------
    calibration : mapping of str to mapping
        As `trust_figures` gives it.
    """
    return "".join(
        f"<figure>{reliability_plot(name, row['before']['reliability'], row['after']['reliability'])}"
        f"<figcaption>calibration error {row['before']['calibration_error']:.3f} before, "
        f"{row['after']['calibration_error']:.3f} after</figcaption></figure>"
        for name, row in calibration.items()
    )


def reliability_plot(title: str, before: Diagram, after: Diagram) -> str:
    """Draw a reliability diagram before and after calibration.

    Parameters
    ----------
    title : str
    before, after : sequence of mapping
        Bins as `calibration.reliability` gives them: a dot's area is the bin's weight.
    """
    figure, axes = _axes(3.6, 3.6)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for name, bins, colour in (("before", before, "#d55e00"), ("after", after, "#0072b2")):
        p_all, share, weight = ([row[key] for row in bins] for key in ("p_all", "share_all", "weight"))
        axes.plot(p_all, share, color=colour, linewidth=1.2, label=name)
        axes.scatter(p_all, share, s=200 * np.array(weight), color=colour, alpha=0.7, linewidths=0)
    axes.set(xlabel="mean P(ALL)", ylabel="share of ALL cells", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=title)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    return _svg(figure)


def comparison_plot(rows: Sequence[tuple[str, float, float | None, float | None]], what: str) -> str:
    """Draw a figure of several methods, a line each.

    Parameters
    ----------
    rows : sequence of (name, value, low, high)
        The interval is None where there is none. The first row is at the top.
    what : str
        The figure's name.
    """
    figure, axes = _axes(6.4, 0.6 + 0.34 * len(rows))
    for y, (_, value, low, high) in enumerate(reversed(rows)):
        own = low is not None and high is not None
        if own:
            axes.plot([low, high], [y, y], color="#0072b2", linewidth=1.5)
        axes.plot(value, y, "o", color="#0072b2" if own else "0.35")
        axes.annotate(f"{value:.3f}", (value, y), xytext=(0, 6), textcoords="offset points", fontsize=7, ha="center")
    axes.set(yticks=range(len(rows)), yticklabels=[name for name, *_ in reversed(rows)], xlabel=what)
    axes.set_ylim(-0.6, len(rows) - 0.2)
    axes.grid(axis="x", color="0.9")
    return _svg(figure)


def _axes(width: float, height: float) -> "tuple[Figure, Any]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: "Figure") -> str:
    """Return the same bytes for the same figure: no date, and names of parts that count from a salt of their own."""
    import matplotlib as mpl

    svg = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "all-detect", "svg.fonttype": "none"}):
        figure.savefig(svg, format="svg", metadata={"Date": None})
    text = svg.getvalue()
    return text[text.index("<svg") :]
