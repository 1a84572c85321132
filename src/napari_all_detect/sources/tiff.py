"""TIFF: single and multi-page, OME-TIFF, ImageJ hyperstacks."""

from __future__ import annotations

import struct
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import InputError
from napari_all_detect.params import ReadParams
from napari_all_detect.sources import ome_xml, tiff_parts
from napari_all_detect.sources.ome_zarr import Level, choose_level, rgb_channels
from napari_all_detect.sources.places import is_remote
from napari_all_detect.sources.plane import ImageFile, Plane, readable
from napari_all_detect.sources.rgb import GREY_NOTE, RgbPlane, as_rgb
from napari_all_detect.sources.stack import Index, channels_last, check_size, choose_channels, indices, within
from napari_all_detect.sources.tiff_colours import is_grey_with_alpha, is_negative, kind_of_colours, shown
from napari_all_detect.sources.tiff_size import pixel_size_um
from napari_all_detect.sources.tiled import TiledPlane, open_tiled
from napari_all_detect.windows import Window

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

__all__ = ["TIFF_SIGNATURES", "open_tiff"]

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


_JPEG = 7
# The axes of these have names; in other files a page is a page.
_NAMED_KINDS = ("ome", "imagej")
# Whole slides, and what tifffile calls the pictures in them that show the slide from afar.
_SLIDE_KINDS = ("svs", "ndpi", "avs", "philips", "qpi", "bif")
_FROM_AFAR = ("Thumbnail", "Label", "Macro", "Map")


@dataclass(frozen=True)
class _Place:
    """Where a plane lies in a file: which series, which of its levels, where in that, and the channels to take.

    Of a negative, 0 is white. In a uniform file one page is stored as the other.
    """

    series: int
    level: int
    index: Index
    channels: list[int] | None
    negative: bool
    grey_with_alpha: bool
    uniform: bool


@dataclass(frozen=True)
class _Entry:
    """A plane in the list of a file: the page from which its place in the list comes, its name and what to read.

    One of another file of a set is not the file's own.
    """

    page: int
    name: str
    pixel_size_um: float | None
    shape: tuple[int, int]
    place: _Place
    downsample: float
    own: bool


@dataclass(frozen=True)
class _Stored:
    """A plane in a file that is open: its axes, and its pages by the numbers that they have in the series.

    It has no pages if one header stands for a whole contiguous stack, as ImageJ writes beyond 4 GB.
    """

    place: _Place
    series: TiffPageSeries
    axes: tuple[str, ...]
    numbers: NDArray[np.intp]
    pages: list[TiffPage | TiffFrame]

    @property
    def notes(self) -> tuple[str, ...]:
        grey = (GREY_NOTE,) if self.place.grey_with_alpha else ()
        return (*grey, *tiff_parts.missing_parts(self.pages))


def open_tiff(file: ImageFile, reading: ReadParams, wanted_um: float | None) -> list[Plane]:
    """List the planes of a TIFF file, of one level of each if it is a pyramid; only its headers are read.

    No planes of their own are reduced copies (the levels of a pyramid, thumbnails marked as such), masks, pictures of a
    whole slide or its label, and what begins in another file of a set.
    """
    with readable(file.path, "a TIFF"), _opened(file.path, uniform=False) as tif:
        ome_xml.check(tif, file.path)
        ome_xml.check_companion(tif, file.path)
        _check_complete(tif, file.path)
        found = sorted(_list(tif, file.path, reading, wanted_um), key=lambda entry: entry.page)
    planes = [
        Plane(
            file.image,
            entry.name if len(found) > 1 else "0",
            file.path,
            entry.pixel_size_um,
            partial(_read, file.path, entry.place),
            downsample=entry.downsample,
            opener=_opener(file.path, entry, reading),
            series=entry.place.series,
        )
        for entry in found
        if entry.own
    ]
    if not planes:
        raise InputError(
            f"{file.path}: a TIFF without a full-size plane; expected at least one (one whose channels lie in several "
            "files counts with the first of them)"
        )
    return planes


@contextmanager
def _opened(path: Path, *, uniform: bool) -> Iterator[TiffFile]:
    """Open a file. Unless its pages are known to be alike, all are compared.

    Left to itself tifffile compares four, then decodes each by the first one's header. To compare all takes ten times
    as long, so it is done once, when the planes are listed.
    """
    from tifffile import TiffFile

    with ExitStack() as stack:
        if is_remote(path):
            tif = stack.enter_context(TiffFile(stack.enter_context(path.open("rb")), name=path.name))
        else:
            tif = stack.enter_context(TiffFile(path))
        if not uniform:
            tif.is_uniform = False
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


