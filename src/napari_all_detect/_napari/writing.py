"""Writers: what napari saves of scored labels, from its File menu. No Qt."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from napari_all_detect._napari.layer_link import RESULTS_KEY
from napari_all_detect._napari.reading import RUN_KEY
from napari_all_detect._napari.results import CellResults
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.export.csv import write_csv
from napari_all_detect.export.ome_zarr import write_ome_zarr
from napari_all_detect.sources import as_rgb

__all__ = ["write_cells", "write_smear"]


def write_cells(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the table of a scored labels layer as CSV."""
    write_csv(_results(attributes).export_table(), Path(path))
    return [path]


def write_smear(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write an image and its scored labels as one OME-Zarr, which opens again with scores and colours.

    Raises
    ------
    InputError
        If the labels have no scores, or there are several planes.
    OutputError
        If the store is there already.
    """
    (pixels, placed, _), (labels, scored, _) = sorted(layers, key=lambda layer: layer[2])
    results = _results(scored)
    if np.ndim(labels) != 2:
        raise InputError("OME-Zarr takes one plane; export a stack as CSV and its labels as TIFF")
    if Path(path).exists():
        raise OutputError(f"{path} is there already; choose another name")
    size = results.rows.summary["pixel_size_um"].iloc[0]
    numbered = np.asarray(labels)
    try:
        write_ome_zarr(
            as_rgb(np.asarray(pixels), str(placed.get("name"))).rgb,
            numbered,
            results.export_table(),
            Path(path),
            None if np.isnan(size) else float(size),
        )
        _note_run(Path(path), results)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)  # half a store would open as a whole one
        raise
    return [path]


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
