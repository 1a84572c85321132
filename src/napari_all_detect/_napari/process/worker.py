"""The process that runs the networks: `python -m napari_all_detect._napari.process.worker`, started by `client.py`.

It is a process of its own because TensorFlow and a software OpenGL in one process crash it, because a run would hold
up the window, and because what hangs or eats the memory can be ended without losing a layer. It knows no napari and
no Qt. It ends when its input does, and with it the napari that started it.
"""

import _thread
import os
import pickle
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect._napari.process.keeping import crop_keys
from napari_all_detect._napari.process.messages import (
    CANCELLED,
    Call,
    Cancel,
    Found,
    Opened,
    Predicted,
    Reply,
    ScoredPart,
    unforeseen,
)
from napari_all_detect.bundle import load_bundle
from napari_all_detect.engines import Progress
from napari_all_detect.errors import AllDetectError
from napari_all_detect.explain import GradCam, grad_cam
from napari_all_detect.params import ScoreParams
from napari_all_detect.piped import own_pipes, send
from napari_all_detect.pipeline import PlaneInput, Scorer, find_cells, kept_scorer, score_plane
from napari_all_detect.segmentation import open_method

__all__ = ["Networks", "serve"]

AT_ONCE = 32
"""Cells between two looks at whether to stop, at first and unless a batch size is asked for."""

TELL_AFTER_S = 0.5
"""So long at most may cells be scored before their results are told, unless one batch takes longer."""
INTERRUPT_AGAIN_S = 0.2


class Networks:
    """What can be asked for. The networks stay loaded from one request to the next."""

    def __init__(self, tell: Callable[[Any], None], cancelled: Callable[[], bool]) -> None:
        self._tell = tell
        self._cancelled = cancelled
        self._interruptible = False

    def open(self, params: ScoreParams, finds_cells: bool) -> Opened:
        """Load what scoring with these parameters needs; at once if it is loaded already."""
        scorer = kept_scorer(params)
        if finds_cells:
            open_method(params.segmentation.method, params.device, params.engine)
        return Opened(
            source=params.bundle,
            bundle=scorer.bundle.label,
            crop_size=scorer.bundle.manifest.crop.size,
            members=tuple(scorer.members),
            weights=tuple(scorer.weights.tolist()),
            threshold=scorer.threshold,
            engine=scorer.engine.name,
            device=scorer.engine.device,
            bounds=None if params.error_rate is None else scorer.bounds,
            called_by=scorer.bounds,
        )

    def score(self, params: ScoreParams, given: PlaneInput) -> ScoredPart:
        """Score a plane; tell its cells, then what each member says of them, and how many more are done."""
        scorer = kept_scorer(params)
        found = self.segment(params, given)
        self._tell(found)
        engine = _TellingEngine(scorer, self._tell, self._cancelled)
        given = replace(given, labels=found.labels, nuclei=found.nuclei)
        scored = score_plane(replace(scorer, engine=engine), given, self._tell)
        return ScoredPart(scored, len(scored.table))

    def segment(self, params: ScoreParams, given: PlaneInput) -> Found:
        """Find a plane's cells and their nuclei; can be interrupted, once what that needs is loaded."""
        if given.labels is None:
            open_method(params.segmentation.method, params.device, params.engine)
        self._interruptible = True
        try:
            self.interrupt()
            return Found(*find_cells(given, params))
        finally:
            self._interruptible = False

    @property
    def to_interrupt(self) -> bool:
        """Whether something runs that is cancelled and can be interrupted in the middle."""
        return self._interruptible and self._cancelled()

    def interrupt(self) -> None:
        """Interrupt it: called between any two steps of Python's."""
        if self.to_interrupt:
            raise AllDetectError(CANCELLED)

    def explain(self, bundle: str, crops: NDArray[np.uint8], weights: tuple[float, ...]) -> GradCam:
        """Show where in each crop the networks see signs of ALL."""
        return grad_cam(load_bundle(bundle), crops, weights)


class _TellingEngine:
    """An engine that tells at once what it finds out, and can be stopped in between.

    What it told is kept even if the process is ended.
    """

    def __init__(self, scorer: Scorer, tell: Callable[[Any], None], cancelled: Callable[[], bool]) -> None:
        self.name, self.device = scorer.engine.name, scorer.engine.device
        self._engine, self._n_members = scorer.engine, len(scorer.members)
        self._at_once = scorer.params.batch_size or AT_ONCE
        self._tell, self._cancelled = tell, cancelled

    def predict(self, crops: NDArray[np.uint8], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return the members' probabilities."""
        told, start = [np.zeros((0, self._n_members, 2), np.float32)], 0
        while start < len(crops):
            if self._cancelled():
                raise AllDetectError(CANCELLED)
            some, began = crops[start : start + self._at_once], time.monotonic()
            told.append(self._engine.predict(some))
            self._tell(Predicted(crop_keys(some), told[-1]))
            if progress is not None:
                progress(len(some))
            start += len(some)
            if time.monotonic() - began < TELL_AFTER_S / 2:
                self._at_once *= 2
        return np.concatenate(told)


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer one request after the other until the input ends; then end the process, whatever it is doing."""
    calls: queue.Queue[Call] = queue.Queue()
    cancelled: set[int] = set()
    current = 0

    def listen() -> None:
        try:
            while True:
                request = pickle.load(requests)
                if isinstance(request, Cancel):
                    cancelled.add(request.number)
                    # Again and again: raised where Python must not fail, as in collecting garbage, it is passed over.
                    while networks.to_interrupt:
                        _thread.interrupt_main()
                        time.sleep(INTERRUPT_AGAIN_S)
                else:
                    calls.put(request)
        finally:
            os._exit(0)

    networks = Networks(lambda value: send(replies, Reply("progress", value)), lambda: current in cancelled)
    # Ctrl-C in napari's terminal sends it, too, but that is napari's to handle.
    signal.signal(signal.SIGINT, lambda *_: networks.interrupt())
    threading.Thread(target=listen, daemon=True).start()
    while True:
        call = calls.get()
        current = call.number
        send(replies, _answer(networks, call))


def _answer(networks: Networks, call: Call) -> Reply:
    """Do what is asked. Here every exception is caught: it must reach the window, and the next request be answered."""
    try:
        return Reply("done", getattr(networks, call.method)(*call.arguments))
    except AllDetectError as error:
        return Reply("failed", str(error))
    except MemoryError:
        return Reply("failed", "there is not enough memory; crop the image, or lower the batch size")
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        return Reply("failed", unforeseen(error))


def main() -> None:
    """Serve, from here on undisturbed by a Ctrl-C in the terminal, which ends a process that still imports."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(*own_pipes())


if __name__ == "__main__":
    main()
