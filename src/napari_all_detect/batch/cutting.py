"""Who reads planes and finds the cells in them: this process, or some that do nothing else."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Lock

from napari_all_detect.batch.planning import Unit
from napari_all_detect.batch.running import Stopped
from napari_all_detect.batch.unit import CutUnit, Job, cut_unit
from napari_all_detect.cores import n_cores
from napari_all_detect.results import Failure

__all__ = ["Cut", "CuttingProcess", "cutters", "n_processes"]

Cut = Callable[[Job, Unit], CutUnit | Failure]

THREADS = 3
"""Planes that this process cuts at once: while one is with the segmenter's network, others are read and parted."""

PROGRAM = "napari_all_detect.batch.cutter"
ENVIRONMENT = {
    "ALL_DETECT_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}
"""Of the processes, unless the user's says otherwise: each takes one core, and no more of a GPU than it needs."""

ENDING_S = 5
"""What a process whose pipe broke may take to end by itself, which tells why."""

CORES_PER_PROCESS = 4
PLANES_PER_PROCESS = 16
"""A process takes seconds to load the segmenter's network: fewer planes are not worth that."""


def n_processes(wanted: int | str, planes: int) -> int:
    """Return how many processes find cells: as many as wanted, or for `auto` what fits the machine and the run."""
    if wanted != "auto":
        return int(wanted)
    return min(n_cores() // CORES_PER_PROCESS, planes // PLANES_PER_PROCESS)


@contextmanager
def cutters(processes: int) -> Iterator["SimpleQueue[Cut]"]:
    """Lend what cuts planes, one plane at a time each; processes start with their first plane and end here."""
    own = [CuttingProcess() for _ in range(processes)]
    free = SimpleQueue[Cut]()
    for k in range(processes or THREADS):
        free.put(own[k] if own else cut_unit)
    try:
        yield free
    finally:
        for process in own:
            process.end()


class CuttingProcess:
    """A process that reads planes and cuts out their cells, started by the first one.

    A program of its own, not one of `multiprocessing`: those run the user's script again, or fork the networks'
    threads.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._turn, self._life, self._ended = Lock(), Lock(), False

    def __call__(self, job: Job, unit: Unit) -> CutUnit | Failure:
        """Cut one plane there. A process that dies of it costs this plane; the next plane starts another process.

        Raises
        ------
        Stopped
            If it was ended by `end`.
        """
        with self._turn:
            process = self._running()
            try:
                found = _ask(process, job, unit)
            except (EOFError, OSError, ValueError, pickle.UnpicklingError):
                if self._ended:
                    raise Stopped from None
                found = Failure(unit.name, "score", _why_ended(_ended(process)))
        return found

    def end(self) -> None:
        """End the process at once, whatever it does."""
        with self._life:
            self._ended = True
            if self._process is not None:
                self._process.kill()
        with self._turn:
            if self._process is not None:
                self._process.wait()
                _close_pipes(self._process)

    def _running(self) -> "subprocess.Popen[bytes]":
        with self._life:
            if self._ended:
                raise Stopped
            if self._process is not None and self._process.poll() is not None:
                _close_pipes(self._process)
                self._process = None
            if self._process is None:
                self._process = subprocess.Popen(
                    # -P: a file of the user's in the working directory must not take a library's place.
                    [sys.executable, "-P", "-m", PROGRAM],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**ENVIRONMENT, **os.environ},
                    start_new_session=True,  # a Ctrl-C in the terminal is for the run, which ends its processes
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
            return self._process


def _ask(process: "subprocess.Popen[bytes]", job: Job, unit: Unit) -> CutUnit | Failure:
    requests, replies = process.stdin, process.stdout
    assert requests is not None  # noqa: S101
    assert replies is not None  # noqa: S101
    pickle.dump((job, unit), requests, protocol=pickle.HIGHEST_PROTOCOL)
    requests.flush()
    found: CutUnit | Failure = pickle.load(replies)
    return found


def _ended(process: "subprocess.Popen[bytes]") -> int:
    """Let a process end that is no longer answered, and return its status."""
    _close_pipes(process)
    try:
        return process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _close_pipes(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what is left in a buffer can't be written any more
                pipe.close()


def _why_ended(status: int) -> str:
    if status == -9:
        return (
            "the process that looked for its cells was ended by the operating system, most likely for want of memory; "
            "give it more, or take fewer --segmentation-processes"
        )
    return f"the process that looked for its cells ended (exit status {status}); try again with --resume"
