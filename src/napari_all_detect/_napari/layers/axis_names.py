"""What the axes of a stack are called: by napari's sliders, and in the names of planes. No Qt."""

from collections.abc import Sequence
from math import prod
from string import digits

from napari_all_detect.sources.stack import indices

__all__ = ["PLANE_AXES", "axis_labels", "axis_names", "default_labels", "plane_names"]

PLANE_AXES = ("c", "y", "x")


def axis_names(plane: str) -> list[str]:
    """Return the axes that a plane's name has.

    >>> axis_names("t0_z3")
    ['t', 'z']
    """
    return [name for part in plane.split("_") if (name := part.rstrip(digits))]


def default_labels(n_axes: int) -> tuple[str, ...]:
    """Return the labels that napari gives axes without names."""
    return tuple(str(k) for k in range(-n_axes, 0))


def axis_labels(names: Sequence[str], shape: Sequence[int]) -> tuple[str, ...] | None:
    """Return napari's labels of all axes, of which those before the plane that are longer than 1 have these names.

    None if there are no names, or not as many as such axes.

    >>> axis_labels(["t"], (5, 1, 64, 64))
    ('t', '-3', 'y', 'x')
    """
    long = [axis for axis, n in enumerate(shape[:-2]) if n > 1]
    if not names or len(names) != len(long):
        return None
    labels = [*default_labels(len(shape))[:-2], "y", "x"]
    for axis, name in zip(long, names, strict=True):
        labels[axis] = name
    return tuple(labels)


def plane_names(labels: Sequence[str], shape: Sequence[int]) -> list[str]:
    """Return the names of a stack's planes: by the labels of its axes if they have some, or else by number.

    >>> plane_names(("t", "z", "y", "x"), (1, 2, 64, 64))
    ['z0', 'z1']
    >>> plane_names(("-3", "-2", "-1"), (2, 64, 64))
    ['p0', 'p1']
    """
    long = [label for label, n in zip(labels, shape[:-2], strict=False) if n > 1]
    if all(label.isalpha() and label not in PLANE_AXES for label in long):
        return [name for name, _ in indices((*labels[:-2], "y", "x"), shape)]
    return [f"p{i}" for i in range(prod(shape[:-2]))]
