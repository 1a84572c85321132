"""A preset of one's own: a JSON file of `FitParams`, held to their ranges."""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from all_detect_training.history import epochs_at_most
from all_detect_training.presets import FitParams, MemberSpec
from napari_all_detect.errors import InputError
from napari_all_detect.networks import ARCHITECTURES
from napari_all_detect.stain import METHODS

__all__ = ["checked_params", "read_preset"]

REMEDY = "correct it, or start anew from what `all-detect-train preset lite` prints"


def read_preset(path: Path) -> tuple[str, FitParams]:
    """Read a preset from a file.

    Parameters
    ----------
    path : Path
        JSON: the fields of `FitParams`; or a run's `run.json` or a bundle's `bundle.json`, which hold them.

    Returns
    -------
    preset : str
        What the run or bundle calls it, otherwise the file's name.
    params : FitParams

    Raises
    ------
    InputError
        If it can't be read, or a value is missing, unknown or out of its range.
    """
    try:
        held: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: can't be read as JSON ({error}); {REMEDY}") from error
    record = held.get("training", held) if isinstance(held, dict) else {}
    is_record = isinstance(record, dict) and "params" in record
    try:
        params = checked_params(record["params"] if is_record else held)
    except ValueError as error:
        raise InputError(f"{path}: {error}; {REMEDY}") from error
    return str(record.get("preset", path.name)) if is_record else path.name, params


def checked_params(values: Any) -> FitParams:
    """Return `FitParams` of values as JSON holds them; ValueError if one is missing, unknown or out of its range."""
    try:
        params = _PARAMS.validate_json(json.dumps(values))
    except ValidationError as error:
        raise ValueError("; ".join(map(_reason, error.errors()[:3]))) from error
    for reason in _contradictions(params):
        raise ValueError(reason)
    return params


_PARAMS = TypeAdapter(FitParams)


def _reason(fault: ErrorDetails) -> str:
    """Say where a value lies, what it is and what was expected."""
    place = ".".join(map(str, fault["loc"])) or "the whole"
    if fault["type"] == "unexpected_keyword_argument":
        known = MemberSpec if fault["loc"][0] == "members" else FitParams
        return f"{place} is unknown; expected {', '.join(f.name for f in fields(known))}"
    if fault["type"] == "missing":
        return f"{place} is missing"
    shown = repr(fault["input"])
    expected = fault["msg"].replace("Input should be", "expected")
    return f"{place} is {shown if len(shown) <= 60 else shown[:57] + '...'}; {expected}"


def _contradictions(params: FitParams) -> Iterator[str]:
    """Yield what is wrong though each value lies in its range."""
    names = [m.architecture for m in params.members]
    if not names:
        yield "there is no member; expected one at least"
    for spec in params.members:
        if spec.architecture not in ARCHITECTURES:
            yield f"architecture is {spec.architecture!r}; expected one of {', '.join(ARCHITECTURES)}"
        if names.count(spec.architecture) > 1:
            yield f"{names.count(spec.architecture)} members are {spec.architecture}; expected each architecture once"
        if epochs_at_most(params, spec) < 1:
            yield f"stretch of {spec.architecture} is {spec.stretch:g}, which leaves it no epoch; expected more"
    if params.stain_normalisation not in (None, *METHODS):
        yield f"stain_normalisation is {params.stain_normalisation!r}; expected null, {', '.join(METHODS)}"
    if params.lowest_rate > params.highest_rate:
        yield f"lowest_rate is {params.lowest_rate:g}; expected highest_rate, {params.highest_rate:g}, at most"
    if params.train_share + params.validation_share >= 1:
        yield "train_share and validation_share leave no cell to test; expected a sum below 1"
