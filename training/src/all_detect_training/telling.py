"""What a long step says of itself while it works."""

import logging
import time
from datetime import timedelta

__all__ = ["Telling"]

FIRST_S = 20.0
"""Until the first line."""

LONGER = 1.5
"""The next line comes after so many times as long as the last: a night's work takes no hundred lines."""


class Telling:
    """Tells how far a step has come, ever more rarely.

    Parameters
    ----------
    log : logging.Logger
    what : str
        With what the line begins: `reading images`.
    total : int
        At which the step is done, of which no line tells.
    """

    def __init__(self, log: logging.Logger, what: str, total: int) -> None:
        self._log, self._what, self._total = log, what, total
        self._began = time.monotonic()
        self._next_s = FIRST_S

    def reach(self, done: int) -> None:
        """Tell, if it is time, that so many are done, and how long the others will take."""
        took_s = time.monotonic() - self._began
        if took_s < self._next_s or not 0 < done < self._total:
            return
        self._next_s = took_s * LONGER
        left = timedelta(seconds=round(took_s / done * (self._total - done)))
        self._log.info("%s: %d of %d, about %s left", self._what, done, self._total, left)
