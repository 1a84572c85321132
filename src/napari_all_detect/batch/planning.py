"""From inputs to units of work."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from napari_all_detect.batch.retrying import with_retries
from napari_all_detect.errors import InputError, StoreError
from napari_all_detect.params import ReadParams
from napari_all_detect.results import Failure
from napari_all_detect.sources import Plane, find_images, open_planes
from napari_all_detect.sources.labels import label_names

__all__ = ["Unit", "plan", "plan_units"]


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
    planes: list[Plane] = []
    failures: list[Failure] = []
    for file in find_images(inputs):
        try:
            planes += with_retries(partial(open_planes, file, reading, wanted_um), StoreError)
        except InputError as error:
            failures.append(Failure(file.image, "open", str(error)))
    return planes, failures


def plan_units(
    inputs: Sequence[str | Path], reading: ReadParams | None = None, wanted_um: float | None = None
) -> tuple[list[Unit], list[Failure]]:
    """Return the planes of all inputs, numbered and with names for their files; see `plan`."""
    planes, failures = plan(inputs, reading, wanted_um)
    names = label_names(planes)
    stems = [names[plane.image, plane.plane].removesuffix("_labels.tif") for plane in planes]
    return [Unit(i, plane, stem) for i, (plane, stem) in enumerate(zip(planes, stems, strict=True))], failures
