"""Engines and precisions beside what one would write otherwise: milliseconds a cell, and what changes in the scores.

Peers get what our engines get, uint8 crops, and run all five members. Batch sizes are theirs at their best.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.bundles import engines_of, whole_networks
from benchmarks.cells import cells_of
from benchmarks.measure import Row, Tables, alternate, both_clocks, ratio, row
from benchmarks.torch_peer import TorchPeer
from benchmarks.voting import BATCH, votes
from napari_all_detect.bundle import Bundle, load_bundle
from napari_all_detect.engines.keras import load_member
from napari_all_detect.ensemble import combine, member_weights

Predict = Callable[[np.ndarray], np.ndarray]
YARDSTICK = f"keras.predict, batch {BATCH}"


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
    networks = loaded(bundle)
    with onnx_peers(bundle, networks) as (others, elsewhere):
        contestants: dict[str, Predict] = {**keras_peers(bundle, networks), **others, **ours}
        found = {name: predict(crops) for name, predict in contestants.items()}
        tasks = [lambda predict=predict: predict(crops) for predict in contestants.values()]
        taken = alternate(tasks, rounds, lambda: both_clocks() + np.array([0, elsewhere()]), warm=True)
    times = dict(zip(contestants, taken, strict=True))
    weights = member_weights([m.validation for m in bundle.manifest.members], bundle.manifest.ensemble.weighting)
    reference = combine(found[YARDSTICK], weights)[:, 1]
    rows = []
    for name, seconds in times.items():
        wall, processor = ratio(times[YARDSTICK], seconds)
        rows += [
            row(name, 1000 * float(np.median(seconds, axis=0)[0]) / n_cells, "ms/cell"),
            row(f"{name}: times as fast as {YARDSTICK}", wall, "ratio"),
            row(f"{name}: by the processor's clock", processor, "ratio"),
        ]
        p_all = combine(found[name], weights)[:, 1]
        same = (p_all >= 0.5) == (reference >= 0.5)
        rows += [
            row(f"{name}: largest change of p_all", float(np.abs(p_all - reference).max()), ""),
            row(f"{name}: same calls", float(same.mean()), f"of {n_cells} {what}"),
        ]
    return rows


def loaded(bundle: Bundle) -> list[Any]:
    """Return the members as Keras models."""
    return [load_member(bundle, member) for member in bundle.manifest.members]


def keras_peers(bundle: Bundle, networks: Sequence[Any]) -> dict[str, Predict]:
    """Return what one would write with Keras and TensorFlow."""
    import tensorflow as tf

    members = bundle.manifest.members
    functions = [tf.function(lambda pixels, n=network: n(pixels, training=False)) for network in networks]

    def predict(k: int, pixels: np.ndarray) -> np.ndarray:
        return np.asarray(networks[k].predict(pixels, batch_size=BATCH, verbose=0))

    return {
        "keras.predict, a cell at a time": lambda crops: votes(members, predict, crops, 1),
        YARDSTICK: lambda crops: votes(members, predict, crops),
        f"TensorFlow function, batch {BATCH}": lambda crops: votes(
            members, lambda k, pixels: functions[k](pixels).numpy(), crops
        ),
    }


@contextmanager
def onnx_peers(bundle: Bundle, networks: Sequence[Any]) -> Iterator[tuple[dict[str, Predict], Callable[[], float]]]:
    """Make what one would write with ONNX Runtime and, by way of ONNX, with PyTorch; of them what is installed.

    Yields
    ------
    peers : dict
    elsewhere : callable
        Returns the seconds of the processor that those took that run in a process of their own.
    """
    found, members = dict[str, Predict](), bundle.manifest.members
    if not _are_there("ONNX Runtime", "bench", "onnxruntime", "tf2onnx"):
        yield found, lambda: 0.0
        return
    with TemporaryDirectory() as folder:
        files = _as_onnx(networks, Path(folder))
        sessions = [_session(file) for file in files]
        found[f"ONNX Runtime, batch {BATCH}"] = lambda crops: votes(
            members, lambda k, pixels: sessions[k].run(None, {sessions[k].get_inputs()[0].name: pixels})[0], crops
        )
        if not _are_there("PyTorch", "bench-torch", "torch", "onnx2torch"):
            yield found, lambda: 0.0
            return
        with TorchPeer(members, files) as torch:
            yield found | {f"PyTorch, batch {BATCH}": torch.predict}, torch.processor_s


def _are_there(what: str, extra: str, *modules: str) -> bool:
    """Return whether modules are installed; say what is left out otherwise."""
    if all(map(find_spec, modules)):
        return True
    print(f"{what} is left out: pip install 'napari-all-detect[{extra}]'", file=sys.stderr)
    return False


def _as_onnx(networks: Sequence[Any], folder: Path) -> list[Path]:
    """Write each network as ONNX."""
    import warnings

    files = [folder / f"{k}.onnx" for k in range(len(networks))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, about what Keras and tf2onnx use
        for network, file in zip(networks, files, strict=True):
            network.predict_on_batch(np.zeros((1, *network.input_shape[1:]), np.float32))  # Keras exports what ran
            network.export(str(file), format="onnx", verbose=False)
    return files


def _session(file: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
