"""What OME's metadata say, of a TIFF or of a collection: names, pixel sizes, colours of channels, files of a set."""

from __future__ import annotations

import os
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from napari_all_detect.errors import InputError
from napari_all_detect.sources.pixel_size import believed_um, um_per_unit

if TYPE_CHECKING:
    from tifffile import TiffFile

__all__ = ["channels", "check", "check_companion", "image_names", "is_from_afar", "is_of_set", "pixels_of", "size_um"]

_FROM_AFAR = frozenset(
    {"label", "label image", "macro image", "macro mask image", "overview", "overview image", "thumbnail image"}
)
"""What Bio-Formats calls the pictures of a slide's label and of the slide as a whole."""

MOST_PAGES = 10_000_000
"""Of a TIFF, by its metadata: tifffile makes a list of all, whether they are there or not."""


def check(tif: TiffFile, path: Path) -> None:
    """Refuse metadata that tifffile would take at their word; to be called before it lists the series of a file.

    Raises
    ------
    InputError
        If they tell of more pages than any file has, or of files outside the folder.
    """
    try:
        root = _root(tif.ome_metadata or "")
    except ElementTree.ParseError:
        return  # the pages are taken as those of any TIFF
    page_size = max(1, tif.pages[0].size)
    for element in root.iter():
        n_pages = _pages_told_of(element, page_size)
        if n_pages > MOST_PAGES:
            raise InputError(
                f"{path}: OME metadata that tell of {n_pages:,} pages; expected {MOST_PAGES:,} at most: write the file "
                "again"
            )
        name = element.get("FileName", "")
        if element.tag.endswith("UUID") and element.text != root.get("UUID") and _leads_out(name, path.parent):
            raise InputError(
                f"{path}: a set of files of which {name} lies outside the folder; expected all in it or below: write "
                "the set again"
            )


def check_companion(tif: TiffFile, path: Path) -> None:
    """Refuse grey pages of which another file says what they are; RGB ones are whole in themselves.

    Raises
    ------
    InputError
        If they could be the red, green and blue of one picture for all that this file says.
    """
    try:
        told = _root(tif.ome_metadata or "").find("{*}BinaryOnly")
    except ElementTree.ParseError:
        return
    if told is not None and tif.pages.first.samplesperpixel == 1:
        name = told.get("MetadataFile", "another file")
        raise InputError(
            f"{path}: an OME-TIFF whose metadata are in {name}, which is not read; expected them in the file itself: "
            f"convert the image with them, for instance by Bio-Formats: bfconvert {name} smear.ome.tif"
        )


def _pages_told_of(element: ElementTree.Element, page_size: int) -> int:
    if element.tag.endswith("Pixels"):
        *stack, height, width = (int(element.get(f"Size{axis}", 1)) for axis in "CZTYX")
        return max(prod(stack), prod(stack) * height * width // page_size)
    if element.tag.endswith("TiffData"):
        return max(int(element.get(count, 0)) for count in ("NumPlanes", "PlaneCount"))
    return 0


def _leads_out(name: str, folder: Path) -> bool:
    """Return whether the name of a file leads to one that is not in a folder or below it.

    Where nothing is, nothing is opened: files say under which path they were written, perhaps on another system.
    """
    home = os.path.normpath(folder.absolute())
    place = os.path.normpath(os.path.join(home, name))  # noqa: PTH118 - as tifffile does
    return os.path.exists(place) and not Path(place).is_relative_to(home)  # noqa: PTH110


def image_names(xml: str) -> list[str]:
    """Return the names of all images, empty where one has none.

    Raises
    ------
    xml.etree.ElementTree.ParseError
        If it is no XML.
    """
    return [image.get("Name", "") for image in _root(xml).iterfind("{*}Image")]


def is_from_afar(name: str) -> bool:
    """Return whether one image of several is, by its name, a picture of a whole slide or its label.

    >>> is_from_afar("macro image"), is_from_afar("smear.svs")
    (True, False)
    """
    return name.lower() in _FROM_AFAR


def pixels_of(tif: TiffFile, number: int) -> ElementTree.Element | None:
    """Return what is said of the pixels of a series, None if it can't be told which of the images it is.

    tifffile leaves out an image none of whose pages are there; then only a name tells the others apart.
    """
    images = _root(tif.ome_metadata or "").findall("{*}Image")
    if len(images) == len(tif.series):
        return images[number].find("{*}Pixels")
    found = [one.find("{*}Pixels") for one in images if one.get("Name", "") == tif.series[number].name]
    return found[0] if len({None if one is None else size_um(one) for one in found}) == 1 else None


def size_um(pixels: ElementTree.Element) -> float | None:
    """Return the pixel size in micrometres, None if it is not said believably."""
    attributes = pixels.attrib
    try:
        x_um, y_um = (
            float(attributes.get(f"PhysicalSize{axis}", "nan"))
            * um_per_unit(attributes.get(f"PhysicalSize{axis}Unit", "µm"))
            for axis in "XY"
        )
    except ValueError:  # not a number: the pixels can be read all the same
        return None
    return believed_um(x_um, y_um)


def channels(pixels: ElementTree.Element) -> list[dict[str, str]]:
    """Return the colour and the name of each channel, as OME-Zarr has them."""
    return [
        {"color": _colour(channel.get("Color", "")), "label": channel.get("Name", "")}
        for channel in pixels.iterfind("{*}Channel")
    ]


def is_of_set(tif: TiffFile) -> bool:
    """Return whether the pages that the metadata name lie in several files."""
    return len({uuid.text for uuid in _root(tif.ome_metadata or "").iterfind(".//{*}UUID")}) > 1


@lru_cache(maxsize=1)
def _root(xml: str) -> ElementTree.Element:
    return ElementTree.fromstring(xml)


def _colour(rgba: str) -> str:
    """Write red, green and blue of a signed number in hexadecimal.

    >>> _colour("-16776961")
    'FF0000'
    """
    return f"{int(rgba) & 0xFFFFFFFF:08X}"[:6] if rgba.removeprefix("-").isdecimal() else ""
