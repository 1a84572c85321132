"""The folder that a command writes its results into, and what is written there whole or not at all."""

from pathlib import Path

from napari_all_detect.atomic import write_atomically
from napari_all_detect.errors import OutputError

__all__ = ["SCRATCH", "refuse_filled", "write_whole"]


SCRATCH = ".scratch-"
"""What a folder begins with that a command works in; one that was killed leaves it."""


def refuse_filled(out: Path) -> None:
    """Raise OutputError unless `out` is a new or an empty folder."""
    if out.exists() and (not out.is_dir() or any(not path.name.startswith(SCRATCH) for path in out.iterdir())):
        raise OutputError(f"{out} exists already; name a new or an empty folder")


def write_whole(path: Path, text: str) -> None:
    """Write a text so that it is there whole or not at all; a file's name in it may be no Unicode."""
    write_atomically(path, text.encode(errors="backslashreplace"))
