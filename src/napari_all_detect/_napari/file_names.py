"""Names of files that are made of an image's name. No Qt."""

import re

__all__ = ["plain"]


def plain(name: str) -> str:
    """Return a name that is one on every file system."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", str(name)).strip("-.") or "image"
