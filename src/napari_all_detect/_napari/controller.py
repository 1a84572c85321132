"""Segment, score, cancel: from layers to layers, through the scoring process. No Qt; tests drive it directly."""

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_error, show_info
from psygnal import Signal

from napari_all_detect._napari.layer_link import attach
from napari_all_detect._napari.messages import Opened, ScoredPart
from napari_all_detect._napari.planes import LayerPlane, layer_planes, spatial_shape
from napari_all_detect._napari.process import ProcessEndedError, ScoringProcess
from napari_all_detect._napari.progress import IDLE, RunClock, RunState
from napari_all_detect._napari.results import CellResults, joined
from napari_all_detect.errors import AllDetectError, InputError
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import PlaneInput

__all__ = ["CallSoon", "Controller", "Task"]

CallSoon = Callable[[Callable[[], None]], None]
"""Has a function called in the viewer's thread, soon."""

CONTOUR_PX = 3
"""Cells are outlined, so that they can be seen."""


@dataclass(frozen=True)
class Task:
    """What a button was pressed for.

    Attributes
    ----------
    image : napari.layers.Image
    labels : napari.layers.Labels or None
        None finds the cells.
    params : ScoreParams
    at : tuple of int or None
        The plane of a stack, on its leading axes; None takes all.
    """

    image: Image
    labels: Labels | None
    params: ScoreParams
    at: tuple[int, ...] | None = None


