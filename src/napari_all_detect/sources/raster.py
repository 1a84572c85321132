"""PNG, JPEG and BMP."""

from __future__ import annotations

import os
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import InputError
from napari_all_detect.params import ReadParams
from napari_all_detect.sources.pixel_size import believed_um
from napari_all_detect.sources.places import is_remote
from napari_all_detect.sources.plane import ImageFile, Plane, readable
from napari_all_detect.sources.rgb import GREY_NOTE, RgbPlane, as_rgb
from napari_all_detect.sources.stack import choose_channels
from napari_all_detect.sources.tiled import TiledPlane, of_plane

if TYPE_CHECKING:
    from PIL import ImageFile as PillowFile

__all__ = ["RASTER_SIGNATURES", "open_raster"]

_PNG, _JPEG, _ = RASTER_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
_UM_PER_INCH = 25400.0

MOST_PX = 2**31
"""Pixels: they are decoded at once, which takes 7 bytes for each of RGB."""

PX_PER_BYTE = 10_000
"""Pixels in a byte of a file: PNG, which packs the most, comes to 8,256 where it has one bit for each."""


def open_raster(file: ImageFile, reading: ReadParams) -> list[Plane]:
    """Return the one plane of a PNG, JPEG or BMP file; only its header is read.

    These formats are decoded from the top to the bottom: in tiles they are segmented and scored, not read.
    """
    with readable(file.path, "an image"), _pillow(file.path) as image:
        x_dpi, y_dpi = image.info.get("dpi", (0, 0))
        sizes = (_UM_PER_INCH / float(dpi) if dpi > 0 else 0.0 for dpi in (x_dpi, y_dpi))
        tile_px = reading.tile_px((image.height, image.width))
        shape = image.height, image.width, _channel_count(image)
        _check_size(image, file.path)
    axes = "yxc" if shape[2] > 1 else "yx"  # grey pixels have no axis of channels, as in a TIFF
    channels = choose_channels(axes, shape, (1, 3, 4), reading.channels, str(file.path))
    read = partial(_read, file.path, channels)
    opener = None if tile_px is None else partial(_open, file.path, channels, tile_px)
    return [Plane(file.image, "0", file.path, believed_um(*sizes), read, opener=opener)]


def _open(path: Path, channels: list[int] | None, tile_px: int) -> TiledPlane:
    return of_plane(_read(path, channels), tile_px)


def _check_size(image: PillowFile.ImageFile, path: Path) -> None:
    """Refuse an image before memory is taken for pixels that its file can't hold, or for too many of them."""
    size = f"{image.width} x {image.height} pixels"
    n_bytes = image.fp.seek(0, os.SEEK_END)  # type: ignore[union-attr]  # it is open
    if image.width * image.height > PX_PER_BYTE * n_bytes:
        raise ValueError(f"a header of {size}, more than {n_bytes} bytes can hold")
    if image.width * image.height > MOST_PX:
        raise InputError(
            f"{path}: {size}; expected {MOST_PX:,} at most in PNG, JPEG and BMP, which are decoded at once: write it "
            "as tiled TIFF or zarr, which are read in parts"
        )


def _channel_count(image: PillowFile.ImageFile) -> int:
    """Return how many channels the pixels have once they are decoded: grey, RGB or RGBA."""
    if image.mode.startswith("I"):
        return 1
    if image.has_transparency_data:
        return 4
    return 1 if image.mode in ("1", "L") else 3


def _pillow(path: Path) -> PillowFile.ImageFile:
    """Open a file with the class for its format.

    `PIL.Image.open` would warn at 89 megapixels and refuse twice that, which whole smears reach; its limit
    is global to the process, so we don't touch it.
    """
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    with path.open("rb") as stream:
        start = stream.read(8)
    file = BytesIO(path.read_bytes()) if is_remote(path) else path
    if start == _PNG:
        return PngImageFile(file)
    return JpegImageFile(file) if start.startswith(_JPEG) else BmpImageFile(file)


def _read(path: Path, channels: list[int] | None) -> RgbPlane:
    with readable(path, "an image"):
        values, grey = _decoded(path)
        plane = as_rgb(values if channels is None else values[..., channels], str(path))
    if grey and GREY_NOTE not in plane.notes:
        plane = RgbPlane(plane.rgb, (*plane.notes, GREY_NOTE))
    return plane


def _decoded(path: Path) -> tuple[NDArray[np.generic], bool]:
    """Return the pixels, and whether they are grey even where they come as RGB."""
    if _is_deep_or_colour_png(path):
        # Of 16 bits Pillow would keep the upper 8, which leaves 12-bit camera images almost black; for 8 it takes
        # half as long again.
        from imagecodecs import png_decode

        values = np.asarray(png_decode(path.read_bytes()))
        is_grey = values.shape[2] == 2
        return values[..., [0, 0, 0, 1]] if is_grey else values, is_grey
    with _pillow(path) as image:
        return _values(image), image.mode[0] in "L1I"


def _is_deep_or_colour_png(path: Path) -> bool:
    """Return whether a file is a PNG of RGB or RGBA pixels, without a palette, or of 16-bit grey with alpha."""
    with path.open("rb") as stream:
        start = stream.read(26)
    return start.startswith(_PNG) and (start[25] in (2, 6) or tuple(start[24:26]) == (16, 4))


def _values(image: PillowFile.ImageFile) -> NDArray[np.generic]:
    """Decode to (H, W) grey, RGB or RGBA; Pillow raises on data that is cut short."""
    if image.mode.startswith("I"):
        return np.asarray(image)
    if image.has_transparency_data:
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
