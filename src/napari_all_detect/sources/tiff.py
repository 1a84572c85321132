"""TIFF: single and multi-page, OME-TIFF, ImageJ hyperstacks."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import InputError
from napari_all_detect.params import ReadParams
from napari_all_detect.sources.pixel_size import believed_um, um_per_unit
from napari_all_detect.sources.places import is_remote
from napari_all_detect.sources.plane import ImageFile, Plane, readable
from napari_all_detect.sources.rgb import RgbPlane, as_rgb
from napari_all_detect.sources.stack import Index, channels_last, choose_channels, indices

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

__all__ = ["TIFF_SIGNATURES", "open_tiff"]

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


_JPEG = 7
# The axes of these have names; in other files a page is a page.
_NAMED_KINDS = ("ome", "imagej")


def open_tiff(file: ImageFile, reading: ReadParams) -> list[Plane]:
    """List the planes of a TIFF file; only its headers are read.

    Reduced copies (the levels of a pyramid, thumbnails marked as such) and masks are no planes.
    """
    with readable(file.path, "a TIFF"), _opened(file.path) as tif:
        _check_complete(tif, file.path)
        found = sorted(_list(tif, file.path, reading), key=lambda entry: entry[0])
    planes = [
        Plane(
            file.image,
            name if len(found) > 1 else "0",
            file.path,
            size,
            partial(_read, file.path, number, index, channels),
        )
        for _, name, size, number, index, channels in found
    ]
    if not planes:
        raise InputError(f"{file.path}: a TIFF without a full-size page; expected at least one")
    return planes


@contextmanager
def _opened(path: Path) -> Iterator[TiffFile]:
    from tifffile import TiffFile

    if not is_remote(path):
        with TiffFile(path) as tif:
            yield tif
        return
    with path.open("rb") as file, TiffFile(file, name=path.name) as tif:
        yield tif


def _check_complete(tif: TiffFile, path: Path) -> None:
    """Raise if pages are missing at the end: tifffile logs that and goes on with those it found."""
    if not len(tif.pages):
        raise ValueError("no page")
    place = tif.pages.next_page_offset
    if place is not None:
        tif.filehandle.seek(place)
        stored = tif.filehandle.read(tif.tiff.offsetsize)
        if len(stored) < tif.tiff.offsetsize or struct.unpack(tif.tiff.offsetformat, stored)[0] != 0:
            raise InputError(f"{path}: the TIFF is cut short after page {len(tif.pages) - 1}; copy the file again")
    declared = (tif.imagej_metadata or {}).get("images", 1)
    if tif.series[0].kind != "imagej" and declared > len(tif.pages):
        raise InputError(f"{path}: {len(tif.pages)} of {declared} ImageJ images are there; copy the file again")


def _list(
    tif: TiffFile, path: Path, reading: ReadParams
) -> Iterator[tuple[int, str, float | None, int, Index, list[int] | None]]:
    """Yield place in the file, plane name, pixel size, number of the series, index into it and channels."""
    place = 0
    for number, series in enumerate(tif.series):
        if series.keyframe.is_reduced or series.keyframe.is_mask:
            continue
        axes = _axes(series, path)
        allowed = (1, 3, 4) if "S" in series.axes else (1, 3)
        channels = choose_channels(axes, series.shape, allowed, reading.channels, str(path))
        size = _pixel_size_um(tif, series, number)
        for name, index in indices(axes, series.shape):
            if series.kind not in _NAMED_KINDS and not series.is_truncated:
                page = series.pages[_page_numbers(series, index).flat[0]]
                place = page.index if page is not None else place
                name = f"p{place}"
            elif len(tif.series) > 1:
                name = f"s{number}" if name == "0" else f"s{number}_{name}"
            yield place, name, size, number, index, channels


def _axes(series: TiffPageSeries, path: Path) -> tuple[str, ...]:
    """Name the axes for the ``stack`` module, or raise if the pages can't be shown as RGB."""
    keyframe = series.keyframe
    if not set("YX") <= set(keyframe.axes) <= set("YXS"):
        raise InputError(f"{path}: a TIFF with axes {series.axes}; expected pages of grey or RGB pixels")
    kind = _colours(keyframe)
    # tifffile turns YCbCr into RGB only where the JPEG codec does it.
    if kind not in ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE") and not (
        kind == "YCBCR" and keyframe.compression == _JPEG
    ):
        raise InputError(f"{path}: a TIFF with {kind} colours; expected grey, RGB or a palette: convert it to RGB")
    names = {"S": "c", "Q": "p", "I": "p"}
    if "S" in series.axes:
        names["C"] = "ch"  # RGB pages filed as channels, each an image of its own
    return tuple(names.get(axis, axis.lower()) for axis in series.axes)


