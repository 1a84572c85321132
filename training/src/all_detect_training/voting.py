"""Members' votes on known cells -> the ensemble's."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle.manifest import Validation
from napari_all_detect.ensemble import combine, member_weights
from napari_all_detect.errors import InputError

__all__ = ["ensemble_p_all"]

Floats = NDArray[np.floating]


def ensemble_p_all(p_all: Floats, validation: Sequence[Validation], weighting: str) -> NDArray[np.float32]:
    """Return P(ALL) of the members' weighted votes, (N, M) -> (N,), at temperature 1.

    Raises
    ------
    InputError
        If no member weighs anything.
    """
    weights = member_weights(validation, weighting)
    if weights.sum() == 0:
        raise InputError(
            f"no member's validation {weighting} is above 0, so nothing was learned; train on more cells or longer"
        )
    return combine(np.stack([1 - p_all, p_all], axis=-1), weights)[:, 1]
