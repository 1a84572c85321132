"""What the user typed -> image files, each with a name of its own."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from napari_all_detect.errors import InputError, ParameterError, StoreError
from napari_all_detect.retrying import with_retries
from napari_all_detect.sources.ome_zarr import ome_attributes
from napari_all_detect.sources.places import (
    absolute,
    as_place,
    has_query,
    is_remote,
    name_parts,
    unreachable,
    without_slash,
    zarr_place,
)
from napari_all_detect.sources.plane import ImageFile, readable
from napari_all_detect.sources.zarr_store import is_zarr_node, looks_like_zarr

__all__ = ["as_inputs", "find_images", "is_path", "natural_key"]

_WRITTEN = ("labels", "ome-zarr")
"""Folders of images in a folder of results: no smears, and a run into a folder of its images would score its own."""

_OURS = re.compile(r"_(labels|nuclei)\.tiff?$", re.IGNORECASE)
"""Label images as `segment` and `score` name them, perhaps beside their smears."""

_NO_SMEARS = ("__MACOSX", "@eaDir", "%40eaDir")
"""Folders of macOS's zips and Synology's discs, as disks and servers list them: resource forks, and thumbnails."""

LEVELS = 4
"""Of a plate: row, well, field, resolution."""

_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".tf8", ".btf", ".svs"}  # SVS: TIFF of a slide
)


def as_inputs(inputs: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """Return inputs as a list: one path is a list of one.

    Raises
    ------
    ParameterError
        If one is no path, or empty, which would stand for the folder that the program runs in.
    """
    is_one = is_path(inputs) or isinstance(inputs, bytes) or not isinstance(inputs, Iterable)
    listed: list[str | Path] = [inputs] if is_one else list(inputs)  # type: ignore[list-item, arg-type]
    for given in listed:
        if not is_path(given):
            raise ParameterError(f"an input is {given!r}; expected a path, as a str or a pathlib.Path")
    if "" in listed:
        raise ParameterError("an input is empty; expected a path, such as . for the folder that you are in")
    return listed


def is_path(given: object) -> TypeGuard[str | Path]:
    """Return whether it is a path: one of a URL, too, which has parts."""
    return isinstance(given, (str, os.PathLike)) or hasattr(given, "parts")  # as paths have, those of URLs, too


def find_images(inputs: str | Path | Sequence[str | Path]) -> list[ImageFile]:
    """Find the image files among files and folders.

    Parameters
    ----------
    inputs : path, or sequence of str or Path
        Files, zarr stores (or arrays and images inside one), folders, patterns such as `day*/*.tif`, and URLs of
        all of them where the server lists its folders. Folders are searched to the bottom
        for PNG, JPEG, BMP, TIFF and zarr, in natural order (`cell2` before `cell10`); hidden files, other
        files, label images (`*_labels.tif`, `*_nuclei.tif`) and the insides of zarr stores are left out. A file
        that is named is kept whatever it is called, as are label images if a pattern stands for nothing else.

    Returns
    -------
    list of ImageFile
        In the order of the inputs, none twice. Paths that don't exist and folders without an image are in the
        list too: `open_planes` says what is wrong with them, so that one bad input spoils no other.

    Notes
    -----
    `image` is the file name of a file that was named and the path below the folder of one that was found,
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
    for given in (match for pattern in as_inputs(inputs) for match in _matches(as_place(pattern))):
        for path, named_parts in _expand(given):
            found.setdefault(absolute(path), (path, named_parts))
    names = _unique_names({place: named_parts for place, (_, named_parts) in found.items()})
    return [ImageFile(path, names[place]) for place, (path, _) in found.items()]


def _matches(given: Path) -> list[Path]:
    """Return the files and folders that a pattern stands for (`*`, `?`, `[...]`, `**`), or what is no pattern."""
    if not glob.has_magic(str(given)) or _exists(given):
        return [given]
    try:
        matches = with_retries(partial(_globbed, given), StoreError)
    except InputError:
        return [given]  # open_planes meets the same error and can tell the user
    others = set(_NO_SMEARS).difference(given.parts)  # `@eaDir/*.jpg` is meant
    smears = [match for match in matches if not _OURS.search(match.name) and others.isdisjoint(match.parts)]
    return sorted(smears or matches, key=lambda path: [natural_key(part) for part in path.parts]) or [given]


def _globbed(pattern: Path) -> list[Path]:
    if not is_remote(pattern):
        return [Path(match) for match in glob.glob(str(pattern), recursive=True)]  # noqa: PTH207 - takes any path
    remote: Any = pattern
    with readable(pattern, "pattern"):
        return [remote.with_segments(remote.fs.unstrip_protocol(match)) for match in remote.fs.glob(remote.path)]


def _expand(given: Path) -> Iterator[tuple[Path, int]]:
    """Yield the image files of one input, each with the number of its last path parts that name it."""
    try:
        is_image = (_is_zarr(given) and not _is_row(given)) or not _is_folder(given)
    except StoreError:  # open_planes meets the same error and can tell the user
        yield given, _parts_from_suffix(given)
        return
    if is_image:
        # Each question costs a server's answer, and an image file lies in no store.
        yield (
            given,
            1 if is_remote(given) and given.suffix.lower() in _SUFFIXES else _parts_from_store(without_slash(given)),
        )
        return
    images = list(_images_below(given, None if is_remote(given) else given.resolve(), set()))
    for path in images:
        yield path, max(1, len(path.parts) - len(without_slash(given).parts))
    if not images:
        yield given, 1


