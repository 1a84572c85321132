"""An ensemble in fewer bits beside the same in fp32: which cells get the same call."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_all_detect import trust
from napari_all_detect.engines.precision import Agreement
from napari_all_detect.ensemble import combine
from napari_all_detect.pipeline import Scorer

__all__ = ["Votes", "agreement_of"]

NEIGHBOURS = 50
"""Cells on either side in p_all whose changes could as well have been a cell's own."""

Votes = Mapping[str, NDArray[np.float32]]
"""Precision -> (N, M, 2) probabilities."""


def agreement_of(scorer: Scorer, votes: Votes, mixture: Sequence[str]) -> Agreement:
    """Compare the ensemble, each member in a precision of its own, with fp32.

    Parameters
    ----------
    scorer : Scorer
        Says how votes become calls.
    votes : mapping of str to (N, M, 2) float32
        Of the same N cells in each precision, `fp32` among them.
    mixture : sequence of str
        Precision of each of the M members.
    """
    full = _p_all(scorer, votes["fp32"])
    p_all = _p_all(scorer, np.stack([votes[precision][:, k] for k, precision in enumerate(mixture)], axis=1))
    calls, full_calls = _calls(scorer, p_all), _calls(scorer, full)
    change = np.abs(p_all - full)
    return Agreement(
        same_calls=float((calls == full_calls).mean()),
        expected=_expected(scorer, p_all, full),
        kappa=_kappa(calls, full_calls),
        largest_change=float(change.max()),
        mean_change=float(change.mean()),
    )


def _expected(scorer: Scorer, p_all: NDArray[np.float32], full: NDArray[np.float32]) -> float:
    """Return how many calls stay the same if each cell changes as its neighbours in p_all did, on average over these.

    One cell in a thousand near a threshold is luck; how far cells there are moved, and how many there are, is not.
    """
    order = np.argsort(full, kind="stable")
    full, change = full[order], (p_all - full)[order]
    calls, n = _calls(scorer, full), len(full)
    same = [
        (_calls(scorer, full + change[np.clip(np.arange(n) + k, 0, n - 1)]) == calls).mean()
        for k in range(-NEIGHBOURS, NEIGHBOURS + 1)
    ]
    return float(np.mean(same))


def _calls(scorer: Scorer, p_all: NDArray[np.float32]) -> NDArray[np.str_]:
    return trust.calls(p_all, scorer.threshold, scorer.bounds)


def _p_all(scorer: Scorer, votes: NDArray[np.float32]) -> NDArray[np.float32]:
    return trust.calibrate(combine(votes, scorer.weights)[:, 1], scorer.temperature)


def _kappa(a: NDArray[np.str_], b: NDArray[np.str_]) -> float:
    """Return Cohen's kappa between two callings: 1 if they are the same, even of one call alone."""
    agreed = float((a == b).mean())
    by_chance = sum(float((a == call).mean() * (b == call).mean()) for call in set(a.tolist()))
    return 1.0 if agreed == 1 else (agreed - by_chance) / (1 - by_chance)
