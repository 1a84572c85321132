"""What the user typed -> image files, each with a name of its own."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from napari_all_detect.sources.plane import ImageFile
from napari_all_detect.sources.zarr_store import is_zarr_node, looks_like_zarr

__all__ = ["find_images"]

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


def find_images(inputs: Sequence[str | Path]) -> list[ImageFile]:
    """Find the image files among files and folders.

    Parameters
    ----------
    inputs : sequence of str or Path
        Files, zarr stores (or arrays and images inside one) and folders. Folders are searched to the bottom
        for PNG, JPEG, BMP, TIFF and zarr, in natural order (``cell2`` before ``cell10``); hidden files, other
        files and the insides of zarr stores are left out. A file that is named is kept whatever its suffix.

    Returns
    -------
    list of ImageFile
        In the order of the inputs, none twice. Paths that don't exist and folders without an image are in the
        list too: :func:`open_planes` says what is wrong with them, so that one bad input spoils no other.

    Notes
    -----
    ``image`` is the file name of a file that was named and the path below the folder of one that was found,
    so it doesn't depend on where the folder lies; of an array inside a zarr store, the path from the store.
    Where two would be the same, parent folders are put in front until they differ.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cell10.png", "cell2.png", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     [file.image for file in find_images([folder])]
    ['cell2.png', 'cell10.png']
    """
    found: dict[Path, tuple[Path, int]] = {}
    for given in map(Path, inputs):
        for path, named_parts in _expand(given):
            # Not resolve(): a link to an image keeps the link's name.
            absolute = Path(os.path.abspath(path))  # noqa: PTH100
            found.setdefault(absolute, (path, named_parts))
    names = _unique_names({absolute: named_parts for absolute, (_, named_parts) in found.items()})
    return [ImageFile(path, names[absolute]) for absolute, (path, _) in found.items()]


def _expand(given: Path) -> Iterator[tuple[Path, int]]:
    """Yield the image files of one input, each with the number of its last path parts that name it."""
    if not _is_folder(given) or looks_like_zarr(given):
        yield given, _parts_from_store(given)
        return
    images = list(_images_below(given))
    for path in images:
        yield path, max(1, len(path.parts) - len(given.parts))
    if not images:
        yield given, 1


def _parts_from_store(path: Path) -> int:
    """Count the last parts of a path from the outermost zarr store: ``0`` alone would be a poor name."""
    count = 1
    while count < len(path.parts) and is_zarr_node(path.parents[count - 1]):
        count += 1
    return count


def _images_below(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir(), key=_natural)
    except OSError:
        yield folder  # open_planes meets the same error and can tell the user
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not _is_folder(entry):
            if entry.suffix.lower() in _SUFFIXES:
                yield entry
        elif looks_like_zarr(entry):
            yield entry
        elif not _leads_back(entry):
            yield from _images_below(entry)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no right to look, or a name that is too long
        return False


def _leads_back(folder: Path) -> bool:
    """Return whether the folder is a link to one that it lies in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _natural(path: Path) -> tuple[list[str | int], str]:
    pieces = re.split(r"(\d+)", path.name.casefold())
    return [int(piece) if piece.isdecimal() else piece for piece in pieces], path.name


def _unique_names(named_parts: dict[Path, int]) -> dict[Path, str]:
    """Name each absolute path by its last parts, as many as are given and then as make the names differ."""
    counts = dict(named_parts)
    while True:
        names = {path: "/".join(path.relative_to(path.anchor).parts[-counts[path] :]) for path in counts}
        times = Counter(names.values())
        longer = [p for p, name in names.items() if times[name] > 1 and counts[p] < len(p.parts) - 1]
        if not longer:
            return names
        for path in longer:
            counts[path] += 1
