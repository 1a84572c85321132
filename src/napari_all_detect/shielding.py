"""Processes that no Ctrl-C reaches, which a terminal sends to all: it is for the one that started them."""

import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker
from typing import TypeVar

__all__ = ["shielded"]

Started = TypeVar("Started")


def shielded(start: Callable[[], Started]) -> Started:
    """Return what `start` does; processes that it starts are shielded, but for Windows, which knows no masks.

    Processes and threads inherit which signals are blocked, so it is called in a thread that blocks this one.
    """

    def blocking() -> Started:
        if sys.platform != "win32":
            resource_tracker.ensure_running()  # its start lifts the block
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return start()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(blocking).result()
