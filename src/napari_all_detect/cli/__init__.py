"""The command line, built from `params.py`."""

import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["INTERRUPTED", "main", "run"]

INTERRUPTED = 130
"""Exit status, as a shell says it of programs that Ctrl-C ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `all-detect` in this process: see `program.main`."""
    from napari_all_detect.cli import program

    return program.main(argv)


def run() -> None:
    """Run `all-detect` as a program: a SIGTERM, as clusters send it, ends it as Ctrl-C does, at once.

    That holds while the program is imported, too, which takes seconds; so nothing else is before.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from napari_all_detect.cli import program

        program.run()
    except KeyboardInterrupt:
        print("all-detect: interrupted", file=sys.stderr)
        os._exit(INTERRUPTED)
