"""Units scored by the workers of a Dask cluster, which may come and go."""

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any
from uuid import uuid4

from napari_all_detect.batch.cluster import PACKAGE
from napari_all_detect.batch.record import changed_settings, scored_by
from napari_all_detect.batch.steps import Begin, failing_alone, score_unit
from napari_all_detect.batch.units import Job, Unit, UnitResult
from napari_all_detect.errors import BundleError, OutputError
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import Scorer, kept_scorer
from napari_all_detect.results import Failure

__all__ = ["on_cluster"]

AHEAD = 2
"""Units that the scheduler knows for each thread of its workers: a million are no load to it, nor to us."""

ASK_S = 1
"""Between two questions how many workers there are."""

ALONE_S = 30
"""Without a worker, before that is told."""

SAME = ("segmentation", "engine", "precision", "versions")
"""What of a run's record must hold in its workers, as must the bundle's digest. Their devices may be others."""

LOST_ON_IT = (
    f"several workers were lost on it, for want of memory or of time (give more), or of {PACKAGE} (their logs say so)"
)

log = logging.getLogger(__name__)
_loading = Lock()


def on_cluster(
    client: Any, job: Job, units: Iterable[Unit], record: Mapping[str, Any]
) -> Iterator[tuple[Unit, UnitResult | Failure]]:
    """Score units on a cluster and yield the results as they come.

    A worker loads the bundle with its first unit. What a worker had when it was lost, others do again. Units that lose
    several workers come again at the end, one at a time: that which killed them is then a failure, and those that only
    were with it are not.

    Parameters
    ----------
    client : distributed.Client
    job : Job
    units : iterable of Unit
    record : mapping
        What `run.json` says of this run: where a worker has another bundle, say, its units are failures.

    Raises
    ------
    OutputError
        If the scheduler is lost.
    """
    tasks, suspects = _Tasks(client, job, record), list[Unit]()
    try:
        for unit, future in tasks.done(units):
            if _lost_workers(future):
                suspects.append(unit)
            else:
                yield unit, _result(future, unit)
        for suspect in suspects:
            for unit, future in tasks.done([suspect], attempt=2):
                yield unit, _result(future, unit)
    finally:
        tasks.cancel()


class _Tasks:
    """Units that a scheduler knows: no more of them than its workers soon get to, however many workers there are."""

    def __init__(self, client: Any, job: Job, record: Mapping[str, Any]) -> None:
        self._client, self._workers = client, _Workers(client)
        # A scheduler that knows a task's key from another run would hand out that run's result.
        self._run = uuid4().hex
        self._arguments = self._run, job, json.dumps(_must_hold(record))
        self._known = dict[Any, Unit]()
        self._ended = SimpleQueue[Any]()

    def done(self, units: Iterable[Unit], attempt: int = 1) -> Iterator[tuple[Unit, Any]]:
        """Have units scored, and yield each with its future as that ends."""
        waiting = iter(units)
        while True:
            more = AHEAD * max(1, self._workers.threads()) - len(self._known)
            for unit in islice(waiting, max(0, more)):
                self._begin(unit, attempt)
            if not self._known:
                return
            try:
                future = self._ended.get(timeout=ASK_S)
            except Empty:
                continue
            yield self._known.pop(future), future

    def _begin(self, unit: Unit, attempt: int) -> None:
        key = f"all-detect-{self._run}-{unit.number}-{attempt}"
        future = self._client.submit(_score_there, *self._arguments, unit, key=key, pure=False)
        self._known[future] = unit
        future.add_done_callback(self._ended.put)

    def cancel(self) -> None:
        """Have the scheduler forget them."""
        with suppress(OSError):
            self._client.cancel(list(self._known))


class _Workers:
    """A cluster's workers, as of a moment ago; that there is none is told, once."""

    def __init__(self, client: Any) -> None:
        self._client, self._threads, self._told = client, 0, False
        self._asked, self._there = -float("inf"), time.monotonic()

    def threads(self) -> int:
        """Return how many threads they have; raise OutputError if no scheduler says."""
        now = time.monotonic()
        if now - self._asked < ASK_S:
            return self._threads
        try:
            self._threads, self._asked = sum(self._client.nthreads().values()), now
        except OSError as error:
            raise _lost(error) from error
        if self._threads:
            self._there = now
        elif now - self._there > ALONE_S and not self._told:
            self._told = True
            log.warning(
                "the cluster has no worker, and the run waits for one; workers that lack %s leave as soon as they are "
                "given a plane: their logs say so. Ctrl-C ends the run, --resume goes on with it",
                PACKAGE,
            )
        return self._threads


def _lost(error: object) -> OutputError:
    return OutputError(f"the Dask cluster is lost ({error}); start it again, then go on with --resume")


def _lost_workers(future: Any) -> bool:
    from distributed.scheduler import KilledWorker

    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def _result(future: Any, unit: Unit) -> UnitResult | Failure:
    if future.status == "cancelled":
        raise OutputError("the Dask scheduler is lost; start it again, then go on with --resume")
    if _lost_workers(future):
        return Failure(unit.name, "score", LOST_ON_IT)
    try:
        result: UnitResult | Failure = future.result()
    except OSError as error:
        raise _lost(error) from error
    except Exception as error:  # noqa: BLE001 - of packing and unpacking, on whatever machine
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return Failure(unit.name, "score", f"the cluster can't pass it on ({said}); it needs what is installed here")
    return result


def _score_there(run: str, job: Job, expected: str, unit: Unit) -> UnitResult | Failure:
    """Score a unit in a worker."""
    from distributed import get_worker

    def load(begin: Begin) -> Scorer:
        begin("load")
        with _loading:
            return _scorer(run, job.params, job.output.labels, expected)

    scorer = failing_alone(unit, load)
    if isinstance(scorer, Failure):
        return replace(scorer, reason=f"worker {get_worker().address} could not load what it needs: {scorer.reason}")
    return score_unit(scorer, job, unit)


@lru_cache(maxsize=2)
def _scorer(run: str, params: ScoreParams, labels: str | None, expected: str) -> Scorer:
    """Verify once for a run that this worker scores as `run.json` says: it may outlive the run, and have other parts.

    Raises
    ------
    BundleError
        If it does not, or as `kept_scorer`.
    """
    scorer = kept_scorer(params)
    there = _must_hold(scored_by(scorer, labels))
    found = changed_settings(json.loads(expected), there, list(there))
    if found:
        raise BundleError(
            f"unlike where the run was begun, {', '.join(found)}; install the same there, then go on with --resume"
        )
    return scorer


def _must_hold(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"bundle digest": record["bundle"]["digest"]} | {part: record[part] for part in SAME}
