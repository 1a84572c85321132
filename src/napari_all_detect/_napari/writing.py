"""Writers: what napari saves of scored labels, from its File menu. No Qt."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect._napari.exporting import Exported, ExportedPlane, exported_planes
from napari_all_detect._napari.layer_link import RESULTS_KEY
from napari_all_detect._napari.reading import RUN_KEY
from napari_all_detect._napari.results import CellResults
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.export.csv import write_csv
from napari_all_detect.export.ome_zarr import LabelledPlane, add_labels, check_ome_zarr, write_ome_zarr
from napari_all_detect.sources import as_rgb

__all__ = ["write_cells", "write_smear", "write_stack"]


def write_cells(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the table of a scored labels layer as CSV."""
    write_csv(_results(attributes).export_table(), Path(path))
    return [path]


def write_smear(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write an image and its scored labels as one OME-Zarr, which opens again with scores and colours.

    Raises
    ------
    InputError
        If the labels have no scores, or more than three axes.
    OutputError
        If the store is there already.
    """
    (pixels, placed, _), (labels, scored, _) = sorted(layers, key=lambda layer: layer[2])
    pixels, labels = (data[0] if of.get("multiscale") else data for data, of in ((pixels, placed), (labels, scored)))
    if not placed.get("rgb"):  # three channels first
        pixels = np.moveaxis(np.asarray(pixels), 0, -1)
    results, shape = _results(scored), np.shape(labels)
    if len(shape) not in (2, 3):
        raise InputError(f"labels of shape {shape}; expected one plane or one stack of planes: save those one by one")
    if Path(path).exists():
        raise OutputError(f"{path} is there already; choose another name")
    size = results.rows.summary["pixel_size_um"].iloc[0]
    size = None if np.isnan(size) else float(size)
    name = str(placed.get("name"))
    try:
        if len(shape) == 2:
            rgb = as_rgb(np.asarray(pixels), name).rgb
            write_ome_zarr(rgb, np.asarray(labels), results.export_table(), Path(path), size)
        else:
            rgb = np.stack([as_rgb(np.asarray(plane), name).rgb for plane in pixels])
            write_stack(rgb, exported_planes(Exported(results, labels)), Path(path), size)
        _note_run(Path(path), results)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)  # half a store would open as a whole one
        raise
    return [path]


def write_stack(
    rgb: NDArray[np.uint8], planes: Iterable[ExportedPlane], path: Path, pixel_size_um: float | None
) -> None:
    """Write a stack as one OME-Zarr, its planes along z: image, labels and table.

    Parameters
    ----------
    rgb : (Z, H, W, 3) uint8
    planes : iterable of ExportedPlane
        Those that have cells.
    path : Path
    pixel_size_um : float or None
    """
    check_ome_zarr()
    from ngio import create_ome_zarr_from_array

    container = create_ome_zarr_from_array(
        path,
        np.ascontiguousarray(np.moveaxis(rgb, 3, 0)),
        pixelsize=pixel_size_um or 1.0,
        axes_names=["c", "z", "y", "x"],
        channels_meta=["red", "green", "blue"],
        ngff_version="0.5",
        consolidation_mode="auto",
    )
    container.set_channel_colors(["FF0000", "00FF00", "0000FF"])
    container.set_channel_windows([(0, 255)] * 3, [(0, 255)] * 3)
    add_labels(path, [LabelledPlane({"z": plane.index[0]}, plane.labels, plane.cells) for plane in planes])


def _results(attributes: dict[str, Any]) -> CellResults:
    results = attributes.get("metadata", {}).get(RESULTS_KEY)
    if not isinstance(results, CellResults):
        raise InputError(f"labels {attributes.get('name')!r} have no scores; score their image first")
    return results


def _note_run(path: Path, results: CellResults) -> None:
    """Add to the store what its table does not say: weights and threshold."""
    import zarr

    group = zarr.open_group(path, mode="r+")
    facts: Any = {"bundle": results.run.bundle, "weights": list(results.run.weights), "threshold": results.threshold}
    group.attrs.put(group.attrs.asdict() | {RUN_KEY: facts})
