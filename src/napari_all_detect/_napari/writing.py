"""Writers: what napari saves of scored labels, from its File menu. No Qt."""

from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_all_detect._napari.axes import Layout, fitting
from napari_all_detect._napari.edited import refuse_changed
from napari_all_detect._napari.exporting import Exported, ExportedPlane, exported_planes
from napari_all_detect._napari.layer_link import LAYOUT_KEY, results_in
from napari_all_detect._napari.notified import notified
from napari_all_detect._napari.origins import SCORED_ON_KEY, Origin
from napari_all_detect._napari.planes import layer_planes
from napari_all_detect._napari.results import CellResults
from napari_all_detect._napari.store_labels import BOUNDS, NOTES, RUN_KEY
from napari_all_detect.atomic import made_atomically
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.export.csv import write_csv
from napari_all_detect.export.ome_zarr import LabelledPlane, finish_ome_zarr, write_ome_zarr
from napari_all_detect.optional import require

__all__ = ["write_cells", "write_smear", "write_stack"]


def _no_retry(path: str, *_: Any) -> list[str]:
    """Return the path as if it were written: napari makes an error with a traceback of an empty answer."""
    return [path]


@notified(_no_retry)
def write_cells(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the table of a scored labels layer as CSV.

    Raises
    ------
    InputError
        If the labels have no scores, or not all cells any more that were scored.
    """
    labels, results = _scored(data, attributes)
    refuse_changed(results, labels)
    write_csv(results.export_table(), Path(path))
    return [path]


@notified(_no_retry)
def write_smear(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write an image and its scored labels as one OME-Zarr, which opens again with scores and colours.

    Raises
    ------
    InputError
        If the labels have no scores, those of another image, more than three axes, or not all cells any more that were
        scored.
    OutputError
        If the store is there already.
    """
    (pixels, placed, _), (labels, scored, _) = sorted(layers, key=lambda layer: layer[2])
    labels, results = _scored(labels, scored)
    shape = labels.shape
    if sum(n > 1 for n in shape[:-2]) > 1:
        raise InputError(f"labels of shape {shape}; expected one plane or one stack of planes: save those one by one")
    if Path(path).exists():
        raise OutputError(f"{path} is there already; choose another name")
    refuse_changed(results, labels)
    planes = exported_planes(Exported(results, labels))
    rgb = _rgb_planes(pixels, placed, shape, *map(scored["metadata"].get, (LAYOUT_KEY, SCORED_ON_KEY)))
    size = results.rows.summary["pixel_size_um"].iloc[0] if len(results.rows.summary) else np.nan
    size = None if np.isnan(size) else float(size)
    with made_atomically(Path(path)) as part:  # half a store would open as a whole one
        if len(rgb) == 1:
            write_ome_zarr(rgb[0], labels.reshape(shape[-2:]), results.export_table(), part, size)
        else:
            write_stack(rgb, planes, part, size)
        _note_run(part, results)
    return [path]


def _rgb_planes(
    pixels: Any, attributes: dict[str, Any], shape: tuple[int, ...], known: Layout | None, scored_on: Origin | None
) -> NDArray[np.uint8]:
    """Return the planes of an image that labels of this shape are of, (P, H, W, 3)."""
    used = ("name", "rgb", "multiscale", "axis_labels", "metadata")
    image = Image(pixels, **{name: attributes[name] for name in used if name in attributes})
    if scored_on is not None and not scored_on.is_of(image):
        raise InputError(
            f"the cells were scored on {scored_on.name!r}, not on the selected {image.name!r}; select the image that "
            "they were scored on, or score them on this one"
        )
    layout = fitting(image, shape, known)
    if layout is None:
        raise InputError(
            f"labels of shape {shape} are not of image {image.name!r}; select the labels and the image they are of"
        )
    return np.stack([plane.read().pixels.rgb for plane in layer_planes(image, layout)])


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
    require("ngio", "ome-zarr", "ome-zarr")
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
    # Of a plane's index one number counts; an axis of channels has 0.
    placed = (LabelledPlane({"z": sum(plane.index)}, plane.labels, plane.cells) for plane in planes)
    finish_ome_zarr(container, path, placed, pixel_size_um)


def _scored(data: Any, attributes: dict[str, Any]) -> tuple[NDArray[np.integer], CellResults]:
    """Return the finest level of labels, and their results."""
    labels = np.asarray(data[0] if attributes.get("multiscale") else data)
    results = results_in(attributes.get("metadata", {}), labels.shape)
    if results is None:
        raise InputError(f"labels {attributes.get('name')!r} have no scores; score their image first")
    return labels, results


def _note_run(path: Path, results: CellResults) -> None:
    """Add to the store what its table does not say: weights, threshold and notes."""
    import zarr

    group = zarr.open_group(path, mode="r+")
    run = results.run
    facts: Any = {"bundle": run.bundle, "weights": list(run.weights), "threshold": results.threshold}
    bounds = dict(zip(BOUNDS, (run.bounds, results.called_by), strict=True))
    facts |= {name: list(astuple(pair)) for name, pair in bounds.items() if pair is not None}
    planes = results.rows.summary
    notes = {plane: said for plane, said in zip(planes["plane"], planes["notes"], strict=True) if said}
    facts |= {NOTES: notes} if notes else {}
    group.attrs.put(group.attrs.asdict() | {RUN_KEY: facts})
