"""OpenVINO: the maps of a segmenter, the same bytes as Keras's."""

from threading import Lock

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle import SegmenterBundle
from napari_all_detect.engines.openvino import n_threads
from napari_all_detect.engines.openvino_cache import read_networks
from napari_all_detect.engines.openvino_runtime import compile_network, engine_name
from napari_all_detect.unet import multiple_of

__all__ = ["OpenVinoMapper"]


class OpenVinoMapper:
    """The network of a segmenter as an OpenVINO model, one image at a time on all threads.

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
        self._lock = Lock()
        (network,) = read_networks("segmenter", bundle, [bundle.manifest.name])
        self._request = compile_network(network, "f32", n_threads(), streams=1).create_infer_request()

    def predict(self, light: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the maps of one image: see `Mapper`."""
        with self._lock:
            self._request.infer([np.ascontiguousarray(light[None])], share_inputs=True)
            return np.array(self._request.get_output_tensor(0).data[0])
