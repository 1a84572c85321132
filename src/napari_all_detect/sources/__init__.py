"""From paths to planes: find the image files, list their planes, read each when it is needed.

>>> files = find_images(["no_such_file.png"])
>>> files[0].image
'no_such_file.png'
>>> open_planes(files[0])
Traceback (most recent call last):
...
napari_all_detect.errors.InputError: no_such_file.png: no such file or folder; check the path
"""

import re
from pathlib import Path

from napari_all_detect.errors import InputError
from napari_all_detect.params import ReadParams
from napari_all_detect.sources.folders import as_inputs, find_images, is_path
from napari_all_detect.sources.places import is_remote
from napari_all_detect.sources.plane import EXPECTED, ImageFile, Plane, readable
from napari_all_detect.sources.raster import RASTER_SIGNATURES, open_raster
from napari_all_detect.sources.rgb import RgbPlane, as_rgb
from napari_all_detect.sources.tiff import TIFF_SIGNATURES, open_tiff
from napari_all_detect.sources.tiled import TiledPlane
from napari_all_detect.sources.zarr_store import is_zarr_node, looks_like_zarr, open_zarr

__all__ = [
    "ImageFile",
    "Plane",
    "RgbPlane",
    "TiledPlane",
    "as_inputs",
    "as_rgb",
    "find_images",
    "is_path",
    "open_planes",
]


def open_planes(file: ImageFile, reading: ReadParams | None = None, wanted_um: float | None = None) -> list[Plane]:
    """List the planes of one image, or of all images of a plate, from headers; pixels are read by `Plane.read`.

    The format is taken from the content, not from the file name's suffix.

    Parameters
    ----------
    file : ImageFile
        A path and the name that stands for it in the tables, from `find_images`.
    reading : ReadParams, optional
        Which resolution level and channels, and whether planes are taken in tiles.
    wanted_um : float, optional
        Pixel size in micrometres by which the level `auto` is chosen.

    Returns
    -------
    list of Plane
        At least one plane, in the order of the file's pages or of its axes (the last one fastest).

    Raises
    ------
    InputError
        The path doesn't exist, can't be opened, holds no image of a format that is read, or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stack = np.zeros((2, 16, 24, 3), np.uint8)
    ...     tifffile.imwrite(f"{folder}/smear.tif", stack, photometric="rgb")
    ...     planes = [plane for file in find_images([folder]) for plane in open_planes(file)]
    ...     print([(plane.image, plane.plane) for plane in planes], planes[1].read().rgb.shape)
    [('smear.tif', 'p0'), ('smear.tif', 'p1')] (16, 24, 3)
    """
    reading = reading or ReadParams()
    with readable(file.path, "file"):
        if is_zarr_node(file.path):
            return open_zarr(file, reading, wanted_um)
        # A server in trouble answers that nothing is there: of it the file itself is asked for.
        if not is_remote(file.path):
            if file.path.is_dir():
                return _open_folder(file, reading, wanted_um)
            if not file.path.exists():
                raise InputError(f"{file.path}: {_missing(file.path)}")
        with file.path.open("rb") as stream:
            start = stream.read(16)
    if not start:
        raise InputError(f"{file.path}: the file is empty; expected {EXPECTED}")
    if start.startswith(TIFF_SIGNATURES):
        return open_tiff(file, reading, wanted_um)
    if start.startswith(RASTER_SIGNATURES):
        return open_raster(file, reading)
    raise InputError(f"{file.path}: not an image that can be read; expected {EXPECTED}")


def _missing(path: Path) -> str:
    if re.match(r"[A-Za-z][\w+.-]+:[/\\]", str(path)):
        return (
            "no such file or folder, nor an address that can be read; expected http://, https://, s3:// or another "
            "that fsspec knows: check the address"
        )
    return "no such file or folder; check the path"


def _open_folder(file: ImageFile, reading: ReadParams, wanted_um: float | None) -> list[Plane]:
    if looks_like_zarr(file.path):
        return open_zarr(file, reading, wanted_um)
    next(file.path.iterdir(), None)  # a folder that may not be read says so here
    raise InputError(f"{file.path}: the folder holds no image that can be read; expected {EXPECTED}")
