"""Files of which napari's own reader keeps less than they hold: they are read anew to be scored. No Qt."""

from pathlib import Path
from typing import Any

import numpy as np

from napari_all_detect.errors import InputError
from napari_all_detect.sources import Plane, RgbPlane

__all__ = ["is_shown_in_part", "read_anew"]

NOTE = "read anew with all that its file holds: napari shows less of it"


def is_shown_in_part(path: Path) -> bool:
    """Return whether a file is a PNG of 16 bits, of which napari keeps 8, or a JPEG whose inks it takes for RGBA."""
    from PIL.JpegImagePlugin import JpegImageFile

    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(25)
    if start.startswith(b"\x89PNG"):
        return start[-1] == 16
    if not start.startswith(b"\xff\xd8\xff"):
        return False
    with JpegImageFile(path) as picture:
        return picture.mode == "CMYK"


def read_anew(plane: Plane, shown: Any, layer: RgbPlane) -> RgbPlane:
    """Return the pixels of such a file as the command line reads them.

    Parameters
    ----------
    plane : Plane
    shown : (H, W, C) array
        What its layer holds.
    layer : RgbPlane
        What that comes to.

    Raises
    ------
    InputError
        If that is neither all nor what napari reads of the file, but somebody's work.
    """
    from imageio.v3 import imread

    whole = plane.read()
    if np.array_equal(layer.rgb, whole.rgb):
        return whole
    if not np.array_equal(shown, imread(plane.path)):
        raise InputError(
            f"the layer of {plane.image!r} was edited, and napari had read only a part of what its file holds (16-bit "
            "PNG, CMYK JPEG); expected the image as it was opened: open it again, or save the edited one as 8-bit RGB "
            "and open that"
        )
    return RgbPlane(whole.rgb, (*whole.notes, NOTE))
