"""One question to the scoring process in a thread, the answer in the viewer's. No Qt."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from napari_all_detect._napari.controller import CallSoon
from napari_all_detect._napari.process import ScoringProcess
from napari_all_detect.errors import AllDetectError

__all__ = ["ask_in_background"]


def ask_in_background(
    process: ScoringProcess,
    call_soon: CallSoon,
    done: Callable[[Any], None],
    failed: Callable[[str], None],
    method: str,
    *arguments: Any,
) -> threading.Thread:
    """Ask the process and have `done` called with the answer, or `failed` with the message of an error."""

    def ask() -> None:
        try:
            answer = process.call(method, *arguments)
        except AllDetectError as error:
            call_soon(partial(failed, str(error)))
        else:
            call_soon(partial(done, answer))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread
