"""Figures as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from all_detect_training.figures import figure_text

__all__ = ["figures_table", "table"]


def figures_table(rows: Mapping[str, Any], level: str, columns: Mapping[str, str]) -> str:
    """Tabulate figures of one level (`cell`, `image` or `subject`), a row a classifier; `columns` are their heads."""
    body = [[name, *(figure_text(row[level][key]) for key in columns)] for name, row in rows.items()]
    return table(["", *columns.values()], body)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
