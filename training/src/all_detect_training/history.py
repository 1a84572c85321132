"""A member's training, epoch by epoch: `<architecture>.csv` of a run folder."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from all_detect_training.presets import FitParams, MemberSpec
from napari_all_detect.errors import InputError

__all__ = ["epochs_at_most", "trained_facts", "training_in_words", "write_history"]


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write a row per epoch; a checkpoint of an earlier version has rows that lack a column."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, history[-1])
        writer.writeheader()
        writer.writerows(history)


def epochs_at_most(params: FitParams, spec: MemberSpec) -> int:
    """Return for how many epochs a member trains where nothing stops it."""
    return round(params.epochs * spec.stretch)


def trained_facts(run: Path, members: Sequence[MemberSpec]) -> dict[str, dict[str, Any]]:
    """Say how each member's training went.

    Parameters
    ----------
    run : Path
    members : sequence of MemberSpec

    Returns
    -------
    facts : dict of str to dict
        By architecture `epochs` (how many were trained), `kept` (the number of the one whose weights are the member's)
        and `batch_sizes` (more than one where memory ran out, none in runs of earlier versions). A member whose CSV is
        gone is left out.

    Raises
    ------
    InputError
        If a CSV is damaged.
    """
    files = {spec.architecture: run / f"{spec.architecture}.csv" for spec in members}
    return {name: _facts(path) for name, path in files.items() if path.is_file()}


def _facts(path: Path) -> dict[str, Any]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        auc = [float(row["auc"]) for row in rows]
        batch_sizes = {int(row["batch_size"]) for row in rows if row.get("batch_size")}
        # Of equal ones the last, as `fit` keeps it.
        kept = max(range(len(auc)), key=lambda i: (auc[i], i)) + 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: damaged ({error}); remove it: cards and reports then don't say how this member was trained"
        ) from error
    return {"epochs": len(auc), "kept": kept, "batch_sizes": sorted(batch_sizes, reverse=True)}


def training_in_words(params: FitParams, starts: Mapping[str, str], facts: Mapping[str, Mapping[str, Any]]) -> str:
    """Say in a line what each member started from, for how long it was trained and in which batches."""
    return "; ".join(
        f"{spec.architecture} from {starts[spec.architecture].partition(', SHA-256')[0]}, "
        + _epochs(epochs_at_most(params, spec), params.batch_size, facts.get(spec.architecture))
        for spec in params.members
    )


def _epochs(at_most: int, batch_size: int, facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return f"{at_most} epochs at most in batches of {batch_size}"
    batches = ", then ".join(map(str, facts["batch_sizes"])) or "a size not known"
    return f"epoch {facts['kept']} kept of {facts['epochs']} ({at_most} at most) in batches of {batches}"
