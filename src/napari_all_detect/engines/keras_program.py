"""A Keras graph as a program of its backend, and what a device does when it is given too much."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Program", "compiled", "computing_in", "copied_to_device", "ran_out_of_memory"]

NO_MEMORY = re.compile("RESOURCE_EXHAUSTED|out of memory|DefaultCPUAllocator|Status: ?1, message", re.IGNORECASE)
"""What JAX, CUDA, PyTorch on a CPU and oneDNN (whose status 1 it is) say; TensorFlow has an error of a name."""

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
    """Let layers that are built meanwhile compute in `fp32` or `bf16`, whatever the user's own keras.json says.

    That file may ask for half precision, or for channels first; a bundle's networks are what they were trained as.
    """
    from keras import config

    before = config.floatx(), config.epsilon(), config.image_data_format(), config.dtype_policy()
    _configure("float32", 1e-7, "channels_last", "mixed_bfloat16" if precision == "bf16" else "float32")
    try:
        yield
    finally:
        _configure(*before)


def _configure(floatx: str, epsilon: float, image_data_format: str, dtype_policy: Any) -> None:
    from keras import config

    config.set_floatx(floatx)
    config.set_epsilon(epsilon)
    config.set_image_data_format(image_data_format)
    config.set_dtype_policy(dtype_policy)


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a backend's way of saying so; each has a class of its own."""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return True
    return NO_MEMORY.search(str(error)) is not None
