import queue
import time
from collections.abc import Callable, Iterator

import pytest
from napari.components import ViewerModel

from napari_all_detect._napari.controller import Controller
from napari_all_detect._napari.process import ScoringProcess


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

    def run_until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
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
