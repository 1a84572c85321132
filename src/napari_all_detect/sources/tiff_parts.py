"""What lies in a TIFF at several resolutions, and parts of its pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.windows import Window

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

__all__ = ["missing_parts", "own_page", "plane_shape", "pyramid", "read_page"]


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


def own_page(page: TiffPage | TiffFrame | None) -> TiffPage | TiffFrame:
    """Return a page by its own header, where it has one: tifffile gives it that of the first of its series.

    Raises
    ------
    ValueError
        If its size or kind is not that of the first, as metadata say of the whole series.
    """
    if page is None:
        raise ValueError("the file that should hold this plane is missing")
    if page.parent.filehandle.closed:  # that of another file of a set
        page.parent.filehandle.open()
    own = page if page.is_virtual else page.aspage()
    told: Any = page.keyframe
    found: Any = own.keyframe
    if (found.shape, found.dtype, found.photometric) != (told.shape, told.dtype, told.photometric):
        raise ValueError(
            f"page {own.index}, {found.dtype} of shape {found.shape}, is not like the first of its stack, {told.dtype} "
            f"of shape {told.shape}"
        )
    return own


def missing_parts(pages: Sequence[TiffPage | TiffFrame]) -> tuple[str, ...]:
    """Note how many tiles or strips of a plane are not there: a sparse file, or a broken one, states no bytes of them.

    Their pixels get the value that stands for no data, else 0.
    """
    from tifffile import PHOTOMETRIC

    counts = [count for page in pages for count in page.databytecounts]
    missing = counts.count(0)
    if not missing:
        return ()
    keyframe: Any = pages[0].keyframe
    what = "tiles" if keyframe.is_tiled else "strips"
    is_black = not keyframe.nodata and keyframe.photometric not in (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.PALETTE)
    seen_as = "black" if is_black else f"filled with {keyframe.nodata}"
    return (f"{missing} of {len(counts)} {what} missing in the file: {seen_as} there",)


def read_page(page: TiffPage | TiffFrame | None, window: Window | None) -> NDArray[np.generic]:
    """Decode one page, or of a window of it the tiles or strips that it meets.

    Raises
    ------
    ValueError
        If data are missing; the JPEG codecs would fill up what is cut short.
    """
    page = own_page(page)
    ends = (start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))
    if max(ends, default=0) > page.parent.filehandle.size:
        raise ValueError("the data of this page are cut short")
    if window is None:
        return np.asarray(page.asarray())
    keyframe: Any = page.keyframe
    parts = dict(zip("YX", window, strict=True))
    index = tuple(parts.get(axis, slice(None)) for axis in keyframe.axes)
    if keyframe.is_memmappable:
        return np.array(page.asarray(out="memmap")[index])
    import zarr

    return np.asarray(zarr.open_array(page.aszarr(fillvalue=keyframe.nodata), mode="r")[index])
