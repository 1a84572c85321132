"""What every engine does."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Engine", "Mapper", "MemberEngine", "Progress"]

Progress = Callable[[int], None]
"""Is told how many more cells are done."""


class Engine(Protocol):
    """Scores crops with all members of one bundle."""

    name: str
    device: str

    def predict(self, crops: NDArray[np.uint8], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return the members' probabilities.

        A cell's are the same, to the last bit, whatever cells it is asked for with.

        Parameters
        ----------
        crops : (N, s, s, 3) uint8
            s is the bundle's crop size.
        progress : callable, optional
            Is told after each batch how many more cells are done.

        Returns
        -------
        probabilities : (N, M, 2) float32
            Of (Hem, ALL), for each cell and member.
        """
        ...


class MemberEngine(Engine, Protocol):
    """An engine of which single members can be asked: the same bits as with all of them."""

    def predict(
        self, crops: NDArray[np.uint8], progress: Progress | None = None, members: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return (N, len(members), 2): `members` are places in the bundle's order from 0, all if not given."""
        ...


class Mapper(Protocol):
    """Runs the network of one segmenter."""

    name: str
    device: str
    multiple: int
    cell_diameter_px: float

    def predict(self, light: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the (H / 2, W / 2, 3) uint8 maps of (H, W, 3) uint8 light; both sides are multiples of `multiple`."""
        ...
