"""Results onto the disk: what fails is tried again, and costs one plane."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from napari_all_detect.batch.units import Unit
from napari_all_detect.results import Failure
from napari_all_detect.retrying import with_retries

__all__ = ["Fail", "PlaneWriter", "rest_goes_on"]

Fail = Callable[[Failure], object]
"""Takes a failure."""

Result = TypeVar("Result")

FULL = (errno.ENOSPC, errno.EDQUOT)
"""The disk is full, or what the user may have of it."""


class PlaneWriter:
    """Writes what planes give, one after the other.

    What fails is tried again after the waits of `retrying`. A full disk is waited for once: until something can be
    written again, later planes have one try.
    """

    def __init__(self) -> None:
        self._full = False

    def write(self, unit: Unit, work: Callable[[], object]) -> Failure | None:
        """Do the work of writing a plane's results; return why it failed, if it did."""
        try:
            self.tried(work)
        except OSError as error:
            what = error.filename or "its results"
            return Failure(unit.name, "write", f"{what}: can't be written ({error.strerror or error}); mend that")
        return None

    def tried(self, work: Callable[[], Result]) -> Result:
        """Do the work and return its result; raise the last OSError if none of the tries went well."""
        try:
            result = with_retries(work, OSError, delays_s=() if self._full else None)
        except OSError as error:
            self._full = error.errno in FULL
            raise
        self._full = False
        return result


@contextlib.contextmanager
def rest_goes_on(fail: Fail, name: str, path: Path) -> Iterator[None]:
    """Make a failure of whatever keeps something from being written.

    Parameters
    ----------
    fail : callable
        Takes the failure.
    name : str
        What the failure is of.
    path : Path
        What is written.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - other packages' writers raise anything
        why = "out of memory" if isinstance(error, MemoryError) else " ".join(str(error).split())[:500]
        reason = f"{path} can't be written ({why or type(error).__name__}); mend that, then go on with --resume"
        fail(Failure(name, "write", reason))
