"""OpenVINO: the maps of a segmenter, the same bytes as Keras's."""

from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle import SegmenterBundle
from napari_all_detect.engines.openvino import n_threads
from napari_all_detect.engines.openvino_cache import read_networks
from napari_all_detect.engines.openvino_runtime import compile_network, engine_name
from napari_all_detect.unet import multiple_of

__all__ = ["OpenVinoMapper"]

SMALL_PX = 512 * 512
"""One thread maps so many pixels in 50 ms. Of smaller images threads get so little each that they wait for one another:
two took up to 1.4 times the processor's time of one, which other planes and the ensemble can use."""


class OpenVinoMapper:
    """The network of a segmenter as an OpenVINO model: one image at a time, a small one on one thread.

    Parameters
    ----------
    bundle : SegmenterBundle

    Raises
    ------
    BundleError
        If the weights do not fit the network that the manifest describes.
    MissingDependencyError
        If OpenVINO is not installed.
    """

    device = "cpu"

    def __init__(self, bundle: SegmenterBundle) -> None:
        self.name = engine_name()
        self.multiple = multiple_of(bundle.manifest.network.widths)
        self.cell_diameter_px = bundle.manifest.network.cell_diameter_px
        # Two images at once are 5 % faster, and where sizes vary OpenVINO (2026.4) crashed beside TensorFlow.
        self._lock = Lock()
        (self._network,) = read_networks("segmenter", bundle, [bundle.manifest.name])
        self._requests: dict[int, Any] = {}

    def predict(self, light: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the maps of one image: see `Mapper`."""
        with self._lock:
            request = self._request(1 if light.shape[0] * light.shape[1] <= SMALL_PX else n_threads())
            request.infer([np.ascontiguousarray(light[None])], share_inputs=True)
            return np.array(request.get_output_tensor(0).data[0])

    def _request(self, threads: int) -> Any:
        if threads not in self._requests:
            compiled = compile_network(self._network, "f32", threads, streams=1)
            self._requests[threads] = compiled.create_infer_request()
        return self._requests[threads]
