"""The benchmark of batches runs."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_runs_at_its_smallest() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.batch", "--smoke"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout)
    assert len(tables) == 4
    figures = {row["what"]: row["value"] for rows in tables.values() for row in rows}
    assert figures["different tables"] == 1
    assert figures["processor time of both stages over end to end"] > 0
    assert all(value >= 0 for value in figures.values())
