"""Which members of a bundle may compute in bf16: the validation cells that get the calls of fp32 decide."""

from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from all_detect_training.resampling import DIGITS
from all_detect_training.runs import Run
from napari_all_detect.batch.agreement import Votes, agreement_of
from napari_all_detect.costs import member_gflop
from napari_all_detect.engines import open_engine
from napari_all_detect.engines.precision import CELLS, Agreement
from napari_all_detect.errors import InputError
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import Scorer, open_scorer
from napari_all_detect.stain import normalise_stain

__all__ = ["bf16_facts"]

Facts = dict[str, Any]


def bf16_facts(bundle: Path, run: Run) -> tuple[Facts | None, Facts | None]:
    """Find the members that save most arithmetic in bf16 without changing more than a call in a thousand.

    Parameters
    ----------
    bundle : Path
        Folder of the bundle that the run became.
    run : Run

    Returns
    -------
    bf16 : dict or None
        What the manifest says of it (`Bf16`), measured on the validation cells; None if no member qualifies.
    on_test : dict or None
        The same figures on the test cells.

    Raises
    ------
    InputError
        If there are too few validation cells to tell.
    MissingDependencyError
        If OpenVINO is not installed.
    ParameterError
        If this processor does not compute in bf16.
    """
    n_cells = int((run.split == "validation").sum())
    if n_cells < CELLS:
        raise InputError(f"{n_cells} validation cells; expected {CELLS} at least to judge bf16 by: leave --bf16 out")
    params = ScoreParams(bundle=str(bundle), engine="openvino", precision="fp32")
    scorer = open_scorer(params)
    engines = {
        "fp32": scorer.engine,
        "bf16": open_engine(scorer.bundle, ScoreParams(engine="openvino", precision="bf16")),
    }

    def votes(side: str) -> Votes:
        crop = scorer.bundle.manifest.crop
        seen = normalise_stain(run.cells.crops[run.split == side], crop.stain_normalisation)
        return {precision: engine.predict(seen) for precision, engine in engines.items()}

    on_validation = votes("validation")
    for mixture in _by_arithmetic(scorer):
        agreement = agreement_of(scorer, on_validation, mixture)
        if agreement.is_enough:
            precision = "bf16" if set(mixture) == {"bf16"} else ",".join(mixture)
            found = {"precision": precision, **_facts(agreement, on_validation["fp32"])}
            on_test = votes("test")
            return found, _facts(agreement_of(scorer, on_test, mixture), on_test["fp32"])
    return None, None


def _by_arithmetic(scorer: Scorer) -> list[tuple[str, ...]]:
    """Return the mixtures of both, but for fp32 alone, that with the most arithmetic in bf16 first.

    Not by measured time: a run is to give the same bundle again.
    """
    gflop = [member_gflop(m.architecture, m.cut, m.input_size) for m in scorer.bundle.manifest.members]

    def in_bf16(mixture: tuple[str, ...]) -> float:
        return sum(g for g, precision in zip(gflop, mixture, strict=True) if precision == "bf16")

    mixtures = [m for m in product(("bf16", "fp32"), repeat=len(gflop)) if "bf16" in m]
    return sorted(mixtures, key=in_bf16, reverse=True)


def _facts(agreement: Agreement, cells: NDArray[np.float32]) -> Facts:
    return {**{name: round(value, DIGITS) for name, value in asdict(agreement).items()}, "n": len(cells)}
