"""The scoring process as napari sees it: start it, ask it, cancel, end it."""

import itertools
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from napari_all_detect._napari.process.messages import CANCELLED, Call, Cancel, Reply
from napari_all_detect.errors import AllDetectError
from napari_all_detect.piped import LostError, PipedProcess

__all__ = ["ProcessEndedError", "ScoringProcess"]

WORKER = "napari_all_detect._napari.process.worker"
ENDED = "the scoring process ended"
WAIT_S = 0.1
"""So long at most does a call that waits for its turn take to see that it is cancelled."""


class ProcessEndedError(AllDetectError):
    """The scoring process is gone."""


class ScoringProcess:
    """A process that runs the networks, started by the first call and kept.

    Calls block: make them from a thread. One is answered at a time, others wait for their turn.
    """

    def __init__(self) -> None:
        self._process: PipedProcess | None = None
        self._asked: PipedProcess | None = None
        self._turn = threading.Lock()
        self._life = threading.Lock()
        self._numbers = itertools.count(1)
        self._cancelled: set[int] = set()
        self._answering = 0

    @property
    def running(self) -> bool:
        """Whether the process has been started and lives."""
        return self._process is not None and self._process.runs

    def number(self) -> int:
        """Return a new number for a call, by which it can be cancelled."""
        return next(self._numbers)

    def call(
        self, method: str, *arguments: Any, number: int | None = None, progress: Callable[[Any], None] | None = None
    ) -> Any:
        """Ask for one of the methods of `worker.Networks` and wait for the answer.

        Parameters
        ----------
        method : str
        *arguments
            Are pickled.
        number : int, optional
            From `number()`, if the call may be cancelled.
        progress : callable, optional
            Is called, in this thread, with what the method tells.

        Raises
        ------
        AllDetectError
            With the message of the error in the process.
        ProcessEndedError
            If it was ended meanwhile, by `end` or by the operating system.
        """
        number = number or self.number()
        self._wait_for_turn(number)
        try:
            return self._answer(Call(number, method, arguments), progress)
        finally:
            self._turn.release()

    def _wait_for_turn(self, number: int) -> None:
        while not self._turn.acquire(timeout=WAIT_S):
            if number in self._cancelled:
                raise ProcessEndedError(CANCELLED)

    def _answer(self, call: Call, progress: Callable[[Any], None] | None) -> Any:
        process = self._begin(call.number)
        reply: Reply
        try:
            process.send(call)
            while (reply := process.receive()).kind == "progress":
                if progress is not None:
                    progress(reply.value)
        except LostError as error:
            on_request, status = self._process is not process, process.close()
            raise ProcessEndedError(ENDED if on_request else _why_ended(status)) from error
        except BaseException:
            self.end()  # else what is left of its replies would be taken for the next call's
            process.close()
            raise
        finally:
            self._asked, self._answering = None, 0
        if reply.kind == "failed":
            raise AllDetectError(reply.value)
        return reply.value

    def cancel(self, number: int) -> None:
        """Ask for the call to fail at its next batch; one to come will not begin."""
        self._cancelled.add(number)
        process = self._process
        if process is not None:
            # A large request may still be on its way: the window must not wait for it.
            threading.Thread(target=_send_quietly, args=(process, Cancel(number)), daemon=True).start()

    def stop(self, number: int) -> None:
        """Cancel a call at once: if it is being answered, that ends the process, else it will not begin."""
        self._cancelled.add(number)
        with self._life:
            if self._answering == number:
                self._end()

    def end(self) -> None:
        """End the process at once, whatever it does; the next call starts another one."""
        with self._life:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.end()
        if process is not self._asked:  # else the call that waits for its answer does it
            process.close()

    def _begin(self, number: int) -> PipedProcess:
        """Return the process that a call is to be sent to; start it if need be."""
        with self._life:
            if number in self._cancelled:
                raise ProcessEndedError(CANCELLED)
            if self._process is not None and not self._process.runs:
                self._process.close()
                self._process = None
            if self._process is None:
                no_window = getattr(subprocess, "CREATE_NO_WINDOW", 0)
                self._process = PipedProcess(WORKER, {"TF_CPP_MIN_LOG_LEVEL": "3"}, creationflags=no_window)
            self._asked, self._answering = self._process, number
            return self._process


def _send_quietly(process: PipedProcess, request: Cancel) -> None:
    with suppress(LostError):  # nothing is left to cancel
        process.send(request)


def _why_ended(code: int) -> str:
    if code == -9:
        return (
            "the scoring process was ended by the operating system, most likely for want of memory; "
            "crop the image, lower the batch size, or close other programs"
        )
    return f"{ENDED} (exit status {code}); press the button again to start another one"
