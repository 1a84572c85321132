"""The folder that a command writes its results into, and what is written there whole or not at all."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from napari_all_detect.atomic import write_atomically
from napari_all_detect.bundle import Manifest, SegmenterManifest
from napari_all_detect.bundle.verified import MANIFEST, MODEL_CARD
from napari_all_detect.errors import OutputError

__all__ = [
    "SCRATCH",
    "check_out",
    "move_bundle",
    "refuse_filled",
    "removed_if_empty",
    "scratch_in",
    "write_facts",
    "write_whole",
]


SCRATCH = ".scratch-"
"""What a folder begins with that a command works in; one that was killed leaves it."""


def refuse_filled(out: Path) -> None:
    """Raise OutputError unless `out` is a new or an empty folder."""
    if out.exists() and (not out.is_dir() or any(not path.name.startswith(SCRATCH) for path in out.iterdir())):
        raise OutputError(f"{out} exists already; name a new or an empty folder")


def check_out(out: Path) -> None:
    """Raise OutputError unless `out` is a new or an empty folder that can be written in: better before long work."""
    try:
        refuse_filled(out)
        with removed_if_empty(out):
            out.mkdir(parents=True, exist_ok=True)
            with scratch_in(out):
                pass
    except OSError as error:
        raise OutputError(f"{out}: can't be written ({error.strerror or error}); name another folder") from error


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder and its parents again as far as they were made meanwhile and are empty in the end."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    finally:
        with suppress(OSError):
            for each in new:
                each.rmdir()


@contextmanager
def scratch_in(out: Path) -> Iterator[Path]:
    """Lend a folder in `out` to work in: a disk that takes the results has room, that of TMPDIR may have none.

    What a command that was killed left there is removed first.
    """
    for left in out.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=SCRATCH, dir=out) as folder:
        yield Path(folder)


def write_whole(path: Path, text: str) -> None:
    """Write a text so that it is there whole or not at all; a file's name in it may be no Unicode."""
    write_atomically(path, text.encode(errors="backslashreplace"))


def write_facts(folder: Path, manifest: Manifest | SegmenterManifest, card: str) -> None:
    """Write a bundle's `bundle.json` and model card, the same bytes on every system."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    (folder / MODEL_CARD).write_text(card, encoding="utf-8", newline="\n")


def move_bundle(draft: Path, out: Path) -> None:
    """Move a bundle's files; the facts come last: without them it is no bundle yet."""
    for path in sorted(draft.iterdir(), key=lambda path: path.name == MANIFEST):
        path.rename(out / path.name)
