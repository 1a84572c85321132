"""What every engine does, and which one is taken."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle import Bundle, SegmenterBundle
from napari_all_detect.engines.choice import choose, takes_openvino
from napari_all_detect.params import ScoreParams

__all__ = ["Engine", "Mapper", "Progress", "open_engine", "open_mapper"]

Progress = Callable[[int], None]
"""Is told how many more cells are done."""


class Engine(Protocol):
    """Scores crops with all members of one bundle."""

    name: str
    device: str

    def predict(
        self, crops: NDArray[np.uint8], progress: Progress | None = None, members: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return the members' probabilities.

        A cell's are the same, to the last bit, whatever cells and members it is asked for with.

        Parameters
        ----------
        crops : (N, s, s, 3) uint8
            s is the bundle's crop size.
        progress : callable, optional
            Is told after each batch how many more cells are done.
        members : sequence of int, optional
            Places of the members to run, in the bundle's order from 0; all M of them if not given.

        Returns
        -------
        probabilities : (N, len(members), 2) float32
            Of (Hem, ALL), for each cell and member asked for.
        """
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
        If a GPU or OpenVINO is asked for and can't be used.
    ParameterError
        If engine, device and precision don't go together.
    BundleError
        If the members' weights do not fit their architecture, or int8 is asked for and the bundle was not tuned.
    """
    choice = choose(bundle, params)
    if choice.engine == "openvino":
        from napari_all_detect.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(bundle, choice.precision)
    from napari_all_detect.engines.keras import KerasEngine

    return KerasEngine(bundle, params.device, params.batch_size, choice.precision)


def open_mapper(bundle: SegmenterBundle, device: str = "auto", engine: str = "auto") -> Mapper:
    """Build what runs a segmenter's network.

    Raises
    ------
    MissingDependencyError
        If a GPU or OpenVINO is asked for and can't be used.
    ParameterError
        If a GPU is asked of OpenVINO.
    BundleError
        If the weights do not fit the network.
    """
    if takes_openvino(engine, device):
        from napari_all_detect.engines.openvino_unet import OpenVinoMapper

        return OpenVinoMapper(bundle)
    from napari_all_detect.engines.keras_unet import KerasMapper

    return KerasMapper(bundle, device)
