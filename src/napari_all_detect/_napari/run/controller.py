"""Segment, score, cancel: from layers to layers, through the scoring process. No Qt; tests drive it directly."""

import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.notifications import show_error
from psygnal import Signal

from napari_all_detect._napari.cells.layer_link import attach, outline_px, results_of
from napari_all_detect._napari.cells.results import CellResults, joined
from napari_all_detect._napari.cells.same_cells import keep_verdicts
from napari_all_detect._napari.counted import n_cells
from napari_all_detect._napari.layers.axes import placed_like
from napari_all_detect._napari.layers.compact import compact
from napari_all_detect._napari.layers.metadata_keys import FOUND_IN_KEY, LAYOUT_KEY, NUCLEI_KEY, SCORED_ON_KEY
from napari_all_detect._napari.layers.origins import Origin, is_anothers
from napari_all_detect._napari.layers.planes import LayerPlane, computed
from napari_all_detect._napari.layers.uncovering import uncover
from napari_all_detect._napari.process.client import ProcessEndedError, ScoringProcess
from napari_all_detect._napari.process.keeping import Kept
from napari_all_detect._napari.process.messages import CANCELLED, Found, Opened, Predicted, ScoredPart, unforeseen
from napari_all_detect._napari.run.progress import IDLE, CellCount, RunState
from napari_all_detect._napari.run.task import Job, Outcome, Task, tell_no_cell, warn_of_others
from napari_all_detect.errors import AllDetectError
from napari_all_detect.pipeline import PlaneInput

__all__ = ["CallSoon", "Controller"]

CallSoon = Callable[[Callable[[], None]], None]
"""Has a function called in the viewer's thread, soon."""

STOP_AFTER_S = 0.7
"""So long does the process have to stop by itself, which keeps its networks loaded, before it is ended."""
LOOK_EVERY_S = 0.1


