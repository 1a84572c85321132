"""What the values in the pages of a TIFF mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tifffile import TiffPage

__all__ = ["is_negative", "kind_of_colours", "shown"]


def kind_of_colours(keyframe: TiffPage) -> str:
    """Return the name of the photometric interpretation."""
    from tifffile import PHOTOMETRIC

    return PHOTOMETRIC(keyframe.photometric).name


def is_negative(keyframe: TiffPage) -> bool:
    """Return whether 0 is white."""
    return kind_of_colours(keyframe) == "MINISWHITE"


def shown(values: NDArray[np.generic], keyframe: TiffPage) -> NDArray[np.generic]:
    """Return grey, RGB or RGBA with straight alpha; a negative stays one, as its bit depth is told from all of it."""
    if kind_of_colours(keyframe) == "PALETTE":
        return np.moveaxis(_palette(keyframe)[:, values], 0, -1)
    extra = keyframe.extrasamples[:1] if values.ndim == 3 and values.shape[2] == 4 else ()
    if extra == (0,):
        return values[..., :3]  # the fourth sample is declared not to be transparency
    if extra == (1,):
        return _straight(values)
    return values


def _palette(keyframe: TiffPage) -> NDArray[np.uint8]:
    """Return the colours of a palette: they have 16 bits, 256 or 257 times 8, though some programs write 8."""
    colours = np.asarray(keyframe.colormap)
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


def _straight(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Divide the colours by the alpha with which they are multiplied."""
    whole = values.dtype.kind in "ui"
    full = min(np.iinfo(values.dtype.str).max, 65535) if whole else 1
    colours, alpha = values[..., :3].astype(np.float32), values[..., 3:].astype(np.float32)
    colours = np.clip(colours / np.where(alpha > 0, alpha, np.inf) * full, 0, full)
    return np.dstack([(np.rint(colours) if whole else colours).astype(values.dtype), values[..., 3:]])
