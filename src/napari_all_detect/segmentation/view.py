"""A part of a plane, and what is taken from the whole plane whatever part is looked at."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.segmentation.light import BLACK, empty_field
from napari_all_detect.windows import Pixels, Window

__all__ = ["Found", "Mapped", "Survey", "Unsettled", "View", "sample"]

SAMPLE_EDGE_PX, SAMPLES = 512, 6
"""A plane of more pixels than 6 x 6 such squares is surveyed on so many of them, spread evenly."""

ENOUGH_SQUARES, FINEST = 12, 8
"""Where fewer squares hold something, they are looked for closer together, up to so many times as many on an axis."""

DARKER, SHARE = 0.85, 0.02
"""A square holds something if of its green light the darkest hundredths are by so much less than the brightest."""

KEPT_BYTES = 2**28
"""Of maps for parts that overlap: three rows of tiles of a plane 100,000 pixels wide."""

T = TypeVar("T")


class Unsettled(Exception):  # noqa: N818 - nothing went wrong
    """The survey saw nothing that says how this part is to be taken, so there is no cell in it."""


class Survey:
    """What is taken from a whole plane: its light, how wide its cells are, and where levels lie.

    Each is found once, when it is first asked for; then it is the same for all parts of the plane. When the survey has
    been closed, what was never asked for can't be found any more.

    Examples
    --------
    >>> survey = Survey()
    >>> survey("diameter", lambda: 40.0), survey("diameter", lambda: 55.0)
    (40.0, 40.0)
    """

    def __init__(self) -> None:
        self.block_px = 1
        """Parts of a plane, other than the whole, begin at multiples of this, for its pixels and those of a reduced
        copy to fall together."""
        self._found: dict[str, Any] = {}
        self._kept: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self.closed = False
        """Whether parts are looked at now."""

    def __call__(self, name: str, find: Callable[[], T]) -> T:
        """Return what is known under a name, or find it now.

        Raises
        ------
        Unsettled
            If the survey is closed and it isn't known.
        """
        if name not in self._found:
            if self.closed:
                raise Unsettled
            self._found[name] = find()
        known: T = self._found[name]
        return known

    def close(self) -> None:
        """End the survey; from now on parts are looked at."""
        self.closed = True

    def kept(self, key: Hashable, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return what was made under a key for another part, if that is kept still, or make it."""
        if not self.closed:
            return make()
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(array.nbytes for array in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[key]


@dataclass(frozen=True, eq=False)
class View:
    """A window of a plane.

    Attributes
    ----------
    plane : Pixels
    window : (slice, slice)
    survey : Survey
    """

    plane: Pixels
    window: Window
    survey: Survey = field(default_factory=Survey)

    @classmethod
    def whole(cls, plane: Pixels, survey: Survey | None = None) -> "View":
        """Return the view of all of a plane."""
        return cls(plane, (slice(0, plane.shape[0]), slice(0, plane.shape[1])), survey or Survey())

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the window."""
        rows, columns = self.window
        return rows.stop - rows.start, columns.stop - columns.start

    @cached_property
    def rgb(self) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 pixels of the window."""
        return self.plane[self.window]

    @property
    def empty_field(self) -> NDArray[np.float32]:
        """(3,) float32 colour of the empty field, by the survey."""
        return self.survey("field", lambda: empty_field(self.rgb))


class Found(NamedTuple):
    """The cells of a view.

    Attributes
    ----------
    cells : (H, W) int32
    nuclei : (H, W) int32 or None
        The same numbers where the nuclei are; None if they were not looked for.
    involved : (h, w) bool
        From which pixels the cells were made, perhaps of a reduced image of the view.
    reach_px : int
        How far such a pixel acts on what becomes of others, in pixels of that image.
    on_black : bool
        Whether the plane is taken for cells cut out on black.
    """

    cells: NDArray[np.int32]
    nuclei: NDArray[np.int32] | None
    involved: NDArray[np.bool_]
    reach_px: int
    on_black: bool = False

    @classmethod
    def nothing(cls, shape: tuple[int, int], nuclei: bool) -> "Found":
        """Return what is found where there is no cell."""
        none = np.zeros(shape, np.int32)
        return cls(none, none.copy() if nuclei else None, none > 0, 0)


@dataclass(frozen=True, eq=False)
class Mapped:
    """A plane whose pixels come out changed, each by itself."""

    plane: Pixels
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the plane."""
        return self.plane.shape

    def __getitem__(self, window: Window) -> NDArray[np.uint8]:
        return self.change(self.plane[window])


def sample(plane: Pixels) -> NDArray[np.uint8] | None:
    """Return squares of a large plane side by side, without those that are all black; None if it is small.

    Scanners leave black what they did not scan. Of a slide that is mostly glass, squares that hold something are looked
    for: glass does not say how wide cells are.
    """
    height, width = plane.shape[:2]
    if height * width <= (SAMPLES * SAMPLE_EDGE_PX) ** 2:
        return None
    squares = list(_squares(plane, SAMPLES))
    told = [square for square in squares if (square > BLACK).any()] or squares
    holding = [square for square in told if _holds_something(square)]
    if len(holding) < ENOUGH_SQUARES:
        told = _searched(plane, holding) or told
    shape = told[0].shape
    # Rows as long as before, the last filled up from the start.
    n = min(SAMPLES, len(told))
    told += told[: -len(told) % n]
    return np.asarray(np.stack(told).reshape(-1, n, *shape).swapaxes(1, 2).reshape(-1, n * shape[1], 3))


def _searched(plane: Pixels, holding: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Return squares that hold something, closer together than `holding`; at most as many as are surveyed."""
    n, most = SAMPLES, max(plane.shape[:2]) // SAMPLE_EDGE_PX
    while len(holding) < ENOUGH_SQUARES and n < min(most, FINEST * SAMPLES):
        n *= 2
        holding = [square for square in _squares(plane, n) if _holds_something(square)]
    return holding[:: -(-len(holding) // SAMPLES**2) or 1]


def _holds_something(square: NDArray[np.uint8]) -> bool:
    """Return whether there is more than glass."""
    dark, bright = np.quantile(square[::4, ::4, 1], (SHARE, 1 - SHARE))
    return bool(bright > BLACK and dark < DARKER * bright)


def _squares(plane: Pixels, n: int) -> Iterator[NDArray[np.uint8]]:
    """Yield n x n squares, all of a size, spread evenly; fewer where they would overlap."""
    for rows in _spread(plane.shape[0], n):
        for columns in _spread(plane.shape[1], n):
            yield plane[rows, columns]


def _spread(length: int, n: int) -> list[slice]:
    """Return n parts of an axis; all as long, and all of it if it is short."""
    edge = min(SAMPLE_EDGE_PX, length)
    n = min(n, length // edge)
    centres = (np.arange(n) + 0.5) * length / n
    return [slice(int(c - edge / 2), int(c - edge / 2) + edge) for c in centres]
