"""Standard output and error of a program, whoever reads them."""

import io
import os
import sys

__all__ = ["BROKEN_PIPE", "flushed", "prepare_streams"]

BROKEN_PIPE = 141
"""Exit status, as a shell says it of programs that SIGPIPE ended: who reads has seen enough."""


def prepare_streams() -> None:
    """Let every print go through: where nobody gave a stream, as a daemon does, and in any alphabet."""
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of files, of bundles and of cells may hold what a redirected Windows console can't say.
            stream.reconfigure(errors="backslashreplace")


def flushed() -> bool:
    """Write what is left; return False where nobody reads any more: then nothing is tried again as Python ends."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
