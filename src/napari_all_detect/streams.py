"""Standard output and error of a program, whoever reads them."""

import io
import os
import re
import sys
from collections.abc import Iterable
from typing import IO, Any, TextIO, cast

__all__ = ["BROKEN_PIPE", "flushed", "one_line", "prepare_streams", "shown"]

BROKEN_PIPE = 141
"""Exit status, as a shell says it of programs that SIGPIPE ended: who reads has seen enough."""

OBEYED = re.compile("(?!\r\n)[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Signs of control, ends of lines, what turns the direction of writing; not tabs, spaces of all kinds and joiners."""


class _Unread:
    """A stream that goes on where nobody reads it any more: what it says is no result."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # a copy that is still to be filled
            raise AttributeError(name)
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or forget it."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            _forget(self._stream)
            return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        """Write texts, or forget them."""
        self.write("".join(texts))

    def flush(self) -> None:
        """Write what is left, or forget it."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            _forget(self._stream)


def prepare_streams() -> None:
    """Let every print go through: where nobody gave a stream, as a daemon does, or reads it, and in any alphabet."""
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of files, of bundles and of cells may hold what a redirected Windows console can't say.
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = cast("TextIO", _Unread(sys.stderr))


def flushed(status: int) -> int:
    """Write what is left; return the exit status: another one where nobody reads it, or it can't be written."""
    sys.stderr.flush()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget(sys.stdout)
        return BROKEN_PIPE
    except OSError as error:
        _forget(sys.stdout)
        sys.stderr.write(f"standard output can't be written ({error.strerror})\n")
        return 1
    return status


def shown(text: str) -> str:
    r"""Return a text without what a terminal would obey, such as names of files and bundles may hold.

    Examples
    --------
    >>> shown("smear\x1b[31m.png")
    'smear\\x1b[31m.png'
    """
    return OBEYED.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return a text as one line, as `shown`."""
    return shown(" ".join(text.splitlines()))


def _forget(stream: IO[str]) -> None:
    """Have all that is still written to a stream go nowhere; else Python would complain as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
