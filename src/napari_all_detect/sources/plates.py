"""HCS plates of OME-Zarr: their wells, and the fields in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_all_detect.errors import InputError, StoreError
from napari_all_detect.retrying import with_retries
from napari_all_detect.sources.ome_zarr import child, ome_attributes, validated
from napari_all_detect.sources.plane import readable

if TYPE_CHECKING:
    import pydantic
    import zarr

__all__ = ["FieldOfView", "fields_of_plate", "fields_of_well", "name_of_well"]


@dataclass(frozen=True)
class FieldOfView:
    """One image of several in a store.

    Attributes
    ----------
    path : str
        From the group that was opened: `A/1/0`.
    well : str
        Row and column as the plate names them: `A1`; empty if it is of no plate.
    field : str
        Its name in the well: `0`.
    error : InputError or None
        Why the images of the well can't be told, which then stands for them.
    """

    path: str
    well: str = ""
    field: str = ""
    error: InputError | None = None


def fields_of_plate(plate: zarr.Group, attributes: Mapping[str, Any], version: str, path: Path) -> list[FieldOfView]:
    """Return the images of a plate, by row, column and their order in the well.

    Raises
    ------
    InputError
        If the metadata of the plate are not valid. A well whose own are missing or not valid stands in the list itself.
    """
    from ome_zarr_models.v04.plate import Plate as Plate04
    from ome_zarr_models.v05.plate import Plate as Plate05

    model: type[Plate04 | Plate05] = Plate05 if version == "0.5" else Plate04
    facts = validated(model, attributes["plate"], path, "plate")
    found = []
    for well in sorted(facts.wells, key=lambda well: (well.rowIndex, well.columnIndex)):
        name = facts.rows[well.rowIndex].name + facts.columns[well.columnIndex].name
        try:
            images = with_retries(partial(_images_of, plate, well.path, path), StoreError)
        except InputError as error:
            found.append(FieldOfView(well.path, name, error=error))
        else:
            found += [FieldOfView(f"{well.path}/{image}", name, image) for image in images]
    return found


def fields_of_well(well: zarr.Group, path: Path) -> list[FieldOfView]:
    """Return the images of one well."""
    name = name_of_well(path)
    return [FieldOfView(image, name, image) for image in _images(well, path)]


def name_of_well(path: Path) -> str:
    """Return what a well is called that is opened without its plate, by its last two folders: `A/1` is `A1`."""
    return "".join(path.absolute().parts[-2:])


def _images_of(plate: zarr.Group, well: str, path: Path) -> list[str]:
    with readable(path / well, "zarr"):
        return _images(child(plate, well, path), path / well)


def _images(well: Any, path: Path) -> list[str]:
    attributes, _ = ome_attributes(well, path)
    facts: Any = validated(_well(), attributes.get("well", {}), path, "well")
    return list(dict.fromkeys(image.path for image in facts.images))


@cache
def _well() -> type[pydantic.BaseModel]:
    """Return what is asked of a well's metadata.

    The specification shuts out names that are in use: Fractal calls a registered image `0_registered`.
    """
    import pydantic

    class Image(pydantic.BaseModel):
        path: str = pydantic.Field(pattern="^[^/]")  # not one from the root of the disk

    class Well(pydantic.BaseModel):
        images: list[Image]

    return Well
