"""What every engine does, and which one is taken."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle import Bundle, SegmenterBundle
from napari_all_detect.params import ScoreParams

__all__ = ["Engine", "Mapper", "Progress", "open_engine", "open_mapper"]

Progress = Callable[[int], None]
"""Is told how many more cells are done."""


class Engine(Protocol):
    """Scores crops with all members of one bundle."""

    name: str
    device: str

    def predict(self, crops: NDArray[np.uint8], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return the probabilities of (Hem, ALL) for (N, s, s, 3) uint8 crops and M members, (N, M, 2) float32."""
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


def open_engine(bundle: Bundle, params: ScoreParams) -> Engine:
    """Build the engine that the parameters ask for.

    Raises
    ------
    MissingDependencyError
        If a GPU is asked for and none can be used.
    BundleError
        If the members' weights do not fit their architecture.
    """
    from napari_all_detect.engines.keras import KerasEngine

    return KerasEngine(bundle, params.device, params.batch_size)


def open_mapper(bundle: SegmenterBundle, device: str = "auto") -> Mapper:
    """Build what runs a segmenter's network.

    Raises
    ------
    MissingDependencyError
        If a GPU is asked for and none can be used.
    BundleError
        If the weights do not fit the network.
    """
    from napari_all_detect.engines.keras_unet import KerasMapper

    return KerasMapper(bundle, device)
