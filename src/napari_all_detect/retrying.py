"""Trying again what may work the next time."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["DELAYS_S", "with_retries"]

DELAYS_S = (0.5, 2.0, 8.0)
"""Waits before the second, third and fourth try: what is not back after ten seconds is a failure."""

PATIENCE_S = 90.0
"""No try begins so long after the first one: a server that says nothing, for a minute each time, is asked twice."""

Result = TypeVar("Result")


def with_retries(
    work: Callable[[], Result],
    passing: type[Exception] | tuple[type[Exception], ...],
    delays_s: Sequence[float] | None = None,
) -> Result:
    """Do the work, again after each delay if it raises one of the errors that pass; the last one is raised.

    So is one that took too long to come: see `PATIENCE_S`.

    >>> answers = iter([ConnectionError, 5])
    >>> def ask() -> int:
    ...     answer = next(answers)
    ...     if answer is ConnectionError:
    ...         raise ConnectionError
    ...     return answer
    >>> with_retries(ask, ConnectionError, delays_s=[0.0])
    5
    """
    began = time.monotonic()
    for delay in DELAYS_S if delays_s is None else delays_s:
        try:
            return work()
        except passing:
            if time.monotonic() - began > PATIENCE_S:
                raise
            time.sleep(delay)
    return work()
