"""`run.json`: all that is needed to know how the numbers came about, to get them again, and to go on."""

import os
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from napari_all_detect.batch.units import Unit
from napari_all_detect.bundle import absolute_place
from napari_all_detect.digest import file_digest
from napari_all_detect.engines import in_each
from napari_all_detect.params import OutputParams, ScoreParams
from napari_all_detect.pipeline import Scorer
from napari_all_detect.segmentation import describe_method, method_names
from napari_all_detect.sources.identity import stamp

__all__ = ["MADE_WITH", "absolute_arguments", "changed_settings", "differences", "run_record", "scored_by"]

VERSIONS_OF = ("napari-all-detect", "keras", "numpy", "scikit-image", "pandas")
MADE_WITH = ("engine", "device", "precision", "versions")
"""On which the last digits may depend."""

SETTINGS = ("parameters", "samples_sha256", "bundle", "segmentation", *MADE_WITH)
"""What must be the same for a run to go on."""

HOW = ("overwrite", "resume", "why", "temperature", "bounds")
"""Entries that change nothing in the results, or follow from others."""


def run_record(
    scorer: Scorer, output: OutputParams, inputs: Sequence[str | Path], units: Sequence[Unit], unopened: Sequence[Path]
) -> dict[str, Any]:
    """Return the record of a run as it begins; `unopened` are the places of which nothing is known."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": [str(name) for name in inputs],
        "parameters": asdict(scorer.params) | asdict(output),
        "samples_sha256": file_digest(Path(output.samples)) if output.samples else None,
        **scored_by(scorer, output.labels),
        "images": _images(units),
        "unopened": [str(path) for path in unopened],
    }


def scored_by(scorer: Scorer, labels: str | None) -> dict[str, Any]:
    """Return what of a record is settled where the scoring is done: by what is installed there, and the machine."""
    manifest = scorer.bundle.manifest
    return {
        "bundle": {
            "name": manifest.name,
            "version": manifest.version,
            "digest": scorer.bundle.digest,
            "weights": {member.name: member.sha256 for member in manifest.members},
            "weighting": scorer.weighting,
            "member_weights": dict(zip(scorer.members, scorer.weights.tolist(), strict=True)),
            "temperature": scorer.temperature,
            "threshold": scorer.threshold,
            "bounds": asdict(scorer.bounds) if scorer.bounds else None,
            "research_use_only": manifest.research_use_only,
        },
        "segmentation": None if labels else describe_method(scorer.params.segmentation.method),
        "engine": scorer.engine.name,
        "device": scorer.engine.device,
        "precision": _precision(scorer),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS_OF},
    }


def _precision(scorer: Scorer) -> dict[str, Any]:
    """Return each member's precision, why, and what int8 networks were calibrated on."""
    choice = scorer.choice
    if choice is None:
        return {}
    precisions = in_each(choice.precision, len(scorer.members))
    members = dict(zip(scorer.members, precisions, strict=True))
    return {"members": members, "why": choice.why, "calibration": choice.calibration}


def _images(units: Sequence[Unit]) -> list[dict[str, Any]]:
    images: dict[str, dict[str, Any]] = {}
    for unit in units:
        plane = unit.plane
        if plane.image not in images:
            images[plane.image] = {"image": plane.image, "path": str(plane.path), "planes": 0} | stamp(plane.path)
        images[plane.image]["planes"] += 1
    return list(images.values())


def absolute_arguments(
    inputs: Sequence[str | Path], params: ScoreParams, output: OutputParams
) -> tuple[list[str], ScoreParams, OutputParams]:
    """Return a run's arguments with all paths absolute: for workers elsewhere, and for a run that repeats it there."""
    labels, samples = (None if name is None else _absolute(name) for name in (output.labels, output.samples))
    output = replace(output, labels=labels, samples=samples)
    method = params.segmentation.method
    if method not in method_names():
        params = replace(params, segmentation=replace(params.segmentation, method=absolute_place(method)))
    params = replace(params, bundle=absolute_place(params.bundle))
    return [_absolute(str(name)) for name in inputs], params, output


def _absolute(name: str) -> str:
    return name if "://" in name else os.path.abspath(name)  # noqa: PTH100 - keeps links


def differences(before: Mapping[str, Any], now: Mapping[str, Any], mended: Collection[str] = frozenset()) -> list[str]:
    """Say in which settings and images two records differ; whether images changed is not looked at.

    Images of which nothing could be scored before are left out, and those that lie where nothing could be opened
    before: that they are there now is no difference, nor are other numbers of planes.

    Parameters
    ----------
    before, now : mapping
    mended : collection of str
        Names of images and stores of which nothing could be scored before.

    Examples
    --------
    >>> before = {"parameters": {"threshold": 0.5}, "images": [{"image": "a.png", "planes": 1}]}
    >>> differences(before, {"parameters": {"threshold": 0.6}, "images": []})
    ['parameters.threshold was 0.5, now 0.6', 'a.png is no input now']
    """
    found, names = changed_settings(before, now), frozenset(mended)
    places = frozenset(_slashed(place) for place in before.get("unopened", ()))
    # Earlier versions wrote no such places: a folder's name among those mended is all that is known of it.
    folders = frozenset[str]() if "unopened" in before else names

    def is_left_out(row: Mapping[str, Any]) -> bool:
        return _is_of(row, names, places) or any(f"/{name}/" in _slashed(row.get("path", "")) for name in folders)

    was_images, now_images = (
        {row["image"]: row["planes"] for row in record["images"] if not is_left_out(row)} for record in (before, now)
    )
    found += [f"{image} is no input now" for image in was_images.keys() - now_images.keys()]
    found += [f"{image} was no input" for image in now_images.keys() - was_images.keys()]
    found += [
        f"{image} had {was_images[image]} planes, now {now_images[image]}"
        for image in was_images.keys() & now_images.keys()
        if was_images[image] != now_images[image]
    ]
    if not found and list(was_images) != list(now_images):
        found.append("the inputs come in another order")
    return found


def _is_of(row: Mapping[str, Any], names: Set[str], places: Set[str]) -> bool:
    """Return whether an image has one of these names or lies in a store that has, or at or below one of these places.

    >>> row = {"image": "plate.zarr/A/1/0", "path": "/data/day1/plate.zarr/A/1/0"}
    >>> [_is_of(row, {name}, set()) for name in ("plate.zarr", "plate.zarr/A/1/0", "plate", "data")]
    [True, True, False, False]
    >>> [_is_of(row, set(), {place}) for place in ("/data/day1", "/data/day", "data")]
    [True, False, False]
    """
    return not (
        names.isdisjoint(_with_outer(row["image"])) and places.isdisjoint(_with_outer(_slashed(row.get("path", ""))))
    )


def _slashed(path: str) -> str:
    return path.replace("\\", "/").rstrip("/")


def _with_outer(name: str) -> list[str]:
    """Return a name or path, and those of all folders around it."""
    parts = name.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any], parts: Sequence[str] = SETTINGS) -> list[str]:
    """Say in which of these parts two records differ."""
    return [
        f"{name} was {was!r}, now {is_!r}"
        for part in parts
        for name, was, is_ in _different(part, _plain(before.get(part)), _plain(now.get(part)))
    ]


def _plain(value: Any) -> Any:
    """Return a value as JSON would give it back, so that a tuple is no other than a list."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _different(name: str, was: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*was, *now)):
            if key not in HOW:
                yield from _different(f"{name}.{key}", was.get(key), _plain(now.get(key)))
    elif was != now:
        yield name, was, now
