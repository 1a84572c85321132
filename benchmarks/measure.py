"""How a figure is measured: peers take turns, the median counts; and what a figure is."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]
"""A figure: `what`, `value`, `unit`."""

Tables = dict[str, list[Row]]
"""Figures under their headings: what the `run` of each part of the benchmarks returns."""

PEAK_MIB = "next(int(line.split()[1]) for line in open('/proc/self/status') if line[:6] == 'VmHWM:') / 1024"
"""Python that gives the peak memory of its process, on Linux. Not ru_maxrss: a child inherits its parent's there."""

HAS_PEAK = Path("/proc/self/status").exists()


def row(what: str, value: float, unit: str) -> Row:
    """Return one figure, to four digits."""
    return {"what": what, "value": float(f"{value:.4g}"), "unit": unit}


def alternate(
    tasks: Sequence[Callable[[], object]],
    rounds: int,
    clock: Callable[[], Any] = time.perf_counter,
    warm: bool = False,
) -> list[list[Any]]:
    """Return each task's seconds in each round; after a warm-up, unless they are warm, the tasks take turns."""
    for task in () if warm else tasks:
        task()
    seconds: list[list[Any]] = [[] for _ in tasks]
    for _ in range(rounds):
        for task, taken in zip(tasks, seconds, strict=True):
            began = clock()
            task()
            taken.append(clock() - began)
    return seconds


def both_clocks() -> NDArray[np.float64]:
    """Return the seconds of the clock on the wall and of the processor, all threads together.

    What others do on a machine shows in the first, hardly in the second, which in turn knows nothing of idle cores.
    """
    return np.array([time.perf_counter(), time.process_time()])


def ratio(of: Sequence[Any], over: Sequence[Any]) -> Any:
    """Return the median of the ratios round by round: what slows a whole round down cancels out."""
    return np.median([a / b for a, b in zip(of, over, strict=True)], axis=0)


def printed_number(code: str) -> float:
    """Run code in a new process and return the number that it prints last."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def machine() -> str:
    """Return what was measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{_processor()}, {cores} cores, Python {platform.python_version()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    return next((v.strip() for k, v in found.items() if k.strip() == "model name"), platform.machine())
