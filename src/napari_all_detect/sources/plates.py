"""HCS plates of OME-Zarr: their wells, and the fields in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_all_detect.errors import InputError
from napari_all_detect.sources.ome_zarr import ome_attributes, validated

if TYPE_CHECKING:
    import zarr

__all__ = ["FieldOfView", "fields_of_plate", "fields_of_well"]


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
    """

    path: str
    well: str = ""
    field: str = ""


def fields_of_plate(plate: zarr.Group, attributes: Mapping[str, Any], version: str, path: Path) -> list[FieldOfView]:
    """Return the images of a plate, by row, column and their order in the well.

    Raises
    ------
    InputError
        If the metadata of the plate are not valid. A well whose own are missing or not valid stands in the list itself,
        so that opening it says so.
    """
    from ome_zarr_models.v04.plate import Plate as Plate04
    from ome_zarr_models.v05.plate import Plate as Plate05

    model: type[Plate04 | Plate05] = Plate05 if version == "0.5" else Plate04
    facts = validated(model, attributes["plate"], path, "plate")
    found = []
    for well in sorted(facts.wells, key=lambda well: (well.rowIndex, well.columnIndex)):
        name = facts.rows[well.rowIndex].name + facts.columns[well.columnIndex].name
        try:
            images = _images(plate[well.path], path / well.path)
        except (KeyError, InputError):
            found.append(FieldOfView(well.path, name))
        else:
            found += [FieldOfView(f"{well.path}/{image}", name, image) for image in images]
    return found


def fields_of_well(well: zarr.Group, path: Path) -> list[FieldOfView]:
    """Return the images of one well; its name is that of the last two folders: `A/1` is `A1`."""
    name = "".join(path.absolute().parts[-2:])
    return [FieldOfView(image, name, image) for image in _images(well, path)]


def _images(well: Any, path: Path) -> list[str]:
    from ome_zarr_models.v04.well_types import WellMeta as WellMeta04
    from ome_zarr_models.v05.well_types import WellMeta as WellMeta05

    attributes, version = ome_attributes(well, path)
    model: type[WellMeta04 | WellMeta05] = WellMeta05 if version == "0.5" else WellMeta04
    return [image.path for image in validated(model, attributes.get("well", {}), path, "well").images]
