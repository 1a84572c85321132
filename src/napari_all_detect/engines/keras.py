"""Keras: for each member one graph from uint8 crops to its probabilities."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle import Bundle, Member
from napari_all_detect.engines.base import Progress
from napari_all_detect.errors import BundleError, MissingDependencyError
from napari_all_detect.networks import build_network, preprocess

__all__ = ["KerasEngine", "choose_device", "load_member", "load_weights", "member_graph"]


class KerasEngine:
    """Each member of a bundle in a compiled graph of its own, so that any of them can be asked alone.

    Parameters
    ----------
    bundle : Bundle
    device : {"auto", "cpu", "gpu"}
        `auto` takes a GPU if Keras's backend sees one.
    batch_size : int
        Cells at once. A plane's last batch is filled up to a power of two, so that few shapes are compiled, and to two
        at least: a single one is multiplied in another order, which shows in the last bits. Of what a cell comes
        with, and of where in the batch it comes, its probabilities do not depend.

    Raises
    ------
    BundleError
        If weights do not fit the architecture that the manifest names.
    MissingDependencyError
        If `device` is `gpu` and there is none.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", batch_size: int = 32) -> None:
        import keras

        self.batch_size = batch_size
        self.name = f"keras {keras.__version__} on {keras.backend.backend()}"
        self.device = choose_device(device)
        # Planes may come from several threads; one batch at a time fills the machine.
        self._lock = Lock()
        with keras.device(f"{self.device}:0"):
            self._graphs = [
                member_graph(bundle, member, load_member(bundle, member)) for member in bundle.manifest.members
            ]

    def predict(
        self, crops: NDArray[np.uint8], progress: Progress | None = None, members: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return the members' probabilities: see `Engine`."""
        import keras

        graphs = self._graphs if members is None else [self._graphs[k] for k in members]
        probabilities = np.empty((len(crops), len(graphs), 2), np.float32)
        with self._lock, keras.device(f"{self.device}:0"):
            for start in range(0, len(crops), self.batch_size):
                batch = crops[start : start + self.batch_size]
                filled = _filled(batch, self.batch_size)
                for k, graph in enumerate(graphs):
                    probabilities[start : start + len(batch), k] = graph.predict_on_batch(filled)[: len(batch)]
                if progress is not None:
                    progress(len(batch))
        return probabilities


def member_graph(bundle: Bundle, member: Member, network: Callable[[Any], Any]) -> Any:
    """Complete a member's network: uint8 crops in, resized and scaled for it, the softmax at its temperature out."""
    import keras

    size = bundle.manifest.crop.size
    crops = keras.Input((size, size, 3), dtype="uint8", name="crops")
    logits = network(preprocess(crops, member.input_size, member.preprocessing))
    return keras.Model(crops, keras.ops.softmax(logits / member.temperature), name=member.name)


def load_member(bundle: Bundle, member: Member) -> Any:
    """Build one member and give it its weights: preprocessed pixels in, logits of (Hem, ALL) out.

    Raises
    ------
    BundleError
        If they do not fit its architecture.
    """
    try:
        network = build_network(member.architecture, member.input_size, member.cut)
        load_weights(network, bundle.weights(member))
    except (ValueError, KeyError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BundleError(
            f"bundle {bundle.label}, member {member.name}: {reason}; "
            f"expected weights of {member.architecture} cut at {member.cut}; get the bundle again"
        ) from error
    network.trainable = False
    return network


def load_weights(network: Any, path: Path) -> None:
    """Load every weight. Keras warns of parts that it skips; they would stay random, so none may be skipped."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Skipping nested container", UserWarning)
            network.load_weights(path)
    except UserWarning as warning:
        raise ValueError("arrays are missing or of another shape") from warning


def choose_device(device: str) -> str:
    """Return `cpu` or `gpu` for `auto`, `cpu` or `gpu`.

    Raises
    ------
    MissingDependencyError
        If a GPU is asked for and there is none.
    """
    if device == "cpu":
        return "cpu"
    has_gpu = _has_gpu()
    if device == "gpu" and not has_gpu:
        raise MissingDependencyError(
            "no GPU that Keras's backend can use; run with --device cpu, or: pip install 'napari-all-detect[gpu]' "
            "and set the environment variable KERAS_BACKEND=jax"
        )
    return "gpu" if has_gpu else "cpu"


def _has_gpu() -> bool:
    import keras

    try:
        return bool(keras.distribution.list_devices("gpu"))
    except RuntimeError:  # JAX's way of saying that there is none
        return False


def _filled(batch: NDArray[np.uint8], batch_size: int) -> NDArray[np.uint8]:
    """Fill a batch up with black to the next power of two."""
    n = max(2, min(batch_size, 1 << (len(batch) - 1).bit_length()))
    return np.pad(batch, ((0, n - len(batch)), (0, 0), (0, 0), (0, 0))) if n > len(batch) else batch
