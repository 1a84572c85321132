"""How far a score can be trusted: agreement of the members, and flags on cells that are not what they were taught.

Calibration, the distance from the training domain and conformal calls are read from the bundle once it carries them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLAGS", "calls", "flag_cells", "join_flags", "spread", "votes_all"]

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


def calls(p_all: NDArray[np.floating], threshold: float) -> NDArray[np.str_]:
    """Return `ALL` where p_all reaches the threshold, else `Hem`; (N,) str.

    >>> calls(np.array([0.2, 0.5, 0.9]), 0.5).tolist()
    ['Hem', 'ALL', 'ALL']
    """
    return np.where(p_all >= np.float32(threshold), "ALL", "Hem")


def spread(probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the standard deviation of the members' p_all; (N, M, 2) -> (N,) float32, in 0 to 0.5."""
    return np.asarray(probabilities[..., 1].std(axis=1, dtype=np.float64), np.float32)


def votes_all(probabilities: NDArray[np.floating], threshold: float) -> NDArray[np.int64]:
    """Return how many members call a cell ALL; (N, M, 2) -> (N,) int64."""
    return np.asarray((probabilities[..., 1] >= np.float32(threshold)).sum(axis=1), np.int64)


def flag_cells(
    boxes: NDArray[np.integer],
    diameters_px: NDArray[np.floating],
    shape: tuple[int, int],
    *,
    scale: float,
    crop_size: int,
    bundle_diameter_px: float,
) -> dict[str, NDArray[np.bool_]]:
    """Flag the cells by their geometry.

    Parameters
    ----------
    boxes : (N, 4) int
        y0, x0, y1, x1 of each cell; the ends are exclusive.
    diameters_px : (N,) float
        Of the circle of the same area.
    shape : (int, int)
        Height and width of the plane.
    scale : float
        By which the plane was rescaled before cropping.
    crop_size : int
        Side of a crop in pixels.
    bundle_diameter_px : float
        Median diameter of the training cells.

    Returns
    -------
    flags : dict of str to (N,) bool
        `touches_border`: part of the cell may be missing. `larger_than_crop`: the networks saw part of it.
        `scale_mismatch`: less than half or more than twice as wide as the training cells.
    """
    y0, x0, y1, x1 = boxes.T
    ratio = diameters_px * scale / bundle_diameter_px
    return {
        "touches_border": (y0 == 0) | (x0 == 0) | (y1 == shape[0]) | (x1 == shape[1]),
        "larger_than_crop": np.maximum(y1 - y0, x1 - x0) * scale > crop_size,
        "scale_mismatch": (ratio < 1 / SCALE_MISMATCH) | (ratio > SCALE_MISMATCH),
    }


def join_flags(flags: dict[str, NDArray[np.bool_]], n: int) -> list[str]:
    """Return each cell's flags, `;`-joined in the order of `FLAGS`.

    >>> join_flags({"touches_border": np.array([True, False]), "blurred": np.array([True, False])}, 2)
    ['touches_border;blurred', '']
    """
    present: Sequence[str] = [name for name in FLAGS if name in flags]
    return [";".join(name for name in present if flags[name][i]) for i in range(n)]
