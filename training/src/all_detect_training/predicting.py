"""What a network says of cells, in as large batches as memory holds."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from all_detect_training.presets import MemberSpec
from all_detect_training.telling import Telling
from napari_all_detect.engines.keras_program import ran_out_of_memory
from napari_all_detect.errors import InputError
from napari_all_detect.networks import ARCHITECTURES, preprocess

__all__ = ["no_memory_for_one", "predict_p_all"]

log = logging.getLogger(__name__)

PREDICTED_PX = 256 * 96**2
"""Pixels predicted at once: VGG-16 takes 256 bytes for each in its first layers."""


def predict_p_all(network: Any, crops: NDArray[np.uint8], spec: MemberSpec) -> NDArray[np.float32]:
    """Return P(ALL) of (N, s, s, 3) uint8 crops, (N,) float32, as many at once as memory holds.

    Raises
    ------
    InputError
        If memory does not hold even one.
    """
    import keras

    batch_size = max(1, min(256, PREDICTED_PX // spec.input_size**2))
    mode = ARCHITECTURES[spec.architecture].preprocessing
    p_all = [np.zeros(0, np.float32)]
    done = 0
    telling = Telling(log, f"{spec.architecture}: predicting cells", len(crops))
    while done < len(crops):
        try:
            logits = network.predict_on_batch(preprocess(crops[done : done + batch_size], spec.input_size, mode))
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            if batch_size == 1:
                raise no_memory_for_one(spec) from error
            batch_size //= 2
            log.warning("%s: out of memory; predicts %d cells at once from now on", spec.architecture, batch_size)
            continue
        p_all.append(keras.ops.convert_to_numpy(keras.ops.softmax(logits))[:, 1])
        done += batch_size
        telling.reach(done)
    return np.concatenate(p_all).astype(np.float32)


def no_memory_for_one(spec: MemberSpec) -> InputError:
    """Return the error to raise where memory runs out with one cell at a time."""
    return InputError(
        f"{spec.architecture}: out of memory with one cell at a time; give it more, or take a preset of smaller crops "
        "or networks"
    )
