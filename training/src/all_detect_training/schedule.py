"""The cyclical learning rate "triangular2" (Smith 2017)."""

from typing import Any

__all__ = ["triangular2", "triangular2_schedule"]


def triangular2(step: Any, lowest: float, highest: float, half_cycle: float, ops: Any) -> Any:
    """Return the learning rate after `step` updates.

    It climbs from `lowest` to `highest` in `half_cycle` updates and falls back in as many; each further cycle climbs
    half as high as the one before (Smith 2017, "Cyclical learning rates for training neural networks", eq. 1 to 3).

    Parameters
    ----------
    step : array or tensor
        Updates done.
    lowest, highest : float
        Bounds of the first cycle.
    half_cycle : float
        Updates from the lowest to the highest rate.
    ops : module
        `numpy` or `keras.ops`.

    Examples
    --------
    >>> import numpy as np
    >>> triangular2(np.array([0, 6, 12, 18]), 1e-7, 2e-3, 6, np).round(7).tolist()
    [1e-07, 0.002, 1e-07, 0.0010001]
    """
    cycle = ops.floor(step / (2 * half_cycle))
    distance = ops.abs(step / half_cycle - 2 * cycle - 1)
    return lowest + (highest - lowest) * ops.maximum(0.0, 1 - distance) / 2.0**cycle


def triangular2_schedule(lowest: float, highest: float, half_cycle: float) -> Any:
    """Return the same as a `keras.optimizers.schedules.LearningRateSchedule`."""
    import keras

    class Triangular2(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        def __call__(self, step: Any) -> Any:
            return triangular2(keras.ops.cast(step, "float32"), lowest, highest, half_cycle, keras.ops)

        def get_config(self) -> dict[str, float]:
            return {"lowest": lowest, "highest": highest, "half_cycle": half_cycle}

    return Triangular2()
