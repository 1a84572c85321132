"""What `--fast-calls` saves: how many members cells need, and the time of the ensemble without and with it."""

import numpy as np

from benchmarks.bundles import WHOLE_PX
from benchmarks.cells import cells_of
from benchmarks.measure import Row, Tables, alternate, ratio, row
from napari_all_detect.bundle import load_bundle
from napari_all_detect.costs import member_gflop
from napari_all_detect.engines import open_engine
from napari_all_detect.fast_calls import FastCalls
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import Scorer, make_scorer


def run(smoke: bool = False) -> Tables:
    """Measure lite; from its votes, work out what whole networks would save."""
    bundle = load_bundle("lite")
    n_cells, rounds = (32, 1) if smoke else (512, 5)
    crops, what = cells_of(bundle, n_cells, real=True)
    engine = open_engine(bundle, ScoreParams())
    tables: Tables = {}
    for threshold in (None, 0.5):
        params = ScoreParams(fast_calls=True, threshold=threshold)
        fast = make_scorer(params, bundle, engine)
        title = "the bundle's own calls" if threshold is None else f"--threshold {threshold}"
        whole, cascaded = alternate([lambda: engine.predict(crops), lambda: fast.engine.predict(crops)], rounds)  # noqa: B023
        votes = engine.predict(crops)
        tables[f"Fast calls: lite, {title}, {n_cells} {what}"] = [
            *members_needed(fast, fast.engine.predict(crops)),
            row(f"times as fast, {engine.name}", ratio(whole, cascaded), "ratio"),
        ]
        tables[f"Fast calls: whole networks if they voted as lite does, {title}"] = whole_networks_saved(fast, votes)
    return tables


def members_needed(scorer: Scorer, votes: np.ndarray) -> list[Row]:
    """Return the share of cells that stop after each number of members, and the arithmetic saved."""
    costs = [member_gflop(m.architecture, m.cut, m.input_size) for m in scorer.bundle.manifest.members]
    return shares(votes, costs)


def whole_networks_saved(scorer: Scorer, votes: np.ndarray) -> list[Row]:
    """Return the same for the whole networks' costs and order, with the votes that lite gave: an expectation."""
    costs = [member_gflop(m.architecture, None, WHOLE_PX) for m in scorer.bundle.manifest.members]
    said = Said(votes)
    settled = scorer.engine.settled
    numbers = np.arange(len(votes), dtype=np.int32)
    return shares(FastCalls(said, scorer.weights, costs, settled).predict(numbers), costs)


def shares(votes: np.ndarray, costs: list[float]) -> list[Row]:
    ran = np.isfinite(votes[..., 1])
    n_run = ran.sum(axis=1)
    needed = [
        row(f"cells settled by {k} members", float((n_run == k).mean()), "share") for k in range(1, len(costs) + 1)
    ]
    spent = float((ran @ np.array(costs)).mean())
    return [*needed, row("arithmetic saved: all members over those that ran", sum(costs) / spent, "ratio")]


class Said:
    """An engine that repeats votes; cells are their numbers."""

    name, device = "said", "cpu"

    def __init__(self, votes: np.ndarray) -> None:
        self._votes = votes

    def predict(self, crops: np.ndarray, progress: object = None, members: list[int] | None = None) -> np.ndarray:
        """Return what members said of these cells."""
        return self._votes[crops] if members is None else self._votes[crops][:, members]
