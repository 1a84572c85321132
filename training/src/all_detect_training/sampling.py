"""Random oversampling of the smaller class (Mondal et al. 2021, section 2.2.2)."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["oversample"]


def oversample(is_all: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return indices in which both classes are as frequent as the larger one.

    Every cell is there at least once; the smaller class is filled up with random repeats.

    Parameters
    ----------
    is_all : (N,) bool
        The cells' class.
    rng : numpy.random.Generator

    Returns
    -------
    indices : (2 * max(n_all, n_hem),) intp
        Shuffled.

    Examples
    --------
    >>> is_all = np.array([True, True, True, False])
    >>> np.bincount(is_all[oversample(is_all, np.random.default_rng(0))]).tolist()
    [3, 3]
    """
    positive, negative = np.flatnonzero(is_all), np.flatnonzero(~is_all)
    n = max(len(positive), len(negative))
    filled = [np.concatenate([c, rng.choice(c, n - len(c))]) for c in (positive, negative)]
    return rng.permutation(np.concatenate(filled))
