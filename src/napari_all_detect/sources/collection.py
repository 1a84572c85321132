"""Collections of images in an OME-Zarr store, as bioformats2raw writes them: one for each series of a file."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

from napari_all_detect.errors import InputError
from napari_all_detect.sources.ome_xml import image_names, is_from_afar
from napari_all_detect.sources.ome_zarr import ome_attributes
from napari_all_detect.sources.plates import FieldOfView

if TYPE_CHECKING:
    import zarr

__all__ = ["images_of_collection", "is_collection"]


def is_collection(attributes: Mapping[str, Any]) -> bool:
    """Return whether a group's OME-Zarr attributes are those of a collection, and not of an image of its own."""
    return "bioformats2raw.layout" in attributes and "multiscales" not in attributes


def images_of_collection(collection: zarr.Group, path: Path) -> list[FieldOfView]:
    """Return the images of a collection in the order of the file that it was made from.

    Pictures of a whole slide, or of its label, are left out, if the file's metadata are there to tell them.

    Raises
    ------
    InputError
        If it is empty.
    """
    images = _listed(collection, path) or list(takewhile(collection.__contains__, map(str, count())))
    if not images:
        raise InputError(f"{path}: a collection without an image; convert the file again")
    names = _names(path)
    if len(names) != len(images):
        return [FieldOfView(image) for image in images]
    smears = [image for image, name in zip(images, names, strict=True) if not is_from_afar(name)]
    return [FieldOfView(image) for image in smears or images]


def _listed(collection: zarr.Group, path: Path) -> list[str]:
    """Return the paths of the images if the collection lists them; those that it does not are numbered from 0 on."""
    if "OME" not in collection:
        return []
    series = ome_attributes(collection["OME"], path / "OME")[0].get("series")  # type: ignore[arg-type]
    return [str(image) for image in series] if isinstance(series, list) else []


def _names(path: Path) -> list[str]:
    """Return the names of the images by the metadata that were copied from the file; none where these are missing."""
    try:
        return image_names((path / "OME" / "METADATA.ome.xml").read_text(encoding="utf-8"))
    except (FileNotFoundError, ParseError, UnicodeDecodeError):
        return []
