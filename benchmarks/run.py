"""Run all benchmarks, print them, and write `benchmarks/results.json` and `benchmarks/results.md`.

Machines are shared and noisy: peers alternate within one process, figures are medians, and ratios are what counts.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

HERE = Path(__file__).parent
MP = "s/megapixel"
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, once: checks that it runs, measures little")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for results.json and results.md")
    arguments = parser.parse_args(argv)
    rounds, n_cells, side = (1, 32, 256) if arguments.quick else (5, 512, 1024)
    rows = [
        *ensemble(rounds, n_cells),
        *segmentation(rounds, side),
        *peers_of_segmentation(rounds, side),
        *fresh_process(rounds),
        *peak_memory(side),
    ]
    write(rows, arguments.out)
    return 0


def ensemble(rounds: int, n_cells: int) -> list[Row]:
    """Cells a second: one graph of all members beside the members one by one through `model.predict`."""
    from napari_all_detect.bundle import load_bundle
    from napari_all_detect.engines.keras import KerasEngine, load_member
    from napari_all_detect.networks import preprocess

    bundle = load_bundle("lite")
    engine = KerasEngine(bundle)
    members = [(member, load_member(bundle, member)) for member in bundle.manifest.members]
    size = bundle.manifest.crop.size
    crops = np.random.default_rng(0).integers(0, 255, (n_cells, size, size, 3), dtype=np.uint8)

    def one_by_one() -> None:
        for member, network in members:
            pixels = np.asarray(preprocess(crops, member.input_size, member.preprocessing))
            network.predict(pixels, batch_size=32, verbose=0)

    fused, separate = alternate([lambda: engine.predict(crops), one_by_one], rounds)
    return [
        row("lite ensemble, one graph", n_cells / fused, "cells/s"),
        row("lite members one by one, model.predict", n_cells / separate, "cells/s"),
        row("one graph over one by one", separate / fused, "ratio"),
    ]


def segmentation(rounds: int, side: int) -> list[Row]:
    """Seconds a megapixel of both methods, with cells 40 px wide and, reduced first, 160 px wide.

    The classical method runs on one core, and is timed on that core's clock; the network takes all there are.
    """
    from napari_all_detect import SegmentationParams, draw_smear, segment_cells

    rows = []
    for diameter in (40, 160):
        rgb = draw_smear((side, side), n_cells=_n_cells(side, diameter), cell_diameter_px=diameter, seed=1).rgb
        for name, clock in (("classical", time.process_time), ("learned", time.perf_counter)):
            params = SegmentationParams(method=name)
            (seconds,) = alternate([lambda rgb=rgb, params=params: segment_cells(rgb, params)], rounds, clock)
            rows.append(row(f"segmentation, {name}, cells {diameter} px wide", seconds / _megapixels(side), MP))
    return rows


def peers_of_segmentation(rounds: int, side: int) -> list[Row]:
    """Classical segmentation beside Voronoi-Otsu labelling: processor time, and Dice of whole cells."""
    try:
        from napari_segment_blobs_and_things_with_membranes import voronoi_otsu_labeling
    except ImportError:
        print("Voronoi-Otsu labelling is left out: pip install 'napari-all-detect[bench]'", file=sys.stderr)
        return []
    from napari_all_detect import SegmentationParams, draw_smear, segment_cells

    diameter = 40
    smear = draw_smear((side, side), n_cells=_n_cells(side, diameter), cell_diameter_px=diameter, seed=1)
    # What white cells absorb most; sigmas as one would set them for cells of this size.
    dark = 255 - smear.rgb[..., 1]

    def voronoi_otsu() -> np.ndarray:
        return np.asarray(voronoi_otsu_labeling(dark, spot_sigma=diameter / 5, outline_sigma=1))

    def classical() -> np.ndarray:
        return segment_cells(smear.rgb, SegmentationParams(method="classical"))

    ours, theirs = alternate([classical, voronoi_otsu], rounds, time.process_time)
    dice = [
        2 * ((a > 0) & (smear.labels > 0)).sum() / ((a > 0).sum() + (smear.labels > 0).sum())
        for a in (classical(), voronoi_otsu())
    ]
    return [
        row("Voronoi-Otsu labelling, cells 40 px wide", theirs / _megapixels(side), MP),
        row("classical segmentation over Voronoi-Otsu, time", ours / theirs, "ratio"),
        row("Dice of whole cells, classical", float(dice[0]), ""),
        row("Dice of whole cells, Voronoi-Otsu", float(dice[1]), ""),
    ]


def _n_cells(side: int, diameter: int) -> int:
    return (side // (3 * diameter)) ** 2 + 1


def _megapixels(side: int) -> float:
    return side * side / 1e6


def fresh_process(rounds: int) -> list[Row]:
    """Time what a user waits for in a new process."""
    first = (
        "import time; began = time.perf_counter(); import napari_all_detect as ad; "
        "ad.score_image(ad.draw_smear((224, 224), n_cells=5, seed=1).rgb); print(time.perf_counter() - began)"
    )
    load = "import time; began = time.perf_counter(); import napari_all_detect; print(time.perf_counter() - began)"
    return [
        row("import napari_all_detect", statistics.median(run(load) for _ in range(rounds)), "s"),
        row("import and first score", statistics.median(run(first) for _ in range(min(rounds, 3))), "s"),
    ]


def peak_memory(side: int) -> list[Row]:
    """Peak memory of a process of its own that reads a smear and works on it; on Linux alone."""
    if not Path("/proc/self/status").exists():
        return []
    from napari_all_detect import draw_smear

    def peak_mib(work: str) -> float:
        return run(
            f"import numpy as np, napari_all_detect as ad; rgb = np.load({path!r}); {work}; "
            # Not ru_maxrss: a child inherits its parent's there.
            "print(next(int(line.split()[1]) for line in open('/proc/self/status') if line[:6] == 'VmHWM:') / 1024)"
        )

    with TemporaryDirectory() as folder:
        path = f"{folder}/smear.npy"
        np.save(path, draw_smear((side, side), n_cells=60, cell_diameter_px=40, seed=1).rgb)
        rows = []
        for name in ("classical", "learned"):
            params = f"ad.SegmentationParams(method={name!r})"
            idle = peak_mib(f"ad.segment_cells(rgb[:64, :64].copy(), {params})")
            more = peak_mib(f"ad.segment_cells(rgb, {params})") - idle
            image = 3 * side * side / 2**20
            rows.append(row(f"segmentation, {name}, of {side}x{side}, over the image", more / image, "x"))
        return [*rows, row("one plane scored with lite, whole process", peak_mib("ad.score_image(rgb)"), "MiB")]


def alternate(
    tasks: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Return each task's median seconds; after a warm-up the tasks take turns."""
    for task in tasks:
        task()
    seconds: list[list[float]] = [[] for _ in tasks]
    for _ in range(rounds):
        for task, taken in zip(tasks, seconds, strict=True):
            began = clock()
            task()
            taken.append(clock() - began)
    return [statistics.median(taken) for taken in seconds]


def run(code: str) -> float:
    """Run code in a new process and return the number that it prints last."""
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return float(printed.split()[-1])


def row(what: str, value: float, unit: str) -> Row:
    """Return one figure."""
    return {"what": what, "value": round(value, 3), "unit": unit}


def write(rows: list[Row], folder: Path) -> None:
    """Print the figures and write them as JSON and Markdown."""
    machine = f"{platform.machine()}, {len_cpus()} cores, Python {platform.python_version()}"
    lines = [f"Measured on {machine}.", "", "| what | value | unit |", "|---|---:|---|"]
    lines += [f"| {r['what']} | {r['value']:g} | {r['unit']} |" for r in rows]
    print("\n".join(lines))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({"machine": machine, "figures": rows}, indent=2) + "\n")
    (folder / "results.md").write_text("# Benchmarks\n\n" + "\n".join(lines) + "\n")


def len_cpus() -> int:
    """Return the number of cores that this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
