"""A slide: fields of blood far apart on bare glass, scored in tiles; what it costs, and how many cells are found.

python -m benchmarks.slide --edge 20000 --fields 12
python -m benchmarks.slide --edge 100000 --fields 300 --work slides

The slide is a zarr store in which only chunks that hold something are written, as scanners write them; `--noise` writes
the glass as well, with a camera's noise. Fields lie anywhere, most of them across borders of tiles.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy.spatial import KDTree

from napari_all_detect.samples import draw_smear
from napari_all_detect.windows import tiles

CHUNK_PX = 1024
TILE_PX = 2048
FIELD_PX = (800, 1200)
CELL_PX = 80.0
CELLS_PER_FIELD = 8
"""One white cell to some hundred red ones: as oil immersion shows blood."""

GLASS = 250
NOISE = 1.5


def main() -> None:
    """Draw a slide, unless it is there, score it, and print what was seen as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=20_000, help="height and width in pixels")
    parser.add_argument("--fields", type=int, default=12)
    parser.add_argument("--noise", action="store_true", help="write the glass, too")
    parser.add_argument("--work", type=Path, help="folder for the slide and the results, which are left there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        store = work / f"{'noisy' if arguments.noise else 'bare'}-{arguments.edge}-{arguments.fields}.zarr"
        if not store.with_suffix(".json").exists():
            write_slide(store, arguments.edge, arguments.fields, arguments.noise)
        truth = json.loads(store.with_suffix(".json").read_text(encoding="utf-8"))
        print(json.dumps(score(store, store.with_suffix("")) | found(truth, store.with_suffix(""))))


def write_slide(store: Path, edge: int, fields: int, noise: bool = False) -> None:
    """Write a slide, and beside it, as JSON, where its fields and cells lie (y, x)."""
    import zarr

    rng = np.random.default_rng(0)
    slide: Any = zarr.create_array(
        store, shape=(edge, edge, 3), chunks=(CHUNK_PX, CHUNK_PX, 3), dtype="uint8", fill_value=GLASS
    )
    if noise:
        for window in tiles((edge, edge), CHUNK_PX):
            shape = *(part.stop - part.start for part in window), 3
            slide[window] = np.clip(np.rint(rng.normal(GLASS, NOISE, shape)), 0, 255).astype(np.uint8)
    places: list[tuple[int, int, int, int]] = []
    cells: list[list[float]] = []
    while len(places) < fields:
        height, width = rng.integers(*FIELD_PX, 2).tolist()
        y, x = rng.integers(0, edge - height), rng.integers(0, edge - width)
        if any(y < y1 and y0 < y + height and x < x1 and x0 < x + width for y0, x0, y1, x1 in places):
            continue
        smear = draw_smear(
            (height, width), n_cells=CELLS_PER_FIELD, cell_diameter_px=CELL_PX, border=0.0, seed=len(places)
        )
        slide[y : y + height, x : x + width] = smear.rgb
        places.append((int(y), int(x), int(y) + height, int(x) + width))
        for number in range(1, smear.labels.max() + 1):
            rows, columns = np.nonzero(smear.labels == number)
            cells.append([float(y + rows.mean()), float(x + columns.mean())])
    store.with_suffix(".json").write_text(json.dumps({"edge": edge, "places": places, "cells": cells}), "utf-8")


def score(store: Path, out: Path) -> dict[str, float]:
    """Score the slide in a process of its own and watch what it and its children hold."""
    command = [sys.executable, "-m", "napari_all_detect", "score", str(store), "--out", str(out)]
    command += ["--overwrite", "--tile-size", str(TILE_PX)]
    began, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as said:
        running = subprocess.Popen(command, stdout=said, stderr=said)
        process = psutil.Process(running.pid)
        while running.poll() is None:
            peak = max(peak, held_bytes(process))
            time.sleep(0.2)
        seconds = time.perf_counter() - began
        if running.returncode:
            said.seek(0)
            raise SystemExit(said.read())
    return {"seconds": seconds, "peak_mb": peak / 2**20}


def held_bytes(process: psutil.Process) -> int:
    """Return the resident memory of a process and all it began; 0 when it has ended."""
    held = 0
    try:
        for one in [process, *process.children(recursive=True)]:
            held += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return held


def found(truth: dict[str, Any], out: Path) -> dict[str, Any]:
    """Compare with what was drawn: a cell is found if one of the table is nearest to it, and within its half width."""
    import pandas as pd

    table = pd.read_csv(out / "cells.csv")
    drawn, seen = np.array(truth["cells"]), table[["y_px", "x_px"]].to_numpy()
    return {
        "edge_px": truth["edge"],
        "drawn": len(drawn),
        "found": matched(drawn, seen),
        "cells": len(seen),
        "tiles": len(list(tiles((truth["edge"],) * 2, TILE_PX))),
        "tiles_of_glass": glass(truth["edge"], truth["places"]),
        "fields_across_tiles": sum(
            y0 // TILE_PX != (y1 - 1) // TILE_PX or x0 // TILE_PX != (x1 - 1) // TILE_PX
            for y0, x0, y1, x1 in truth["places"]
        ),
        "labels_bytes": sum(path.stat().st_size for path in (out / "labels").iterdir()),
    }


def matched(drawn: NDArray[np.float64], seen: NDArray[np.float64]) -> int:
    """Return how many points are each other's nearest, and no further apart than half a cell."""
    if not len(seen):
        return 0
    distance, nearest = KDTree(seen).query(drawn)
    back = KDTree(drawn).query(seen)[1]
    return int(((distance <= CELL_PX / 2) & (back[nearest] == np.arange(len(drawn)))).sum())


def glass(edge: int, places: list[tuple[int, int, int, int]]) -> int:
    """Return how many tiles hold nothing but glass."""
    bare = np.ones((-(-edge // TILE_PX),) * 2, bool)
    for y0, x0, y1, x1 in places:
        bare[y0 // TILE_PX : (y1 - 1) // TILE_PX + 1, x0 // TILE_PX : (x1 - 1) // TILE_PX + 1] = False
    return int(bare.sum())


if __name__ == "__main__":
    main()
