"""How sure a fraction of cells is, when cells of one image are alike."""

import math

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["fraction_interval", "wilson"]


def fraction_interval(positive: ArrayLike, counted: ArrayLike) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of a fraction of cells, over images.

    Cells of one image share its stain, focus and place in the smear, so an image is one observation, not as many as it
    has cells. The variance is that of a ratio of sums over images; the interval Wilson's, with the number of cells that
    would have this variance if they were independent (the effective sample size), and Student's t for as many images.

    Parameters
    ----------
    positive, counted : (N,) array_like of int
        Cells called ALL, and cells called at all, in each of N images.

    Returns
    -------
    low, high : float, or None
        None with fewer than two images that have cells: nothing is known of how images differ.

    Notes
    -----
    In simulations of 12 images of 5 to 40 cells, it held a fraction of 0.15 to 0.5 in 94 to 96 % of cases where images
    differ little (intraclass correlation 0.02 to 0.1) and in 91 to 94 % where they differ much (0.3), one of 0.001 or
    0.01 in 95 to 98 %, but one of 0.05 in 92 % and 83 %; of 40 such images, one of 0.01 in 87 % and 74 %. Where few
    cells are positive, and those in few images, it is too narrow.

    References
    ----------
    Dean, N. and Pagano, M. (2015), "Evaluating confidence interval methods for binomial proportions in clustered
    surveys", Journal of Survey Statistics and Methodology 3:484-503.

    Examples
    --------
    >>> low, high = fraction_interval([5, 6, 4, 5], [10, 10, 10, 10])
    >>> round(low, 2), round(high, 2)
    (0.28, 0.72)
    >>> fraction_interval([5], [10]) is None
    True
    """
    from scipy.stats import t as student

    k, n = np.asarray(positive, np.float64), np.asarray(counted, np.float64)
    k, n = k[n > 0], n[n > 0]
    images, cells = len(n), float(n.sum())
    if images < 2:
        return None
    fraction = float(k.sum()) / cells
    # Images that all agree say nothing of how they vary. They vary at least as if one cell, of the smallest image, were
    # called otherwise: so the interval has no leap from no cell to one.
    residuals = max(np.sum((k - fraction * n) ** 2), 1 - 2 * n.min() / cells + np.sum(n**2) / cells**2)
    variance = images / (images - 1) * float(residuals) / cells**2
    alone = max(fraction * (1 - fraction), (1 - 1 / cells) / cells)
    return wilson(fraction, min(alone / variance, cells), float(student.ppf(0.975, images - 1)))


def wilson(fraction: float, n: float, z: float) -> tuple[float, float]:
    """Return Wilson's interval of a fraction.

    Parameters
    ----------
    fraction : float
    n : float
        Of how many it is a fraction.
    z : float
        Within so many standard deviations it lies: 1.96 for 95 %.

    Examples
    --------
    >>> low, high = wilson(0.5, 4, 1.96)
    >>> round(low, 2), round(high, 2)
    (0.15, 0.85)
    """
    middle = (fraction + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    # At 0 and 1 the sums may miss the fraction by their last bit.
    return max(0.0, min(fraction, middle - half)), min(1.0, max(fraction, middle + half))