def _colours(keyframe: TiffPage) -> str:
    from tifffile import PHOTOMETRIC

    return PHOTOMETRIC(keyframe.photometric).name


def _page_numbers(series: TiffPageSeries, index: Index) -> NDArray[np.intp]:
    """Return which of the series' pages hold a plane: one, or one for each channel."""
    stacked = series.shape[: len(series.shape) - len(series.keyframe.shape)]
    return np.asarray(np.arange(len(series.pages)).reshape(stacked)[index[: len(stacked)]])


def _read(path: Path, number: int, index: Index, channels: list[int] | None) -> RgbPlane:
    with readable(path, "a TIFF"), _opened(path) as tif:
        series = tif.series[number]
        if series.is_truncated:  # one header for a whole contiguous stack, as ImageJ writes beyond 4 GB
            cut = np.array(series.asarray(out="memmap")[index])
        else:
            numbers = _page_numbers(series, index)
            pages = [_pixels(series.pages[number]) for number in numbers.flat]
            cut = np.stack(pages).reshape(numbers.shape + series.keyframe.shape)
        values = _shown(channels_last(cut, _axes(series, path)), series.keyframe)
        if channels is not None:
            values = values[..., channels]
    return as_rgb(values, str(path))


def _pixels(page: TiffPage | TiffFrame | None) -> NDArray[np.generic]:
    """Decode one page; the JPEG codecs would fill up data that is cut short."""
    if page is None:
        raise ValueError("the file that should hold this plane is missing")
    ends = (start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))
    if max(ends, default=0) > page.parent.filehandle.size:
        raise ValueError("the data of this page are cut short")
    return np.asarray(page.asarray())


def _shown(values: NDArray[np.generic], keyframe: TiffPage) -> NDArray[np.generic]:
    """Apply what the header says about the meaning of the values."""
    if _colours(keyframe) == "MINISWHITE":
        return np.asarray(np.invert(values))
    if _colours(keyframe) == "PALETTE":
        return np.moveaxis(np.asarray(keyframe.colormap)[:, values] // 257, 0, -1).astype(np.uint8)
    if values.ndim == 3 and values.shape[2] == 4 and keyframe.extrasamples[:1] == (0,):
        return values[..., :3]  # the fourth sample is declared not to be transparency
    return values


def _pixel_size_um(tif: TiffFile, series: TiffPageSeries, number: int) -> float | None:
    if series.kind == "ome":
        size = _ome_size_um(tif.ome_metadata or "", number)
        if size is not None:
            return size
    tags = series.keyframe.tags
    unit_um = {2: 25400.0, 3: 1e4}.get(int(tags.valueof("ResolutionUnit", 2)), math.nan)
    if series.kind == "imagej":
        unit_um = um_per_unit((tif.imagej_metadata or {}).get("unit"))
    (x_count, x_units), (y_count, y_units) = (tags.valueof(f"{axis}Resolution", (0, 1)) for axis in "XY")
    if not x_count or not y_count:
        return None
    return believed_um(unit_um * x_units / x_count, unit_um * y_units / y_count)


def _ome_size_um(xml: str, number: int) -> float | None:
    pixels = ElementTree.fromstring(xml).findall(".//{*}Pixels")
    if number >= len(pixels):
        return None
    attributes = pixels[number].attrib
    try:
        x_um, y_um = (
            float(attributes.get(f"PhysicalSize{axis}", "nan"))
            * um_per_unit(attributes.get(f"PhysicalSize{axis}Unit", "µm"))
            for axis in "XY"
        )
    except ValueError:  # not a number: the pixels can be read all the same
        return None
    return believed_um(x_um, y_um)
