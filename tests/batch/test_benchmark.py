"""The benchmark of batches runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)
def test_it_runs_at_its_smallest() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.batch", "--smoke"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout)
    assert len(tables) == 5
    lite, whole = ({row["what"]: row["value"] for row in tables[name]} for name in tables if name.startswith("Overlap"))
    best = "that at best, if each stage alone keeps all cores busy"
    assert lite.keys() == whole.keys()
    assert 0.5 <= min(lite[best], whole[best]) <= max(lite[best], whole[best]) <= 1
    figures = {row["what"]: row["value"] for rows in tables.values() for row in rows}
    assert figures["different tables"] == 1
    assert figures["processor time of both stages over end to end"] > 0
