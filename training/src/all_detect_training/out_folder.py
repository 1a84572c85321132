"""The folder that a command writes its results into, and what is written there whole or not at all."""

from pathlib import Path

from napari_all_detect.errors import OutputError

__all__ = ["PARTIAL", "refuse_filled", "write_whole"]

PARTIAL = ".partial"


def refuse_filled(out: Path) -> None:
    """Raise OutputError unless `out` is a new or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already; name a new or an empty folder")


def write_whole(path: Path, text: str) -> None:
    """Write beside and rename, so that an interrupted run leaves no half of it; a file's name may be no Unicode."""
    partial = path.with_name(path.name + PARTIAL)
    partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    partial.replace(path)
