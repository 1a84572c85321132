"""Keras: for each member one graph from uint8 crops to its probabilities."""

import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle import Bundle, Member
from napari_all_detect.engines.base import Progress
from napari_all_detect.engines.keras_program import (
    compiled,
    computing_in,
    copied_to_device,
    ran_out_of_memory,
)
from napari_all_detect.engines.precision import in_each
from napari_all_detect.errors import AllDetectError, BundleError, MissingDependencyError
from napari_all_detect.networks import build_network, preprocess

__all__ = ["KerasEngine", "cells_at_once", "choose_device", "gpu_name", "load_member", "load_weights", "member_graph"]

log = logging.getLogger(__name__)

LEAST_BATCH = 2
"""A single cell is multiplied in another order, which shows in the last bits."""

CPU_BATCH_PX, GPU_BATCH_PX = 2**20, 2**24
"""Pixels of a batch: VGG-16's first maps take 0.5 kB for each, in fp32 and twice, and a processor gains nothing from
more than a few cells."""


class KerasEngine:
    """The members of a bundle in compiled graphs: all in one, and any of them alone.

    Parameters
    ----------
    bundle : Bundle
    device : {"auto", "cpu", "gpu"}
        `auto` takes a GPU if Keras's backend sees one.
    batch_size : int, optional
        Cells at once; if not given, what fits: see `cells_at_once`. Where memory runs out it's halved, for good. A
        plane's last batch is filled up, on JAX wholly, elsewhere to a power of two, so that few shapes are compiled,
        and to two at least: a single one is multiplied in another order, which shows in the last bits. Of what a
        cell comes with, and of where in the batch it comes, its probabilities do not depend.
    precision : str
        What the networks compute in, `fp32` or `bf16`, or one for each member, joined by commas; their weights and
        logits stay in fp32.

    Raises
    ------
    BundleError
        If weights do not fit the architecture that the manifest names.
    MissingDependencyError
        If `device` is `gpu` and there is none.
    """

    def __init__(self, bundle: Bundle, device: str, batch_size: int | None = None, precision: str = "fp32") -> None:
        self.device = choose_device(device)
        import keras

        self.name = f"keras {keras.__version__} on {keras.backend.backend()}"
        self.batch_size = batch_size or cells_at_once(bundle, self.device)
        # JAX compiles for each shape anew, and in bf16 the last bits hang on it.
        self._one_shape = keras.backend.backend() == "jax"
        # Planes may come from several threads; one batch at a time fills the machine.
        self._lock = Lock()
        members = bundle.manifest.members
        self._all = range(len(members))
        with keras.device(self.device):
            each = zip(members, in_each(precision, len(members)), strict=True)
            self._program = compiled([_graph_in(floats, bundle, member) for member, floats in each])

    def predict(
        self, crops: NDArray[np.uint8], progress: Progress | None = None, members: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return the members' probabilities: see `Engine`.

        Raises
        ------
        AllDetectError
            If there is not even memory for two cells.
        """
        import keras

        asked = self._all if members is None else members
        probabilities, done = np.empty((len(crops), len(asked), 2), np.float32), 0
        with self._lock, keras.device(self.device):
            while done < len(crops):
                try:
                    for stop in self._batches(asked, crops, done, probabilities):
                        if progress is not None:
                            progress(stop - done)
                        done = stop
                except Exception as error:
                    if not ran_out_of_memory(error):
                        raise
                    self._take_less(error)
        return probabilities

    def _batches(
        self, asked: Sequence[int], crops: NDArray[np.uint8], start: int, out: NDArray[np.float32]
    ) -> Iterator[int]:
        """Score from cell `start` on; yield after each batch up to where it is done.

        A batch is copied to the device, and begun there, before the results of the one before it are waited for.
        """
        running = deque[tuple[int, int, Sequence[Any]]]()
        for first in range(start, len(crops), self.batch_size):
            batch = crops[first : first + self.batch_size]
            filled = copied_to_device(_filled(batch, self.batch_size, self._one_shape))
            running.append((first, first + len(batch), self._program(filled, asked)))
            if len(running) > 1:
                yield _fetched(*running.popleft(), out)
        for waiting in running:
            yield _fetched(*waiting, out)

    def _take_less(self, error: Exception) -> None:
        if self.batch_size <= LEAST_BATCH:
            raise AllDetectError(
                f"the {self.device} has no memory for {self.batch_size} cells at once; take --device cpu, or a bundle "
                "of smaller networks"
            ) from error
        self.batch_size = max(LEAST_BATCH, self.batch_size // 2)
        log.warning("out of memory; goes on with %d cells at once", self.batch_size)


def _fetched(first: int, stop: int, votes: Sequence[Any], out: NDArray[np.float32]) -> int:
    """Wait for a batch's results, and write them down."""
    for k, vote in enumerate(votes):
        out[first:stop, k] = np.asarray(vote)[: stop - first]
    return stop


def cells_at_once(bundle: Bundle, device: str) -> int:
    """Return how many cells a batch takes: a power of two, so that the largest member's maps fit into memory."""
    largest = max(member.input_size for member in bundle.manifest.members)
    most, pixels = (512, GPU_BATCH_PX) if device == "gpu" else (32, CPU_BATCH_PX)
    return max(LEAST_BATCH, min(most, 1 << (pixels // largest**2).bit_length() - 1))


def _graph_in(precision: str, bundle: Bundle, member: Member) -> Any:
    with computing_in(precision):
        return member_graph(bundle, member, load_member(bundle, member))


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
        If a GPU is asked for and there is none, or Keras can't start.
    """
    _start_keras()
    if device == "cpu":
        return "cpu"
    has_gpu = _has_gpu()
    if device == "gpu" and not has_gpu:
        raise MissingDependencyError(
            "no GPU that Keras's backend can use; run with --device cpu, or: pip install 'napari-all-detect[gpu]' "
            "and set the environment variable KERAS_BACKEND=jax"
        )
    return "gpu" if has_gpu else "cpu"


def gpu_name() -> str:
    """Return which GPU is taken, and by what: what was measured there holds for it."""
    import keras

    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        kind = jax.devices("gpu")[0].device_kind
    else:
        import tensorflow as tf

        (first, *_) = tf.config.list_physical_devices("GPU")
        kind = tf.config.experimental.get_device_details(first).get("device_name", "GPU")
    return f"{kind} by keras {keras.__version__} on {backend}"


def _start_keras() -> None:
    try:
        import keras  # noqa: F401
    except (ImportError, ValueError) as error:  # ValueError: a backend that it doesn't know
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        raise MissingDependencyError(
            f"Keras can't start on {backend} ({error}); install that (jax: pip install 'napari-all-detect[gpu]'), set "
            "the environment variable KERAS_BACKEND to tensorflow, jax or torch, or take --engine openvino"
        ) from error


def _has_gpu() -> bool:
    import keras

    try:
        return bool(keras.distribution.list_devices("gpu"))
    except RuntimeError:  # JAX's way of saying that there is none
        return False
    except AttributeError:  # PyTorch's devices Keras does not list
        return False


def _filled(batch: NDArray[np.uint8], batch_size: int, one_shape: bool) -> NDArray[np.uint8]:
    """Fill a batch up with black, to the next power of two or wholly."""
    n = batch_size if one_shape else max(LEAST_BATCH, min(batch_size, 1 << (len(batch) - 1).bit_length()))
    return np.pad(batch, ((0, n - len(batch)), (0, 0), (0, 0), (0, 0))) if n > len(batch) else batch