def _list(tif: TiffFile, path: Path, reading: ReadParams, wanted_um: float | None) -> Iterator[_Entry]:
    page_number = 0
    is_ome = tif.series[0].kind == "ome"
    of_set = is_ome and ome_xml.is_of_set(tif)
    names_tell = is_ome and not all(ome_xml.is_from_afar(series.name) for series in tif.series)
    for number, whole in enumerate(tif.series):
        if not _is_smear(whole) or (names_tell and ome_xml.is_from_afar(whole.name)):
            continue
        pyramid = tiff_parts.pyramid(tif, number)
        finest_um = pixel_size_um(tif, whole, number, whole.keyframe)
        level = choose_level(_levels(pyramid, finest_um), reading.level, wanted_um, path)
        series = pyramid[int(level.path)]
        axes = _axes(series, path)
        check_size(axes, series.shape, str(path))
        grey_with_alpha = "S" in series.axes and is_grey_with_alpha(series.keyframe)
        allowed = (2,) if grey_with_alpha else (1, 3, 4) if "S" in series.axes else (1, 3)
        told = reading.channels or _told_channels(tif, series, number)
        channels = choose_channels(axes, series.shape, allowed, told, str(path))
        size_um = level.pixel_size_um
        for name, index in indices(axes, series.shape):
            if whole.kind not in _NAMED_KINDS and not whole.is_truncated:
                page = whole.pages[_page_numbers(whole, index).flat[0]]
                page_number = page.index if page is not None else page_number
                name = f"p{page_number}"
                header = (page and page.keyframe) or whole.keyframe
                finest_um = pixel_size_um(tif, whole, number, header)
                size_um = finest_um and finest_um * level.downsample
            elif len(tif.series) > 1:
                name = f"s{number}" if name == "0" else f"s{number}_{name}"
            place = _Place(
                number,
                int(level.path),
                index,
                channels,
                negative=is_negative(series.keyframe),
                grey_with_alpha=grey_with_alpha and channels is None,
                uniform=tif.is_uniform,
            )
            shape, own = tiff_parts.plane_shape(series), not of_set or _is_own(tif, whole, index)
            yield _Entry(page_number, name, size_um, shape, place, level.downsample, own)


def _is_smear(series: TiffPageSeries) -> bool:
    """Return whether a series is neither a copy nor a mask of another, nor a picture of a whole slide or its label."""
    from_afar = series.kind in _SLIDE_KINDS and series.name in _FROM_AFAR
    return not (series.keyframe.is_reduced or series.keyframe.is_mask or from_afar)


def _is_own(tif: TiffFile, series: TiffPageSeries, index: Index) -> bool:
    """Return whether a plane begins in this file: each file of a set lists the planes of all."""
    if series.is_truncated:
        return True
    pages = [series.pages[number] for number in _page_numbers(series, index).flat]
    first = next((page for page in pages if page is not None), None)
    return first is not None and bool(first.parent.filehandle.path == tif.filehandle.path)


def _told_channels(tif: TiffFile, series: TiffPageSeries, number: int) -> tuple[int, ...] | None:
    """Return which of the pages that are channels are red, green and blue, if the file says so."""
    if "S" in series.axes:
        return None
    channels = list[dict[str, str]]()
    if series.kind == "ome" and (pixels := ome_xml.pixels_of(tif, number)) is not None:
        channels = ome_xml.channels(pixels)
    elif series.kind == "imagej":
        channels = _imagej_channels(tif)
    count = dict(zip(series.axes, series.shape, strict=True)).get("C")
    return rgb_channels({"omero": {"channels": channels}}, count)


def _imagej_channels(tif: TiffFile) -> list[dict[str, str]]:
    """Return the colours in which the channels are shown at their brightest."""
    tables = (tif.imagej_metadata or {}).get("LUTs")
    return [{"color": bytes(table[:, -1]).hex()} for table in tables] if isinstance(tables, list) else []


