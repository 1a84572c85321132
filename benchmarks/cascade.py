"""What `--fast-calls` saves: how many members cells need, and the time of the ensemble without and with it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from benchmarks.bundles import engines_of, own_cache, whole_networks
from benchmarks.cells import cells_of
from benchmarks.engines import Predict
from benchmarks.measure import Row, Tables, alternate, both_clocks, ratio, row
from napari_all_detect.bundle import Bundle, load_bundle
from napari_all_detect.costs import member_gflop
from napari_all_detect.engines import Engine
from napari_all_detect.fast_calls import FastCalls
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import make_scorer

CALLS = {"lite's own calls": None, "--threshold 0.5": 0.5}


def run(smoke: bool = False) -> Tables:
    """Measure lite, at its own calls and at 0.5."""
    if smoke:
        with whole_networks(smoke) as small:
            return measured(small, 8, 1)
    with own_cache():
        return measured(load_bundle("lite"), 256, 3)


def measured(bundle: Bundle, n_cells: int, rounds: int) -> Tables:
    """Let all engines take turns without and with fast calls."""
    crops, what = cells_of(bundle, n_cells, real=True)
    engines = engines_of(bundle, crops)
    votes = next(iter(engines.values())).predict(crops)
    return {
        f"Fast calls: lite, {calls}, {n_cells} {what}": save(bundle, threshold, votes, engines, crops, rounds)
        for calls, threshold in CALLS.items()
    }


def save(
    bundle: Bundle,
    threshold: float | None,
    votes: np.ndarray,
    engines: dict[str, Engine],
    crops: np.ndarray,
    rounds: int,
    peers: Mapping[str, Predict] = MappingProxyType({}),
) -> list[Row]:
    """Return the share of cells that stop after each number of members, and what that saves each engine.

    Peers, if any, run all members and take turns with it.
    """
    costs = [member_gflop(m.architecture, m.cut, m.input_size) for m in bundle.manifest.members]
    numbers, rows = np.arange(len(crops), dtype=np.int32), list[Row]()
    for name, engine in engines.items():
        said = Said(engine, crops, votes)
        fast = make_scorer(ScoreParams(fast_calls=True, threshold=threshold), bundle, said).engine
        if not rows:
            rows += needed(fast, numbers, costs)
        tasks = [
            lambda fast=fast: fast.predict(numbers),
            lambda said=said: said.predict(numbers),
            *(lambda predict=predict: predict(crops) for predict in peers.values()),
        ]
        seconds, *others = alternate(tasks, rounds, both_clocks)
        short = name.removeprefix("all-detect, ")
        for than, theirs in zip(["", *(f" as {peer}" for peer in peers)], others, strict=True):
            wall, processor = ratio(theirs, seconds)
            rows += [
                row(f"times as fast{than}, {short}", wall, "ratio"),
                row(f"times as fast{than} by the processor's clock, {short}", processor, "ratio"),
            ]
    return rows


def needed(fast: FastCalls, numbers: np.ndarray, costs: Sequence[float]) -> list[Row]:
    """Return how many members cells need."""
    ran = np.isfinite(fast.predict(numbers)[..., 1])
    n_run = ran.sum(axis=1)
    settled = [
        row(f"settled by {k} {'member' if k == 1 else 'members'}", float((n_run == k).mean()), "share")
        for k in range(1, len(costs) + 1)
    ]
    spent = float((ran @ np.array(costs)).mean())
    return [*settled, row("arithmetic of all members over that of those that ran", sum(costs) / spent, "ratio")]


class Said:
    """An engine that takes its time over the cells with these numbers, and then says what was said of them before."""

    name, device = "said", "cpu"

    def __init__(self, engine: Engine, crops: np.ndarray, votes: np.ndarray) -> None:
        self._engine, self._crops, self._votes = engine, crops, votes

    def predict(self, crops: np.ndarray, progress: object = None, members: list[int] | None = None) -> np.ndarray:
        """Run the members; return the votes."""
        self._engine.predict(self._crops[crops], members=members)
        return self._votes[crops] if members is None else self._votes[crops][:, members]
