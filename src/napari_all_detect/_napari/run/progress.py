"""What a run tells the user: what it does, how far it is, how long it still takes. No Qt."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from napari_all_detect._napari.counted import n_cells

__all__ = ["IDLE", "CellCount", "RunClock", "RunState"]

LEAST_SECONDS = 2.0
"""An estimate from less time than this would jump about."""


@dataclass(frozen=True)
class RunState:
    """How a run stands.

    Attributes
    ----------
    busy : bool
    text : str
        What is done just now, or how it ended.
    done, total : int
        Cells; total is 0 while it is not known.
    """

    busy: bool
    text: str
    done: int = 0
    total: int = 0


IDLE = RunState(False, "Choose an image and press Score: its cells are found, scored and coloured.")


class RunClock:
    """Estimates how long the rest takes, from the cells done since scoring began."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began: tuple[float, int] | None = None

    def text(self, done: int, total: int) -> str:
        """Return for instance `96 of 512 cells, about 40 s left`."""
        if self._began is None:
            self._began = self._now(), done
        elapsed, cells = self._now() - self._began[0], done - self._began[1]
        text = f"{done} of {n_cells(total)}"
        if elapsed < LEAST_SECONDS or cells <= 0 or done >= total:
            return text
        return f"{text}, about {_duration(elapsed / cells * (total - done))} left"


class CellCount:
    """Counts cells over planes, of which those to come are taken to hold as many cells as those so far."""

    def __init__(self, n_planes: int) -> None:
        self.done = 0
        self._clock, self._n_planes = RunClock(), n_planes
        self._begun = self._found = 0

    def begin_plane(self, cells: int) -> None:
        """Count a plane's cells in."""
        self._begun, self._found = self._begun + 1, self._found + cells

    @property
    def total(self) -> int:
        """Cells of all planes."""
        return round(self._found / max(self._begun, 1) * self._n_planes)

    def text(self) -> str:
        """Return how far it is and how long the rest takes."""
        return self._clock.text(self.done, self.total)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
