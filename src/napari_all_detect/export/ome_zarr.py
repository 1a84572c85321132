"""OME-Zarr: labels in the colours of their probability, and a feature table that ngio and Fractal read."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_all_detect.export.colours import probability_colours
from napari_all_detect.export.formats import check_formats
from napari_all_detect.labelled import LabelImage
from napari_all_detect.windows import Pixels, Window, tiles

if TYPE_CHECKING:
    from ngio import Label, OmeZarrContainer

__all__ = ["NAME", "LabelledPlane", "add_labels", "finish_ome_zarr", "write_ome_zarr"]

NAME = "all_detect"
"""Name of the label image and of the table in a container."""

PART_PX = 2048

LEVELS = 5
"""Resolution levels of an image of its own; fewer if it is too small for them."""

PROPERTIES = ("p_all", "call", "spread", "flags")
"""Columns that the label image carries for each cell, too."""


@dataclass(frozen=True, eq=False)
class LabelledPlane:
    """What is written of one plane of a container.

    Attributes
    ----------
    place : mapping of str to int
        Where the plane lies on the axes other than c, y and x: `{"t": 0, "z": 3}`.
    labels : (H, W) integer, or what reads it
        The cells' numbers, as in the column `label`.
    cells : DataFrame
        The plane's rows of `cells.csv`.
    """

    place: Mapping[str, int]
    labels: LabelImage
    cells: pd.DataFrame


def write_ome_zarr(
    rgb: Pixels,
    labels: LabelImage,
    cells: pd.DataFrame,
    path: Path,
    pixel_size_um: float | None = None,
    first: tuple[float, ...] = (0.0, 0.0),
) -> None:
    """Write a plane as an OME-Zarr 0.5 image of its own, with its labels and table in it.

    Parameters
    ----------
    rgb : (H, W, 3) uint8, or what reads it
    labels : (H, W) integer, or what reads it
        What is read by parts is written by parts.
    cells : DataFrame
        The plane's rows of `cells.csv`.
    path : Path
        The container, a folder; it must not exist.
    pixel_size_um : float, optional
        Without it the axes have no unit.
    first : tuple of float
        Where the centre of the first pixel lies along y and x, in micrometers; in pixels without their size.

    Raises
    ------
    MissingDependencyError
        If `ngio` is not installed.
    """
    check_formats(["ome-zarr"])
    from ngio import create_empty_ome_zarr

    container = create_empty_ome_zarr(
        path,
        (3, *rgb.shape[:2]),
        pixelsize=pixel_size_um or 1.0,
        translation=(0.0, *first) if any(first) else None,
        levels=min(LEVELS, max(rgb.shape[:2]).bit_length()),  # each must be smaller than the one before
        axes_names=["c", "y", "x"],
        channels_meta=["red", "green", "blue"],
        ngff_version="0.5",
        dtype="uint8",
    )
    image = container.get_image()
    for y, x in _windows(rgb):
        image.set_array(np.ascontiguousarray(np.moveaxis(rgb[y, x], 2, 0)), y=y, x=x)
    image.consolidate(mode="auto")
    finish_ome_zarr(container, path, [LabelledPlane({}, labels, cells)], pixel_size_um)


def finish_ome_zarr(
    container: OmeZarrContainer, path: Path, planes: Iterable[LabelledPlane], pixel_size_um: float | None
) -> None:
    """Give an OME-Zarr 0.5 image of three channels, which has its pixels, all else that it is to have.

    Parameters
    ----------
    container : OmeZarrContainer
    path : Path
        Where it lies.
    planes : iterable of LabelledPlane
        Taken one at a time.
    pixel_size_um : float or None
        Without it the axes lose the unit that ngio gives them.
    """
    container.set_channel_colors(["FF0000", "00FF00", "0000FF"])
    container.set_channel_windows([(0, 255)] * 3, [(0, 255)] * 3)
    if pixel_size_um is None:
        _set_units(path, "", {})
    add_labels(path, planes)


def add_labels(store: Path, planes: Iterable[LabelledPlane], level: str | None = None) -> None:
    """Write labels and table into an OME-Zarr image, in place of those that an earlier run wrote.

    A label image has one number for one object, so the numbers of each plane go on from those of the plane before. The
    table has them as its index; its columns are those of `cells.csv`, whose `label` is now `label_in_plane`. The axes
    have the units of the image's. If writing fails, nothing of them is left.

    Parameters
    ----------
    store : Path
        An OME-Zarr 0.4 or 0.5 image that may be written to.
    planes : iterable of LabelledPlane
        Taken one at a time.
    level : str, optional
        Path of the resolution level that the labels belong to; the finest one if not given.

    Raises
    ------
    MissingDependencyError
        If `ngio` is not installed.
    """
    check_formats(["ome-zarr"])
    from ngio import open_ome_zarr_container
    from ngio.tables import FeatureTable

    container = open_ome_zarr_container(store)
    image = container.get_image(path=level) if level else container.get_image()
    try:
        label = container.derive_label(NAME, ref_image=image, dtype="uint32", overwrite=True)
        tables, before = list[pd.DataFrame](), 0
        for plane in planes:
            tables.append(_set_plane(label, plane, before))
            before += int(plane.cells["label"].max()) if len(plane.cells) else 0
        label.consolidate(mode="auto")
        table = pd.concat(tables, ignore_index=True)
        container.add_table(NAME, FeatureTable(_plain(table), reference_label=NAME), backend="parquet", overwrite=True)
        # Last: ngio gives each axis a unit, and drops colours and properties when it writes metadata.
        _set_units(store, f"labels/{NAME}", _units(store))
        _colour(store, table)
        _consolidate_again(store)
    except BaseException:
        _discard(container, store)
        raise


def _discard(container: OmeZarrContainer, store: Path) -> None:
    """Delete labels and table that were not written to their end: they would be taken for whole ones."""
    for delete, kind in ((container.delete_label, "labels"), (container.delete_table, "tables")):
        with contextlib.suppress(Exception):  # what kept them from being written may keep them from being deleted
            delete(NAME, missing_ok=True)
        shutil.rmtree(store / kind / NAME, ignore_errors=True)  # ngio leaves what it has not listed yet
    with contextlib.suppress(Exception):
        _consolidate_again(store)


def _set_plane(label: Label, plane: LabelledPlane, before: int) -> pd.DataFrame:
    """Write one plane's labels above the largest number used before; return its rows under their new numbers."""
    place: dict[str, Any] = dict(plane.place)
    for y, x in _windows(plane.labels):
        found = plane.labels[y, x]
        numbers = np.where(found > 0, found.astype(np.int64) + before, 0).astype(np.uint32)
        label.set_array(numbers, axes_order=["y", "x"], y=y, x=x, **place)
    cells = plane.cells.rename(columns={"label": "label_in_plane"})
    cells.insert(0, "label", plane.cells["label"] + before)
    return cells


