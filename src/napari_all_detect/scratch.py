"""Temporary folders, which go with what needs them."""

import shutil
import tempfile
import weakref
from pathlib import Path

__all__ = ["Scratch"]


class Scratch:
    """A temporary folder, which goes when nothing refers to it any more.

    Attributes
    ----------
    path : Path
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="all-detect-"))
        _in_use.add(self.path)
        weakref.finalize(self, _delete, self.path)

    def stay_with(self, mapped: object) -> None:
        """Let it stay until this is gone, too: what is still mapped from a file keeps Windows from deleting that."""
        weakref.finalize(mapped, _let_go, self)

    @staticmethod
    def clear() -> None:
        """Delete all that are there: before a process ends in haste."""
        for path in list(_in_use):
            _delete(path)


_in_use: set[Path] = set()


def _let_go(scratch: Scratch) -> None:
    """Do nothing: the last that refers to it is gone with this."""


def _delete(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    _in_use.discard(path)
