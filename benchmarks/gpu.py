"""A GPU: cells a second of each whole network and of all, beside `keras.predict` and the peak of its matrix products.

KERAS_BACKEND=jax python -m benchmarks.run gpu
"""

import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.bundles import whole_networks
from benchmarks.engines import loaded
from benchmarks.measure import Row, Tables, alternate, ratio, row
from benchmarks.voting import BATCH, votes
from napari_all_detect.bundle import Bundle
from napari_all_detect.costs import member_gflop
from napari_all_detect.engines.keras import KerasEngine, choose_device

YARDSTICK = f"keras.predict in fp32, batch {BATCH}"
PRECISIONS = ("fp32", "bf16")


def run(smoke: bool = False) -> Tables:
    """Measure where Keras runs on JAX with a GPU; smoke on whatever is there."""
    import keras

    if keras.backend.backend() != "jax" or (not smoke and choose_device("auto") != "gpu"):
        print("the GPU is left out: Keras sees none; set KERAS_BACKEND=jax", file=sys.stderr)
        return {}
    import jax

    device = choose_device("auto")
    with whole_networks(smoke) as bundle:
        title = f"{jax.devices(device)[0].device_kind}: whole networks, random weights"
        return {title: compare(bundle, device, *((4, 1, 64) if smoke else (1024, 3, 16384)))}


def compare(bundle: Bundle, device: str, n_cells: int, rounds: int, matrix: int) -> list[Row]:
    """Let our engine in fp32 and bf16, and `keras.predict`, take turns on the same cells: member by member, and all."""
    members, size = bundle.manifest.members, bundle.manifest.crop.size
    crops = np.random.default_rng(0).integers(0, 256, (n_cells, size, size, 3), np.uint8)
    networks = loaded(bundle)
    engines = {precision: KerasEngine(bundle, device, precision=precision) for precision in PRECISIONS}
    peaks = {precision: matrix_tflops(precision, matrix) for precision in PRECISIONS}
    rows = [row(f"peak of matrix products in {p}", tflops, "TFLOP/s") for p, tflops in peaks.items()]
    gflop = [member_gflop(member.architecture, member.cut, member.input_size) for member in members]

    def predicted(asked: list[int]) -> np.ndarray:
        """Return what one would have with Keras alone."""
        logits = [networks[k] for k in asked]
        return votes([members[k] for k in asked], lambda k, pixels: logits[k].predict(pixels, BATCH, verbose=0), crops)

    for asked in [*([k] for k in range(len(members))), [*range(len(members))]]:
        name = members[asked[0]].name if len(asked) == 1 else "all members"
        tasks: dict[str, Callable[[], object]] = {YARDSTICK: lambda asked=asked: predicted(asked)}
        for precision, engine in engines.items():
            tasks[precision] = lambda engine=engine, asked=asked: engine.predict(crops, members=asked)
        seconds = dict(zip(tasks, alternate(list(tasks.values()), rounds), strict=True))
        rows.append(row(f"{name}: {YARDSTICK}", n_cells / float(np.median(seconds[YARDSTICK])), "cells/s"))
        for precision in PRECISIONS:
            rate = n_cells / float(np.median(seconds[precision]))
            share = rate * sum(gflop[k] for k in asked) / 1000 / peaks[precision]
            rows += [
                row(f"{name}: all-detect, {precision}", rate, "cells/s"),
                row(
                    f"{name}: {precision}, over {YARDSTICK}", float(ratio(seconds[YARDSTICK], seconds[precision])), "x"
                ),
                row(f"{name}: {precision}, share of the peak", share, "ratio"),
            ]
    return rows


def matrix_tflops(precision: str, side: int) -> float:
    """Return the most that products of square matrices reach, in TFLOP/s."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((side, side), jnp.bfloat16 if precision == "bf16" else jnp.float32)
    product = jax.jit(lambda x: x @ a)
    product(a).block_until_ready()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds) / 1e12
