"""How `all-detect-train` starts: interrupted at any moment, also while it is imported, it ends with one line."""

import _thread
import os
import signal
import sys
from collections.abc import Sequence
from threading import Timer
from typing import Any

from napari_all_detect.cli import INTERRUPTED

__all__ = ["main", "run"]

AGAIN_S = 0.05
"""After which a Ctrl-C that was lost comes again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `all-detect-train` in this process: see `program.main`."""
    from all_detect_training import program

    return program.main(argv)


def run() -> None:
    """Run `all-detect-train` as a program: a SIGTERM, as clusters send it, ends it as Ctrl-C does.

    That holds while the program is imported, too, which takes seconds; so nothing else is before.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = _not_lost
    try:
        from all_detect_training import program

        program.run()
    except KeyboardInterrupt:
        print("all-detect-train: interrupted", file=sys.stderr)
        os._exit(INTERRUPTED)


def _not_lost(unraisable: Any) -> None:
    """Let a Ctrl-C come again that Python drops, as in JAX's hook of the garbage collector; tell of other errors."""
    if unraisable.exc_type is KeyboardInterrupt:
        # From another thread, as here it would be dropped, too.
        Timer(AGAIN_S, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(unraisable)
