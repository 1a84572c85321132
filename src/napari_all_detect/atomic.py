"""Files that are there whole or not at all."""

import contextlib
import os
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, whenever the program or the machine is killed.

    One process at a time may write a file. What an ended one left beside it, the next takes the place of.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    data : bytes
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()  # on a full disk, what was written of it takes room
        raise
