"""The planes of an array with named axes: `y`, `x`, `c` (channels), and others to loop over."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import InputError

__all__ = ["Index", "channels_last", "check_size", "choose_channels", "indices", "places", "within"]

Index = tuple[int | slice | list[int], ...]
_PLANE_AXES = ("y", "x", "c")

MOST_PLANES = 1_000_000
"""Of one image: each takes 1 kB in the list of planes."""

MOST_PX = 10**12
"""Pixels of a plane: a hundred slides of 100,000 x 100,000. Only metadata that are damaged or made up state more."""


def check_size(axes: Sequence[str], shape: Sequence[int], name: str) -> None:
    """Raise InputError if an image of this name has more or larger planes than any that could be scored."""
    lengths = list(zip(axes, shape, strict=True))
    n_planes = prod(n for axis, n in lengths if axis not in _PLANE_AXES)
    n_px = prod(n for axis, n in lengths if axis in ("y", "x"))
    for n, most, what in ((n_planes, MOST_PLANES, "planes"), (n_px, MOST_PX, "pixels in a plane")):
        if n > most:
            raise InputError(
                f"{name}: an image of shape {tuple(shape)}, with {n:,} {what}; expected {most:,} at most: mend its "
                "metadata, or split it"
            )


def indices(
    axes: Sequence[str], shape: Sequence[int], channels: Sequence[int] | None = None
) -> Iterator[tuple[str, Index]]:
    """Yield the name of each plane and the index that cuts it out, orthogonally.

    Parameters
    ----------
    axes : sequence of str
    shape : sequence of int
    channels : sequence of int, optional
        Those that are red, green and blue, or the one that is grey; all if not given.

    Examples
    --------
    >>> [name for name, _ in indices("tzcyx", (1, 2, 3, 64, 64))]
    ['z0', 'z1']
    >>> [name for name, _ in indices("yxc", (64, 64, 3))]
    ['0']
    """
    of_channels: list[int] | slice = slice(None) if channels is None else list(channels)
    choices: list[Sequence[int | slice | list[int]]] = [
        (of_channels,) if axis == "c" else (slice(None),) if axis in _PLANE_AXES else range(n)
        for axis, n in zip(axes, shape, strict=True)
    ]
    for index in product(*choices):
        named = zip(axes, shape, index, strict=True)
        name = "_".join(f"{axis}{i}" for axis, n, i in named if n > 1 and isinstance(i, int))
        yield name or "0", index


def places(axes: Sequence[str], index: Index) -> dict[str, int]:
    """Return where an index lies on the axes that are looped over.

    >>> places("tzcyx", (0, 3, slice(None), slice(None), slice(None)))
    {'t': 0, 'z': 3}
    """
    return {axis: i for axis, i in zip(axes, index, strict=True) if isinstance(i, int)}


def within(axes: Sequence[str], index: Index, window: tuple[slice, slice]) -> Index:
    """Return the index of a part of a plane.

    >>> within("tyxc", (3, slice(None), slice(None), slice(None)), (slice(0, 8), slice(4, 6)))
    (3, slice(0, 8, None), slice(4, 6, None), slice(None, None, None))
    """
    parts = dict(zip("yx", window, strict=True))
    return tuple(parts.get(axis, i) for axis, i in zip(axes, index, strict=True))


def channels_last(cut: NDArray[np.generic], axes: Sequence[str]) -> NDArray[np.generic]:
    """Bring what an index cut out of an array with these axes to (H, W) or (H, W, C)."""
    left = [axis for axis in axes if axis in _PLANE_AXES]
    return cut.transpose([left.index(axis) for axis in _PLANE_AXES if axis in left])


def choose_channels(
    axes: Sequence[str], shape: Sequence[int], allowed: Sequence[int], told: Sequence[int] | None, name: str
) -> list[int] | None:
    """Return which channels to read; None for all of them.

    Parameters
    ----------
    axes : sequence of str
    shape : sequence of int
    allowed : sequence of int
        How many channels are a picture as they are.
    told : sequence of int, optional
        Those that the user or the file says are red, green and blue, or the one that is grey.
    name : str
        What the errors call the image.

    Raises
    ------
    InputError
        If there are not the channels that are told, or, with none told, another number than is allowed.
    """
    count = shape[list(axes).index("c")] if "c" in axes else 1
    if told is not None and list(told) != list(range(count)):
        if max(told) >= count:
            raise InputError(f"{name}: no channel {max(told)}; it has 0 to {count - 1}")
        return list(told) if "c" in axes else None
    if count not in allowed:
        which = "are red, green and blue: --channels 0,1,2" if count > 2 else "is the grey one: --channels 0"
        raise InputError(
            f"{name}: an image with {count} channels; expected 3 (RGB) or 1 (grey): export the smear as RGB, or say "
            f"which {which}"
        )
    return None
