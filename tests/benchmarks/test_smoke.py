"""The benchmarks run, at sizes that measure nothing, so that they never rot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.run import parts

ROOT = Path(__file__).parents[2]

TITLES = {
    "around": ["Around the ensemble: lite", "Around the ensemble: whole"],
    "cascade": ["Fast calls: lite"],
    "cascade_whole": ["Fast calls: what to expect"],
    "engines": ["Engines: five whole networks"],
    "plugin": ["The napari plugin: colours", "The napari plugin: napari's start"],
    "scaling": ["Number of cells", "Number of planes", "Batch size"],
    "segmentation": ["Finding cells"],
    "start": ["Start and memory"],
    "stopping": ["From the wish to stop to the end"],
}
"""Beginnings of the titles of what each part measures."""

ELSEWHERE = {"batch", "gpu"}
"""What is tested in `tests/batch`, and below."""


@pytest.mark.timeout(900)
def test_all_parts_run_and_are_put_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "speed.md"
    page.parent.mkdir()
    page.write_text("# Speed\n\nBy hand.\n\n<!-- Below: written by make bench. -->\nof yesterday\n", encoding="utf-8")
    assert set(TITLES) | ELSEWHERE == set(parts())
    command = [sys.executable, "-m", "benchmarks.run", *TITLES, "--smoke", "--out", str(tmp_path), "--page", str(page)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Speed\n\nBy hand.\n")
    assert "of yesterday" not in text
    for part, titles in TITLES.items():
        tables = results[part]["tables"]
        for title in titles:
            rows = next(rows for name, rows in tables.items() if name.startswith(title))
            assert len(rows) > 1
            assert all(row["what"] and (row["value"] >= 0 or row["what"] == "difference") for row in rows)
        assert all(f"### {title}" in text for title in tables)
    pictures = [line.split("(images/")[1].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert len(pictures) >= 5
    assert all((page.parent / "images" / name).stat().st_size > 1000 for name in pictures)


def test_a_gpu_is_measured_by_jax_and_left_out_without(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    (tmp_path / "results.json").write_text(json.dumps({"gpu": {"machine": "one", "tables": {"A GPU": []}}}))
    command = [sys.executable, "-m", "benchmarks.run", "gpu", "--out", str(tmp_path), "--page", str(page)]
    on_jax = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    left_out = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True, env=on_jax)
    assert "the GPU is left out: Keras sees none" in left_out.stderr
    assert "### A GPU" in page.read_text(encoding="utf-8")  # measured before, elsewhere
    subprocess.run([*command, "--smoke"], check=True, cwd=ROOT, capture_output=True, env=on_jax)
    ((title, rows),) = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["gpu"]["tables"].items()
    assert title == "cpu: whole networks, random weights"
    for name in ("vgg16", "mobilenet", "all members"):
        for figure in ("all-detect, bf16", "bf16, over keras.predict in fp32, batch 16", "fp32, share of the peak"):
            (value,) = (row["value"] for row in rows if row["what"] == f"{name}: {figure}")
            assert value > 0
