"""Scored layers as files: written by the same functions as the command line's, so with the same bytes. No Qt."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image
from numpy.typing import NDArray

from napari_all_detect._napari.cells.edited import refuse_changed
from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.files.file_names import plain
from napari_all_detect._napari.files.store_run import note_run
from napari_all_detect._napari.layers.axes import Layout, fitting
from napari_all_detect._napari.layers.metadata_keys import LAYOUT_KEY, SCORED_ON_KEY
from napari_all_detect._napari.layers.planes import layer_planes
from napari_all_detect.atomic import made_atomically
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.export.csv import csv_text, write_csv
from napari_all_detect.export.geojson import write_geojson
from napari_all_detect.export.h5ad import write_h5ad
from napari_all_detect.export.ome_zarr import write_ome_zarr
from napari_all_detect.export.parquet import write_parquet

__all__ = [
    "EXPORT_FORMATS",
    "ExportFormat",
    "Exported",
    "ExportedPlane",
    "Smear",
    "copied_text",
    "export",
    "exported_planes",
    "proposed_name",
    "smear_of",
]


@dataclass(frozen=True, eq=False)
class Smear:
    """An image layer, and how it is read so that labels are its own."""

    image: Image
    layout: Layout


@dataclass(frozen=True, eq=False)
class Exported:
    """What is exported.

    Attributes
    ----------
    results : CellResults
    labels : (..., H, W) integer
        The layer's, of its finest level.
    smear : Smear or None
        For formats that hold its pixels.
    """

    results: CellResults
    labels: NDArray[np.integer]
    smear: Smear | None = None


@dataclass(frozen=True, eq=False)
class ExportedPlane:
    """One plane of what is exported, its labels numbered as in the table."""

    index: tuple[int, ...]
    name: str
    cells: pd.DataFrame
    labels: NDArray[np.integer]
    nuclei: NDArray[np.integer] | None


@dataclass(frozen=True)
class ExportFormat:
    """A format: what it is called, its suffix, what writes it, and whether each plane gets a file of its own."""

    name: str
    suffix: str
    write: Callable[[Exported, Sequence[Path]], None]
    by_plane: bool = False


def _write_table(write: Callable[[pd.DataFrame, Path], None]) -> Callable[[Exported, Sequence[Path]], None]:
    return lambda exported, paths: write(exported.results.export_table(), *paths)


def _write_geojson(exported: Exported, paths: Sequence[Path]) -> None:
    for plane, target in zip(exported_planes(exported), paths, strict=True):
        write_geojson(plane.cells, plane.labels, target, plane.nuclei)


def _write_ome_zarr(exported: Exported, paths: Sequence[Path]) -> None:
    if exported.smear is None:
        raise InputError(
            "OME-Zarr holds the image too, and the one that the cells were scored on is not open; open it and score "
            "the labels again, with them under Cells"
        )
    pixels = {plane.index: plane for plane in layer_planes(exported.smear.image, exported.smear.layout)}
    for plane, target in zip(exported_planes(exported), paths, strict=True):
        given = pixels[plane.index].read()
        size = _pixel_size_um(exported.results, plane.name)
        with made_atomically(target) as part:
            write_ome_zarr(given.pixels.rgb, plane.labels, plane.cells, part, size)
            if exported.results.is_moved:  # else these are the bytes of the command line
                note_run(part, exported.results, [plane.name])


EXPORT_FORMATS = (
    ExportFormat("CSV", ".csv", _write_table(write_csv)),
    ExportFormat("Parquet", ".parquet", _write_table(write_parquet)),
    ExportFormat("GeoJSON for QuPath", ".geojson", _write_geojson, by_plane=True),
    ExportFormat("OME-Zarr", ".zarr", _write_ome_zarr, by_plane=True),
    ExportFormat("AnnData", ".h5ad", _write_table(write_h5ad)),
)


def export(exported: Exported, path: Path) -> list[Path]:
    """Write in the format that the suffix names; of a stack, formats of images have a file for each plane.

    Whoever gave the path has agreed that this file is replaced, but no folder and no file by another name.

    Returns
    -------
    paths : list of Path
        What was written.

    Raises
    ------
    OutputError
        If no format has this suffix, or a file is there already or can't be written.
    InputError
        If the format holds the image and that is not open, or cells have been erased or redrawn in the labels.
    MissingDependencyError
        If the format needs a package that is not there.
    """
    for known in EXPORT_FORMATS:
        if path.suffix.lower() == known.suffix:
            refuse_changed(exported.results, exported.labels)
            paths = _paths_of_planes(exported, path) if known.by_plane else [path]
            _refuse_existing(paths, replaced=path)
            try:
                known.write(exported, paths)
            except OSError as error:
                reason = error.strerror or error
                raise OutputError(f"{path} can't be written ({reason}); choose another folder") from error
            return paths
    suffixes = ", ".join(known.suffix for known in EXPORT_FORMATS)
    raise OutputError(f"{path.name}: no format has the suffix {path.suffix!r}; expected one of: {suffixes}")


def proposed_name(results: CellResults) -> str:
    """Return a name for the table of an image's cells: `<image>_cells.csv`."""
    image = results.table["image"].iloc[0] if len(results) else ""
    return f"{plain(image)}_cells.csv"


