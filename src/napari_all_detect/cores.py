"""Processor cores."""

import os

__all__ = ["n_cores"]


def n_cores() -> int:
    """Return the number of cores that this process may use: `taskset` and cluster schedulers leave it some only."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
