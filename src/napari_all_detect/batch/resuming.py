"""Going on with an interrupted run, or repeating one: only if it is still the same."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from napari_all_detect.batch.record import MADE_WITH, changed_settings, differences
from napari_all_detect.batch.steps import labels_sha256
from napari_all_detect.batch.store import UnitStore
from napari_all_detect.batch.units import Unit
from napari_all_detect.errors import BundleError, InputError, OutputError, StoreError
from napari_all_detect.export.csv import unquoted
from napari_all_detect.results import Failure
from napari_all_detect.retrying import with_retries
from napari_all_detect.sources.identity import identity
from napari_all_detect.sources.places import without_secrets
from napari_all_detect.sources.plane import readable

__all__ = ["changed_part", "check_repeated", "expected_images", "finished_units", "missing_images", "other_programs"]

SHOWN = 3
"""Differences that an error names; of the others it gives the number."""

GIVEN_BY = {"pixels_sha256": ("level", "channels"), "labels_sha256": ("labels",)}
"""Options on which it depends what there is a digest of."""

Result = TypeVar("Result")


def finished_units(
    folder: Path,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    units: Sequence[Unit],
    store: UnitStore,
    unreached: Sequence[str],
) -> frozenset[int]:
    """Return the numbers of the units that need not be scored again.

    Parameters
    ----------
    folder : Path
    before, now : mapping
        The records of the interrupted run and of this one.
    units : sequence of Unit
    store : UnitStore
    unreached : sequence of str
        What is said of inputs whose disk or server fails now.

    Raises
    ------
    OutputError
        If settings differ, or an image or its labels changed of which a plane was scored already, or can't be reached.
    """
    found = differences(before, now, _not_scored(folder))
    if found and unreached:  # which may be why
        raise OutputError(
            f"{folder} holds a run of which not all inputs can be reached now: {without_secrets(unreached[0])}"
        )
    if found:
        raise OutputError(
            f"{folder} holds a run with other settings: {_shown(found)}; repeat it as it was begun, name another "
            "folder, or add --overwrite"
        )
    stamps = [{row["image"]: _stamp(row) for row in record["images"]} for record in (before, now)]
    unchanged = {image for image in stamps[0] if stamps[0][image] and stamps[0][image] == stamps[1].get(image)}
    labels = now["parameters"].get("labels")
    done, changed = set(), dict[str, None]()
    for unit, source in _sources(before, units, store):
        same = unit.plane.image in unchanged or _same_content(unit, source)
        if same and (labels is None or _same_labels(Path(labels), unit, source)):
            done.add(unit.number)
        else:
            changed[unit.plane.image] = None
    if changed:
        raise OutputError(
            f"{folder} holds results of images that changed since: {_shown(list(changed))}; bring them back, or their "
            "labels, name another folder, or add --overwrite"
        )
    return frozenset(done)


def check_repeated(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise BundleError or OutputError unless a run that is repeated has the bundles and inputs of then.

    Images that are missing or changed are no reason: `missing_images` and `changed_part` tell them.
    """
    for part in ("bundle", "segmentation"):
        was, is_ = (record.get(part) or {} for record in (before, now))
        # Another way of finding cells, or labels instead, was asked for.
        is_another = was.get("method") != is_.get("method")
        if not is_another and was.get("digest") != is_.get("digest"):
            name = is_.get("name") or is_.get("bundle") or is_.get("method")
            raise BundleError(
                f"{name} has the digest {is_.get('digest')}, in the repeated run {was.get('digest')}; install the one "
                "of then"
            )
    same_sheet = before["parameters"].get("samples") == now["parameters"].get("samples")
    if same_sheet and before.get("samples_sha256") != now["samples_sha256"]:
        raise OutputError(
            f"{now['parameters']['samples']} is not the sample sheet of the repeated run; bring that back, or give the "
            "sheet with --samples under another name"
        )
    new = sorted(_names(now) - _names(before))
    if new:
        raise OutputError(
            f"the inputs hold images that the repeated run had not: {_shown(new)}; take them away, or name the images "
            "that you want beside --from-run"
        )


