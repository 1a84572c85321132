"""Cells of several planes in one batch: networks are slow with a few cells at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.engines import Engine, Progress

__all__ = ["GatheringEngine"]


@dataclass(eq=False)
class _Request:
    """Cells of one plane: how many are with the engine or done, and what they gave."""

    crops: NDArray[np.uint8]
    begun: int = 0
    parts: list[NDArray[np.float32]] = field(default_factory=list)
    error: Exception | None = None

    @property
    def waiting(self) -> int:
        return len(self.crops) - self.begun

    @property
    def done(self) -> int:
        return sum(map(len, self.parts))


class GatheringEngine:
    """An engine that many planes use at once, each from a thread of its own, and that fills its batches with all cells.

    A batch runs as soon as it is full, or when every plane under way waits for the engine, so that nobody else could
    fill it. It runs in the thread of one of the planes that wait.

    Parameters
    ----------
    engine : Engine
        Gives a cell the same probabilities whatever is beside it, so that gathering changes no result.
    batch_size : int
        Cells at once.
    """

    def __init__(self, engine: Engine, batch_size: int) -> None:
        self.name, self.device = engine.name, engine.device
        self._engine, self._batch_size = engine, batch_size
        self._changed = Condition()
        self._requests: list[_Request] = []
        self._planes = 0
        self._busy = False

    @contextmanager
    def plane(self) -> Iterator[None]:
        """Count a plane as under way: it will bring cells, or end."""
        with self._changed:
            self._planes += 1
        try:
            yield
        finally:
            with self._changed:
                self._planes -= 1
                self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Wait until less than a batch of cells waits: more of them would take memory and speed up nothing."""
        with self._changed:
            self._changed.wait_for(lambda: sum(request.waiting for request in self._requests) < self._batch_size)

    def predict(self, crops: NDArray[np.uint8], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return the members' probabilities: see `Engine`. To be called within `plane()`."""
        if len(crops) == 0:
            return self._engine.predict(crops)
        request = _Request(crops)
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()
        try:
            told = 0
            while told < len(crops):
                done = self._wait_for_more(request, told)
                if progress is not None:
                    progress(done - told)
                told = done
        finally:
            with self._changed:
                self._requests.remove(request)
                self._changed.notify_all()
        return np.concatenate(request.parts)

    def _wait_for_more(self, request: _Request, told: int) -> int:
        """Return how many of the request's cells are done when it is more than this; run batches meanwhile."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: request.done > told or request.error is not None or self._ready())
                if request.error is not None:
                    raise request.error
                if request.done > told:
                    return request.done
                batch = self._take()
            self._run(batch)

    def _ready(self) -> bool:
        """Whether a batch may run: it would be full, or nobody is left to fill it."""
        waiting = [request.waiting for request in self._requests if request.waiting]
        return not self._busy and (sum(waiting) >= self._batch_size or len(waiting) >= self._planes)

    def _take(self) -> list[tuple[_Request, slice]]:
        """Take a batch, as slices of requests: the cells that came first."""
        taken, room = [], self._batch_size
        for request in self._requests:
            n = min(room, request.waiting)
            if n:
                taken.append((request, slice(request.begun, request.begun + n)))
                request.begun += n
                room -= n
        self._busy = True
        return taken

    def _run(self, batch: list[tuple[_Request, slice]]) -> None:
        try:
            crops = np.concatenate([request.crops[cells] for request, cells in batch])
            found, error = self._engine.predict(crops), None
        except Exception as raised:  # noqa: BLE001 - is raised again, in the thread of each plane concerned
            error = raised
        with self._changed:
            self._busy, place = False, 0
            for request, cells in batch:
                if error is None:
                    n = cells.stop - cells.start
                    request.parts.append(found[place : place + n])
                    place += n
                else:
                    request.error = error
            self._changed.notify_all()
