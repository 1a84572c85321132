"""The ablation as files that people read: a CSV, a Markdown table, and one HTML page that needs nothing else."""

from pathlib import Path
from typing import Any

import pandas as pd

from all_detect_training.ablation import FIGURES
from all_detect_training.report_page import report_page
from all_detect_training.reporting import Findings
from napari_all_detect.errors import OutputError

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
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "table4.csv").write_text(found.table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
        (out / "table4.md").write_text(_markdown(found.table), encoding="utf-8")
        (out / "report.html").write_text(report_page(found), encoding="utf-8")
        if found.subjects:
            joined = pd.concat(found.subjects, names=["run"]).reset_index(level="run")
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
