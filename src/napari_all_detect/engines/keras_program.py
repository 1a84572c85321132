"""The graphs of Keras as a program of its backend, and what a device does when it is given too much."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Program", "compiled", "computing_in", "copied_to_device", "ran_out_of_memory"]

NO_MEMORY = re.compile("RESOURCE_EXHAUSTED|out of memory|DefaultCPUAllocator|Status: ?1, message", re.IGNORECASE)
"""What JAX, CUDA, PyTorch on a CPU and oneDNN (whose status 1 it is) say; TensorFlow has an error of a name."""

Program = Callable[[Any, Sequence[int]], Sequence[Any]]
"""(N, s, s, 3) uint8 and the places of K members -> K times (N, 2) float32; on JAX all are the device's, and it returns
before it is done."""


def compiled(graphs: Sequence[Any]) -> Program:
    """Compile members' graphs: on JAX all that are asked in one jitted program, elsewhere each as Keras does."""
    import keras

    if keras.backend.backend() != "jax":
        return lambda crops, asked: [graphs[k].predict_on_batch(crops) for k in asked]
    import jax

    apart: Any = jax.lax.optimization_barrier
    weights = [[_values(graph.trainable_variables), _values(graph.non_trainable_variables)] for graph in graphs]

    # The weights are arguments, not constants: those would be compiled into the program, and held twice.
    def run(values: Any, crops: Any, asked: tuple[int, ...]) -> list[Any]:
        # Behind barriers no member is fused with another, so that it gives the same bits whoever else is asked.
        each = zip(asked, values, strict=True)
        return [graphs[k].stateless_call(*own, apart(crops), training=False)[0] for k, own in each]

    program = jax.jit(run, static_argnames="asked")
    return lambda crops, asked: program([weights[k] for k in asked], crops, asked=tuple(asked))


def _values(variables: Sequence[Any]) -> list[Any]:
    return [variable.value for variable in variables]


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
