"""Who reads planes and finds the cells in them: this process, or some that do nothing else."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Lock

from napari_all_detect.batch.running import Stopped
from napari_all_detect.batch.steps import Begin, cut_unit, failing_alone
from napari_all_detect.batch.units import CutUnit, Job, Unit
from napari_all_detect.cores import n_cores
from napari_all_detect.piped import LostError, PipedProcess
from napari_all_detect.results import Failure

__all__ = ["ENVIRONMENT", "Cut", "CuttingProcess", "cutters", "n_processes"]

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
    """A process that reads planes and cuts out their cells, started by the first one."""

    def __init__(self) -> None:
        self._process: PipedProcess | None = None
        self._turn, self._life, self._ended = Lock(), Lock(), False

    def __call__(self, job: Job, unit: Unit) -> CutUnit | Failure:
        """Cut one plane there. A process that dies of it costs this plane; the next plane starts another process.

        Raises
        ------
        Stopped
            If it was ended by `end`.
        """
        with self._turn:
            return failing_alone(unit, partial(self._ask, job, unit))

    def _ask(self, job: Job, unit: Unit, begin: Begin) -> CutUnit | Failure:
        begin("score")
        process = self._running()
        try:
            process.send((job, unit))
            found: CutUnit | Failure = process.receive()
        except LostError:
            if self._ended:
                raise Stopped from None
            return Failure(unit.name, "score", _why_ended(process.close()))
        except BaseException:
            process.end()  # else the rest of its answer would be taken for the next plane's
            raise
        return found

    def end(self) -> None:
        """End the process at once, whatever it does."""
        with self._life:
            self._ended = True
            if self._process is not None:
                self._process.end()
        with self._turn:
            if self._process is not None:
                self._process.close()

    def _running(self) -> PipedProcess:
        with self._life:
            if self._ended:
                raise Stopped
            if self._process is not None and not self._process.runs:
                self._process.close()
                self._process = None
            if self._process is None:
                self._process = PipedProcess(
                    PROGRAM,
                    ENVIRONMENT,
                    start_new_session=True,  # a Ctrl-C in the terminal is for the run, which ends its processes
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
            return self._process


def _why_ended(status: int) -> str:
    if status == -9:
        return (
            "the process that looked for its cells was ended by the operating system, most likely for want of memory; "
            "give it more, or take fewer --segmentation-processes"
        )
    return f"the process that looked for its cells ended (exit status {status}); try again with --resume"
