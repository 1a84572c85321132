"""The network that finds cells: a small U-Net (Ronneberger et al. 2015, MICCAI) that computes at half resolution."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHANNELS", "EMPTY_FIELD", "STRIDE", "build_unet", "multiple_of", "split_unet"]

CHANNELS = ("cell", "nucleus", "core")
"""What the logits are of: being part of a white cell; being part of its nucleus; and the distance to the cell's
outline, 0 there and 1 where it is greatest, which parts cells that touch."""

STRIDE = 2
"""Pixels of the image to one of the logits, on each axis: smooth outlines lose nothing, and it takes a quarter."""


EMPTY_FIELD = 230
"""The byte that means as much light as the empty field's; more than all light is glare, and noise."""


def build_unet(
    widths: Sequence[int], shape: tuple[int | None, int | None] = (None, None), *, split: bool = False
) -> Any:
    """Build the network from light to logits.

    Parameters
    ----------
    widths : sequence of int
        Feature maps at 1/2, 1/4, 1/8 ... of the image's resolution.
    shape : (int, int)
        Height and width of the image, multiples of 2 ** len(widths); None leaves them open.
    split : bool
        In the form of `split_unet`.

    Returns
    -------
    network : keras.Model
        (N, H, W, 3) float32, the light that passes relative to the empty field, in 0 to 1.1 ->
        (N, H / 2, W / 2, 3) float32 logits of `CHANNELS`.
    """
    import keras
    from keras import layers

    light = keras.Input((*shape, 3), dtype="uint8" if split else "float32", name="light")
    x = keras.ops.cast(light, "float32") / float(EMPTY_FIELD) if split else light
    x = _activated(layers.Conv2D(widths[0], 5, STRIDE, "same", use_bias=False, name="stem")(x), "stem")
    passed = []
    for level, width in enumerate(widths):
        if level:
            x = layers.MaxPooling2D()(x)
        for part in "ab":
            x = _convolved(x, width, f"down{level}{part}")
        passed.append(x)
    for level, width in reversed(list(enumerate(widths[:-1]))):
        x = layers.Conv2D(width, 1, name=f"narrow{level}")(x)
        if split:
            risen = layers.Conv2DTranspose(width, 4, 2, "same", use_bias=False, name=f"up{level}a_risen")(x)
            across = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"up{level}a_across")(passed[level])
            x = _activated(layers.Add()([risen, across]), f"up{level}a")
        else:
            x = _convolved(layers.Concatenate()([layers.UpSampling2D()(x), passed[level]]), width, f"up{level}a")
        x = _convolved(x, width, f"up{level}b")
    logits = layers.Conv2D(len(CHANNELS), 3, padding="same", name="logits", dtype="float32")(x)
    return keras.Model(light, logits, name="unet")


def split_unet(network: Any, widths: Sequence[int]) -> Any:
    """Return a network of bytes that computes the same with a tenth less arithmetic, and without enlarged maps.

    A 3 x 3 convolution of maps whose pixels were doubled sees two different pixels on each axis, not three. So it is a
    transposed convolution, 4 x 4 with stride 2, of the maps before: 4 products for a pixel instead of 9. What comes
    across from the way down is convolved by itself, and added.

    Parameters
    ----------
    network : keras.Model
        Of `build_unet`.
    widths : sequence of int
        With which it was built.

    Returns
    -------
    split : keras.Model
        (N, H, W, 3) uint8, light of which the empty field's is `EMPTY_FIELD` -> the same logits but for rounding.
    """
    twin = build_unet(widths, split=True)
    of = {layer.name: layer.get_weights() for layer in network.layers}
    for level, width in enumerate(widths[:-1]):
        (kernel,) = of[f"up{level}a"]
        of[f"up{level}a_risen"] = [_of_doubled(kernel[:, :, :width])]
        of[f"up{level}a_across"] = [kernel[:, :, width:]]
    for layer in twin.layers:
        layer.set_weights(of.get(layer.name, []))
    return twin


def multiple_of(widths: Sequence[int]) -> int:
    """Return what height and width of the image must be multiples of."""
    return int(2 ** len(widths))


def _of_doubled(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn a kernel for doubled pixels, (3, 3, in, out), into that of the transposed convolution, (4, 4, out, in).

    Of two pixels out of one, the left one sees the left neighbour once and itself twice, the right one itself twice
    and the right neighbour once.
    """
    sums = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], kernel.dtype)
    return np.asarray(np.einsum("yt,xu,tuio->yxoi", sums, sums, kernel), kernel.dtype)


def _convolved(x: Any, width: int, name: str) -> Any:
    from keras import layers

    return _activated(layers.Conv2D(width, 3, padding="same", use_bias=False, name=name)(x), name)


def _activated(x: Any, name: str) -> Any:
    from keras import layers

    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(x))
