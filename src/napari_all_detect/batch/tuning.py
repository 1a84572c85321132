"""Find the fastest precisions in which an ensemble calls cells as in fp32: on images of the user's own."""

import hashlib
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.batch.agreement import Votes, agreement_of
from napari_all_detect.bundle import load_bundle
from napari_all_detect.engines import MemberEngine
from napari_all_detect.engines.openvino import OpenVinoEngine
from napari_all_detect.engines.openvino_int8 import quantise
from napari_all_detect.engines.openvino_runtime import computes_in_bf16, processor
from napari_all_detect.engines.precision import CELLS, Measured, Tuning, forget_tuning, tuned_alone, write_tuning
from napari_all_detect.errors import InputError
from napari_all_detect.params import PRECISIONS, ScoreParams
from napari_all_detect.pipeline import PlaneInput, Scorer, cut_cells
from napari_all_detect.sources import find_images, open_planes
from napari_all_detect.stain import normalise_stain

__all__ = ["tune_bundle"]

Tell = Callable[[str], None]
Times = dict[str, NDArray[np.float64]]
"""Precision -> (M,) milliseconds."""


def tune_bundle(bundle: str, inputs: Sequence[str | Path], tell: Tell = lambda text: None) -> Tuning:
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

    Returns
    -------
    tuning : Tuning
        fp32, each other precision for all members, and the fastest mixture that agrees with fp32.

    Raises
    ------
    InputError
        If the images hold fewer cells, or can't be read.
    BundleError, MissingDependencyError
        If the bundle can't be used, or OpenVINO or NNCF is not installed.
    """
    loaded = load_bundle(bundle)
    in_fp32 = OpenVinoEngine(loaded)
    scorer = Scorer(ScoreParams(bundle=bundle, engine="openvino", precision="fp32"), loaded, in_fp32)
    crops = _cells(scorer, inputs, tell)
    with tuned_alone(loaded):
        return _tuned(scorer, in_fp32, crops, tell)


def _tuned(scorer: Scorer, in_fp32: MemberEngine, crops: NDArray[np.uint8], tell: Tell) -> Tuning:
    """Make int8 networks, measure the members in each precision, and keep what was found."""
    loaded = scorer.bundle
    tell("calibrating int8 networks ...")
    forget_tuning(loaded)  # first: ended half-way, it must not speak for networks that nobody measured
    quantise(loaded, crops)
    votes, ms = dict[str, NDArray[np.float32]](), Times()
    for precision in PRECISIONS:
        if precision != "bf16" or computes_in_bf16():
            tell(f"scoring {len(crops)} cells in {precision} ...")
            engine = in_fp32 if precision == "fp32" else OpenVinoEngine(loaded, precision)
            votes[precision], ms[precision] = _timed(engine, crops, len(scorer.members))
    measured = [_measured(scorer, votes, ms, (precision,) * len(scorer.members)) for precision in votes]
    mixtures = sorted(product(votes, repeat=len(scorer.members)), key=lambda mixture: _total(ms, mixture))
    rows = (_measured(scorer, votes, ms, mixture) for mixture in mixtures)
    measured.append(next(row for row in rows if row.agreement.is_enough))
    digest = hashlib.sha256(crops.tobytes()).hexdigest()
    tuning = Tuning(processor(), len(crops), digest, tuple(measured))
    write_tuning(loaded, tuning)
    return tuning


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
    """Return the members' probabilities, and how many milliseconds of one core each took for a cell."""
    votes, ms = [], []
    for k in range(n):
        began = time.process_time()
        votes.append(engine.predict(crops, members=[k])[:, 0])
        ms.append(1000 * (time.process_time() - began) / len(crops))
    return np.stack(votes, axis=1), np.array(ms)


def _measured(scorer: Scorer, votes: Votes, ms: Times, mixture: Sequence[str]) -> Measured:
    """Return how an ensemble with a precision for each member compares with fp32."""
    precision = mixture[0] if len(set(mixture)) == 1 else ",".join(mixture)
    return Measured(precision, _total(ms, mixture), agreement_of(scorer, votes, mixture))


def _total(ms: Times, mixture: Sequence[str]) -> float:
    return float(sum(ms[precision][k] for k, precision in enumerate(mixture)))
