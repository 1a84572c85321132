"""What lies in a TIFF at several resolutions, and parts of its pages."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.labelled import Window

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

__all__ = ["plane_shape", "pyramid", "read_page"]

_JPEGS = (6, 7, 33007, 34892)
"""Compressions whose tiles lack the tables that the page has for all of them."""


def pyramid(tif: TiffFile, number: int) -> list[TiffPageSeries]:
    """Return a series and its reduced copies, the finest first.

    Copies lie in SubIFDs, or follow as series of their own whose pages are marked as reduced; those of another shape
    are thumbnails and labels.
    """
    series = tif.series[number]
    found = list(series.levels)
    for other in tif.series[number + 1 :]:
        if not other.keyframe.is_reduced:
            break
        if _is_copy(series, other):
            found.append(other)
    return sorted(found, key=lambda one: -plane_shape(one)[0])


def plane_shape(series: TiffPageSeries) -> tuple[int, int]:
    """Return the height and width of a series' planes."""
    return series.shape[series.axes.index("Y")], series.shape[series.axes.index("X")]


def _is_copy(series: TiffPageSeries, other: TiffPageSeries) -> bool:
    """Return whether the other shows the same at a lower resolution: but for rounding, height is to width as there."""
    if other.axes != series.axes or other.dtype != series.dtype or other.keyframe.is_mask:
        return False
    (height, width), (low, narrow) = plane_shape(series), plane_shape(other)
    return low < height and abs(low - height * narrow / width) <= 1 + height / width


def read_page(page: TiffPage | TiffFrame | None, window: Window | None) -> NDArray[np.generic]:
    """Decode one page, or of a window of it the tiles or strips that it meets.

    Raises
    ------
    ValueError
        If data are missing; the JPEG codecs would fill up what is cut short.
    """
    if page is None:
        raise ValueError("the file that should hold this plane is missing")
    handle = page.parent.filehandle
    if handle.closed:  # that of another file of a set
        handle.open()
    ends = (start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))
    if max(ends, default=0) > handle.size:
        raise ValueError("the data of this page are cut short")
    if window is None:
        return np.asarray(page.asarray())
    keyframe: Any = page.keyframe
    if keyframe.is_memmappable:
        parts = dict(zip("YX", window, strict=True))
        return np.array(page.asarray(out="memmap")[tuple(parts.get(axis, slice(None)) for axis in keyframe.axes)])
    return _segments(page, keyframe, window)


def _segments(page: TiffPage | TiffFrame, keyframe: Any, window: Window) -> NDArray[np.generic]:
    (y0, y1), (x0, x1) = ((part.start, part.stop) for part in window)
    separate, _, _, _, contiguous = keyframe.shaped
    out = np.full((separate, y1 - y0, x1 - x0, contiguous), keyframe.nodata, keyframe.dtype)
    keyframe.init_decode()
    is_jpeg = keyframe.compression in _JPEGS
    tables = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader} if is_jpeg else {}
    handle = page.parent.filehandle
    numbers = list(_meeting(keyframe, window))
    offsets, counts = ([values[i] for i in numbers] for values in (page.dataoffsets, page.databytecounts))
    for data, number in handle.read_segments(offsets, counts, numbers):
        segment, (s, _, y, x, _), (_, height, width, _) = keyframe.decode(data, number, **tables)
        if segment is not None:
            part = slice(max(y, y0), min(y + height, y1)), slice(max(x, x0), min(x + width, x1))
            there, here = _relative(part, y0, x0), _relative(part, y, x)
            out[s][there] = segment[0][here]
    if separate > 1:
        return out[..., 0]
    return out[0] if "S" in keyframe.axes else out[0, ..., 0]


def _relative(window: Window, y: int, x: int) -> Window:
    rows, columns = window
    return slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x)


def _meeting(keyframe: Any, window: Window) -> Iterator[int]:
    """Yield the numbers of the tiles or strips that a window meets."""
    _, _, height, width, _ = keyframe.shaped
    edges = (keyframe.tilelength, keyframe.tilewidth) if keyframe.is_tiled else (keyframe.rowsperstrip, width)
    n_down, n_across = (-(-n // edge) for n, edge in zip((height, width), edges, strict=True))
    down, across = (range(p.start // e, -(-p.stop // e)) for p, e in zip(window, edges, strict=True))
    for sample, row, column in product(range(keyframe.shaped[0]), down, across):
        yield (sample * n_down + row) * n_across + column
