"""A program of this package in a process of its own, which is asked and answers by pickles on pipes.

Not `multiprocessing`, whose processes run the user's script again, or fork the networks' threads.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Lock
from typing import IO, Any, cast

__all__ = ["LostError", "PipedProcess", "own_pipes", "send"]

ENDING_S = 5
"""What a process whose pipe broke may take to end by itself, which tells why."""


class LostError(Exception):
    """A process answers no more."""


class PipedProcess:
    """A process that runs a module, from the side that asks.

    Parameters
    ----------
    module : str
        Takes what comes by `own_pipes`, and ends when its input does: so it ends with the one that asks.
    environment : mapping of str to str
        Of the process, unless the user's says otherwise.
    **options
        Of `subprocess.Popen`.
    """

    def __init__(self, module: str, environment: Mapping[str, str], **options: Any) -> None:
        self._process = subprocess.Popen(
            # -P: a file of the user's in the working directory must not take a library's place.
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**environment, **os.environ},
            **options,
        )
        self._requests, self._replies = (cast("IO[bytes]", p) for p in (self._process.stdin, self._process.stdout))
        self._writing = Lock()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def send(self, request: object) -> None:
        """Ask for something; raises LostError if it is gone."""
        with self._writing, _lost():
            send(self._requests, request)

    def receive(self) -> Any:
        """Wait for what it answers next.

        After any other error than LostError a part of the answer may be left, so that nothing more can be asked: `end`.

        Raises
        ------
        LostError
            If it is gone, or answers what nobody understands.
        """
        with _lost():
            return pickle.load(self._replies)

    def end(self) -> None:
        """End it at once, whatever it does; who waits for an answer gets a LostError, and has to `close` it."""
        self._process.kill()
        self._process.wait()

    def close(self) -> int:
        """Close its pipes, whereupon it ends; return its exit status."""
        for pipe in (self._requests, self._replies):
            with suppress(OSError):  # what is left in a buffer can't be written any more
                pipe.close()
        try:
            return self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:  # ValueError: the pipe is closed
        raise LostError from error


def own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Return what requests come from and replies go to, in the process that answers.

    Replies go out on what was standard output; what libraries print there, which must not come between them, goes to
    standard error.
    """
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sys.stdin.buffer, replies


def send(pipe: IO[bytes], what: object) -> None:
    """Send an object: a request or a reply."""
    pickle.dump(what, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()
