"""Going on with an interrupted run, or repeating one: only if it is still the same."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_all_detect.batch.planning import Unit
from napari_all_detect.batch.record import differences
from napari_all_detect.batch.store import UnitStore
from napari_all_detect.errors import BundleError, InputError, OutputError
from napari_all_detect.sources.identity import identity

__all__ = ["check_repeated", "finished_units"]

SHOWN = 3
"""Differences that an error names; of the others it gives the number."""


def finished_units(
    folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], units: Sequence[Unit], store: UnitStore
) -> frozenset[int]:
    """Return the numbers of the units that need not be scored again.

    Parameters
    ----------
    folder : Path
    before, now : mapping
        The records of the interrupted run and of this one.
    units : sequence of Unit
    store : UnitStore

    Raises
    ------
    OutputError
        If settings differ, or an image changed of which a plane was scored already.
    """
    found = differences(before, now)
    if found:
        raise OutputError(
            f"{folder} holds a run with other settings: {_shown(found)}; repeat it as it was begun, name another "
            "folder, or add --overwrite"
        )
    stamps = [{row["image"]: _stamp(row) for row in record["images"]} for record in (before, now)]
    unchanged = {image for image in stamps[0] if stamps[0][image] and stamps[0][image] == stamps[1][image]}
    done, changed = set(), dict[str, None]()
    for unit, source in _sources(before, units, store):
        if unit.plane.image in unchanged or _same_content(unit, source):
            done.add(unit.number)
        else:
            changed[unit.plane.image] = None
    if changed:
        raise OutputError(
            f"{folder} holds results of images that changed since: {_shown(list(changed))}; bring them back, name "
            "another folder, or add --overwrite"
        )
    return frozenset(done)


def check_repeated(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise BundleError unless a run that is repeated has the same bundles as then."""
    for part in ("bundle", "segmentation"):
        was, is_ = ((record.get(part) or {}).get("digest") for record in (before, now))
        if was != is_:
            name = (now.get(part) or {}).get("name", part)
            raise BundleError(f"{name} has the digest {is_}, in the repeated run {was}; install the one of then")


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
    for unit in units:
        row = images[unit.plane.image]
        yield unit, row | {"pixels_sha256": row.get("pixels_sha256", {}).get(unit.plane.plane)}


def _same_content(unit: Unit, source: Mapping[str, Any]) -> bool:
    """Read a plane again; a file that was touched, copied or moved has other times but may be the same."""
    try:
        now = identity(unit.plane.path, unit.plane.open())
    except InputError:
        return False
    return all(source.get(key) == value for key, value in now.items())


def _shown(found: Sequence[str]) -> str:
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more