def other_programs(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say what a run that is repeated was made with, where that is not at hand; empty if all is."""
    found = changed_settings(before, now, [part for part in MADE_WITH if part in before])
    return f"unlike in the repeated run: {_shown(found)}; numbers may differ in their last digits" if found else ""


def missing_images(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Failure]:
    """Return the images of a run that is repeated that are not there any more, as failures."""
    reason = "was scored by the repeated run and is not there now; bring it back"
    return [Failure(row["image"], "open", reason) for row in before["images"] if row["image"] not in _names(now)]


def expected_images(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows of a repeated run's images, by name, without digests of what other options ask for now."""
    was, is_ = (record["parameters"] | record["parameters"].get("reading", {}) for record in (before, now))
    replaced = {digest for digest, options in GIVEN_BY.items() if changed_settings(was, is_, options)}
    return {row["image"]: {key: row[key] for key in row if key not in replaced} for row in before["images"]}


def changed_part(before: Mapping[str, Any], plane: str, source: Mapping[str, Any]) -> str:
    """Return what of a plane's source is not what it was; empty if nothing is, as far as is known.

    Parameters
    ----------
    before : mapping
        Its image's row of `expected_images`; empty if it has none.
    plane : str
    source : mapping
        What it was scored from now.
    """
    for key, part in (("sha256", "file"), ("pixels_sha256", "pixels"), ("labels_sha256", "labels")):
        was = _of_plane(before.get(key), plane)
        if was is not None and was != source.get(key):
            return part
    return ""


def _of_plane(digest: Any, plane: str) -> Any:
    """Return a digest, out of those of an image's planes where each has its own."""
    return digest.get(plane) if isinstance(digest, Mapping) else digest


def _names(record: Mapping[str, Any]) -> set[str]:
    return {row["image"] for row in record["images"]}


def _stamp(image: Mapping[str, Any]) -> dict[str, Any]:
    return {key: image[key] for key in ("bytes", "modified_ns", "listing") if key in image}


def _sources(
    before: Mapping[str, Any], units: Sequence[Unit], store: UnitStore
) -> Iterator[tuple[Unit, Mapping[str, Any]]]:
    """Yield the units that are done with what they were scored from."""
    if store.exists or before["status"] != "complete":
        yield from ((unit, result.source) for unit, result in store.read_all(units))
        return
    images = {row["image"]: row for row in before["images"]}
    for unit in (unit for unit in units if unit.plane.image in images):  # but those that could not be opened then
        row = images[unit.plane.image]
        per_plane = {key: _of_plane(row.get(key), unit.plane.plane) for key in ("pixels_sha256", "labels_sha256")}
        yield unit, row | per_plane


def _same_content(unit: Unit, source: Mapping[str, Any]) -> bool:
    """Read a plane again; a file that was touched, copied or moved has other times but may be the same."""
    now = _read_again(partial(_identity, unit), unit)
    return now is not None and all(source.get(key) == value for key, value in now.items())


def _identity(unit: Unit) -> dict[str, int | str]:
    pixels = unit.plane.open()
    with readable(unit.plane.path, "an image"):
        return identity(unit.plane.path, pixels)


def _read_again(read: Callable[[], Result], unit: Unit) -> Result | None:
    """Return what is read; None if that can't be read any more, which is no trouble of a disk or server."""
    try:
        return with_retries(read, StoreError)
    except InputError as error:
        if not isinstance(error, StoreError) and not isinstance(error.__cause__, StoreError):
            return None
        raise OutputError(
            f"{unit.name} was scored, and whether it changed since can't be told now: {without_secrets(str(error))}"
        ) from error


def _not_scored(folder: Path) -> set[str]:
    """Return the images, stores and folders of which the interrupted run could not score anything."""
    try:
        failures = pd.read_csv(folder / "failures.csv", dtype=str, keep_default_na=False)
    except (OSError, ValueError):  # killed before there was one
        return set()
    return {unquoted(name) for name in failures.loc[failures["stage"] != "write", "input"]}


def _same_labels(labels: Path, unit: Unit, source: Mapping[str, Any]) -> bool:
    was = source.get("labels_sha256")
    return was is None or was == _read_again(partial(labels_sha256, labels, unit), unit)


def _shown(found: Sequence[str]) -> str:
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more
