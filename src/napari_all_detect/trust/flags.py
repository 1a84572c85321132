"""Flags on cells that are not what the members were taught."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.trust.pixels import darkest_channel, inside

__all__ = ["FLAGS", "count_joined", "domain_note", "flag_cells", "join_flags", "n_out_of_domain"]

FLAGS = (
    "touches_border",
    "larger_than_crop",
    "fragment",
    "merged",
    "blurred",
    "overexposed",
    "scale_mismatch",
    "out_of_domain",
)

SCALE_MISMATCH = 2.0
"""A cell whose diameter, after rescaling, differs from the training cells' median by more than this factor."""

FRAGMENT = 0.6
"""A cell narrower than this share of the median, about a third of its area, is a piece of one."""

MERGED = 1.3
MERGED_SOLIDITY = 0.92
"""Two discs that touch are 1.41 times as wide as one and fill 0.88 of their hull, a bit more where they overlap; wider
and hollower than these is more than one cell."""

LARGEST_ONE = 1.75
"""Whatever its shape, what has three times the area is more than one cell."""

CLIPPED_LEVEL = 250
CLIPPED_SHARE = 0.1
"""A cell is overexposed if more than this share of its pixels is as bright in all three channels."""


def flag_cells(
    boxes: NDArray[np.integer],
    diameters_px: NDArray[np.floating],
    solidity: NDArray[np.floating],
    crops: NDArray[np.uint8],
    shape: tuple[int, int],
    *,
    scale: float,
    bundle_diameter_px: float,
) -> dict[str, NDArray[np.bool_]]:
    """Flag the cells by their geometry and their pixels.

    Parameters
    ----------
    boxes : (N, 4) int
        y0, x0, y1, x1 of each cell; the ends are exclusive.
    diameters_px : (N,) float
        Of the circle of the same area.
    solidity : (N,) float
        Share of its convex hull that a cell fills.
    crops : (N, s, s, 3) uint8
    shape : (int, int)
        Height and width of the plane.
    scale : float
        By which the plane was rescaled before cropping.
    bundle_diameter_px : float
        Median diameter of the training cells.

    Returns
    -------
    flags : dict of str to (N,) bool
        `touches_border`: part of the cell may be missing. `larger_than_crop`: the networks saw part of it.
        `fragment`: narrower than 0.6 times the training cells. `merged`: more than one cell, by its width and shape.
        `overexposed`: a tenth of it has lost its colour. `scale_mismatch`: less than half or more than twice as wide
        as the training cells.
    """
    y0, x0, y1, x1 = boxes.T
    ratio = diameters_px * scale / bundle_diameter_px
    return {
        "touches_border": (y0 == 0) | (x0 == 0) | (y1 == shape[0]) | (x1 == shape[1]),
        "larger_than_crop": np.maximum(y1 - y0, x1 - x0) * scale > crops.shape[1],
        "fragment": ratio < FRAGMENT,
        "merged": (ratio > LARGEST_ONE) | ((ratio > MERGED) & (solidity < MERGED_SOLIDITY)),
        "overexposed": _clipped_share(crops) > CLIPPED_SHARE,
        "scale_mismatch": (ratio < 1 / SCALE_MISMATCH) | (ratio > SCALE_MISMATCH),
    }


def _clipped_share(crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the share of each cell's pixels that are white."""
    white = (darkest_channel(crops) >= CLIPPED_LEVEL).sum(axis=(1, 2))
    return np.asarray(white / np.maximum(inside(crops).sum(axis=(1, 2)), 1))


def join_flags(flags: dict[str, NDArray[np.bool_]], n: int) -> list[str]:
    """Return each cell's flags, `;`-joined in the order of `FLAGS`.

    >>> join_flags({"touches_border": np.array([True, False]), "blurred": np.array([True, False])}, 2)
    ['touches_border;blurred', '']
    """
    present: Sequence[str] = [name for name in FLAGS if name in flags]
    return [";".join(name for name in present if flags[name][i]) for i in range(n)]


def count_joined(texts: Iterable[str]) -> Counter[str]:
    """Count in how many texts each of what `;` joins there is: cells' flags, or the notes on planes.

    >>> sorted(count_joined(["", "blurred;out_of_domain", "blurred"]).items())
    [('blurred', 2), ('out_of_domain', 1)]
    """
    return Counter(part for joined in texts for part in joined.split(";") if part)


def n_out_of_domain(flags: Iterable[str]) -> int:
    """Count the cells that are flagged `out_of_domain`.

    >>> n_out_of_domain(["", "blurred;out_of_domain"])
    1
    """
    return count_joined(flags)["out_of_domain"]


def domain_note(n_out: int, n_cells: int) -> str:
    """Return what is to be said where calls are counted; nothing if no cell is out of the domain."""
    if not n_out:
        return ""
    return f"out_of_domain: {n_out} of {n_cells} cells, unlike those of the training; don't trust their calls"
