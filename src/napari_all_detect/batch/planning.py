"""From inputs to units of work."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from napari_all_detect.batch.retrying import with_retries
from napari_all_detect.errors import InputError, StoreError
from napari_all_detect.params import ReadParams
from napari_all_detect.results import Failure
from napari_all_detect.sources import ImageFile, Plane, find_images, open_planes
from napari_all_detect.sources.labels import label_names
from napari_all_detect.sources.places import as_place

__all__ = ["Unit", "listed_images", "plan", "plan_units"]


@dataclass(frozen=True)
class Unit:
    """A piece of work that is done as a whole or not at all: one plane.

    Attributes
    ----------
    number : int
        Its place among the inputs, from 0.
    plane : Plane
    stem : str
        What its files are called, relative to their folder: `day1/smear_p3`.
    """

    number: int
    plane: Plane
    stem: str

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.plane.image if self.plane.plane == "0" else f"{self.plane.image} [{self.plane.plane}]"


def plan(
    inputs: Sequence[str | Path], reading: ReadParams | None = None, wanted_um: float | None = None
) -> tuple[list[Plane], list[Failure]]:
    """List the planes of all inputs from their headers, and the inputs that can't be opened."""
    return _planes(find_images(inputs), reading, wanted_um)


def _planes(
    files: Iterable[ImageFile], reading: ReadParams | None, wanted_um: float | None
) -> tuple[list[Plane], list[Failure]]:
    planes: list[Plane] = []
    failures: list[Failure] = []
    for file in files:
        try:
            planes += with_retries(partial(open_planes, file, reading, wanted_um), StoreError)
        except InputError as error:
            failures.append(Failure(file.image, "open", str(error)))
    return planes, failures


def listed_images(entries: Iterable[str], folder: Path) -> list[ImageFile]:
    """Return the images that a sample sheet lists, under the names that it gives them.

    Parameters
    ----------
    entries : iterable of str
        Files, folders and zarr stores; relative ones lie in the sheet's folder.
    folder : Path
    """
    files = []
    for entry in entries:
        place = as_place(entry if "://" in entry else folder / entry)
        found = find_images([place])
        files += [ImageFile(one.path, entry if one.path == place else f"{entry}/{one.image}") for one in found]
    return files


def plan_units(
    files: Iterable[ImageFile], reading: ReadParams | None = None, wanted_um: float | None = None
) -> tuple[list[Unit], list[Failure]]:
    """Return the planes of all images, numbered and with names for their files; see `plan`."""
    planes, failures = _planes(files, reading, wanted_um)
    names = label_names(planes)
    stems = [names[plane.image, plane.plane].removesuffix("_labels.tif") for plane in planes]
    return [Unit(i, plane, stem) for i, (plane, stem) in enumerate(zip(planes, stems, strict=True))], failures
