"""Names of files: made of an image's name, or completed with a suffix. No Qt."""

import re
from collections.abc import Collection
from pathlib import Path

__all__ = ["plain", "with_suffix"]


def plain(name: str) -> str:
    """Return a name that is one on every file system."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", str(name)).strip("-.") or "image"


def with_suffix(path: Path, suffix: str, known: Collection[str], proposed: str) -> Path:
    """Return a path with a suffix, unless it has a known one: `slide 1.2` has none.

    The name that was proposed says nothing of what was wanted: it gets the suffix.
    """
    if path.name == proposed:
        return path.with_suffix(suffix)
    return path if path.suffix.lower() in known else path.with_name(path.name + suffix)
