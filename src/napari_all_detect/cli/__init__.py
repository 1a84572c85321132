"""The command line, built from `params.py`."""

import _thread
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["INTERRUPTED", "main", "run", "run_as"]

INTERRUPTED = 130
"""Exit status, as a shell says it of programs that Ctrl-C ended."""

AGAIN_S = 0.05
"""After which a Ctrl-C that was lost comes again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `all-detect` in this process: see `program.main`."""
    from napari_all_detect.cli import program

    return program.main(argv)


def run() -> None:
    """Run `all-detect` as a program."""

    def imported() -> Callable[[], None]:
        from napari_all_detect.cli import program

        return program.run

    run_as("all-detect", imported)


def run_as(name: str, imported: Callable[[], Callable[[], None]]) -> None:
    """Run a program: a SIGTERM, as clusters send it, ends it as Ctrl-C does, at once.

    That holds while it is imported, too, which takes seconds; so nothing else is before. Then it ends right in the
    handler: there is nothing to clear up, and what is imported may swallow a KeyboardInterrupt, or make something else
    of it.

    Parameters
    ----------
    name : str
        As its only line of then begins.
    imported : callable
        Imports the program, and returns what runs it.
    """

    def end(*_: object) -> None:
        print(f"{name}: interrupted", file=sys.stderr)
        os._exit(INTERRUPTED)

    # A shell has what runs in its background ignore Ctrl-C.
    heeded = [signal.SIGTERM, *([] if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else [signal.SIGINT])]
    for number in heeded:
        signal.signal(number, end)
    program = imported()
    for number in heeded:
        signal.signal(number, signal.default_int_handler)
    sys.unraisablehook = _not_lost
    try:
        program()
    except KeyboardInterrupt:
        end()


def _not_lost(unraisable: Any) -> None:
    """Let a Ctrl-C come again that Python drops, as in JAX's hook of the garbage collector; tell of other errors."""
    if unraisable.exc_type is KeyboardInterrupt:
        from threading import Timer

        # From another thread, as here it would be dropped, too; as a SIGTERM, which is never ignored.
        Timer(AGAIN_S, _thread.interrupt_main, [signal.SIGTERM]).start()
    else:
        sys.__unraisablehook__(unraisable)
