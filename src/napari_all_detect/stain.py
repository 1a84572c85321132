"""Stain normalisation: a cell's colours brought to those of a reference, for bundles that were trained that way.

Cell by cell, from its own pixels alone: a score then depends on nothing but the cell, and cells that come without their
smear, as in C-NMC 2019, are treated as those of a smear.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["METHODS", "Method", "normalise_stain"]

Method = Literal["reinhard", "macenko"]
METHODS: tuple[str, ...] = get_args(Method)

LAB_MEAN = (65.0, 29.0, -50.0)
LAB_DEVIATION = (8.0, 11.0, 12.5)
"""CIELAB of a white cell of a stained marrow smear: the medians over 4,000 cells of Taleqani Hospital, rounded. Which
reference it is matters little, as every cell is brought to the same one; that it never changes matters to bundles."""

STAINS = ((0.751, 0.626, 0.207), (0.545, 0.838, 0.034))
STRENGTHS = (0.63, 1.0)
"""Likewise the optical densities (red, green, blue; unit length) of the two stains by Macenko's method, the one that
takes most red first, and how much of each the densest pixels hold."""

LEAST_DEVIATION = 1.0
"""A cell that is flatter than this, in CIELAB units, is not stretched further."""

LEAST_DENSITY = 0.15
"""Pixels paler than this (mean optical density, natural logarithm) say nothing of a stain's colour."""

LEAST_PIXELS = 30
EXTREMES = (1.0, 99.0)
"""Percentiles that stand for the least and the most."""


def normalise_stain(crops: NDArray[np.uint8], method: str | None) -> NDArray[np.uint8]:
    """Bring each cell's colours to those of the reference.

    `reinhard` shifts and stretches each channel of CIELAB to the reference's mean and standard deviation (Reinhard et
    al. 2001). `macenko` finds the cell's two stains as the extreme directions of its optical densities, and puts as
    much of the reference's stains in their place, the strongest of both alike (Macenko et al. 2009).

    Parameters
    ----------
    crops : (N, s, s, 3) uint8
        Cells on black; black pixels are no part of a cell, and stay black.
    method : {"reinhard", "macenko"} or None
        None returns the crops as they are.

    Returns
    -------
    normalised : (N, s, s, 3) uint8
        A cell with too few stained pixels to tell its stains stays as it is with `macenko`.

    References
    ----------
    Reinhard et al., Color transfer between images, IEEE Comput. Graph. Appl. 21(5) (2001) 34-41. Macenko et al., A
    method for normalizing histology slides for quantitative analysis, ISBI 2009, 1107-1110.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> cell = rng.integers(80, 200, (1, 16, 16, 3)).astype(np.uint8)
    >>> red_lamp = (cell * [1.2, 1.0, 0.9]).astype(np.uint8)
    >>> here, there = normalise_stain(np.concatenate([cell, red_lamp]), "reinhard").astype(int)
    >>> bool(abs(here - there).mean() < 0.4 * abs(cell[0].astype(int) - red_lamp[0]).mean())
    True
    """
    if method is None:
        return crops
    normalise = {"reinhard": _reinhard, "macenko": _macenko}[method]
    normalised = np.zeros_like(crops)
    for before, after in zip(crops, normalised, strict=True):
        inside = before.any(axis=-1)
        if inside.any():
            # 1 at least: 0 is background.
            after[inside] = np.clip(np.rint(normalise(before[inside])), 1, 255)
    return normalised


def _reinhard(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the pixels of a cell, (n, 3) -> (n, 3), with the reference's means and deviations in CIELAB."""
    from skimage.color import lab2rgb, rgb2lab

    lab = rgb2lab(pixels)
    stretched = (lab - lab.mean(axis=0)) / np.maximum(lab.std(axis=0), LEAST_DEVIATION)
    shifted = stretched * LAB_DEVIATION + LAB_MEAN
    shifted[:, 0] = shifted[:, 0].clip(0, 100)
    # Of a colour that no screen has, the nearest: scikit-image clips and warns where blue would be negative.
    return np.asarray(255 * lab2rgb(_in_gamut(shifted)))


def _in_gamut(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep CIELAB's Z at 0 or above: f(Z) = f(Y) - b / 200."""
    lab[:, 2] = np.minimum(lab[:, 2], 200 * (lab[:, 0] + 16) / 116)
    return lab


def _macenko(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the pixels of a cell, (n, 3) -> (n, 3), stained with the reference's stains."""
    density = -np.log((pixels.astype(np.float64) + 1) / 256)
    stained = density[density.mean(axis=1) > LEAST_DENSITY]
    if len(stained) < LEAST_PIXELS:
        return pixels.astype(np.float64)
    stains = _stains_of(stained)
    amounts = np.linalg.lstsq(stains.T, density.T, rcond=None)[0]
    strongest = np.percentile(amounts, EXTREMES[1], axis=1)
    if strongest.min() <= 0:
        return pixels.astype(np.float64)
    restained = np.asarray(STAINS).T @ (amounts * (np.array(STRENGTHS) / strongest)[:, None])
    return np.asarray(256 * np.exp(-restained.T) - 1)


def _stains_of(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the two extreme directions, (2, 3), of optical densities in the plane of most variance."""
    plane = np.linalg.eigh(np.cov(density.T))[1][:, 1:]
    plane *= np.where(plane.sum(axis=0) < 0, -1, 1)
    x, y = (density @ plane).T
    angles = np.percentile(np.arctan2(x, y), EXTREMES)
    stains = np.stack([np.sin(angles), np.cos(angles)], axis=1) @ plane.T
    return np.asarray(stains[np.argsort(-stains[:, 0] / np.linalg.norm(stains, axis=1))])
