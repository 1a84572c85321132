import queue
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager

from napari_all_detect import table
from napari_all_detect._napari.cells.results import CellResults, Rows
from napari_all_detect._napari.process.client import ScoringProcess
from napari_all_detect._napari.process.messages import Opened
from napari_all_detect._napari.run.controller import Controller

MEMBERS = ("one", "two", "three")


@pytest.fixture(scope="session")
def process() -> Iterator[ScoringProcess]:
    """One scoring process for all tests: its networks are loaded once."""
    process = ScoringProcess()
    yield process
    process.end()


class Loop:
    """Stands for the viewer's event loop."""

    def __init__(self) -> None:
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue()

    def call_soon(self, call: Callable[[], None]) -> None:
        self._calls.put(call)

    def run_until(self, condition: Callable[[], bool], seconds: float = 280) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it never came to pass"
            try:
                self._calls.get(timeout=0.05)()
            except queue.Empty:
                continue


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def controller(viewer: ViewerModel, process: ScoringProcess, loop: Loop) -> Iterator[Controller]:
    controller = Controller(viewer, process, loop.call_soon)
    yield controller
    controller.close()


@pytest.fixture
def notices() -> Iterator[list[str]]:
    """Messages of the notifications that are shown."""
    messages: list[str] = []

    def note(notification: object) -> None:
        messages.append(notification.message)

    notification_manager.notification_ready.connect(note)
    yield messages
    notification_manager.notification_ready.disconnect(note)


def make_results(votes: np.ndarray, numbers: np.ndarray | None = None, **columns: object) -> CellResults:
    """Make results from the members' p_all (N, 3); each cell is a square of 4 px at (10 k, 5)."""
    n = len(votes)
    votes = np.asarray(votes, np.float32)
    numbers = np.arange(1, n + 1) if numbers is None else numbers
    p_all = votes.mean(axis=1)
    at = 10 * np.arange(n)
    values = {
        "image": "drawn.png",
        "plane": "0",
        "label": numbers,
        "y_px": at + 1.5,
        "x_px": np.full(n, 6.5),
        "bbox_y0": at,
        "bbox_y1": at + 4,
        "bbox_x0": 5,
        "bbox_x1": 9,
        "area_px": 16,
        "diameter_px": 4.5,
        "p_all": p_all,
        "p_hem": 1 - p_all,
        "call": np.where(p_all >= np.float32(0.5), "ALL", "Hem"),
        "spread": votes.std(axis=1),
        "votes_all": (votes >= 0.5).sum(axis=1),
        "bundle": "tiny-1",
        **{f"p_all_{name}": votes[:, k] for k, name in enumerate(MEMBERS)},
        **columns,
    }
    cells = table.typed(table.cell_columns(MEMBERS), values, n)
    facts = {"image": "drawn.png", "plane": "0", "rescale": 1.0, "notes": ""}
    crops = np.random.default_rng(0).integers(0, 255, (n, 8, 8, 3), dtype=np.uint8)
    rows = Rows(cells, np.asarray(numbers, np.int64), np.zeros((n, 0), np.int64), crops, table.image_row(cells, facts))
    return CellResults(rows, Opened("tiny", "tiny-1", 8, MEMBERS, (1.0, 1.0, 1.0), 0.5, "none", "cpu"))


@pytest.fixture
def results() -> Callable[..., CellResults]:
    return make_results
