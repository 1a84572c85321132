"""Figures as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["figures_table", "interval", "table"]


def figures_table(rows: Mapping[str, Any], level: str, columns: Mapping[str, str]) -> str:
    """Tabulate figures of one level (`cell`, `image` or `subject`), a row a classifier; `columns` are their heads."""
    body = [[name, *(interval(row[level][key]) for key in columns)] for name, row in rows.items()]
    return table(["", *columns.values()], body)


def interval(figure: Mapping[str, float | None]) -> str:
    """Return a figure with its interval; `n/a` if it is not defined."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or low is None or high is None:
        return "n/a" if value is None else f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
