"""The architectures that a bundle can name, and how one becomes a network.

The five of Mondal et al. (2021), as Keras builds them, whole or cut after one of their layers. A new architecture is
a new row of `ARCHITECTURES`.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

__all__ = ["ARCHITECTURES", "Architecture", "Preprocessing", "build_network", "preprocess"]

Preprocessing = Literal["tf", "caffe", "torch"]


@dataclass(frozen=True)
class Architecture:
    """A network of `keras.applications` and the scaling of pixels that its ImageNet weights expect."""

    keras_name: str
    preprocessing: Preprocessing
    least_size: int


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "vgg16": Architecture("VGG16", "caffe", 32),
        "xception": Architecture("Xception", "tf", 71),
        "mobilenet": Architecture("MobileNet", "tf", 32),
        "inception_resnet_v2": Architecture("InceptionResNetV2", "tf", 75),
        "densenet121": Architecture("DenseNet121", "torch", 32),
    }
)


def build_network(
    architecture: str,
    input_size: int,
    cut: str | None = None,
    weights: str | Path | None = None,
    dropout: float = 0.0,
) -> Any:
    """Build a network from preprocessed pixels to the logits of (Hem, ALL).

    Parameters
    ----------
    architecture : str
        A key of `ARCHITECTURES`.
    input_size : int
        Side of the square input in pixels.
    cut : str, optional
        Layer after which the trunk ends; None keeps all of it.
    weights : {"imagenet"} or path, optional
        Weights of the whole trunk, without its top; None draws them at random.
    dropout : float
        Share of pooled features dropped in training, in [0, 1).

    Returns
    -------
    network : keras.Model
        (N, input_size, input_size, 3) float32 -> (N, 2) float32 logits. The class probabilities are their softmax.

    Raises
    ------
    ValueError
        If the architecture has no such layer, or the input is smaller than it can take.
    """
    import keras

    row = ARCHITECTURES[architecture]
    if input_size < row.least_size:
        raise ValueError(f"{architecture} takes inputs of at least {row.least_size} px; got {input_size}")
    trunk = getattr(keras.applications, row.keras_name)(
        weights=None if weights is None else str(weights),
        include_top=False,
        input_shape=(input_size, input_size, 3),
    )
    if cut is not None and cut not in {layer.name for layer in trunk.layers}:
        raise ValueError(f"{architecture} has no layer {cut!r} to cut at")
    features = trunk.output if cut is None else trunk.get_layer(cut).output
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    # Seeded: an unseeded layer takes PyTorch's own random numbers there, which are in no checkpoint.
    seed = random.randint(1, 10**9) if dropout else None
    pooled = keras.layers.Dropout(dropout, seed=seed, name="dropout")(pooled)
    logits = keras.layers.Dense(2, name="logits", dtype="float32")(pooled)
    return keras.Model(trunk.input, logits, name=architecture)


def preprocess(pixels: Any, size: int, mode: Preprocessing) -> Any:
    """Resize (N, s, s, 3) pixels in [0, 255] and scale them as ImageNet weights of that `mode` expect.

    Works on arrays and inside a graph.
    """
    import keras

    pixels = keras.ops.cast(pixels, "float32")
    if pixels.shape[1] != size:
        pixels = keras.ops.image.resize(pixels, (size, size), interpolation="bilinear", data_format="channels_last")
    return keras.applications.imagenet_utils.preprocess_input(pixels, data_format="channels_last", mode=mode)
