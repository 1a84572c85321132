"""What napari and the scoring process say to each other, as pickles."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.pipeline import ScoredImage
from napari_all_detect.trust import Bounds

__all__ = ["CANCELLED", "Call", "Cancel", "Found", "Opened", "Predicted", "Reply", "ScoredPart", "unforeseen"]

CANCELLED = "cancelled"
"""Why a request failed that was to."""


@dataclass(frozen=True)
class Call:
    """A request: which method of `Networks`, and its arguments."""

    number: int
    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Cancel:
    """Let the request of this number fail at its next batch."""

    number: int


@dataclass(frozen=True)
class Reply:
    """An answer: `progress` any number of times, then `done` or `failed`."""

    kind: str
    value: Any


@dataclass(frozen=True)
class Opened:
    """What was loaded.

    Attributes
    ----------
    source : str
        The name or path that loads the bundle.
    bundle : str
        Its name and version.
    crop_size : int
    members : tuple of str
    weights : tuple of float
        W_k of Eq. 2.
    threshold : float
    engine, device : str
    bounds : Bounds or None
        If an error rate was asked for: another threshold leaves them as they are.
    called_by : Bounds or None
        By which scoring called the cells, the bundle's own if none were asked for; None if the threshold alone called
        them.
    """

    source: str
    bundle: str
    crop_size: int
    members: tuple[str, ...]
    weights: tuple[float, ...]
    threshold: float
    engine: str
    device: str
    bounds: Bounds | None = None
    called_by: Bounds | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """A plane's cells, told before they are scored.

    Attributes
    ----------
    labels : (H, W) int32
    nuclei : (H, W) int32 or None
    """

    labels: NDArray[np.int32]
    nuclei: NDArray[np.int32] | None


@dataclass(frozen=True, eq=False)
class Predicted:
    """What members say of some crops, told as soon as it is known.

    Attributes
    ----------
    keys : tuple of n bytes
        Digests of the crops.
    probabilities : (n, M, 2) float32
    """

    keys: tuple[bytes, ...]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class ScoredPart:
    """A plane's cells that were scored, all of them unless the run came to an early end.

    Attributes
    ----------
    scored : ScoredImage
        Its labels are all that were found, its rows and crops those scored.
    found : int
        Cells in the plane.
    """

    scored: ScoredImage
    found: int


def unforeseen(error: Exception) -> str:
    """Say what the user is told of an error that nobody thought of."""
    return f"an error in napari-all-detect: {type(error).__name__}: {error}; please report it"
