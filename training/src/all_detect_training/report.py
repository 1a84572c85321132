"""The ablation as files that people read: a CSV, a Markdown table, and one HTML page that needs nothing else."""

from pathlib import Path
from typing import Any

import pandas as pd

from all_detect_training.ablation import UNCALIBRATED
from all_detect_training.card.tables import table
from all_detect_training.figures import FIGURES, figure_in, figure_text
from all_detect_training.out_folder import write_whole
from all_detect_training.report_page import report_page
from all_detect_training.reporting import Findings
from all_detect_training.resampling import NO_INTERVAL
from napari_all_detect.errors import OutputError
from napari_all_detect.export.csv import csv_text

__all__ = ["write_report"]


def write_report(out: Path, found: Findings) -> None:
    """Write `table4.csv`, `table4.md`, `report.html`, and `subjects.csv` where subjects are known.

    Parameters
    ----------
    out : Path
        A folder, made if it is not there.
    found : Findings

    Raises
    ------
    OutputError
        If the folder can't be written.
    """
    # All of it first: what can't be composed leaves no folder that blocks the next try.
    texts = {
        "table4.csv": csv_text(found.table),
        "table4.md": _markdown(found),
        "report.html": report_page(found),
    }
    if found.subjects:
        by_size = {size: rows for size, (_, rows) in found.subjects.items()}
        texts["subjects.csv"] = csv_text(pd.concat(by_size, names=["input_px"]).reset_index(level="input_px"))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(out / name, text)
    except OSError as error:
        raise OutputError(f"{out}: can't be written ({error.strerror or error}); name another folder") from error


def _markdown(found: Findings) -> str:
    """Return the table, how to read it, and what was trained on what."""
    doubts = "".join(f"\n**{text}**\n" for text in (found.doubt, found.not_the_papers) if text)
    facts = "".join(f"- {name}: {text}\n" for name, text in found.facts.items())
    return (
        f"{_table_4(found.table)}\n\nIn brackets: 95% intervals. {NO_INTERVAL} n/a: not defined. After a slash: Mondal "
        f"et al. (2021), on the preliminary set of C-NMC 2019. {UNCALIBRATED}\n{doubts}"
        + (f"\n{facts}" if facts else "")
    )


def _table_4(figures: pd.DataFrame) -> str:
    head = ["input", "classifier", *FIGURES.values()]
    rows = [
        [f"{row['input_px']} px", str(row["classifier"]), *(_text(row, name) for name in FIGURES)]
        for _, row in figures.iterrows()
    ]
    return table(head, rows)


def _text(row: Any, name: str) -> str:
    """Return a figure, its interval and the paper's own."""
    paper = row[f"{name}_paper"]
    return figure_text(figure_in(row, name)) + ("" if pd.isna(paper) else f" / {paper:.3f}")
