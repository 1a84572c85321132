"""Units on a Dask cluster, an existing one or one started here."""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache, partial
from itertools import islice
from multiprocessing import resource_tracker
from threading import Lock
from typing import Any
from uuid import uuid4

from napari_all_detect.batch.planning import Unit
from napari_all_detect.batch.store import UnitResult
from napari_all_detect.batch.unit import Job, score_unit
from napari_all_detect.cores import n_cores
from napari_all_detect.errors import AllDetectError, OutputError
from napari_all_detect.params import ClusterParams, ScoreParams
from napari_all_detect.pipeline import Scorer, kept_scorer
from napari_all_detect.results import Failure

__all__ = ["connected", "on_cluster"]

AHEAD = 2
"""Units that the scheduler knows for each thread of its workers: a million are no load to it, nor to us."""

CONNECT_S = 10
CLOSE_S = 1
END_S = 0.2
"""For a worker to end by itself, before it is killed."""

LOST = 1
"""Workers that a unit may lose before it has to wait for the end, in a cluster started here."""

_loading = Lock()


@contextmanager
def connected(cluster: ClusterParams) -> Iterator[Any]:
    """Lend a client of the cluster; one that was started here ends with it.

    Raises
    ------
    OutputError
        If no scheduler answers.
    """
    from distributed import Client

    with ExitStack() as stack:
        if cluster.scheduler is None:
            place, advice = _shielded(partial(_local, cluster.workers)), "try again, or without --workers"
            stack.callback(_close, place)
        else:
            place, advice = cluster.scheduler, "check the address"
        try:
            client = Client(place, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            where = cluster.scheduler or "this machine"
            raise OutputError(f"no Dask scheduler answers at {where} ({error}); {advice}") from error
        stack.callback(_disconnect, client)
        yield client


# An interrupted run ends now: what is not closed by then ends with this process.
def _disconnect(client: Any) -> None:
    with suppress(OSError):
        client.close(timeout=CLOSE_S)


def _close(local: Any) -> None:
    with suppress(OSError):
        local.sync(_end_workers, local, callback_timeout=CLOSE_S)
        local.close(timeout=CLOSE_S)


async def _end_workers(local: Any) -> None:
    """End worker processes whatever they are doing; closing the cluster would let them finish that first."""
    await asyncio.gather(*(nanny.close(timeout=END_S) for nanny in local.workers.values()))


def _shielded(start: Callable[[], Any]) -> Any:
    """Start processes that no Ctrl-C reaches, which a terminal sends to all: it is for the run, which ends them.

    Processes and threads inherit which signals are blocked, so these are started in a thread that blocks it.
    """

    def shielded() -> Any:
        if hasattr(signal, "pthread_sigmask"):
            resource_tracker.ensure_running()  # its start lifts the block
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return start()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(shielded).result()


def _local(workers: int) -> Any:
    """Start a cluster on this machine, whose workers share its cores."""
    import dask
    from distributed import LocalCluster

    threads = str(max(1, n_cores() // workers))
    with dask.config.set({"distributed.scheduler.allowed-failures": LOST}):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # any port: another run on this machine may have the usual one
            silence_logs=logging.CRITICAL,
            env=dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "ALL_DETECT_THREADS"), threads),
        )


def on_cluster(client: Any, job: Job, units: Iterable[Unit]) -> Iterator[tuple[Unit, UnitResult | Failure]]:
    """Score units on a cluster and yield the results as they come.

    A worker loads the bundle with its first unit. What a worker had when it was lost, others do again. Units that lose
    several workers come again at the end, one at a time: that which killed them is then a failure, and those that only
    were with it are not.

    Parameters
    ----------
    client : distributed.Client
    job : Job
    units : iterable of Unit

    Raises
    ------
    OutputError
        If the scheduler is lost.
    """
    from distributed import as_completed

    waiting, known, suspects = iter(units), dict[Any, Unit](), list[Unit]()
    run = uuid4().hex  # a scheduler that knows a task's key from another run would hand out that run's result

    def begin(unit: Unit, attempt: int = 1) -> Any:
        key = f"all-detect-{run}-{unit.number}-{attempt}"
        future = client.submit(_score_there, run, job, unit, key=key, pure=False)
        known[future] = unit
        return future

    n = AHEAD * max(1, sum(client.nthreads().values()))
    ready = as_completed([begin(unit) for unit in islice(waiting, n)])
    try:
        for future in ready:
            unit = known.pop(future)
            if _lost_workers(future):
                suspects.append(unit)
            else:
                yield unit, _result(future, unit)
            for following in islice(waiting, 1):
                ready.add(begin(following))
        for unit in suspects:
            (future,) = as_completed([begin(unit, 2)])
            del known[future]
            yield unit, _result(future, unit)
    finally:
        with suppress(OSError):
            client.cancel(list(known))


def _lost_workers(future: Any) -> bool:
    from distributed.scheduler import KilledWorker

    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def _result(future: Any, unit: Unit) -> UnitResult | Failure:
    if future.status == "cancelled":
        raise OutputError("the Dask scheduler is lost; start it again, then go on with --resume")
    if _lost_workers(future):
        return Failure(unit.name, "score", "several workers were lost on it, for want of memory or of time: give more")
    try:
        result: UnitResult | Failure = future.result()
    except OSError as error:
        raise OutputError(f"the Dask cluster is lost ({error}); start it again, then go on with --resume") from error
    except AllDetectError as error:
        return Failure(unit.name, "load", f"a worker could not load what it needs: {error}")
    return result


def _score_there(run: str, job: Job, unit: Unit) -> UnitResult | Failure:
    """Score a unit in a worker."""
    with _loading:
        scorer = _scorer(run, job.params)
    return score_unit(scorer, job, unit)


@lru_cache(maxsize=2)
def _scorer(run: str, params: ScoreParams) -> Scorer:
    """Verify the bundle once for a run: workers may outlive it, and the bundle be another one by the next."""
    return kept_scorer(params)
