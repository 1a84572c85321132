"""Where bundles lie: in the package, in the user's folder, in the cache; and how one gets there whole."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from napari_all_detect.bundle.verified import readable
from napari_all_detect.errors import BundleError

__all__ = ["as_path", "builtin_root", "cache_root", "folders_in", "publish", "staging_in", "user_root"]

APP = "napari-all-detect"


def _home() -> Path | None:
    home = os.environ.get("ALL_DETECT_HOME")
    return as_path(home).absolute() if home else None


def user_root() -> Path:
    """Return the folder of the user's bundles: in `ALL_DETECT_HOME` if that is set."""
    return (_home() or user_data_path(APP)) / "bundles"


def cache_root() -> Path:
    """Return the folder of unpacked zips."""
    home = _home()
    return home / "cache" if home else user_cache_path(APP)


def builtin_root() -> Path:
    """Return the folder of the bundles that the package ships."""
    return Path(str(files("napari_all_detect.bundle") / "builtin"))


def as_path(text: str) -> Path:
    """Return the path that a user typed; `~/` is the home folder."""
    return Path(text).expanduser() if text.startswith(("~/", "~\\")) else Path(text)


def folders_in(root: Path) -> list[Path]:
    """List what may be bundles in a root, by name; an absent root has none."""
    with readable(str(root)):
        if not root.is_dir():
            return []
        return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] not in "._")


@contextmanager
def staging_in(root: Path, remedy: str = "set ALL_DETECT_HOME to a folder that you may write in") -> Iterator[Path]:
    """Lend a temporary folder on the root's file system; it goes away with all that is left in it.

    `remedy` is what to do if the root can't be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=root, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        raise BundleError(f"{root}: can't be written ({error}); {remedy}") from error


def publish(folder: Path, target: Path) -> None:
    """Rename a finished folder to its place, unless another process put one there first: so verify it."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())  # else a power cut may leave empty files under the name
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise
