"""Keras: one graph from a tile's bytes to the maps of a segmenter."""

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle import SegmenterBundle
from napari_all_detect.engines.keras import choose_device, load_weights
from napari_all_detect.engines.keras_program import computing_in
from napari_all_detect.errors import BundleError
from napari_all_detect.unet import build_unet, multiple_of, split_unet

__all__ = ["KerasMapper", "load_unet", "maps_graph"]


class KerasMapper:
    """The network of a segmenter in one compiled graph.

    Parameters
    ----------
    bundle : SegmenterBundle
    device : {"auto", "cpu", "gpu"}
        `auto` takes a GPU if Keras's backend sees one.

    Raises
    ------
    BundleError
        If the weights do not fit the network that the manifest describes.
    MissingDependencyError
        If `device` is `gpu` and there is none.
    """

    def __init__(self, bundle: SegmenterBundle, device: str) -> None:
        self.device = choose_device(device)
        import keras

        self.name = f"keras {keras.__version__} on {keras.backend.backend()}"
        self.multiple = multiple_of(bundle.manifest.network.widths)
        self.cell_diameter_px = bundle.manifest.network.cell_diameter_px
        self._lock = Lock()
        with keras.device(self.device), computing_in("fp32"):
            self._graph = maps_graph(bundle, load_unet(bundle))

    def predict(self, light: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the maps of one image.

        Parameters
        ----------
        light : (H, W, 3) uint8
            Light relative to the empty field, which is `napari_all_detect.unet.EMPTY_FIELD`. H and W are
            multiples of `multiple`.

        Returns
        -------
        maps : (H / 2, W / 2, 3) uint8
            The probabilities of `napari_all_detect.unet.CHANNELS`, times 255. Bytes: what the last bits of a sum are
            depends on the machine, what cells are found shouldn't.
        """
        import keras

        with self._lock, keras.device(self.device):
            return np.asarray(self._graph.predict_on_batch(light[None])[0], np.uint8)


def load_unet(bundle: SegmenterBundle) -> Any:
    """Build the network of a segmenter, with its weights, in the form that takes least time (`split_unet`).

    Raises
    ------
    BundleError
        If they do not fit.
    """
    network = build_unet(bundle.manifest.network.widths)
    try:
        load_weights(network, bundle.weights(bundle.manifest.network))
    except (ValueError, KeyError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BundleError(f"bundle {bundle.label}: {reason}; get the bundle again") from error
    network = split_unet(network, bundle.manifest.network.widths)
    network.trainable = False
    return network


def maps_graph(bundle: SegmenterBundle, network: Callable[[Any], Any], side: int | None = None) -> Any:
    """Complete the network of a segmenter: uint8 light in, uint8 maps out; None leaves height and width open."""
    import keras

    light = keras.Input((side, side, 3), dtype="uint8", name="light")
    maps = keras.ops.cast(keras.ops.round(255 * keras.ops.sigmoid(network(light))), "uint8")
    return keras.Model(light, maps, name=bundle.manifest.name)
