"""From crops to the members' probabilities, as one would write it around any library's networks."""

from collections.abc import Callable, Sequence

import numpy as np

from napari_all_detect.bundle import Member

BATCH = 16

Logits = Callable[[int, np.ndarray], np.ndarray]
"""What the k-th member gives for a batch of preprocessed cells."""


def votes(members: Sequence[Member], logits: Logits, crops: np.ndarray, batch: int = BATCH) -> np.ndarray:
    """Return (N, M, 2) probabilities for (N, s, s, 3) uint8 crops; resized and preprocessed by Keras."""
    import keras

    from napari_all_detect.networks import preprocess

    parts = []
    for start in range(0, len(crops), batch):
        cells = crops[start : start + batch]
        each = [
            logits(k, keras.ops.convert_to_numpy(preprocess(cells, m.input_size, m.preprocessing))) / m.temperature
            for k, m in enumerate(members)
        ]
        parts.append(np.stack([keras.ops.convert_to_numpy(keras.ops.softmax(one)) for one in each], axis=1))
    return np.concatenate(parts)
