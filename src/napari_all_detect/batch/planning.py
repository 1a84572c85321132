"""From inputs to units of work."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from napari_all_detect.batch.units import Unit
from napari_all_detect.errors import InputError, StoreError
from napari_all_detect.params import ReadParams
from napari_all_detect.results import Failure
from napari_all_detect.retrying import with_retries
from napari_all_detect.samplesheet import line_name, place_name
from napari_all_detect.sources import ImageFile, Plane, find_images, open_planes
from napari_all_detect.sources.labels import label_names
from napari_all_detect.sources.places import absolute, as_place

__all__ = ["listed_images", "plan_units"]


def _planes(
    files: Iterable[ImageFile], reading: ReadParams | None, wanted_um: float | None
) -> tuple[list[Plane], list[Failure]]:
    """List planes in the order of the files; one that several files hold, as plates and wells do, once."""
    found: dict[tuple[Path, str], tuple[int, Plane]] = {}
    failures: list[Failure] = []
    for file in files:
        try:
            planes = with_retries(partial(open_planes, file, reading, wanted_um), StoreError)
        except InputError as error:
            failures.append(Failure(file.image, "open", str(error), isinstance(error, StoreError)))
            continue
        depth = len(absolute(file.path).parts)
        for plane in planes:
            key = absolute(plane.path), plane.plane
            found[key] = _nearer(found[key], (depth, plane)) if key in found else (depth, plane)
    named = dict[tuple[str, str], Plane]()
    for _, plane in found.values():
        other = named.setdefault((plane.image, plane.plane), plane)
        if other is not plane:
            reason = f"{plane.path}: {other.path} has the same name in this run; score one of them in a run of its own"
            failures.append(Failure(plane.image, "open", reason))
    return list(named.values()), failures


def _nearer(first: tuple[int, Plane], second: tuple[int, Plane]) -> tuple[int, Plane]:
    """Return the plane as the deeper file names it, with the well that perhaps only its plate knows."""
    (_, other), (depth, plane) = sorted([first, second], key=lambda one: one[0])
    return depth, replace(plane, well=plane.well or other.well, field=plane.field or other.field)


def listed_images(entries: Iterable[str], folder: Path) -> list[ImageFile]:
    """Return the images that a sample sheet lists, under the names that it gives them.

    Parameters
    ----------
    entries : iterable of str
        Files, folders and zarr stores; relative ones lie in the sheet's folder.
    folder : Path

    Returns
    -------
    list of ImageFile
        In the order of the entries, none twice: what several entries stand for is named by the nearest.

    Raises
    ------
    InputError
        If two entries are the same place.
    """
    lines: dict[Path, str] = {}
    found: dict[Path, tuple[int, ImageFile]] = {}
    for entry in entries:
        place = _place_of(entry, folder)
        line = absolute(place)
        if line in lines:
            raise InputError(
                f"the sample sheet lists {lines[line]} and {entry}, which are the same place; expected each image "
                "once: delete one of the lines"
            )
        lines[line] = entry
        for one in find_images([place]):
            path = absolute(one.path)
            depth = len(line.parts) if path.is_relative_to(line) else 0  # 0: a pattern
            name = line_name(entry) if one.path == place else place_name(f"{line_name(entry)}/{one.image}")
            if path not in found or depth > found[path][0]:
                found[path] = depth, ImageFile(one.path, name)
    return [file for _, file in found.values()]


def _place_of(entry: str, folder: Path) -> Path:
    """Return the place that a line stands for; a file's name may have two characters for its `ä`, or the line may."""
    if "://" in entry:
        return as_place(entry)
    places = [folder / entry, *(folder / unicodedata.normalize(form, entry) for form in ("NFC", "NFD"))]
    return next((place for place in places if os.path.exists(place)), places[0])  # noqa: PTH110 - raises nothing


def plan_units(
    files: Iterable[ImageFile], reading: ReadParams | None = None, wanted_um: float | None = None
) -> tuple[list[Unit], list[Failure]]:
    """Return the planes of all images, numbered and with names for their files, and the images that can't be opened.

    Only headers are read. Images that can't be opened take part in the naming: they may be mended, and the others keep
    their names.
    """
    planes, failures = _planes(files, reading, wanted_um)
    stems = _stems(planes, [failure.input for failure in failures])
    return [Unit(i, plane, stem) for i, (plane, stem) in enumerate(zip(planes, stems, strict=True))], failures


def _stems(planes: Sequence[Plane], unopened: Sequence[str]) -> list[str]:
    """Name the files of each plane."""
    safe = {image: _safe(image) for image in (*(plane.image for plane in planes), *unopened)}
    taken = {image for image, name in safe.items() if name == image}
    for image, name in safe.items():
        if name != image:
            while name in taken:
                name = f"_{name}"
            safe[image] = name
            taken.add(name)
    named = [(safe[plane.image], plane.plane) for plane in planes]
    names = label_names([*named, *((safe[image], "0") for image in unopened)])
    return [names[key].removesuffix("_labels.tif") for key in named]


def _safe(image: str) -> str:
    """Return an image's name as a path that stays below the folder that it is put into.

    >>> _safe("../up.png"), _safe("/data/a.png"), _safe("http://host:80/a.png")
    ('__/up.png', 'data/a.png', 'http_/host_80/a.png')
    """
    if "://" in image or image[1:3] == ":/":  # a URL or a drive; Windows takes neither in a name
        image = image.replace(":", "_").replace("?", "_")
    parts = [part for part in image.split("/") if part not in ("", ".")]
    return "/".join("__" if part == ".." else part for part in parts) or "_"
