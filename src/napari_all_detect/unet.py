"""The network that finds cells: a small U-Net (Ronneberger et al. 2015, MICCAI) that computes at half resolution."""

from collections.abc import Sequence
from typing import Any

__all__ = ["CHANNELS", "EMPTY_FIELD", "STRIDE", "build_unet", "multiple_of"]

CHANNELS = ("cell", "nucleus", "core")
"""What the logits are of: being part of a white cell; being part of its nucleus; and the distance to the cell's
outline, 0 there and 1 where it is greatest, which parts cells that touch."""

STRIDE = 2
"""Pixels of the image to one of the logits, on each axis: smooth outlines lose nothing, and it takes a quarter."""


EMPTY_FIELD = 230
"""The byte that means as much light as the empty field's; more than all light is glare, and noise."""


def build_unet(widths: Sequence[int], shape: tuple[int | None, int | None] = (None, None)) -> Any:
    """Build the network from light to logits.

    Parameters
    ----------
    widths : sequence of int
        Feature maps at 1/2, 1/4, 1/8 ... of the image's resolution.
    shape : (int, int)
        Height and width of the image, multiples of 2 ** len(widths); None leaves them open.

    Returns
    -------
    network : keras.Model
        (N, H, W, 3) float32, the light that passes relative to the empty field, in 0 to 1.1 ->
        (N, H / 2, W / 2, 3) float32 logits of `CHANNELS`.
    """
    import keras
    from keras import layers

    light = keras.Input((*shape, 3), name="light")
    x = _activated(layers.Conv2D(widths[0], 5, STRIDE, "same", use_bias=False, name="stem")(light), "stem")
    passed = []
    for level, width in enumerate(widths):
        if level:
            x = layers.MaxPooling2D()(x)
        x = _block(x, width, f"down{level}")
        passed.append(x)
    for level, width in reversed(list(enumerate(widths[:-1]))):
        x = layers.UpSampling2D()(layers.Conv2D(width, 1, name=f"narrow{level}")(x))
        x = _block(layers.Concatenate()([x, passed[level]]), width, f"up{level}")
    logits = layers.Conv2D(len(CHANNELS), 3, padding="same", name="logits", dtype="float32")(x)
    return keras.Model(light, logits, name="unet")


def multiple_of(widths: Sequence[int]) -> int:
    """Return what height and width of the image must be multiples of."""
    return int(2 ** len(widths))


def _block(x: Any, width: int, name: str) -> Any:
    from keras import layers

    for part in "ab":
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{name}{part}")(x)
        x = _activated(x, f"{name}{part}")
    return x


def _activated(x: Any, name: str) -> Any:
    from keras import layers

    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(x))
