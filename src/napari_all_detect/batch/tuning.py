"""Find the fastest precisions in which an ensemble calls cells as in fp32: on images of the user's own."""

import hashlib
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.batch.agreement import Votes, agreement_of
from napari_all_detect.bundle import Bundle, load_bundle
from napari_all_detect.engines import MemberEngine
from napari_all_detect.engines.choice import takes_openvino
from napari_all_detect.engines.keras import KerasEngine, choose_device, gpu_name
from napari_all_detect.engines.openvino import OpenVinoEngine
from napari_all_detect.engines.openvino_int8 import quantise
from napari_all_detect.engines.openvino_runtime import computes_in_bf16, has_openvino, processor
from napari_all_detect.engines.precision import (
    CELLS,
    Device,
    Measured,
    Tuning,
    forget_tuning,
    tuned_alone,
    write_tuning,
)
from napari_all_detect.errors import InputError, MissingDependencyError
from napari_all_detect.params import PRECISIONS, ScoreParams
from napari_all_detect.pipeline import PlaneInput, Scorer, cut_cells
from napari_all_detect.sources import find_images, open_planes
from napari_all_detect.stain import normalise_stain

__all__ = ["tune_bundle"]

Tell = Callable[[str], None]
Times = dict[str, NDArray[np.float64]]
"""Precision -> (M,) milliseconds."""


def tune_bundle(
    bundle: str,
    inputs: Sequence[str | Path],
    tell: Tell = lambda text: None,
    engine: str = "auto",
    device: str = "auto",
) -> Tuning:
    """Measure a bundle's members in each precision, choose one for each, and keep that for `auto`.

    Cells are taken from images in a random order, the same every time, until there are `CELLS`: so a folder's first
    class is not all that is seen. A member may stay in fp32 while others compute in int8: some take rounding badly.

    Parameters
    ----------
    bundle : str
        Name or path.
    inputs : sequence of str or Path
        As for `score_batch`.
    tell : callable, optional
        Is told what is being done.
    engine : {"auto", "openvino", "keras"}
        As for `score_batch`. OpenVINO is tuned for the processor; Keras, which knows no int8, for a GPU.
    device : {"auto", "cpu", "gpu"}

    Returns
    -------
    tuning : Tuning
        fp32, each other precision for all members, and the fastest mixture that agrees with fp32.

    Raises
    ------
    InputError
        If the images hold fewer cells, or can't be read.
    ParameterError
        If a GPU is asked of OpenVINO.
    BundleError, MissingDependencyError
        If the bundle can't be used, or OpenVINO or NNCF is not installed, and there is no GPU.
    """
    loaded = load_bundle(bundle)
    tuned_for: Device = "cpu" if takes_openvino(engine, device) else "gpu"
    if tuned_for == "gpu" and choose_device(device) != "gpu":
        install = "" if has_openvino() else "pip install 'napari-all-detect[openvino]' and "
        raise MissingDependencyError(
            f"Keras on a processor computes in fp32, there is nothing to tune; {install}leave --engine out, or tune "
            "where Keras sees a GPU"
        )
    engine = "openvino" if tuned_for == "cpu" else "keras"
    params = ScoreParams(bundle=bundle, engine=engine, precision="fp32", device=tuned_for)
    in_fp32 = _engine(loaded, "fp32", tuned_for)
    scorer = Scorer(params, loaded, in_fp32)
    crops = _cells(scorer, inputs, tell)
    with tuned_alone(loaded, tuned_for):
        return _tuned(scorer, in_fp32, tuned_for, crops, tell)


def _tuned(scorer: Scorer, in_fp32: MemberEngine, tuned_for: Device, crops: NDArray[np.uint8], tell: Tell) -> Tuning:
    """Make int8 networks for a processor, measure the members in each precision, and keep what was found."""
    loaded, n = scorer.bundle, len(scorer.members)
    if tuned_for == "cpu":
        tell("calibrating int8 networks ...")
        forget_tuning(loaded)  # first: ended half-way, it must not speak for networks that nobody measured
        quantise(loaded, crops)
    votes, ms = dict[str, NDArray[np.float32]](), Times()
    for precision in _precisions(tuned_for):
        tell(f"scoring {len(crops)} cells in {precision} ...")
        engine = in_fp32 if precision == "fp32" else _engine(loaded, precision, tuned_for)
        votes[precision], ms[precision] = _timed(engine, crops, n)
    measured = [_measured(scorer, votes, ms, (precision,) * n) for precision in votes]
    mixtures = sorted(product(votes, repeat=n), key=lambda mixture: _total(ms, mixture))
    rows = (_measured(scorer, votes, ms, mixture) for mixture in mixtures)
    measured.append(next(row for row in rows if row.agreement.is_enough))
    digest = hashlib.sha256(crops.tobytes()).hexdigest()
    runs_on = processor() if tuned_for == "cpu" else gpu_name()
    tuning = Tuning(runs_on, len(crops), digest, tuple(measured))
    write_tuning(loaded, tuning, tuned_for)
    return tuning


def _precisions(tuned_for: Device) -> list[str]:
    """Return what can be had there; fp32 comes first."""
    lacking = {"int8"} if tuned_for == "gpu" else set() if computes_in_bf16() else {"bf16"}
    return [precision for precision in PRECISIONS if precision not in lacking]


def _engine(bundle: Bundle, precision: str, tuned_for: Device) -> MemberEngine:
    return OpenVinoEngine(bundle, precision) if tuned_for == "cpu" else KerasEngine(bundle, "gpu", precision=precision)


def _cells(scorer: Scorer, inputs: Sequence[str | Path], tell: Tell) -> NDArray[np.uint8]:
    """Return enough cells, as the networks see them."""
    files, crop = find_images(inputs), scorer.bundle.manifest.crop
    found, n = list[NDArray[np.uint8]](), 0
    for k in np.random.default_rng(0).permutation(len(files)):
        for plane in open_planes(files[k]):
            cut = cut_cells(PlaneInput(plane.read(), pixel_size_um=plane.pixel_size_um), scorer.params, crop)
            found.append(normalise_stain(cut.crops, crop.stain_normalisation))
            n += len(cut.crops)
            tell(f"{n} cells of {CELLS}")
            if n >= CELLS:
                return np.concatenate(found)
    raise InputError(f"{n} cells in {len(files)} images; expected {CELLS} at least: give more images")


def _timed(engine: MemberEngine, crops: NDArray[np.uint8], n: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the members' probabilities, and how many milliseconds each took for a cell: of one core, or of a GPU."""
    clock = time.perf_counter if engine.device == "gpu" else time.process_time
    votes, ms, half = [], [], len(crops) // 2
    for k in range(n):
        first = engine.predict(crops[:half], members=[k])[:, 0]  # compiles, where it is compiled for the first batch
        began = clock()
        second = engine.predict(crops[half:], members=[k])[:, 0]
        ms.append(1000 * (clock() - began) / len(second))
        votes.append(np.concatenate([first, second]))
    return np.stack(votes, axis=1), np.array(ms)


def _measured(scorer: Scorer, votes: Votes, ms: Times, mixture: Sequence[str]) -> Measured:
    """Return how an ensemble with a precision for each member compares with fp32."""
    precision = mixture[0] if len(set(mixture)) == 1 else ",".join(mixture)
    return Measured(precision, _total(ms, mixture), agreement_of(scorer, votes, mixture))


def _total(ms: Times, mixture: Sequence[str]) -> float:
    return float(sum(ms[precision][k] for k, precision in enumerate(mixture)))
