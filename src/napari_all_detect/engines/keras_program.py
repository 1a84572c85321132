"""A Keras graph as a program of its backend, and what a device does when it is given too much."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Program", "compiled", "computing_in", "copied_to_device", "ran_out_of_memory"]

Program = Callable[[Any], Any]
"""(N, s, s, 3) uint8 -> (N, 2) float32; on JAX both are the device's, and it returns before it is done."""


def compiled(graph: Any) -> Program:
    """Compile a graph: on JAX as one jitted program, elsewhere as Keras does."""
    import keras

    if keras.backend.backend() != "jax":
        return lambda crops: graph.predict_on_batch(crops)
    import jax

    weights = [[variable.value for variable in graph.trainable_variables]]
    weights.append([variable.value for variable in graph.non_trainable_variables])
    # The weights are arguments, not constants: those would be compiled into the program, and held twice.
    run = jax.jit(lambda trained, others, crops: graph.stateless_call(trained, others, crops, training=False)[0])
    return lambda crops: run(*weights, crops)


def copied_to_device(crops: NDArray[np.uint8]) -> Any:
    """Begin to copy bytes to JAX's device; other backends copy when they run."""
    import keras

    if keras.backend.backend() != "jax":
        return crops
    import jax

    return jax.device_put(crops)


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Let layers that are built meanwhile compute in `fp32` or `bf16`."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bf16" else before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a backend's way of saying so; each has a class of its own."""
    text = str(error)
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()
