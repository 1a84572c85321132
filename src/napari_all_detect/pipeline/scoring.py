"""The second half of the road: the cells of a plane, scored and tabulated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_all_detect import table, trust
from napari_all_detect.engines import Progress
from napari_all_detect.ensemble import combine
from napari_all_detect.fast_calls import p_all_bounds
from napari_all_detect.labelled import LabelImage
from napari_all_detect.pipeline.cutting import CutCells
from napari_all_detect.pipeline.scorer import Scorer
from napari_all_detect.stain import normalise_stain
from napari_all_detect.tiling import read_crops

__all__ = ["ScoredImage", "score_cells"]


CELLS_AT_ONCE = 8192
"""Of a plane, what is scored before the next are read: their crops and what is computed from them stay in memory."""


@dataclass(frozen=True)
class ScoredImage:
    """What scoring a plane gives.

    Attributes
    ----------
    labels : (H, W) int32
        0 for background; a cell's number is its `label` in the table.
    nuclei : (H, W) int32 or None
        The same numbers where the nuclei are; None if labels were given without, or the method finds no nuclei.
    table : DataFrame
        A row per cell: the columns of `cells.csv`.
    crops : (N, s, s, 3) uint8
        The cells, in the order of the table: what the networks saw, unless the bundle normalises the stain first.
    member_probabilities : (N, M, 2) float32
        Each member's probabilities of (Hem, ALL); NaN where fast calls did without it.
    summary : DataFrame
        The plane's row of `images.csv`.
    """

    labels: LabelImage
    nuclei: LabelImage | None
    table: pd.DataFrame
    crops: NDArray[np.uint8]
    member_probabilities: NDArray[np.float32]
    summary: pd.DataFrame


def score_cells(scorer: Scorer, cut: CutCells, progress: Progress | None = None) -> ScoredImage:
    """Score the cells that `cut_cells` found, and tabulate."""
    parts = [_score_some(scorer, cut, rows, progress) for rows in _some_at_once(len(cut.crops))]
    probabilities = np.concatenate([found for found, _ in parts])
    columns = {name: np.concatenate([columns[name] for _, columns in parts]) for name in parts[0][1]}
    columns = cut.geometry | columns | cut.names | {"bundle": scorer.bundle.label}
    cells = table.typed(table.cell_columns(scorer.members), columns, len(cut.crops))
    facts = {"pixel_size_um": cut.pixel_size_um, "rescale": cut.scale, "notes": cut.notes}
    summary = table.image_row(cells, cut.names | facts)
    return ScoredImage(cut.labels, cut.nuclei, cells, cut.crops, probabilities, summary)


def _some_at_once(n: int) -> list[slice]:
    return [slice(first, min(first + CELLS_AT_ONCE, n)) for first in range(0, max(n, 1), CELLS_AT_ONCE)]


def _score_some(
    scorer: Scorer, cut: CutCells, rows: slice, progress: Progress | None
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Return probabilities and columns of some of the cells."""
    crops = read_crops(cut.crops, rows)
    seen = normalise_stain(crops, scorer.bundle.manifest.crop.stain_normalisation)
    probabilities = scorer.engine.predict(seen, progress)
    geometry = {name: values[rows] for name, values in cut.geometry.items()}
    trusted = _trust(scorer, geometry, crops, cut.labels.shape, cut.scale)
    return probabilities, _scores(scorer, probabilities) | trusted


def _scores(scorer: Scorer, probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Return the columns of the scores."""
    ran = ~np.isnan(probabilities[..., 1]) if scorer.params.fast_calls else np.ones(probabilities.shape[:2], bool)
    combined = combine(np.where(ran[..., None], probabilities, 0), scorer.weights)
    p_hem, p_all = (trust.calibrate(p, scorer.temperature) for p in combined.T)
    low, high = trust.calibrate_bounds(*p_all_bounds(probabilities, scorer.weights), scorer.temperature)
    known = ran[:, scorer.weights > 0].all(axis=1)
    members = {f"p_all_{name}": probabilities[:, k, 1] for k, name in enumerate(scorer.members)}
    return {
        "p_all": p_all,
        "p_hem": p_hem,
        "call": trust.calls(p_all, scorer.threshold, scorer.bounds),
        "spread": trust.spread(probabilities),
        "votes_all": trust.votes_all(probabilities, scorer.threshold),
        "members_run": ran.sum(axis=1),
        "least_p_all": np.where(known, p_all, low),
        "most_p_all": np.where(known, p_all, high),
        **members,
    }


def _trust(
    scorer: Scorer, geometry: dict[str, Any], crops: NDArray[np.uint8], shape: Sequence[int], scale: float
) -> dict[str, Any]:
    """Return the columns of the domain and of the flags."""
    manifest = scorer.bundle.manifest
    flags = trust.flag_cells(
        np.stack([geometry[f"bbox_{side}"] for side in ("y0", "x0", "y1", "x1")], axis=1),
        geometry["diameter_px"],
        geometry["solidity"],
        crops,
        (shape[0], shape[1]),
        scale=scale,
        bundle_diameter_px=manifest.crop.cell_diameter_px,
    )
    domain, columns = manifest.domain, dict[str, Any]()
    if domain is not None:
        features = trust.colour_features(crops)
        distance = trust.domain_distance(features, domain.mean, domain.covariance, domain.threshold)
        columns = {"domain_distance": distance, "in_domain": distance <= 1}
        flags |= {"out_of_domain": distance > 1, "blurred": trust.sharpness(crops) < domain.least_sharpness}
    return {**columns, "flags": trust.join_flags(flags, len(crops))}
