"""The colour of a probability, the same wherever cells are shown."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CALL_COLOURS", "probability_colours"]

_HEM, _EVEN, _ALL = (0, 114, 178), (127, 127, 127), (213, 94, 0)
"""Blue, grey and vermilion of Okabe and Ito: told apart with any colour vision."""

CALL_COLOURS = {"ALL": _ALL, "Hem": _HEM, "uncertain": _EVEN}
"""(red, green, blue) of each call, 0 to 255."""


def probability_colours(p_all: ArrayLike) -> NDArray[np.uint8]:
    """Return the colours of probabilities of ALL: blue at 0, grey at 0.5, vermilion at 1.

    Parameters
    ----------
    p_all : (N,) array_like
        In 0 to 1, taken in 256 steps: viewers draw a limited number of colours.

    Returns
    -------
    rgb : (N, 3) uint8

    Examples
    --------
    >>> probability_colours([0.0, 0.9, 1.0]).tolist()
    [[0, 114, 178], [196, 100, 25], [213, 94, 0]]
    """
    steps = np.rint(np.asarray(p_all, np.float64) * 255) / 255
    channels = [np.interp(steps, (0, 0.5, 1), ends) for ends in zip(_HEM, _EVEN, _ALL, strict=True)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