def smear_of(layers: Any, labels: Any, results: CellResults) -> Smear | None:
    """Return the image layer that labels were scored on, None if it is gone.

    Scores whose image was gone when they were read don't know it: it is one of their size, if possible of the name in
    the table.
    """
    shape, known, scored_on = tuple(labels.data.shape), *map(labels.metadata.get, (LAYOUT_KEY, SCORED_ON_KEY))
    smears = []
    for layer in layers:
        if isinstance(layer, Image) and (scored_on is None or scored_on.is_of(layer)):
            layout = fitting(layer, shape, known)
            smears += [] if layout is None else [Smear(layer, layout)]
    name = results.table["image"].iloc[0] if len(results) else None
    named = [smear for smear in smears if layer_planes(smear.image, smear.layout)[0].source.image == name]
    return next(iter([*named, *smears]), None)


def copied_text(table: pd.DataFrame) -> str:
    """Return rows as a spreadsheet takes them from the clipboard: tabs between columns."""
    return csv_text(table, delimiter="\t")


def _paths_of_planes(exported: Exported, path: Path) -> list[Path]:
    planes = exported.results.table["plane"].unique()
    if len(planes) == 0:
        raise OutputError(f"there is no cell to write to {path.name}; CSV and Parquet hold the empty table")
    return [path] if len(planes) == 1 else [path.with_name(f"{path.stem}_{plane}{path.suffix}") for plane in planes]


def _refuse_existing(paths: Sequence[Path], replaced: Path) -> None:
    for path in paths:
        if path.is_dir() or (path != replaced and path.exists()):
            raise OutputError(f"{path} is there already; choose another name")


def exported_planes(exported: Exported) -> Iterator[ExportedPlane]:
    """Return the planes that have cells, their labels numbered as in the table."""
    table = exported.results.export_table()
    for name in dict.fromkeys(table["plane"]):
        yield _plane(exported, table, np.flatnonzero(table["plane"] == name))


def _plane(exported: Exported, table: pd.DataFrame, own: NDArray[np.intp]) -> ExportedPlane:
    """Return the plane of these rows."""
    rows = exported.results.rows
    index = tuple(map(int, rows.index[own[0]]))
    cells = table.iloc[own].reset_index(drop=True)
    before = int(rows.numbers[own[0]] - cells["label"].iloc[0])
    labels = np.asarray(exported.labels[index]).astype(np.int64)
    labels = np.where(labels > 0, labels - before, 0)
    nuclei = None if rows.nuclei is None else np.where(rows.nuclei[index], labels, 0)
    return ExportedPlane(index, str(cells["plane"].iloc[0]), cells, labels, nuclei)


def _pixel_size_um(results: CellResults, plane: str) -> float | None:
    summary = results.rows.summary
    size = float(summary.loc[summary["plane"] == plane, "pixel_size_um"].iloc[0])
    return None if np.isnan(size) else size