def _levels(pyramid: list[TiffPageSeries], finest_um: float | None) -> list[Level]:
    """Describe the levels of a pyramid by their numbers; the finest alone states a pixel size."""
    width = tiff_parts.plane_shape(pyramid[0])[1]
    by = [width / tiff_parts.plane_shape(series)[1] for series in pyramid]
    return [Level(str(number), (), finest_um and finest_um * wide, wide) for number, wide in enumerate(by)]


def _axes(series: TiffPageSeries, path: Path) -> tuple[str, ...]:
    """Name the axes for the `stack` module, or raise if the pages can't be shown as RGB."""
    keyframe = series.keyframe
    if not set("YX") <= set(keyframe.axes) <= set("YXS"):
        raise InputError(f"{path}: a TIFF with axes {series.axes}; expected pages of grey or RGB pixels")
    kind = kind_of_colours(keyframe)
    # tifffile turns YCbCr into RGB only where the JPEG codec does it.
    if kind not in ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE") and not (
        kind == "YCBCR" and keyframe.compression == _JPEG
    ):
        raise InputError(f"{path}: a TIFF with {kind} colours; expected grey, RGB or a palette: convert it to RGB")
    names = {"S": "c", "Q": "p", "I": "p"}
    if "S" in series.axes:
        names["C"] = "ch"  # RGB pages filed as channels, each an image of its own
    return tuple(names.get(axis, axis.lower()) for axis in series.axes)


def _page_numbers(series: TiffPageSeries, index: Index) -> NDArray[np.intp]:
    """Return which of the series' pages hold a plane: one, or one for each channel."""
    stacked = series.shape[: len(series.shape) - len(series.keyframe.shape)]
    return np.asarray(np.arange(len(series.pages)).reshape(stacked)[index[: len(stacked)]])


def _opener(path: Path, entry: _Entry, reading: ReadParams) -> Callable[[], TiledPlane] | None:
    tile_px = reading.tile_px(entry.shape)
    return None if tile_px is None else partial(_open, path, entry, tile_px)


def _open(path: Path, entry: _Entry, tile_px: int) -> TiledPlane:
    """Open a file for reading parts of a plane; it stays open as long as that is kept."""
    with ExitStack() as stack:
        with readable(path, "a TIFF"):
            tif = stack.enter_context(_opened(path, uniform=entry.place.uniform))
            stored = _stored(tif, path, entry.place)

        def read(window: Window) -> NDArray[np.generic]:
            with readable(path, "a TIFF"):
                return _values(stored, window)

        tiled = open_tiled(read, entry.shape, tile_px, str(path))
        notes = (*tiled.notes, *stored.notes)
        tiled = replace(tiled, noted=lambda: notes)
        plane = replace(tiled, reader=lambda window: 255 - tiled[window]) if entry.place.negative else tiled
        weakref.finalize(plane, stack.pop_all().close)
    return plane


def _read(path: Path, place: _Place) -> RgbPlane:
    with readable(path, "a TIFF"), _opened(path, uniform=place.uniform) as tif:
        stored = _stored(tif, path, place)
        values = _values(stored)
        noted = stored.notes
    plane = as_rgb(values, str(path))
    return RgbPlane(255 - plane.rgb if place.negative else plane.rgb, (*plane.notes, *noted))


def _stored(tif: TiffFile, path: Path, place: _Place) -> _Stored:
    series = tiff_parts.pyramid(tif, place.series)[place.level]
    axes, numbers = _axes(series, path), _page_numbers(series, place.index)
    pages = [] if series.is_truncated else [tiff_parts.own_page(series.pages[number]) for number in numbers.flat]
    return _Stored(place, series, axes, numbers, pages)


def _values(stored: _Stored, window: Window | None = None) -> NDArray[np.generic]:
    """Return the pixels of a plane, or of a window of it, as `as_rgb` takes them; a negative stays one."""
    place, axes, pages = stored.place, stored.axes, stored.pages
    if pages:
        parts = [tiff_parts.read_page(page, window) for page in pages]
        cut = np.stack(parts).reshape(stored.numbers.shape + parts[0].shape)
    else:
        index = place.index if window is None else within(axes, place.index, window)
        cut = np.array(stored.series.asarray(out="memmap")[index])
    values = shown(channels_last(cut, axes), (pages and pages[0].keyframe) or stored.series.keyframe)
    if place.grey_with_alpha:
        return values[..., [0, 0, 0, 1]]
    return values if place.channels is None else values[..., place.channels]
