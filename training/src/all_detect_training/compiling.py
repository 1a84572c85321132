"""Networks made ready to train."""

from typing import Any

from napari_all_detect.engines.keras import choose_device

__all__ = ["compile_network"]


def compile_network(network: Any, optimizer: Any, loss: Any) -> None:
    """Compile a network, without XLA where TensorFlow trains on a CPU.

    Keras would take XLA there, which made a step of the cut members 1.3 to 11 times slower (MobileNet at 96 px, two
    cores: 0.88 s instead of 0.08 s).
    """
    import keras

    slow = keras.backend.backend() == "tensorflow" and choose_device("auto") == "cpu"
    network.compile(optimizer, loss, jit_compile=False if slow else "auto")
