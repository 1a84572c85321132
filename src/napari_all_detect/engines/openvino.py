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
from napari_all_detect.engines.base import Progress
from napari_all_detect.engines.openvino_cache import read_networks
from napari_all_detect.engines.openvino_runtime import engine_name, import_openvino

__all__ = ["OpenVinoEngine", "n_threads"]

CELLS_AHEAD = 32
"""Cells that are queued at once, for each thread."""


class OpenVinoEngine:
    """Each member of a bundle as an OpenVINO model that takes one cell at a time, on one thread.

    As many cells are under way as there are threads: no slower than batches, which a processor gains nothing from,
    and what a cell gets can't depend on its neighbours, on how many there are, or on the number of threads.

    Parameters
    ----------
    bundle : Bundle

    Raises
    ------
    BundleError
        If weights do not fit the architecture that the manifest names.
    MissingDependencyError
        If OpenVINO is not installed.
    """

    device = "cpu"

    def __init__(self, bundle: Bundle) -> None:
        self.name = engine_name()
        names = [member.name for member in bundle.manifest.members]
        threads = n_threads()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="openvino")
        networks = read_networks("members", bundle, names)
        self._members = list(self._pool.map(lambda network: _Member(network, threads), networks))

    def predict(
        self, crops: NDArray[np.uint8], progress: Progress | None = None, members: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return the members' probabilities: see `Engine`. Progress is told of each cell."""
        asked = self._members if members is None else [self._members[k] for k in members]
        probabilities = np.empty((len(crops), len(asked), 2), np.float32)

        def run(task: tuple[int, int]) -> None:
            cell, k = task
            probabilities[cell, k] = asked[k].predict(crops[cell])

        ahead = CELLS_AHEAD * self._pool._max_workers
        for start in range(0, len(crops), ahead):
            cells = range(start, min(start + ahead, len(crops)))
            for done, _ in enumerate(self._pool.map(run, product(cells, range(len(asked)))), 1):
                if progress is not None and done % len(asked) == 0:
                    progress(1)
        return probabilities


class _Member:
    """A compiled network, with a place for each thread to work in."""

    def __init__(self, network: Any, threads: int) -> None:
        network.reshape([1, *list(network.input(0).partial_shape)[1:]])
        compiled = (
            import_openvino()
            .Core()
            .compile_model(
                network,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": "f32",
                    "INFERENCE_NUM_THREADS": threads,
                    "NUM_STREAMS": threads,
                },
            )
        )
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
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
