"""Writers: what napari saves of scored labels, from its File menu. No Qt."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_warning
from numpy.typing import NDArray

from napari_all_detect._napari.cells.edited import refuse_changed
from napari_all_detect._napari.cells.layer_link import results_in
from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.files.exporting import Exported, exported_planes
from napari_all_detect._napari.files.store_run import note_run
from napari_all_detect._napari.layers.axes import Layout, fitting, placed_like, world_steps
from napari_all_detect._napari.layers.axis_names import axis_names
from napari_all_detect._napari.layers.metadata_keys import FILE_KEY, LAYOUT_KEY, SCORED_ON_KEY
from napari_all_detect._napari.layers.origins import Origin
from napari_all_detect._napari.layers.planes import layer_planes
from napari_all_detect._napari.notified import notified
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
        If the labels have no scores, those of another image, a stack whose axes are not time and depth, or not all
        cells any more that were scored.
    OutputError
        If the store is there already.
    """
    (pixels, placed, _), (labels, scored, _) = sorted(layers, key=lambda layer: layer[2])
    labels, results = _scored(labels, scored)
    shape = labels.shape
    axes = _axes(results, shape)
    if Path(path).exists():
        raise OutputError(f"{path} is there already; choose another name")
    refuse_changed(results, labels)
    image, layout = _smear(pixels, placed, shape, *map(scored["metadata"].get, (LAYOUT_KEY, SCORED_ON_KEY)))
    rgb = [plane.read().pixels.rgb for plane in layer_planes(image, layout)]
    size = results.rows.summary["pixel_size_um"].iloc[0] if len(results.rows.summary) else np.nan
    size = None if np.isnan(size) else float(size)
    first = tuple((size or 1.0) * px for px in _first_px(image, layout, size))
    with made_atomically(Path(path)) as part:  # half a store would open as a whole one
        if len(rgb) == 1:
            write_ome_zarr(rgb[0], labels.reshape(shape[-2:]), results.export_table(), part, size, first)
        else:
            sizes = [n for n in shape[:-2] if n > 1]
            write_stack(
                np.stack(rgb).reshape(*sizes, *rgb[0].shape), axes, _labelled(results, labels, axes), part, size, first
            )
        note_run(part, results, results.rows.summary["plane"].tolist())
    return [path]


def _smear(
    pixels: Any, attributes: dict[str, Any], shape: tuple[int, ...], known: Layout | None, scored_on: Origin | None
) -> tuple[Image, Layout]:
    """Return the image that labels of this shape are of, and how it is read."""
    placed = ("scale", "translate", "rotate", "shear", "affine", "units")
    used = ("name", "rgb", "multiscale", "axis_labels", "metadata", *placed)
    image = Image(pixels, **{name: attributes[name] for name in used if name in attributes})
    if scored_on is not None and not scored_on.is_of(image):
        raise InputError(
            f"the cells were scored on {scored_on.name_beside(image)}, not on the selected {image.name!r}; select "
            "the image that they were scored on, or score them on this one"
        )
    if scored_on is not None and scored_on.file is not None:
        image.metadata.setdefault(FILE_KEY, scored_on.file)
    layout = fitting(image, shape, known)
    if layout is None:
        raise InputError(
            f"labels of shape {shape} are not of image {image.name!r}; select the labels and the image they are of"
        )
    return image, layout


def _first_px(image: Image, layout: Layout, size: float | None) -> tuple[float, float]:
    """Return where the centre of the first pixel lies along y and x, in pixels; warn of what OME-Zarr can't say."""
    place = placed_like(image, layout)
    n = len(place["scale"])
    pixel = Labels(np.zeros((1,) * n, np.uint8), **place)
    first, steps = np.asarray(pixel.data_to_world((0,) * n)), world_steps(pixel)
    edges = np.linalg.norm(steps, axis=1)
    if not np.allclose(steps / edges[:, None], np.eye(n)):
        show_warning(f"OME-Zarr can't say that {image.name!r} is rotated, sheared or mirrored; it is saved upright")
    elif size is None and not np.allclose(edges[-2:], 1):
        show_warning(f"the scale of {image.name!r} is no pixel size in micrometers; it is saved with pixels of 1")
    y, x = first[-2:] / edges[-2:]
    return float(y), float(x)


def _axes(results: CellResults, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return which axes the planes of labels of this shape are saved along: time and depth, as the planes are called.

    A stack along one other axis is saved along z, as OME-Zarr has no more names.
    """
    n_axes = sum(n > 1 for n in shape[:-2])
    named = {tuple(axis_names(str(plane).lower())) for plane in results.rows.summary["plane"]}
    for axes in (("t",), ("t", "z")):
        if named == {axes} and len(axes) == n_axes:
            return axes
    if n_axes > 1:
        raise InputError(
            f"labels of shape {shape}, with planes not called t0_z0; expected one plane, a stack, or one in time and "
            "depth: name the image's axes t and z before it is scored, or save its stacks one by one"
        )
    return ("z",) * n_axes


def _labelled(results: CellResults, labels: NDArray[np.integer], axes: tuple[str, ...]) -> Iterator[LabelledPlane]:
    """Yield the planes that have cells, and where they lie on the axes; those of length 1 are left away."""
    long = [axis for axis, n in enumerate(labels.shape[:-2]) if n > 1]
    for plane in exported_planes(Exported(results, labels)):
        place = {name: plane.index[axis] for name, axis in zip(axes, long, strict=True)}
        yield LabelledPlane(place, plane.labels, plane.cells)


def write_stack(
    rgb: NDArray[np.uint8],
    axes: tuple[str, ...],
    planes: Iterable[LabelledPlane],
    path: Path,
    pixel_size_um: float | None,
    first: tuple[float, ...],
) -> None:
    """Write a stack as one OME-Zarr: image, labels and table.

    Parameters
    ----------
    rgb : (..., H, W, 3) uint8
    axes : tuple of str
        What the leading ones are: `t`, `z`, or both.
    planes : iterable of LabelledPlane
        Those that have cells.
    path : Path
    pixel_size_um : float or None
    first : tuple of float
        Where the centre of the first pixel lies along y and x: in micrometers, in pixels without their size.
    """
    require("ngio", "ome-zarr", "ome-zarr")
    from ngio import create_ome_zarr_from_array

    ordered = [axis for axis in "tczyx" if axis in (*axes, "c", "y", "x")]  # as the specification has it
    container = create_ome_zarr_from_array(
        path,
        np.ascontiguousarray(np.moveaxis(rgb, -1, ordered.index("c"))),
        pixelsize=pixel_size_um or 1.0,
        translation=(*(0.0,) * (len(ordered) - 2), *first) if any(first) else None,
        axes_names=ordered,
        channels_meta=["red", "green", "blue"],
        ngff_version="0.5",
        consolidation_mode="auto",
    )
    finish_ome_zarr(container, path, planes, pixel_size_um)


def _scored(data: Any, attributes: dict[str, Any]) -> tuple[NDArray[np.integer], CellResults]:
    """Return the finest level of labels, and their results."""
    labels = np.asarray(data[0] if attributes.get("multiscale") else data)
    results = results_in(attributes.get("metadata", {}), labels.shape)
    if results is None:
        raise InputError(f"labels {attributes.get('name')!r} have no scores; score their image first")
    return labels, results
