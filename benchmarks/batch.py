"""Many planes: throughput, memory, what a plane costs beside its networks, and how much overlaps.

Every run is a process of its own. Wall times of a busy machine say little; the share of the processor's time that is
the stages' own says the same there as on a quiet one.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.bundles import own_cache, whole_networks
from benchmarks.measure import Row, Tables, row

CELL_PX = 40
DRAWN = 10
"""Different planes; the others are links to them, as drawing takes longer than scoring."""

STAGES = """
import json, sys
from benchmarks.batch import stages
print(json.dumps(stages(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
"""
RUN = """
import json, sys
from benchmarks.batch import scored
if __name__ == "__main__":
    print(json.dumps(scored(*sys.argv[1:4], int(sys.argv[4]), sys.argv[5])))
"""


def run(smoke: bool = False) -> Tables:
    """Measure with the learned segmentation, as a user would run it: `lite`, and what overlaps with whole networks.

    Parameters
    ----------
    smoke : bool
        Few and small planes: checks that it runs, measures nothing.
    """
    side, numbers, several = (160, (2, 4), 3) if smoke else (512, (10, 40, 100, 400), 40)
    wide, shared, rounds = (160, 3, 1) if smoke else (1024, 60, 2)
    ways = ((0, "0"), (0, "1")) if smoke else ((0, "0"), (0, "1"), (1, "0"), (2, "0"))
    few = 2 if smoke else 4
    with TemporaryDirectory() as name, own_cache(), whole_networks(smoke) as whole:
        folder = Path(name)
        return {
            f"Planes: {side} x {side}": against_planes(folder, side, numbers),
            f"Workers and segmentation processes: {several} planes": against_workers(folder, side, several, ways),
            f"Overlap: lite, {shared} planes, {wide} x {wide}": overlap(folder / "wide", wide, shared, rounds),
            f"Overlap: whole networks, {few} planes, {wide} x {wide}": overlap(
                folder / "wide", wide, few, 1, str(whole.folder)
            ),
            "A plane without a cell": [overhead(folder, 4 if smoke else 100)],
        }


def against_planes(folder: Path, side: int, numbers: tuple[int, ...]) -> list[Row]:
    """Score more and more planes."""
    rows, peaks = [], []
    for n in numbers:
        told = _run(planes(folder, side, n), folder / f"planes_{n}")
        rows.append(row(f"{n} planes", n / told["score"], "planes/s"))
        rows.append(row(f"{n} planes, processor", told["cpu"] / n, "s/plane"))
        rows.append(row(f"{n} planes, peak memory", told["peak_mib"], "MiB"))
        peaks.append(told["peak_mib"])
    return [*rows, row(f"peak memory, {numbers[-1]} planes over {numbers[1]}", peaks[-1] / peaks[1], "ratio")]


def against_workers(folder: Path, side: int, n: int, ways: tuple[tuple[int, str], ...]) -> list[Row]:
    """Score the same planes by other numbers of workers and of processes that find cells."""
    rows, tables = [], set()
    for workers, processes in ways:
        out = folder / f"ways_{workers}_{processes}"
        told = _run(planes(folder, side, n), out, workers, processes)
        what = f"{workers} workers" if workers else f"no workers, {processes} segmentation processes"
        rows.append(row(what, n / told["score"], "planes/s"))
        rows.append(row(f"{what}, peak memory of all processes", told["peak_mib"] + told["children_mib"], "MiB"))
        tables.add((out / "cells.csv").read_bytes())
    return [*rows, row("different tables", len(tables), "")]


def overlap(folder: Path, side: int, n: int, rounds: int, bundle: str = "lite") -> list[Row]:
    """End to end beside each stage alone: on one core each, as when they share two, and on all.

    The three take turns, and medians count. Both stages can use all cores, so that end to end can't be as fast as
    the slower stage with all of them to itself: at best it takes as long as both, one after the other.
    """
    images = planes(folder, side, n)
    apart, alone, whole = list[Any](), list[Any](), list[dict[str, float]]()
    for k in range(rounds):
        apart.append(_printed(STAGES, images, n, bundle, threads=1))
        alone.append(_printed(STAGES, images, n, bundle))
        whole.append(_run(images, folder / f"overlap_{n}_{k}", bundle=bundle))
    seconds = statistics.median(told["score"] for told in whole)
    cpu = statistics.median(told["cpu"] for told in whole)
    rows = [row("end to end", n / seconds, "planes/s")]
    for where, measured in (("on one core", apart), ("on all cores", alone)):
        stage = {
            name: {clock: statistics.median(told[name][clock] for told in measured) for clock in ("wall", "cpu")}
            for name in ("segmentation", "ensemble")
        }
        rows += [row(f"{name} alone, {where}", n / taken["wall"], "planes/s") for name, taken in stage.items()]
        slower = max(taken["wall"] for taken in stage.values())
        rows.append(row(f"end to end over the slower stage {where}", slower / seconds, "ratio"))
    both = sum(taken["wall"] for taken in stage.values())
    work = sum(taken["cpu"] for taken in stage.values())
    return [
        *rows,
        row("that at best, if each stage alone keeps all cores busy", slower / both, "ratio"),
        row("processor time of both stages over end to end", work / cpu, "ratio"),
        row("cores busy end to end", cpu / seconds, "cores"),
    ]


def overhead(folder: Path, n: int) -> Row:
    """Score planes with nothing in them: what reading, tables and files cost."""
    from PIL import Image

    empty = folder / "empty"
    empty.mkdir()
    for i in range(n):
        Image.fromarray(np.full((96, 96, 3), 240, np.uint8)).save(empty / f"{i:03}.png")
    return row("96 x 96, all but the networks", 1000 * _run(empty, folder / "empty_out")["score"] / n, "ms")


def planes(folder: Path, side: int, n: int) -> Path:
    """Return a folder of n drawn smears, some 20 cells in a megapixel."""
    from PIL import Image

    from napari_all_detect import draw_smear

    drawn, images = folder / "drawn", folder / f"images_{n}"
    if not drawn.exists():
        drawn.mkdir(parents=True)
        for i in range(DRAWN):
            smear = draw_smear((side, side), n_cells=max(1, side**2 // 50_000), cell_diameter_px=CELL_PX, seed=i)
            Image.fromarray(smear.rgb).save(drawn / f"{i}.png")
    if not images.exists():
        images.mkdir()
        for i in range(n):
            os.link(drawn / f"{i % DRAWN}.png", images / f"{i:03}.png")
    return images


def scored(images: str, out: str, bundle: str, workers: int, processes: str) -> dict[str, float]:
    """Score a folder in this process; return seconds, without those of loading, and what it took."""
    from napari_all_detect import ScoreParams, score_batch
    from napari_all_detect.batch import BatchProgress
    from napari_all_detect.params import ClusterParams

    class Watch(BatchProgress):
        def start(self, planes: int) -> None:
            self.began, self.children_mib = time.process_time(), 0.0

        def plane(self) -> None:
            self.children_mib = max(self.children_mib, children_mib())

    watch = Watch()
    where = ClusterParams(workers=workers, segmentation_processes=int(processes))
    score_batch([images], out, ScoreParams(bundle=bundle), progress=watch, cluster=where)
    cpu = time.process_time() - watch.began
    seconds = json.loads(Path(out, "run.json").read_text())["seconds"]
    return {"score": seconds["score"], "cpu": cpu, "peak_mib": peak_mib(), "children_mib": watch.children_mib}


def stages(images: str, n: int, bundle: str) -> dict[str, dict[str, float]]:
    """Time both stages alone."""
    from napari_all_detect import ScoreParams, segment_cells
    from napari_all_detect.crops import center_crop
    from napari_all_detect.pipeline import open_scorer
    from napari_all_detect.sources import find_images, open_planes

    scorer = open_scorer(ScoreParams(bundle=bundle))
    size = scorer.bundle.manifest.crop.size
    rgbs = [plane.read().rgb for file in find_images([images]) for plane in open_planes(file)][:n]
    labels = [segment_cells(rgb) for rgb in rgbs[:DRAWN]]
    crops = np.concatenate([center_crop(rgb, labels[i % DRAWN], size) for i, rgb in enumerate(rgbs)])
    scorer.engine.predict(crops[:8])
    return {
        "segmentation": timed(lambda: [segment_cells(rgb, nuclei=True) for rgb in rgbs]),
        "ensemble": timed(lambda: scorer.engine.predict(crops)),
    }


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Return the seconds of the wall and of the processor that work takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def peak_mib(pid: int | str = "self") -> float:
    """Return the peak memory of a process; 0 where the system doesn't say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def children_mib() -> float:
    """Return the sum of the peaks of all processes that this one began and that live."""
    import psutil

    return sum(peak_mib(child.pid) for child in psutil.Process().children(recursive=True))


def _run(images: Path, out: Path, workers: int = 0, processes: str = "0", bundle: str = "lite") -> dict[str, float]:
    return _printed(RUN, images, out, bundle, workers, processes)


def _printed(code: str, *arguments: object, threads: int | None = None) -> Any:
    """Run a script of its own, so that workers can begin as from any other, and return the JSON that it prints last."""
    with TemporaryDirectory() as folder:
        script = Path(folder, "measured.py")
        script.write_text(code)
        command = [sys.executable, str(script), *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
        if threads is not None:
            names = ("ALL_DETECT_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
            environment |= dict.fromkeys(names, str(threads))
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"a measured run failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    print(json.dumps(run("--smoke" in sys.argv[1:]), indent=1))
