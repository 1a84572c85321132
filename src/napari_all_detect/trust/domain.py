"""How far a cell's colours are from those of the training cells, and how sharp it is.

Of what was tried, colours told other stains and microscopes apart best: see docs/trust.md.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage as ndi

from napari_all_detect.trust.pixels import grey, inside

__all__ = ["colour_features", "domain_distance", "sharpness"]

EDGE_PX = 2
"""Sharpness is measured so far inside a cell, where its cut edge has no part."""

LEAST_CONTRAST = 1.0
"""Grey levels added to the contrast that something is relative to: what is flat is not sharp, nor are its colours
correlated."""

PAIRS = ((0, 1), (0, 2), (1, 2))
"""Of red, green and blue."""


def colour_features(crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how red, green and blue are spread over each cell: means, standard deviations, correlations.

    Parameters
    ----------
    crops : (N, s, s, 3) uint8
        Cells on black; black pixels are no part of a cell.

    Returns
    -------
    features : (N, 9) float64
        Three means and three standard deviations in grey levels, 0 to 255; the correlations of red with green, red with
        blue and green with blue after Fisher's transformation, artanh r, in which those near 1 differ. All 0 for a crop
        that is black.
    """
    n = np.maximum(inside(crops).sum(axis=(1, 2)), 1)
    # Whole numbers sum up exactly, in whatever order.
    channels = [np.ascontiguousarray(crops[..., c]) for c in range(3)]
    mean = np.stack([channel.sum(axis=(1, 2), dtype=np.int64) / n for channel in channels], axis=1)
    variance = np.stack([_covariance(channels, mean, n, i, i).clip(0) for i in range(3)], axis=1)
    spread = variance + LEAST_CONTRAST**2
    together = [_covariance(channels, mean, n, i, j) / np.sqrt(spread[:, i] * spread[:, j]) for i, j in PAIRS]
    return np.concatenate([mean, np.sqrt(variance), np.arctanh(np.stack(together, axis=1))], axis=1)


def _covariance(
    channels: Sequence[NDArray[np.uint8]], mean: NDArray[np.float64], n: NDArray[np.integer], i: int, j: int
) -> NDArray[np.float64]:
    products = np.einsum("nyx,nyx->n", channels[i], channels[j], dtype=np.int64)
    return np.asarray(products / n - mean[:, i] * mean[:, j])


def domain_distance(
    features: NDArray[np.floating], mean: ArrayLike, covariance: ArrayLike, threshold: float
) -> NDArray[np.float32]:
    """Return how far cells are from the training cells, relative to where their domain ends.

    d = sqrt((x - mean)^T covariance^-1 (x - mean) / n) / threshold: Mahalanobis distance per feature.

    Parameters
    ----------
    features : (N, 9) float
        Of `colour_features`.
    mean, covariance : (n,) and (n, n) float
        Of the training cells; of the first n features: bundles made before the correlations know six.
    threshold : float
        The distance that is to become 1.

    Returns
    -------
    distance : (N,) float32
        Up to 1: in domain.

    Examples
    --------
    >>> domain_distance(np.array([[3.0, 0, 0, 0, 0, 0, 0, 0, 0]]), np.zeros(9), np.eye(9), 2.0)
    array([0.5], dtype=float32)
    """
    away = features[:, : np.size(mean)] - np.asarray(mean, np.float64)
    # Sums over the features written out: their order, and so the last bit, does not depend on the number of cells.
    weighed = sum(away[:, i, None] * row for i, row in enumerate(np.linalg.inv(np.asarray(covariance, np.float64))))
    squared = sum(away[:, i] * weighed[:, i] for i in range(away.shape[1]))
    return np.asarray(np.sqrt(np.maximum(squared, 0.0) / away.shape[1]) / threshold, np.float32)


def sharpness(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how much neighbouring pixels differ in each cell, relative to its contrast.

    The standard deviation of the Laplacian of grey over that of grey, both inside the cell.

    Parameters
    ----------
    crops : (N, s, s, 3) uint8

    Returns
    -------
    sharpness : (N,) float32
        NaN for a cell too small or thin to have an inside.
    """
    return np.array([_sharpness_of(crop, cell) for crop, cell in zip(crops, inside(crops), strict=True)], np.float32)


def _sharpness_of(crop: NDArray[np.uint8], cell: NDArray[np.bool_]) -> float:
    boxes = ndi.find_objects(cell.view(np.uint8))
    if not boxes:
        return float("nan")
    # Of a large crop, most is black.
    core = ndi.binary_erosion(cell[boxes[0]], iterations=EDGE_PX)
    if core.sum() < 9:
        return float("nan")
    light = grey(crop[boxes[0]])
    return float(ndi.laplace(light)[core].std() / (light[core].std() + LEAST_CONTRAST))
