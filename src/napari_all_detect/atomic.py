"""Files and folders that are there whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["PART", "made_atomically", "write_atomically", "written_atomically"]

PART = ".part"
"""Suffix of a file that is not whole yet."""

SHORT = 40
"""Characters, of four bytes at most: far from the 255 bytes that a name can have."""


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that is there whole or not at all, whenever the program or the machine is killed.

    One process at a time may write a file. What an ended one left beside it, the next takes the place of.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.

    Yields
    ------
    file : binary file
        To be written to; it gets its name afterwards.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Nobody sees it; and a long name would be too long with a suffix.
    part = path.with_name(f"{path.name[-SHORT:]}{PART}")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()  # on a full disk, what was written of it takes room
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all: see `written_atomically`."""
    with written_atomically(path) as file:
        file.write(data)


@contextlib.contextmanager
def made_atomically(folder: Path, part: Path | None = None) -> Iterator[Path]:
    """Lend a place to make a folder at; it gets its name when it is whole, and half a one is deleted.

    Parameters
    ----------
    folder : Path
        Must not be there yet.
    part : Path, optional
        Where it is made, on the same disk: `<name>.part<suffix>` beside it if not given.

    Yields
    ------
    part : Path
        Not there yet.
    """
    part = part or folder.with_name(f"{folder.stem}{PART}{folder.suffix}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        yield part
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.replace(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
