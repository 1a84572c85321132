"""Reading, finding cells and scoring at once on this machine: each plane in a thread, what they share rationed."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from threading import Event

from napari_all_detect.batch.cutting import Cut, cutters
from napari_all_detect.batch.gathering import GatheringEngine
from napari_all_detect.batch.running import Stopped, in_order, stoppable
from napari_all_detect.batch.steps import cut_unit, score_cut
from napari_all_detect.batch.units import Job, Unit, UnitResult
from napari_all_detect.engines import Progress
from napari_all_detect.pipeline import Scorer
from napari_all_detect.results import Failure

__all__ = ["overlapped"]

GATHERED = 128
"""Cells that are waited for, unless a batch size is asked for, while planes are under way that may bring more."""

WAITING = 8
"""Planes under way beside those whose cells are being found: that many share a batch, if they have few cells each."""


def overlapped(
    scorer: Scorer, job: Job, units: Sequence[Unit], progress: Progress, processes: int
) -> Generator[tuple[Unit, UnitResult | Failure], None, None]:
    """Score units here and yield the results in their order; closed early, it ends at once.

    Parameters
    ----------
    scorer : Scorer
    job : Job
    units : sequence of Unit
    progress : callable
        Is told how many more cells are scored, from other threads.
    processes : int
        That read planes and find cells; 0 does it in this one.
    """
    stop = Event()
    engine = GatheringEngine(scorer.engine, scorer.params.batch_size or GATHERED)
    gathered, told = replace(scorer, engine=engine), stoppable(progress, stop)
    with cutters(processes) as free:

        def work(unit: Unit) -> UnitResult | Failure:
            with engine.plane():
                with _borrowed(free) as cut:
                    engine.wait_for_room()
                    if stop.is_set():
                        raise Stopped
                    # What is taken in tiles comes back as files of the process that found it: so here.
                    found = (cut if unit.plane.opener is None else cut_unit)(job, unit)
                return found if isinstance(found, Failure) else score_cut(gathered, job, unit, found, told)

        yield from in_order(work, units, stop, threads=free.qsize() + WAITING)


@contextmanager
def _borrowed(free: "SimpleQueue[Cut]") -> Iterator[Cut]:
    cut = free.get()
    try:
        yield cut
    finally:
        free.put(cut)
