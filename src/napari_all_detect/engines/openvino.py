"""OpenVINO: on a processor the fastest way from crops to the members' probabilities."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle import Bundle
from napari_all_detect.cores import n_cores
from napari_all_detect.engines.base import Progress
from napari_all_detect.engines.openvino_cache import read_networks
from napari_all_detect.engines.openvino_int8 import read_quantised
from napari_all_detect.engines.openvino_runtime import (
    check_not_forked,
    compile_network,
    computes_in_bf16,
    engine_name,
    import_openvino,
)
from napari_all_detect.engines.precision import in_each

__all__ = ["OpenVinoEngine", "n_threads"]

CELLS_AHEAD = 16
"""Cells that are queued at once, for each thread."""


class OpenVinoEngine:
    """Each member of a bundle as an OpenVINO model that takes one cell at a time, on one thread.

    As many cells are under way as there are threads: no slower than batches, which a processor gains nothing from,
    and what a cell gets can't depend on its neighbours, on how many there are, or on the number of threads.

    Parameters
    ----------
    bundle : Bundle
    precision : str
        `fp32`, `bf16` or `int8`, or one for each member, joined by commas. What int8 networks leave in floats is bf16
        where the processor knows that.

    Raises
    ------
    BundleError
        If weights do not fit the architecture that the manifest names, or there are no int8 networks.
    MissingDependencyError
        If OpenVINO is not installed.
    AllDetectError
        Here and from `predict`, in a fork of a process that had opened one.
    """

    device = "cpu"

    def __init__(self, bundle: Bundle, precision: str = "fp32") -> None:
        self.name = engine_name()
        precisions = in_each(precision, len(bundle.manifest.members))
        lesser = "bf16" if computes_in_bf16() else "f32"
        floats = ["f32" if one == "fp32" else lesser for one in precisions]
        self._threads = n_threads()
        networks, threads = _networks(bundle, precisions), self._threads
        check_not_forked()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="openvino")
        compiled = self._pool.map(lambda network, hint: _Member(network, hint, threads), networks, floats)
        self._members = list(compiled)
        # OpenVINO's Python part deadlocks (seen in 2026.4) if two threads make its table of NumPy's types at once, by
        # their first inferences.
        import_openvino().Type.u8.to_dtype()

    def predict(
        self, crops: NDArray[np.uint8], progress: Progress | None = None, members: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return the members' probabilities: see `Engine`. Progress is told of each cell's worth of work."""
        check_not_forked()
        asked = self._members if members is None else [self._members[k] for k in members]
        probabilities = np.empty((len(crops), len(asked), 2), np.float32)

        def run(task: tuple[int, int]) -> None:
            k, cell = task
            probabilities[cell, k] = asked[k].predict(crops[cell])

        ahead = CELLS_AHEAD * self._threads
        for start in range(0, len(crops), ahead):
            cells = range(start, min(start + ahead, len(crops)))
            # Member by member: a member's weights stay in the cores' caches.
            for done, _ in enumerate(self._pool.map(run, product(range(len(asked)), cells)), 1):
                if progress is not None and done % len(asked) == 0:
                    progress(1)
        return probabilities


def _networks(bundle: Bundle, precisions: Sequence[str]) -> list[Any]:
    """Read each member's network in its precision."""
    names = [member.name for member in bundle.manifest.members]
    in_int8 = [name for name, precision in zip(names, precisions, strict=True) if precision == "int8"]
    in_floats = [name for name in names if name not in in_int8]
    found: dict[str, Any] = {}
    if in_int8:
        found |= zip(in_int8, read_quantised(bundle, in_int8), strict=True)
    if in_floats:
        found |= zip(in_floats, read_networks("members", bundle, in_floats), strict=True)
    return [found[name] for name in names]


class _Member:
    """A compiled network, with a place for each thread to work in."""

    def __init__(self, network: Any, floats: str, threads: int) -> None:
        network.reshape([1, *list(network.input(0).partial_shape)[1:]])
        compiled = compile_network(network, floats, threads, streams=threads)
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(threads):
            self._idle.put(compiled.create_infer_request())

    def predict(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities, (2,) float32, for an (s, s, 3) uint8 crop."""
        request = self._idle.get()
        try:
            request.infer([np.ascontiguousarray(crop[None])], share_inputs=True)
            return np.array(request.get_output_tensor(0).data[0])
        finally:
            self._idle.put(request)


def n_threads() -> int:
    """Return how many threads to compute with: the cores that this process may use, or `ALL_DETECT_THREADS`."""
    asked = os.environ.get("ALL_DETECT_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    return n_cores()
