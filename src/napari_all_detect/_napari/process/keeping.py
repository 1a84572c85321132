"""What a run that came to an early end has told of a plane -> the rows of the cells that are done. No Qt."""

from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect import table
from napari_all_detect._napari.process.messages import Found, Predicted, ScoredPart
from napari_all_detect.bundle import load_bundle
from napari_all_detect.engines import Progress
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import PlaneInput, ScoredImage, Scorer, score_plane

__all__ = ["Kept", "crop_keys"]


def crop_keys(crops: NDArray[np.uint8]) -> tuple[bytes, ...]:
    """Return a digest of each crop: equal crops have equal probabilities."""
    return tuple(blake2b(crop.tobytes(), digest_size=16).digest() for crop in crops)


class Kept:
    """Keeps what the scoring process tells of a plane, so that it is not lost when the process is ended.

    Parameters
    ----------
    params : ScoreParams
    given : PlaneInput
    """

    def __init__(self, params: ScoreParams, given: PlaneInput) -> None:
        self._params, self._given = params, given
        self._found: Found | None = None
        self._votes: dict[bytes, NDArray[np.float32]] = {}

    def take(self, told: Found | Predicted) -> None:
        """Keep this, too."""
        if isinstance(told, Found):
            self._found = told
            return
        self._votes |= zip(told.keys, told.probabilities, strict=True)

    def part(self) -> ScoredPart | None:
        """Return the cells that are done, their rows as a whole run would give them; None if none were found yet."""
        if self._found is None:
            return None
        bundle = load_bundle(self._params.bundle)
        engine = _KnownVotes(self._votes, len(bundle.manifest.members))
        given = replace(self._given, labels=self._found.labels, nuclei=self._found.nuclei)
        scored = score_plane(Scorer(self._params, bundle, engine), given)
        done = np.array([key not in engine.unknown for key in crop_keys(scored.crops)], bool)
        return ScoredPart(_rows(scored, done), len(done))


class _KnownVotes:
    """An engine that runs no network: it repeats what is known, and notes which crops it knows too little of."""

    name, device = "", ""

    def __init__(self, votes: dict[bytes, NDArray[np.float32]], n_members: int) -> None:
        self._votes, self._n_members = votes, n_members
        self.unknown: set[bytes] = set()

    def predict(self, crops: NDArray[np.uint8], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return the probabilities; halves where they are not known."""
        keys = crop_keys(crops)
        self.unknown |= set(keys) - self._votes.keys()
        halves = np.full((self._n_members, 2), 0.5, np.float32)
        return np.array([self._votes.get(key, halves) for key in keys], np.float32).reshape(-1, self._n_members, 2)


def _rows(scored: ScoredImage, keep: NDArray[np.bool_]) -> ScoredImage:
    """Return a scored plane with some of its cells only."""
    cells = scored.table[keep].reset_index(drop=True)
    facts: dict[str, Any] = {str(name): value for name, value in scored.summary.iloc[0].items()}
    return replace(
        scored,
        table=cells,
        crops=scored.crops[keep],
        member_probabilities=scored.member_probabilities[keep],
        summary=table.image_row(cells, facts),
    )
