"""What every engine does, and which one is taken."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle import Bundle, SegmenterBundle
from napari_all_detect.engines.openvino_runtime import has_openvino
from napari_all_detect.errors import ParameterError
from napari_all_detect.params import ScoreParams

__all__ = ["Engine", "Mapper", "Progress", "multiple_of", "open_engine", "open_mapper"]

DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Of GPUs: NVIDIA's, AMD's, and Windows's as its Linux sees it."""

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
        If a GPU is asked of OpenVINO.
    BundleError
        If the members' weights do not fit their architecture.
    """
    if _takes_openvino(params.engine, params.device):
        from napari_all_detect.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(bundle)
    from napari_all_detect.engines.keras import KerasEngine

    return KerasEngine(bundle, params.device, params.batch_size)


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
    if _takes_openvino(engine, device):
        from napari_all_detect.engines.openvino_unet import OpenVinoMapper

        return OpenVinoMapper(bundle)
    from napari_all_detect.engines.keras_unet import KerasMapper

    return KerasMapper(bundle, device)


def multiple_of(bundle: SegmenterBundle) -> int:
    """Return what both sides of a segmenter's image must be multiples of."""
    return int(2 ** len(bundle.manifest.network.widths))


def _takes_openvino(engine: str, device: str) -> bool:
    """Return whether OpenVINO runs the networks: on a processor, where it is installed, unless Keras is asked for."""
    if engine == "openvino" and device == "gpu":
        raise ParameterError("engine is 'openvino' and device 'gpu'; expected device cpu, or engine keras for a GPU")
    if engine != "auto":
        return engine == "openvino"
    return device != "gpu" and has_openvino() and (device == "cpu" or not _has_gpu())


def _has_gpu() -> bool:
    """Return whether Keras sees a GPU. It isn't even imported where there is no driver of one, to start at once."""
    if not any(Path(name).exists() for name in DRIVERS) and shutil.which("nvidia-smi") is None:
        return False
    from napari_all_detect.engines.keras import choose_device

    return choose_device("auto") == "gpu"
