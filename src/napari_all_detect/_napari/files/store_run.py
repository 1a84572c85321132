"""What a store says of the run that scored its cells, beside their table: written and read again. No Qt."""

from collections.abc import Collection, Mapping
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.process.messages import Opened
from napari_all_detect.trust import Bounds

__all__ = ["NOTES", "RESCALE", "note_run", "noted", "with_noted"]

RUN_KEY = "all_detect"
"""Where a store that napari wrote says it."""
NOTES, RESCALE = "notes", "rescale"
"""What it says of each plane, if there is something to say: the columns of `images.csv`."""
SCORED = "scored"
"""The threshold and bounds of scoring, if the calls in the table are those of a threshold that was moved since."""


def note_run(store: Path, results: CellResults, planes: Collection[str]) -> None:
    """Add to a store what its table does not say: weights, thresholds, and these planes' rescaling and notes."""
    import zarr

    run, summary = results.run, results.rows.summary
    facts: Any = {"bundle": run.bundle, "weights": list(run.weights)}
    facts |= _calling(results.threshold, bounds=run.bounds, called_by=results.called_by)
    if results.is_moved:
        facts[SCORED] = _calling(run.threshold, called_by=run.called_by)
    for name in (NOTES, RESCALE):
        said = dict(zip(summary["plane"], summary[name].tolist(), strict=True))
        said = {plane: said[plane] for plane in planes if said.get(plane) and said[plane] == said[plane]}  # no NaN
        facts |= {name: said} if said else {}
    group = zarr.open_group(store, mode="r+")
    group.attrs.put(group.attrs.asdict() | {RUN_KEY: facts})


def _calling(threshold: float, **bounds: Bounds | None) -> dict[str, Any]:
    return {"threshold": threshold} | {name: list(astuple(pair)) for name, pair in bounds.items() if pair is not None}


def noted(store: Path, bundle: str) -> Mapping[str, Any]:
    """Return what a store says of a run with this bundle; nothing if it says nothing, or tells of another."""
    import zarr

    facts: Any = zarr.open_group(store, mode="r").attrs.asdict().get(RUN_KEY, {})
    return facts if facts.get("bundle") == bundle else {}


def with_noted(run: Opened, facts: Mapping[str, Any]) -> tuple[Opened, float | None]:
    """Complete what a table says of its run; return the threshold that it was moved to, too, if it was."""
    if not facts:
        return run, None
    scored = facts.get(SCORED, facts)
    run = replace(
        run,
        weights=tuple(facts["weights"]),
        threshold=scored["threshold"],
        bounds=_bounds(facts, "bounds"),
        called_by=_bounds(scored, "called_by"),
    )
    return run, facts["threshold"] if SCORED in facts else None


def _bounds(facts: Mapping[str, Any], name: str) -> Bounds | None:
    return Bounds(*facts[name]) if name in facts else None
