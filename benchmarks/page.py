"""Figures -> the measured half of `docs/speed.md`, and its plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import Row

MARK = "<!-- Below: written by make bench. -->"
UNITS = ("ms/cell", "ms/plane", "share")
"""Of figures that are drawn."""


def write_page(results: Mapping[str, Any], page: Path) -> None:
    """Write what was measured below the page's mark, and a plot of each table that has something to draw."""
    before = page.read_text(encoding="utf-8").partition(MARK)[0] if page.exists() else "# Speed\n\n"
    lines = [MARK, "", "## Measured", ""]
    pictures = page.parent / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    for part, result in results.items():
        for number, (title, rows) in enumerate(result["tables"].items()):
            lines += [f"### {title}", "", f"{result['machine']}.", ""]
            drawn = [r for r in rows if r["unit"] in UNITS]
            if len(drawn) > 1:
                name = f"speed_{part}_{number}.svg"
                draw(drawn, pictures / name)
                lines += [f"![{title}](images/{name})", ""]
            lines += ["| what | value | unit |", "|---|---:|---|"]
            lines += [f"| {r['what']} | {r['value']:g} | {r['unit']} |" for r in rows]
            lines.append("")
    page.write_text(before + "\n".join(lines).rstrip() + "\n", encoding="utf-8", newline="\n")


def draw(rows: list[Row], path: Path) -> None:
    """Draw a bar for each figure."""
    import matplotlib
    from matplotlib.figure import Figure

    # The same figures give the same file.
    with matplotlib.rc_context({"svg.hashsalt": path.name, "font.size": 9}):
        figure = Figure(figsize=(7.5, 0.6 + 0.32 * len(rows)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh([r["what"] for r in rows], [r["value"] for r in rows], color="#0072b2", height=0.6)
        axes.bar_label(bars, [f"{r['value']:g}" for r in rows], padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel(rows[0]["unit"])
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.savefig(path, metadata={"Date": None})
