"""How large a pixel is by what a TIFF states: in the metadata of OME, Aperio and ImageJ, else in a page's tags."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_all_detect.sources import ome_xml
from napari_all_detect.sources.pixel_size import believed_um, um_per_unit

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

__all__ = ["pixel_size_um"]


def pixel_size_um(tif: TiffFile, series: TiffPageSeries, number: int, page: TiffPage) -> float | None:
    """Return the edge of a page's pixels in micrometers; None if it is not stated, or can't be believed.

    Parameters
    ----------
    tif : TiffFile
    series : TiffPageSeries
        The finest level of an image.
    number : int
        Which series of the file that is.
    page : TiffPage
        Whose tags count where the metadata of the image say nothing.
    """
    size = _stated_um(tif, series, number, page)
    if size is not None:
        return size
    tags = page.tags
    unit_um = {2: 25400.0, 3: 1e4}.get(int(tags.valueof("ResolutionUnit", 2)), math.nan)
    if series.kind == "imagej":
        unit_um = um_per_unit((tif.imagej_metadata or {}).get("unit"))
    (x_count, x_units), (y_count, y_units) = (tags.valueof(f"{axis}Resolution", (0, 1)) for axis in "XY")
    if not x_count or not y_count:
        return None
    return believed_um(unit_um * x_units / x_count, unit_um * y_units / y_count)


def _stated_um(tif: TiffFile, series: TiffPageSeries, number: int, page: TiffPage) -> float | None:
    """Return the pixel size that metadata of OME and Aperio state."""
    if series.kind == "ome":
        pixels = ome_xml.pixels_of(tif, number)
        return None if pixels is None else ome_xml.size_um(pixels)
    if series.kind == "svs":
        return _aperio_um(page.description)
    return None


def _aperio_um(description: str) -> float | None:
    from tifffile.tifffile import svs_description_metadata

    size = svs_description_metadata(description).get("MPP")
    return believed_um(size, size) if isinstance(size, (int, float)) else None
