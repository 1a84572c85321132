"""Engines and precisions beside what one would write otherwise: milliseconds a cell, and what changes in the scores.

Peers get what our engines get, uint8 crops, and run all five members. Batch sizes are theirs at their best.
"""

import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.bundles import engines_of, whole_networks
from benchmarks.cells import cells_of
from benchmarks.measure import Row, Tables, alternate, both_clocks, ratio, row
from napari_all_detect.bundle import Bundle, load_bundle
from napari_all_detect.ensemble import combine, member_weights

Predict = Callable[[np.ndarray], np.ndarray]
YARDSTICK = "keras.predict, batch 16"
BATCH = 16


def run(smoke: bool = False) -> Tables:
    """Measure lite and the whole networks."""
    title = "Engines: five whole networks at 300 px, random weights"
    with whole_networks(smoke) as whole:
        lite = {} if smoke else {"Engines: lite": compare(load_bundle("lite"), 128, 5, real=True)}
        return {**lite, title: compare(whole, *((4, 1) if smoke else (16, 2)))}


def compare(bundle: Bundle, n_cells: int, rounds: int, real: bool = False) -> list[Row]:
    """Let all engines and peers that are installed take turns on the same cells."""
    crops, what = cells_of(bundle, n_cells, real)
    ours = {name: engine.predict for name, engine in engines_of(bundle, crops).items()}
    contestants: dict[str, Predict] = {**peers(bundle), **ours}
    votes = {name: predict(crops) for name, predict in contestants.items()}
    tasks = [lambda predict=predict: predict(crops) for predict in contestants.values()]
    times = dict(zip(contestants, alternate(tasks, rounds, both_clocks, warm=True), strict=True))
    weights = member_weights([m.validation for m in bundle.manifest.members], bundle.manifest.ensemble.weighting)
    reference = combine(votes[YARDSTICK], weights)[:, 1]
    rows = []
    for name, seconds in times.items():
        wall, processor = ratio(times[YARDSTICK], seconds)
        rows += [
            row(name, 1000 * float(np.median(seconds, axis=0)[0]) / n_cells, "ms/cell"),
            row(f"{name}: times as fast as {YARDSTICK}", wall, "ratio"),
            row(f"{name}: by the processor's clock", processor, "ratio"),
        ]
        if name in ours:
            p_all = combine(votes[name], weights)[:, 1]
            same = (p_all >= 0.5) == (reference >= 0.5)
            rows += [
                row(f"{name}: largest change of p_all", float(np.abs(p_all - reference).max()), ""),
                row(f"{name}: same calls", float(same.mean()), f"of {n_cells} {what}"),
            ]
    return rows


def peers(bundle: Bundle) -> dict[str, Predict]:
    """Return what one would write with Keras, TensorFlow and ONNX Runtime."""
    import keras
    import tensorflow as tf

    from napari_all_detect.engines.keras import load_member
    from napari_all_detect.networks import preprocess

    members = [(member, load_member(bundle, member)) for member in bundle.manifest.members]

    def votes(run_member: Callable[[Any, np.ndarray], np.ndarray], crops: np.ndarray, batch: int) -> np.ndarray:
        parts = []
        for start in range(0, len(crops), batch):
            part = crops[start : start + batch]
            logits = [
                run_member(k, np.asarray(preprocess(part, m.input_size, m.preprocessing))) / m.temperature
                for k, (m, _) in enumerate(members)
            ]
            parts.append(np.stack([np.asarray(keras.ops.softmax(one)) for one in logits], axis=1))
        return np.concatenate(parts)

    def predict(k: int, pixels: np.ndarray) -> np.ndarray:
        return np.asarray(members[k][1].predict(pixels, batch_size=BATCH, verbose=0))

    functions = [tf.function(lambda pixels, n=network: n(pixels, training=False)) for _, network in members]
    found: dict[str, Predict] = {
        "keras.predict, a cell at a time": lambda crops: votes(predict, crops, 1),
        YARDSTICK: lambda crops: votes(predict, crops, BATCH),
        "TensorFlow function, batch 16": lambda crops: votes(lambda k, x: functions[k](x).numpy(), crops, BATCH),
    }
    sessions = onnx_sessions([network for _, network in members])
    if sessions:
        found["ONNX Runtime, batch 16"] = lambda crops: votes(
            lambda k, x: sessions[k].run(None, {sessions[k].get_inputs()[0].name: x})[0], crops, BATCH
        )
    return found


def onnx_sessions(networks: list[Any]) -> list[Any]:
    """Return an ONNX Runtime session of each network; none where ONNX Runtime or tf2onnx is not installed."""
    try:
        import onnxruntime
        import tf2onnx  # noqa: F401
    except ImportError:
        print("ONNX Runtime is left out: pip install 'napari-all-detect[bench]'", file=sys.stderr)
        return []
    import warnings

    sessions = []
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, about what Keras and tf2onnx use
        for k, network in enumerate(networks):
            path = f"{folder}/{k}.onnx"
            network.predict_on_batch(np.zeros((1, *network.input_shape[1:]), np.float32))  # Keras exports what ran
            network.export(path, format="onnx", verbose=False)
            sessions.append(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))
    return sessions
