"""What the values in the pages of a TIFF mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tifffile import TiffPage

__all__ = ["is_grey_with_alpha", "is_negative", "kind_of_colours", "shown"]


def kind_of_colours(page: TiffPage) -> str:
    """Return the name of the photometric interpretation."""
    from tifffile import PHOTOMETRIC

    return PHOTOMETRIC(page.photometric).name


def is_negative(keyframe: TiffPage) -> bool:
    """Return whether 0 is white."""
    return kind_of_colours(keyframe) == "MINISWHITE"


def is_grey_with_alpha(keyframe: TiffPage) -> bool:
    """Return whether the second of two samples is declared to be transparency."""
    return kind_of_colours(keyframe) == "MINISBLACK" and keyframe.extrasamples in ((1,), (2,))


def shown(values: NDArray[np.generic], page: TiffPage) -> NDArray[np.generic]:
    """Return grey, RGB, or either with straight alpha; a negative stays one, as its bit depth is told from all of it.

    Pages of one series may have palettes of their own.
    """
    if kind_of_colours(page) == "PALETTE":
        return np.moveaxis(_palette(page)[:, values], 0, -1)
    extra = page.extrasamples[:1] if values.ndim == 3 and values.shape[2] in (2, 4) else ()
    if extra == (0,) and values.shape[2] == 4:
        return values[..., :3]  # the fourth sample is declared not to be transparency
    if extra == (1,):
        return _straight(values)
    return values


def _palette(page: TiffPage) -> NDArray[np.uint8]:
    """Return the colours of a palette: they have 16 bits, 256 or 257 times 8, though some programs write 8."""
    colours = np.asarray(page.colormap)
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


def _straight(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Divide the colours by the alpha with which they are multiplied."""
    whole = values.dtype.kind in "ui"
    full = min(np.iinfo(values.dtype.str).max, 65535) if whole else 1
    colours, alpha = values[..., :-1].astype(np.float32), values[..., -1:].astype(np.float32)
    colours = np.clip(colours / np.where(alpha > 0, alpha, np.inf) * full, 0, full)
    return np.dstack([(np.rint(colours) if whole else colours).astype(values.dtype), values[..., -1:]])
