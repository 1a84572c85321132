"""What napari calls of ours and would show a traceback of, if it failed. No Qt."""

import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import napari
from napari.utils.notifications import show_error

from napari_all_detect.errors import AllDetectError

__all__ = ["notified"]

Answer = TypeVar("Answer")


def notified(instead: Callable[..., Answer]) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Turn what a function raises into a notification, if a viewer is there to show it.

    Parameters
    ----------
    instead : callable
        Takes the function's arguments, and returns what napari gets for an answer then.
    """

    def wrap(function: Callable[..., Answer]) -> Callable[..., Answer]:
        @wraps(function)
        def answer(*arguments: Any) -> Answer:
            try:
                return function(*arguments)
            except AllDetectError as error:
                if napari.current_viewer() is None:
                    raise
                show_error(str(error))
            except Exception as error:
                if napari.current_viewer() is None:
                    raise
                traceback.print_exc()
                show_error(f"{_reason(error)}; if the file is whole, please report this error in napari-all-detect")
            return instead(*arguments)

        return answer

    return wrap


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