class Controller:
    """Runs tasks one at a time, off the viewer's thread, and brings what they give into the viewer.

    Parameters
    ----------
    viewer : ViewerModel
    process : ScoringProcess
    call_soon : callable
        Takes functions from the thread that works.
    """

    state_changed = Signal(RunState)
    segmented = Signal(object)
    """A layer of cells was added."""
    scored = Signal(object)
    """A layer has got results."""

    def __init__(self, viewer: Any, process: ScoringProcess, call_soon: CallSoon) -> None:
        self.viewer = viewer
        self.process = process
        self.state = IDLE
        self.opened: Opened | None = None
        self._call_soon = call_soon
        self._thread: threading.Thread | None = None
        self._number = 0
        self._cancelled = threading.Event()
        self._closed = False

    def segment(self, task: Task) -> bool:
        """Find the cells of a task's image and add them as a layer; return whether that was begun."""
        return self._begin(task, self._segment_planes, self._add_cells)

    def score(self, task: Task) -> bool:
        """Score the cells of a task's image; return whether that was begun."""
        return self._begin(task, self._score_planes, self._add_scores)

    def refuse(self, message: str) -> None:
        """Say why nothing is begun; what the run before gave is no longer said."""
        show_error(message)
        if not self.state.busy:
            self._tell(RunState(False, f"Not started: {message}"))

    def cancel(self) -> None:
        """Stop within about a second, and keep the cells that are done.

        The process is asked to stop; if it is in the middle of something long, it is ended, and the networks are loaded
        anew next time.
        """
        if not self.state.busy or self._cancelled.is_set():
            return
        self._cancelled.set()
        self.process.cancel(self._number)
        end = threading.Timer(STOP_AFTER_S, self.process.stop, (self._number,))
        end.daemon = True
        end.start()
        self._tell(RunState(True, "Cancelling; what is done is kept"))

    def close(self) -> None:
        """End what runs; nothing is brought into the viewer any more."""
        self._closed = True
        self._cancelled.set()
        if self.state.busy:
            self.process.stop(self._number)

    def wait(self, seconds: float) -> bool:
        """Wait for the working thread; return whether it has ended."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _begin(self, task: Task, work: Callable[[Job, Outcome], None], finish: Callable[[Job, Outcome], str]) -> bool:
        if self.state.busy:
            return False
        try:
            layout = task.layout()
            job = Job(task, layout, task.planes(layout), Origin.of(task.image))
        except AllDetectError as error:
            self.refuse(str(error))
            return False
        warn_of_others(task)
        self._cancelled.clear()
        self._number = self.process.number()
        self._tell(RunState(True, "Starting"))
        self._thread = threading.Thread(target=self._work, args=(work, finish, job), daemon=True)
        self._thread.start()
        return True

    # In the working thread

    def _work(self, work: Callable[[Job, Outcome], None], finish: Callable[[Job, Outcome], str], job: Job) -> None:
        outcome = Outcome()
        try:
            work(job, outcome)
        except AllDetectError as error:
            if not self._cancelled.is_set():
                outcome.problems.append(str(error))
        except Exception as error:  # noqa: BLE001 - a thread that ends without a word would leave the buttons waiting
            traceback.print_exc()
            outcome.problems.append(unforeseen(error))
        self._call_soon(partial(self._finish, finish, job, outcome))

    def _segment_planes(self, job: Job, outcome: Outcome) -> None:
        def segment(plane: LayerPlane, where: str) -> None:
            cold = "" if self.process.running else " (a network is loaded first, which takes some seconds)"
            self._say(f"{where}Finding cells{cold}")
            outcome.parts.append((plane.index, self._ask("segment", job.task.params, self._read(plane))))

        self._each_plane(job, outcome, segment)

    def _score_planes(self, job: Job, outcome: Outcome) -> None:
        params, cold = job.task.params, not self.process.running
        once = ": some seconds the first time, up to half a minute with a new bundle; none later" if cold else ""
        self._say(f"Loading the networks of {params.bundle}{once}")
        outcome.opened = self._ask("open", params, job.task.labels is None)
        count = CellCount(len(job.planes))

        def score(plane: LayerPlane, where: str) -> None:
            self._say(f"{where}Finding cells" if job.task.labels is None else f"{where}Cutting out cells")
            given = self._read(plane)
            kept = Kept(params, given)

            def take(told: Found | Predicted | int) -> None:
                if isinstance(told, Found):
                    count.begin_plane(int(np.count_nonzero(np.bincount(told.labels.ravel())[1:])))
                if isinstance(told, int):
                    count.done += told
                else:
                    kept.take(told)
                self._say(f"{where}{count.text()}", count.done, count.total)

            try:
                part: ScoredPart | None = self._ask("score", params, given, progress=take)
            except AllDetectError:
                if (part := kept.part()) is not None:
                    outcome.parts.append((plane.index, part))
                raise
            outcome.parts.append((plane.index, part))

        self._each_plane(job, outcome, score)

    def _each_plane(self, job: Job, outcome: Outcome, work: Callable[[LayerPlane, str], None]) -> None:
        """Do the work for each plane until it is cancelled; what fails is noted, and the rest goes on."""
        for k, plane in enumerate(job.planes):
            if self._cancelled.is_set():
                return
            where = f"Plane {k + 1} of {len(job.planes)}: " if len(job.planes) > 1 else ""
            try:
                work(plane, where)
                outcome.n_ended += 1
            except ProcessEndedError:  # no other plane has a chance
                raise
            except AllDetectError as error:
                if not self._cancelled.is_set():
                    outcome.n_ended += 1
                    named = "" if len(job.planes) == 1 else f"plane {plane.source.plane}: "
                    outcome.problems.append(f"{named}{error}")

    def _read(self, plane: LayerPlane) -> PlaneInput:
        """Compute a layer's pixels; what computes them can't be stopped, but needn't be waited for when cancelled."""
        read: list[PlaneInput | AllDetectError] = []
        reading = threading.Thread(target=lambda: read.append(computed(plane)), daemon=True)
        reading.start()
        while reading.is_alive():
            reading.join(LOOK_EVERY_S)
            if self._cancelled.is_set():
                raise ProcessEndedError(CANCELLED)
        (given,) = read
        if isinstance(given, AllDetectError):
            raise given
        return given

    def _ask(self, method: str, *arguments: Any, progress: Callable[[Any], None] | None = None) -> Any:
        return self.process.call(method, *arguments, number=self._number, progress=progress)

    def _say(self, text: str, done: int = 0, total: int = 0) -> None:
        if not self._cancelled.is_set():
            self._call_soon(partial(self._tell, RunState(True, text, done, total)))

    # In the viewer's thread

    def _tell(self, state: RunState) -> None:
        if not self._closed:
            self.state = state
            self.state_changed.emit(state)

    def _finish(self, finish: Callable[[Job, Outcome], str], job: Job, outcome: Outcome) -> None:
        if self._closed:
            return
        self.opened = outcome.opened or self.opened
        text = finish(job, outcome) if outcome.parts else "Nothing was done"
        if outcome.problems:
            more = f" ({len(outcome.problems) - 1} more)" if len(outcome.problems) > 1 else ""
            show_error(outcome.problems[0] + more)
            text = f"{text}. Failed: {outcome.problems[0]}{more}"  # the notification is soon gone
        broken_off = self._cancelled.is_set() and outcome.n_ended < len(job.planes)  # or it came too late
        self._tell(RunState(False, f"Cancelled. {text}" if broken_off else text))

    def _add_cells(self, job: Job, outcome: Outcome) -> str:
        labels, nuclei = np.zeros(job.shape, np.int32), np.zeros(job.shape, bool)
        for index, found in outcome.parts:
            labels[index] = found.labels
            if found.nuclei is not None:
                nuclei[index] = found.nuclei > 0
        n = sum(int(found.labels.max(initial=0)) for _, found in outcome.parts)
        if n == 0:
            return tell_no_cell(job.task)
        looked_for = all(found.nuclei is not None for _, found in outcome.parts)
        layer = self._add_labels(job, labels, nuclei if looked_for else None)
        uncover(self.viewer, job.task.image, layer)
        self.segmented.emit(layer)
        return f"{n_cells(n)} found"

    def _add_scores(self, job: Job, outcome: Outcome) -> str:
        labels, rows = joined(outcome.parts, job.shape)
        found = sum(part.found for _, part in outcome.parts)
        if found == 0 or outcome.opened is None:
            return tell_no_cell(job.task)
        results, complete = CellResults(rows, outcome.opened), len(rows.table) == found
        scored = n_cells(found) if complete else f"{len(results)} of {n_cells(found)}"
        given = job.task.labels
        if len(results) == 0:  # the cells that were found can be scored the next time
            if given is None:
                self.segmented.emit(self._add_labels(job, labels, rows.nuclei))
            return f"{scored} scored"
        before = None if given is None else results_of(given)
        lost = 0 if before is None else keep_verdicts(before, results)
        # A stack's own labels may repeat from plane to plane; only one plane can be coloured as it is.
        own = given is not None and given in self.viewer.layers and labels.ndim == given.ndim == 2
        # Cells of another image stay its own, with their scores if they have some.
        own = own and not is_anothers(given, job.task.image)
        # Scores stay where they are if a run that was broken off would replace them, or no verdict on them is kept.
        own = own and (before is None or (complete and (lost == 0 or bool(results.verdicts.any()))))
        if own and before is not None:
            results.saved_crops = set(before.saved_crops)  # of a cell that has lost its verdict the crop is deleted
        layer: Any = given
        if own:
            _attach(layer, job, results)
        else:
            layer = self._add_labels(job, labels, rows.nuclei, results)
        uncover(self.viewer, job.task.image, layer)
        self.scored.emit(layer)
        calls = rows.table["call"].value_counts()
        text = "".join(f"{': ' if k == 0 else ', '}{n} {call}" for k, (call, n) in enumerate(calls.items()))
        without = f"; verdicts that could not be kept, as their cells are others now: {lost}" if own and lost else ""
        return f"{scored} scored{text}{without}"

    def _add_labels(self, job: Job, labels: Any, nuclei: Any | None, results: CellResults | None = None) -> Labels:
        # Hidden until it is complete: napari draws all outlines anew with each thing that is set.
        place = placed_like(job.task.image, job.layout, job.planes[0].source.plane)
        layer = Labels(compact(labels), name=f"{job.task.image.name} cells", visible=False, **place)
        layer.metadata = {FOUND_IN_KEY: job.origin}
        if nuclei is not None:
            layer.metadata[NUCLEI_KEY] = nuclei
        layer.contour = outline_px(labels)
        self.viewer.add_layer(layer)
        if results is not None:
            _attach(layer, job, results)
        layer.visible = True
        return layer


def _attach(layer: Any, job: Job, results: CellResults) -> None:
    """Give a layer its results, and what tells how and on which image they were scored."""
    layer.metadata = {**layer.metadata, LAYOUT_KEY: job.layout, SCORED_ON_KEY: job.origin}
    attach(layer, results)
