"""The planes of an array with named axes: ``y``, ``x``, ``c`` (channels), and others to loop over."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import InputError

__all__ = ["Index", "channels_last", "check_channels", "indices"]

Index = tuple[int | slice, ...]
_PLANE_AXES = ("y", "x", "c")


def indices(axes: Sequence[str], shape: Sequence[int]) -> Iterator[tuple[str, Index]]:
    """Yield the name of each plane and the index that cuts it out.

    Examples
    --------
    >>> [name for name, _ in indices("tzcyx", (1, 2, 3, 64, 64))]
    ['z0', 'z1']
    >>> [name for name, _ in indices("yxc", (64, 64, 3))]
    ['0']
    """
    choices: list[Sequence[int | slice]] = [
        (slice(None),) if axis in _PLANE_AXES else range(n) for axis, n in zip(axes, shape, strict=True)
    ]
    for index in product(*choices):
        places = zip(axes, shape, index, strict=True)
        name = "_".join(f"{axis}{i}" for axis, n, i in places if n > 1 and not isinstance(i, slice))
        yield name or "0", index


def channels_last(cut: NDArray[np.generic], axes: Sequence[str]) -> NDArray[np.generic]:
    """Bring what an index cut out of an array with these axes to (H, W) or (H, W, C)."""
    left = [axis for axis in axes if axis in _PLANE_AXES]
    return cut.transpose([left.index(axis) for axis in _PLANE_AXES if axis in left])


def check_channels(axes: Sequence[str], shape: Sequence[int], allowed: Sequence[int], name: str) -> None:
    """Raise :class:`InputError` unless the axis ``c``, if there is one, has one of the allowed lengths."""
    count = shape[list(axes).index("c")] if "c" in axes else 1
    if count not in allowed:
        raise InputError(
            f"{name}: an image with {count} channels; expected 3 (RGB) or 1 (grey): export the smear as RGB"
        )
