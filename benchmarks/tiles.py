"""What a giant plane costs: time and peak memory against its size, in tiles and as a whole.

python -m benchmarks.tiles --edges 2048 4096 8192 --whole 4096
python -m benchmarks.tiles --edges 20000

Planes are zarr stores made of drawn smears over and over, written chunk by chunk. Each is scored by `all-detect score`
in a process of its own, whose peak resident memory the operating system tells.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_all_detect.samples import draw_smear

CHUNK_PX = 1024
SMEAR_PX = 640
CELL_PX = 80.0
CELLS_PER_SMEAR = 2
"""One white cell to some hundred red ones: as oil immersion shows blood."""

ROUND_TRIP = "import sys; from napari_all_detect.cli import main; status = main(sys.argv[1:]); import resource; \
print('PEAK_KB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(status)"


def main() -> None:
    """Measure and print a table, and a line of JSON for each plane."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, nargs="+", default=[2048, 4096], help="heights and widths in pixels")
    parser.add_argument("--whole", type=int, nargs="*", default=[], help="likewise, of planes not taken in tiles")
    parser.add_argument("--tile-size", type=int, default=2048)
    parser.add_argument("--segmentation", default="learned")
    parser.add_argument("--work", type=Path, help="folder for the planes, which are left there")
    arguments = parser.parse_args()
    runs = [(edge, arguments.tile_size) for edge in arguments.edges] + [(edge, None) for edge in arguments.whole]
    print("| plane | tiles | cells | seconds | peak MB |\n|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as temporary:
        for edge, tile_px in runs:
            found = measure(edge, tile_px, arguments.segmentation, arguments.work or Path(temporary))
            shown = f"{edge} x {edge} | {tile_px or 'none'}"
            print(f"| {shown} | {found['cells']} | {found['seconds']:.0f} | {found['peak_mb']:.0f} |")
            print(json.dumps(found), file=sys.stderr)


def measure(edge: int, tile_px: int | None, segmentation: str, work: Path) -> dict[str, Any]:
    """Score a square plane in a process of its own."""
    store, out = work / f"{edge}.zarr", work / f"{edge}-{tile_px or 'whole'}-{segmentation}"
    if not store.exists():
        write_plane(store, edge)
    command = ["score", str(store), "--out", str(out), "--overwrite", "--segmentation", segmentation]
    # A tile as wide as the plane would be read as one too, but by the road of the tiles.
    command += ["--tile-size", str(tile_px)] if tile_px else []
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", ROUND_TRIP, *command], capture_output=True, text=True, env={**os.environ}, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    peak_kb = int(done.stderr.rsplit("PEAK_KB", 1)[1].split()[0])
    cells = sum(1 for _ in (out / "cells.csv").open(encoding="utf-8")) - 1
    return {
        "edge_px": edge,
        "tile_px": tile_px,
        "segmentation": segmentation,
        "cells": cells,
        "seconds": time.perf_counter() - began,
        "peak_mb": peak_kb / 1024,
        "labels_bytes": (out / "labels" / f"{edge}_labels.tif").stat().st_size,
    }


def write_plane(store: Path, edge: int) -> None:
    """Write a square plane of smears over and over."""
    import zarr

    smears = [
        draw_smear((SMEAR_PX, SMEAR_PX), n_cells=CELLS_PER_SMEAR, cell_diameter_px=CELL_PX, border=0.5, seed=seed).rgb
        for seed in range(9)
    ]
    field = np.concatenate([np.concatenate(smears[row : row + 3], axis=1) for row in (0, 3, 6)])
    plane: Any = zarr.create_array(
        store, shape=(edge, edge, 3), chunks=(min(edge, CHUNK_PX), min(edge, CHUNK_PX), 3), dtype="uint8"
    )
    for y in range(0, edge, CHUNK_PX):
        rows = np.arange(y, min(y + CHUNK_PX, edge)) % len(field)
        for x in range(0, edge, CHUNK_PX):
            columns = np.arange(x, min(x + CHUNK_PX, edge)) % len(field)
            plane[y : y + len(rows), x : x + len(columns)] = field[np.ix_(rows, columns)]


if __name__ == "__main__":
    main()