def _windows(pixels: Pixels | LabelImage) -> Iterator[Window]:
    """Return the parts by which pixels are written: all at once if they are in memory."""
    return tiles(pixels.shape, max(pixels.shape[:2]) if isinstance(pixels, np.ndarray) else PART_PX)


def _plain(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the table with NumPy's own types: missing counts and truths become NaN."""
    nullable = [name for name in cells if str(cells[name].dtype) in ("Int64", "boolean")]
    return cells.astype(dict.fromkeys(nullable, "float32"))


def _colour(store: Path, cells: pd.DataFrame) -> None:
    """Add colours and properties by P(ALL) to the label image's metadata."""
    rgba = np.pad(probability_colours(cells["p_all"]), ((0, 0), (0, 1)), constant_values=255)
    numbers = cells["label"].tolist()
    of_label = {
        "colors": [{"label-value": n, "rgba": colour} for n, colour in zip(numbers, rgba.tolist(), strict=True)],
        "properties": [
            {"label-value": n, **facts}
            for n, facts in zip(numbers, cells[list(PROPERTIES)].to_dict("records"), strict=True)
        ],
    }
    with _changed(store, f"labels/{NAME}") as attributes:
        attributes["image-label"] = attributes.get("image-label", {}) | of_label


def _units(store: Path) -> dict[str, str]:
    """Return the units of an image's axes; those that have none are left out."""
    import zarr

    axes = _ome(zarr.open_group(store, mode="r").attrs.asdict())["multiscales"][0]["axes"]
    return {axis["name"]: axis["unit"] for axis in axes if "unit" in axis}


def _set_units(store: Path, path: str, units: Mapping[str, str]) -> None:
    """Give each axis its unit, or none."""
    with _changed(store, path) as attributes:
        for axis in attributes["multiscales"][0]["axes"]:
            axis.pop("unit", None)
            if axis["name"] in units:
                axis["unit"] = units[axis["name"]]


@contextlib.contextmanager
def _changed(store: Path, path: str) -> Iterator[dict[str, Any]]:
    """Yield a group's OME-Zarr attributes to be changed."""
    import zarr

    group = zarr.open_group(store, path=path, mode="r+")
    attributes: dict[str, Any] = group.attrs.asdict()
    yield _ome(attributes)
    group.attrs.put(attributes)


def _ome(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the OME-Zarr attributes among all: version 0.5 keeps them under a key of their own."""
    inner: dict[str, Any] = attributes.get("ome", attributes)
    return inner


def _consolidate_again(store: Path) -> None:
    """Renew consolidated metadata, if the store has them: what they don't list, zarr does not see."""
    import zarr
    from zarr.errors import ZarrUserWarning

    if zarr.open_group(store, mode="r").metadata.consolidated_metadata is None:
        return
    with warnings.catch_warnings():
        # That Parquet files are no zarr nodes, and that version 3 has no standard for what this store has already.
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(store)
