"""How cost and memory grow with the number of cells and of planes, and what the size of a batch does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.cells import cells_of
from benchmarks.measure import HAS_PEAK, PEAK_MIB, Row, Tables, alternate, row
from napari_all_detect import draw_smear
from napari_all_detect.bundle import load_bundle
from napari_all_detect.engines import open_engine
from napari_all_detect.params import ScoreParams

PLANES = """
import contextlib, json, sys, time
from napari_all_detect.pipeline import scorer
from napari_all_detect.cli import main
from benchmarks.cells import NoNetworks
scorer.open_engine = lambda bundle, params: NoNetworks(len(bundle.manifest.members))
began = time.perf_counter()
with contextlib.redirect_stdout(sys.stderr):
    status = main(sys.argv[1:])
print(json.dumps([time.perf_counter() - began, PEAK, status]))
"""


def run(smoke: bool = False) -> Tables:
    """Measure; large numbers are the same cells and planes, repeated."""
    cells, planes, batches = (
        ((10, 20), (2, 4), (2, 8))
        if smoke
        else (
            (10, 100, 1000, 10_000),
            (10, 100, 1000, 10_000),
            (1, 2, 4, 8, 16, 32, 64, 128),
        )
    )
    return {
        "Number of cells: lite": [figure for n in cells for figure in cells_at_once(n)],
        "Number of planes, all but the ensemble": [figure for n in planes for figure in many_planes(n)],
        "Batch size: lite, 128 cells": batch_sizes(batches, 8 if smoke else 128, 1 if smoke else 3),
    }


def cells_at_once(n: int) -> list[Row]:
    """Score n cells in a process of its own, once warm."""
    code = f"""
import json, time
from benchmarks.cells import cells_of
from napari_all_detect.bundle import load_bundle
from napari_all_detect.engines import open_engine
from napari_all_detect.params import ScoreParams
bundle = load_bundle("lite")
engine = open_engine(bundle, ScoreParams())
crops, _ = cells_of(bundle, {n}, real=False)
engine.predict(crops[:64])
began = time.perf_counter()
engine.predict(crops)
print(json.dumps([time.perf_counter() - began, {PEAK_MIB if HAS_PEAK else 0}]))
"""
    seconds, peak = json.loads(_last_line(code))
    rows = [row(f"{n:,} cells", 1000 * seconds / n, "ms/cell")]
    return [*rows, row(f"{n:,} cells: peak memory", peak, "MiB")] if peak else rows


def many_planes(n: int) -> list[Row]:
    """Score n copies of a small plane with its labels, as a batch."""
    from PIL import Image

    from napari_all_detect import segment_cells
    from napari_all_detect.export.labels import labels_tiff

    with TemporaryDirectory() as name:
        folder = Path(name)
        rgb = draw_smear((96, 96), n_cells=2, cell_diameter_px=30, seed=4).rgb
        Image.fromarray(rgb).save(folder / "plane.png")
        (folder / "labels.tif").write_bytes(labels_tiff(segment_cells(rgb)))
        for kind in ("in", "labels"):
            (folder / kind).mkdir()
        for k in range(n):
            os.link(folder / "plane.png", folder / "in" / f"{k:05d}.png")
            os.link(folder / "labels.tif", folder / "labels" / f"{k:05d}_labels.tif")
        options = ["--labels", str(folder / "labels"), "--out", str(folder / "out")]
        code = PLANES.replace("PEAK", PEAK_MIB if HAS_PEAK else "0")
        seconds, peak, status = json.loads(_last_line(code, "score", str(folder / "in"), *options))
    if status != 0:
        raise RuntimeError(f"scoring {n} planes ended with {status}")
    rows = [row(f"{n:,} planes", 1000 * seconds / n, "ms/plane")]
    return [*rows, row(f"{n:,} planes: peak memory", peak, "MiB")] if peak else rows


def batch_sizes(sizes: tuple[int, ...], n_cells: int, rounds: int) -> list[Row]:
    """Let engines with batches of these sizes take turns; an engine that has no batches shows no difference."""
    bundle = load_bundle("lite")
    crops, _ = cells_of(bundle, n_cells, real=False)
    engines = [open_engine(bundle, ScoreParams(batch_size=size)) for size in sizes]
    times = alternate([lambda e=engine: e.predict(crops) for engine in engines], rounds)
    return [
        row(f"batch size {size}, {engines[0].name}", 1000 * sorted(seconds)[len(seconds) // 2] / n_cells, "ms/cell")
        for size, seconds in zip(sizes, times, strict=True)
    ]


def _last_line(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
