"""Work done in threads, a few units ahead, and stopped at once when the run is."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

__all__ = ["AHEAD", "THREADS", "Stopped", "in_order", "stoppable"]

THREADS = 2
"""While one plane is with the networks, which take one at a time, the next is read and segmented."""

AHEAD = 4
"""Planes begun before the first of them is written: what a run holds in memory does not grow with their number."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Ends a thread's work between two batches, because the run was interrupted."""


def stoppable(progress: Callable[[int], None], stop: Event) -> Callable[[int], None]:
    """Return a progress that raises `Stopped` once the event is set."""

    def told(n: int) -> None:
        if stop.is_set():
            raise Stopped
        progress(n)

    return told


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], stop: Event, threads: int = THREADS
) -> Iterator[tuple[Item, Result]]:
    """Do the work in threads and yield the results in the items' order.

    However it ends early, `stop` is set and nothing is waited for: an interrupted run ends now, not when its planes
    are done.
    """

    def begin(item: Item) -> Result:
        if stop.is_set():
            raise Stopped
        return work(item)

    begun: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            begun.append((item, pool.submit(begin, item)))
            if len(begun) == AHEAD:
                first, future = begun.popleft()
                yield first, future.result()
        while begun:
            first, future = begun.popleft()
            yield first, future.result()
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(wait=not stop.is_set(), cancel_futures=True)
