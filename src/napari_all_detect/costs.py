"""What a member costs: the arithmetic of one cell, known without building the network."""

from collections.abc import Mapping
from functools import cache
from math import prod
from types import MappingProxyType
from typing import Any

from napari_all_detect.engines.keras_program import computing_in
from napari_all_detect.networks import build_network

__all__ = ["REFERENCE_PX", "count_gflop", "member_gflop"]

REFERENCE_PX = 300
GFLOP: Mapping[tuple[str, str | None], float] = MappingProxyType(
    {
        ("vgg16", None): 54.22,
        ("vgg16", "block3_conv2"): 26.85,
        ("xception", None): 16.71,
        ("xception", "block4_sepconv2_bn"): 5.251,
        ("mobilenet", None): 1.926,
        ("mobilenet", "conv_pw_6_relu"): 0.805,
        ("inception_resnet_v2", None): 26.31,
        ("inception_resnet_v2", "mixed_5b"): 3.336,
        ("densenet121", None): 9.873,
        ("densenet121", "pool3_pool"): 7.373,
    }
)
"""Of an input of `REFERENCE_PX`, by architecture and cut: what `count_gflop` counts, so that it needn't be built."""


def member_gflop(architecture: str, cut: str | None, input_size: int) -> float:
    """Return what a cell costs a member, in GFLOP: always the same, whatever the machine and its load.

    Convolutions cost as their output has pixels, so the square of the input's side scales what they cost at
    `REFERENCE_PX`; at small sizes borders make a quarter less of it at most.

    Parameters
    ----------
    architecture : str
        A key of `networks.ARCHITECTURES`.
    cut : str or None
        Layer after which the trunk ends. One that has not been counted is counted now, which builds the network.
    input_size : int
        Side of the square input in pixels.

    Examples
    --------
    >>> member_gflop("vgg16", None, 300)
    54.22
    >>> member_gflop("mobilenet", "conv_pw_6_relu", 150)
    0.20125
    """
    known = GFLOP.get((architecture, cut))
    gflop = _counted(architecture, cut) if known is None else known
    return gflop * (input_size / REFERENCE_PX) ** 2


def count_gflop(network: Any) -> float:
    """Count a Keras network's multiplications and additions for one input: convolutions and dense layers, in GFLOP."""
    return sum(map(_layer_flop, network.layers)) / 1e9


def _layer_flop(layer: Any) -> int:
    """Each element of a kernel is multiplied and added once for each pixel of the output."""
    kernels = [w.shape for w in layer.weights if len(w.shape) > 1]
    pixels = prod(layer.output.shape[1:-1]) if kernels else 0
    return 2 * pixels * sum(map(prod, kernels))


@cache
def _counted(architecture: str, cut: str | None) -> float:
    with computing_in("fp32"):
        return count_gflop(build_network(architecture, REFERENCE_PX, cut))