@dataclass
class _Outcome:
    """What the working thread has got so far."""

    opened: Opened | None = None
    parts: list[tuple[tuple[int, ...], Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


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

    def cancel(self) -> None:
        """Stop at the next batch and keep what is done; a second time, stop at once and keep the planes done."""
        if not self.state.busy:
            return
        if self._cancelled.is_set():
            self.process.stop(self._number)
            return
        self._cancelled.set()
        self.process.cancel(self._number)
        self._tell(RunState(True, "Cancelling after this step; press again to stop at once"))

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

    def _begin(
        self,
        task: Task,
        work: Callable[[Task, list[LayerPlane], _Outcome], None],
        finish: Callable[[Task, _Outcome], str],
    ) -> bool:
        if self.state.busy:
            return False
        try:
            planes = layer_planes(task.image, task.labels, task.at)
        except InputError as error:
            show_error(str(error))
            return False
        self._cancelled.clear()
        self._number = self.process.number()
        self._tell(RunState(True, "Starting"))
        self._thread = threading.Thread(target=self._work, args=(work, finish, task, planes), daemon=True)
        self._thread.start()
        return True

    # In the working thread

    def _work(
        self,
        work: Callable[[Task, list[LayerPlane], _Outcome], None],
        finish: Callable[[Task, _Outcome], str],
        task: Task,
        planes: list[LayerPlane],
    ) -> None:
        outcome = _Outcome()
        try:
            work(task, planes, outcome)
        except AllDetectError as error:
            if not self._cancelled.is_set():
                outcome.problems.append(str(error))
        except Exception as error:  # noqa: BLE001 - a thread that ends without a word would leave the buttons waiting
            traceback.print_exc()
            outcome.problems.append(f"an error in napari-all-detect: {type(error).__name__}: {error}; please report it")
        self._call_soon(partial(self._finish, finish, task, outcome))

    def _segment_planes(self, task: Task, planes: list[LayerPlane], outcome: _Outcome) -> None:
        def segment(plane: LayerPlane, where: str) -> Any:
            cold = "" if self.process.running else " (a network is loaded first, which takes some seconds)"
            self._say(f"{where}Finding cells{cold}")
            return self._ask("segment", task.params, _read(plane))

        self._each_plane(planes, outcome, segment)

    def _score_planes(self, task: Task, planes: list[LayerPlane], outcome: _Outcome) -> None:
        cold = not self.process.running
        once = ": some 15 seconds the first time, none later" if cold else ""
        self._say(f"Loading the networks of {task.params.bundle}{once}")
        outcome.opened = self._ask("open", task.params, task.labels is None)
        clock, found, done = RunClock(), 0, 0

        def score(plane: LayerPlane, where: str) -> Any:
            nonlocal found, done
            self._say(f"{where}Finding cells" if task.labels is None else f"{where}Cutting out cells")

            def tell(progress: tuple[int, int]) -> None:
                # Planes to come are taken to hold as many cells as those so far.
                n = len(outcome.parts) + 1
                total = round((found + progress[1]) / n * len(planes))
                text = clock.text(done + progress[0], total)
                self._say(f"{where}{text}", done + progress[0], total)

            part: ScoredPart = self._ask("score", task.params, _read(plane), progress=tell)
            found, done = found + part.found, done + len(part.scored.table)
            return part

        self._each_plane(planes, outcome, score)

    def _each_plane(self, planes: list[LayerPlane], outcome: _Outcome, work: Callable[[LayerPlane, str], Any]) -> None:
        """Do the work for each plane until it is cancelled; what fails is noted, and the rest goes on."""
        for k, plane in enumerate(planes):
            if self._cancelled.is_set():
                return
            where = f"Plane {k + 1} of {len(planes)}: " if len(planes) > 1 else ""
            try:
                outcome.parts.append((plane.index, work(plane, where)))
            except ProcessEndedError:  # no other plane has a chance
                raise
            except AllDetectError as error:
                outcome.problems.append(str(error) if len(planes) == 1 else f"plane {plane.plane}: {error}")

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

    def _finish(self, finish: Callable[[Task, _Outcome], str], task: Task, outcome: _Outcome) -> None:
        if self._closed:
            return
        self.opened = outcome.opened or self.opened
        text = finish(task, outcome) if outcome.parts else "Nothing was done"
        self._tell(RunState(False, f"Cancelled. {text}" if self._cancelled.is_set() else text))
        if outcome.problems:
            more = f" ({len(outcome.problems) - 1} more)" if len(outcome.problems) > 1 else ""
            show_error(outcome.problems[0] + more)

    def _add_cells(self, task: Task, outcome: _Outcome) -> str:
        labels = np.zeros(spatial_shape(task.image), np.int32)
        for index, cells in outcome.parts:
            labels[index] = cells
        n = sum(int(cells.max(initial=0)) for _, cells in outcome.parts)
        if n == 0:
            return _no_cell(task)
        self.segmented.emit(self._add_labels(task, labels))
        return f"{n} cells found"

    def _add_scores(self, task: Task, outcome: _Outcome) -> str:
        labels, rows = joined(outcome.parts, spatial_shape(task.image))
        found = sum(part.found for _, part in outcome.parts)
        if found == 0 or outcome.opened is None:
            return _no_cell(task)
        # A stack's own labels may repeat from plane to plane; only one plane can be coloured as it is.
        own = task.labels is not None and task.labels in self.viewer.layers and labels.ndim == 2
        layer: Any = task.labels if own else self._add_labels(task, labels)
        results = CellResults(rows, outcome.opened)
        attach(layer, results)
        self.scored.emit(layer)
        calls = rows.table["call"].value_counts()
        text = ", ".join(f"{n} {call}" for call, n in calls.items())
        scored = f"{len(rows.table)} cells" if len(rows.table) == found else f"{len(rows.table)} of {found} cells"
        return f"{scored} scored: {text}"

    def _add_labels(self, task: Task, labels: Any) -> Labels:
        layer = Labels(labels, name=f"{task.image.name} cells", **_placed_like(task.image, labels.ndim))
        layer.contour = CONTOUR_PX
        self.viewer.add_layer(layer)
        return layer


def _read(plane: LayerPlane) -> PlaneInput:
    """Compute a layer's pixels; whatever is raised by what computes them becomes one line."""
    try:
        return plane.read()
    except AllDetectError:
        raise
    except Exception as error:
        raise InputError(
            f"the pixels of {plane.image!r} can't be computed ({type(error).__name__}: {error}); open the image again"
        ) from error


def _no_cell(task: Task) -> str:
    show_info(
        f"No white cell in {task.image.name!r}. If you see some: give the cell diameter (Advanced), or draw them in a "
        "labels layer and choose it under Cells"
    )
    return "No white cell found"


def _placed_like(image: Image, ndim: int) -> dict[str, Any]:
    """Return where a layer lies so that it covers an image."""
    placed = {"scale": image.scale[-ndim:], "translate": image.translate[-ndim:], "units": image.units[-ndim:]}
    if image.ndim == ndim:
        placed |= {"rotate": image.rotate, "shear": image.shear, "affine": image.affine}
    return placed