def _parts_from_store(path: Path) -> int:
    """Count the last parts of a path from the outermost zarr store: `0` alone would be a poor name.

    A plate's rows are groups that some writers leave out, so one level may say nothing of a store. Where nobody can
    tell, as a server does not answer, they are all parts.
    """
    above = list(absolute(path).parents)[:-1][:LEVELS]  # but the root
    try:
        within = [count for count, place in enumerate(above, start=2) if _is_node(place)]
    except InputError:
        return len(name_parts(absolute(path)))
    return max(within, default=1)


def _parts_from_suffix(path: Path) -> int:
    """Count them by names alone."""
    above = enumerate(absolute(path).parents, start=2)
    return max((count for count, place in above if place.suffix.lower() == ".zarr"), default=1)


def _is_node(path: Path) -> bool:
    return with_retries(partial(is_zarr_node, path), StoreError)


def _images_below(folder: Path, root: Path | None, seen: set[Path]) -> Iterator[Path]:
    """Yield the images in a folder and below it; `root` is where the search began, if links can lead there."""
    try:
        entries = with_retries(partial(_entries, folder), StoreError)
    except InputError:
        yield folder  # open_planes meets the same error and can tell the user
        return
    left_out = _left_out(folder)
    for entry in entries:
        if entry.name.startswith(".") or entry.name in left_out:
            continue
        try:
            is_folder = _is_folder(entry)
            is_image = _is_zarr(entry) if is_folder else _is_image_file(entry)
        except StoreError:  # likewise
            is_folder, is_image = False, True
        if is_image:
            yield entry
        elif is_folder and (root is None or not _is_seen(entry, root, seen)):
            yield from _images_below(entry, root, seen)


def _is_image_file(file: Path) -> bool:
    return file.suffix.lower() in _SUFFIXES and not _OURS.search(file.name)


def _entries(folder: Path) -> list[Path]:
    with readable(folder, "folder"):
        return sorted(folder.iterdir(), key=lambda path: natural_key(path.name))


def _is_results(folder: Path) -> bool:
    """Return whether a run wrote its results there."""
    return not is_remote(folder) and (folder / "run.json").is_file() and (folder / "cells.csv").is_file()


def _is_folder(path: Path) -> bool:
    """Return whether it is a folder; raise StoreError if a disk or server can't tell."""

    def asked() -> bool:
        with readable(path, "folder"):
            return not has_query(path) and path.is_dir()

    try:
        return with_retries(asked, StoreError)
    except StoreError:
        raise
    except InputError:  # no right to look, a name that is too long
        return False


def _is_zarr(path: Path) -> bool:
    """Return whether it is a zarr store, or may be one: `open_planes` meets the same error and can tell the user.

    Raises
    ------
    StoreError
        If a server can't tell.
    """
    try:
        looks_like = with_retries(partial(looks_like_zarr, path), StoreError)
        return looks_like and (is_remote(path) or path.is_dir())
    except StoreError:
        raise
    except (OSError, InputError):
        return is_remote(path)


def _is_row(store: Path) -> bool:
    """Return whether a zarr store is a plate's row, of which some writers make a group: it is a folder of wells."""
    plate = absolute(store).parent  # `.` is its own parent
    try:
        if not _is_node(plate):
            return False
        import zarr

        with readable(plate, "zarr"):
            return "plate" in ome_attributes(zarr.open_group(zarr_place(plate), mode="r"), plate)[0]
    except InputError:  # of no plate that can be read
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except unreachable():
        return False


def _is_seen(folder: Path, root: Path, seen: set[Path]) -> bool:
    """Return whether a folder was searched, or will be under its own name: links can lead there, or round and round."""
    real = folder.resolve()
    if folder.is_symlink() and (_is_searched(real, root) or folder.parent.resolve().is_relative_to(real)):
        return True
    known = real in seen
    seen.add(real)
    return known


def _is_searched(real: Path, root: Path) -> bool:
    """Return whether the search comes to a folder without links: below the root, in nothing that is left out."""
    if not real.is_relative_to(root):
        return False
    place = root
    for part in real.relative_to(root).parts:
        if part.startswith(".") or part in _left_out(place):
            return False
        place /= part
    return True


def _left_out(folder: Path) -> tuple[str, ...]:
    """Return the names of sub-folders that hold no smears."""
    return *_NO_SMEARS, *(_WRITTEN if _is_results(folder) else ())


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return by what images are sorted: 2 before 10, and whatever the case.

    >>> sorted(["cell10", "Cell3", "cell2"], key=natural_key)
    ['cell2', 'Cell3', 'cell10']
    """
    pieces = re.split(r"(\d+)", name.casefold())
    return [int(piece) if piece.isdecimal() else piece for piece in pieces], name


def _unique_names(named_parts: dict[Path, int]) -> dict[Path, str]:
    """Name each absolute path by its last parts, as many as are given and then as make the names differ.

    Windows and macOS take `A` and `a` for one, so case alone is no difference, but where nothing else parts the paths.
    """
    counts = dict(named_parts)
    alike = Counter(str(path).casefold() for path in counts)
    while True:
        names = {path: "/".join(name_parts(path)[-counts[path] :]) for path in counts}
        compared = {p: name.casefold() if alike[str(p).casefold()] == 1 else name for p, name in names.items()}
        times = Counter(compared.values())
        longer = [p for p in names if times[compared[p]] > 1 and counts[p] < len(name_parts(p))]
        if not longer:
            return names
        for path in longer:
            counts[path] += 1
