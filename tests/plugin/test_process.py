import os
import pickle
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from napari_all_detect import ScoreParams, SegmentationParams
from napari_all_detect._napari.process import client as process_module
from napari_all_detect._napari.process.client import ProcessEndedError, ScoringProcess
from napari_all_detect._napari.process.messages import CANCELLED
from napari_all_detect.errors import AllDetectError
from napari_all_detect.pipeline import PlaneInput
from napari_all_detect.sources import as_rgb


@pytest.fixture
def fresh():
    process = ScoringProcess()
    yield process
    process.end()


def test_it_starts_with_the_first_call_and_ends_on_request(fresh):
    assert not fresh.running
    with pytest.raises(AllDetectError, match="no_such"):
        fresh.call("open", ScoreParams(bundle="no_such"), True)
    assert fresh.running
    fresh.end()
    assert not fresh.running


def test_an_error_leaves_it_ready(fresh):
    for _ in range(2):
        with pytest.raises(AllDetectError, match="please report it"):
            fresh.call("open", None, True)
    assert fresh.running


@pytest.mark.parametrize(
    ("how", "message"),
    [(ScoringProcess.end, "the scoring process ended$"), (lambda p: os.kill(p._process.pid, signal.SIGKILL), "memory")],
)
def test_a_call_whose_process_is_killed_says_why(fresh, how, message):
    errors = []

    def call():
        try:
            fresh.call("open", ScoreParams(), True)
        except ProcessEndedError as error:
            errors.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    while not fresh.running:
        time.sleep(0.01)
    how(fresh)
    thread.join(60)
    assert len(errors) == 1
    assert re.search(message, errors[0])


ECHO = """
import pickle
from napari_all_detect._napari.process.messages import Reply
from napari_all_detect.piped import own_pipes, send

class OfThisProgram:
    pass

requests, replies = own_pipes()
while True:
    try:
        call = pickle.load(requests)
    except EOFError:
        break
    for k in range(3):
        send(replies, Reply("progress", k))
    send(replies, Reply("done", OfThisProgram() if call.method == "own" else call.arguments))
"""


@pytest.fixture
def echo(fresh, tmp_path, monkeypatch):
    """A process that tells three things and gives back what it was given."""
    (tmp_path / "echo_worker.py").write_text(ECHO)
    monkeypatch.setattr(process_module, "WORKER", "echo_worker")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return fresh


@pytest.mark.parametrize("error", [ValueError, TypeError, MemoryError])
def test_what_is_told_and_fails_here_is_no_end_of_the_process_and_no_later_answer(echo, error):
    def fails(told):
        raise error("in the window")

    with pytest.raises(error, match="in the window"):
        echo.call("score", 1, progress=fails)
    told = []
    assert echo.call("score", 2, progress=told.append) == (2,)
    assert told == [0, 1, 2]


def test_an_answer_that_nobody_understands_is_not_mixed_up_with_the_next(echo):
    with pytest.raises(AttributeError, match="OfThisProgram"):
        echo.call("own")
    assert not echo.running
    assert echo.call("score", 2) == (2,)


def test_a_request_that_cannot_be_sent_is_not_mixed_up_with_the_next(echo):
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        echo.call("score", b"1" * 100_000, lambda: None)
    assert echo.call("score", 2) == (2,)


def test_a_call_that_waits_is_cancelled_without_harm_to_the_one_before(fresh):
    ended = []

    def call(name, number):
        try:
            fresh.call("open", ScoreParams(), True, number=number)
        except ProcessEndedError:
            ended.append(name)

    numbers = {name: fresh.number() for name in ("first", "second")}
    threads = {name: threading.Thread(target=call, args=(name, number)) for name, number in numbers.items()}
    threads["first"].start()
    while not fresh.running:
        time.sleep(0.01)
    threads["second"].start()
    fresh.stop(numbers["second"])
    threads["second"].join(60)
    assert ended == ["second"]
    assert fresh.running
    fresh.stop(numbers["first"])
    threads["first"].join(60)
    assert ended == ["second", "first"]
    assert not fresh.running


def test_it_ends_when_nobody_is_left_to_ask(fresh):
    with pytest.raises(AllDetectError):
        fresh.call("open", ScoreParams(bundle="no_such"), True)
    assert fresh._process.close() == 0


def test_finding_cells_is_interrupted_and_the_process_stays(fresh, monkeypatch):
    monkeypatch.setattr(process_module, "WORKER", "slow_worker")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("SLOW", "finding")
    given = PlaneInput(as_rgb(np.full((64, 64, 3), 240, np.uint8)))
    classical = ScoreParams(segmentation=SegmentationParams(method="classical"))
    for _ in range(2):  # and can be again
        errors, number = [], fresh.number()

        def call(number=number, errors=errors):
            try:
                fresh.call("segment", classical, given, number=number)
            except AllDetectError as error:
                errors.append((type(error), str(error)))

        thread = threading.Thread(target=call)
        thread.start()
        while fresh._answering != number:
            time.sleep(0.01)
        fresh.cancel(number)
        thread.join(60)
        assert errors == [(AllDetectError, CANCELLED)]
        assert fresh.running
