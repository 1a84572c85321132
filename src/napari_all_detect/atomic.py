"""Files and folders that are there whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
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
        part.unlink(missing_ok=True)
        with part.open("xb") as file:  # a new one: under this name there could be a link to another file
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno and error.filename is None:  # a full disk names none
            error.filename = str(path)
        with contextlib.suppress(OSError):
            part.unlink()  # on a full disk, what was written of it takes room
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all: see `written_atomically`."""
    with written_atomically(path) as file:
        file.write(data)


@contextlib.contextmanager
def made_atomically(folder: Path) -> Iterator[Path]:
    """Lend a place to make a folder at; it gets its name when it is whole, and half a one is deleted.

    Parameters
    ----------
    folder : Path
        Must not be there yet.

    Yields
    ------
    part : Path
        Of the same name, in a hidden folder beside it; not there yet.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=PART, dir=folder.parent, ignore_cleanup_errors=True) as scratch:
        part = Path(scratch) / folder.name
        yield part
        part.replace(folder)
