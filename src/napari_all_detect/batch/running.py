"""Work done in threads, a few items ahead, and stopped at once when the run is."""

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

__all__ = ["Stopped", "in_order", "interruptible", "stoppable"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Ends a thread's work between two batches, because the run was interrupted."""


def interruptible() -> None:
    """Let Ctrl-C end a wait for threads at once, as Python has it: once polars is loaded (by ngio), it would go on."""
    if hasattr(signal, "siginterrupt"):
        signal.siginterrupt(signal.SIGINT, True)


def stoppable(progress: Callable[[int], None], stop: Event) -> Callable[[int], None]:
    """Return a progress that raises `Stopped` once the event is set."""

    def told(n: int) -> None:
        if stop.is_set():
            raise Stopped
        progress(n)

    return told


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], stop: Event, threads: int
) -> Iterator[tuple[Item, Result]]:
    """Do the work in threads and yield the results in the items' order.

    No more items are begun than there are threads before the first of them is yielded: what is held in memory does not
    grow with their number. However it ends early, `stop` is set and nothing is waited for: an interrupted run ends now,
    not when its planes are done.
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
            if len(begun) == threads:
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
