"""GeoJSON, as QuPath imports it: each cell an object with its outline, call and measurements."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from skimage.measure import find_contours

from napari_all_detect.errors import InputError
from napari_all_detect.export.colours import CALL_COLOURS
from napari_all_detect.labelled import LabelImage

__all__ = ["geojson_text", "write_geojson"]

Rings = list[list[list[float]]]

TOLD = ("image", "plane", "flags", "in_domain", "bundle")
"""Columns that are no measurements: QuPath (0.5 and later) shows an object's metadata beside these."""


def write_geojson(cells: pd.DataFrame, labels: LabelImage, path: Path, nuclei: LabelImage | None = None) -> None:
    """Write the cells of one plane as UTF-8 GeoJSON; see `geojson_text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(geojson_text(cells, labels, nuclei), encoding="utf-8", newline="")


def geojson_text(
    cells: pd.DataFrame, labels: LabelImage, nuclei: LabelImage | None = None, downsample: float = 1.0
) -> str:
    """Return the cells of one plane as a GeoJSON FeatureCollection.

    Coordinates are QuPath's: pixels of the image's finest level, x before y, from the outer corner of the first pixel,
    so that they are larger by a half than the centroids in the table. Each cell is an object of type `cell`, its call
    the classification, the numbers of its row the measurements (those that are missing are left out), its nucleus a
    geometry of its own. Outlines of a plane of a stack say on which t and z they lie; without that QuPath takes them
    for those of the first.

    Parameters
    ----------
    cells : DataFrame
        The plane's rows of `cells.csv`.
    labels : (H, W) integer
        The cells' numbers, as in the column `label`.
    nuclei : (H, W) integer, optional
        The same numbers where the nuclei are.
    downsample : float
        Pixels of the finest level that one of the labels is wide; the measurements stay in pixels of the labels.

    Examples
    --------
    >>> labels = np.zeros((8, 8), int)
    >>> labels[2:5, 3:7] = 1
    >>> text = geojson_text(pd.DataFrame({"label": [1], "call": ["ALL"], "p_all": [0.75]}), labels)
    >>> json.loads(text)["features"][0]["properties"]["measurements"]
    {'label': 1, 'p_all': 0.75}
    """
    measured = {str(name): _numbers(cells[name]) for name in cells.select_dtypes("number")}
    told = {name: _texts(cells[name]) for name in TOLD if name in cells}
    boxes, place = _boxes(cells, labels), _place(cells)
    features = []
    for i, (number, call) in enumerate(zip(cells["label"].tolist(), cells["call"].tolist(), strict=True)):
        box = boxes[i]
        feature = {"type": "Feature", "geometry": _geometry(labels, number, box, downsample) | place}
        if nuclei is not None and (nuclei[box] == number).any():
            feature["nucleusGeometry"] = _geometry(nuclei, number, box, downsample) | place
        feature["properties"] = {
            "objectType": "cell",
            "name": str(number),
            "classification": {"name": call, "color": list(CALL_COLOURS[call])},
            "measurements": _known(measured, i),
            "metadata": _known(told, i),
        }
        # At once: the points of all cells as Python's lists would take many times the memory of their text.
        features.append(json.dumps(feature, allow_nan=False, separators=(",", ":")))
    return f'{{"type":"FeatureCollection","features":[{",".join(features)}]}}\n'


def _texts(column: "pd.Series[Any]") -> list[str | None]:
    missing = column.isna().tolist()
    return [None if is_missing else str(value) for value, is_missing in zip(column.tolist(), missing, strict=True)]


def _place(cells: pd.DataFrame) -> dict[str, Any]:
    """Return what a geometry says of the plane that it lies on; QuPath's -1 stands for all channels."""
    named = re.findall(r"(?:^|_)([tz])(\d+)", str(cells["plane"].iloc[0])) if len(cells) and "plane" in cells else []
    places = {axis: int(place) for axis, place in named}
    return {"plane": {"c": -1, "z": places.get("z", 0), "t": places.get("t", 0)}} if any(places.values()) else {}


def _boxes(cells: pd.DataFrame, labels: LabelImage) -> list[tuple[slice, slice]]:
    """Return where each row's cell lies: of labels that are read by parts, the table knows."""
    if isinstance(labels, np.ndarray):
        there = dict(enumerate(find_objects(labels), start=1))
        boxes = [there.get(number) for number in cells["label"].tolist()]
        found = [box for box in boxes if box is not None]
        if len(found) < len(boxes):
            n = len(boxes) - len(found)
            raise InputError(f"{n} of {len(boxes)} cells are not in their labels; expected the labels that were scored")
        return found
    corners = (cells[f"bbox_{side}"].tolist() for side in ("y0", "y1", "x0", "x1"))
    return [(slice(y0, y1), slice(x0, x1)) for y0, y1, x0, x1 in zip(*corners, strict=True)]


def _numbers(column: "pd.Series[Any]") -> list[int | float | None]:
    """Return a column's numbers, which JSON writes with the digits of their own type; None where one is missing."""
    if column.dtype.kind == "f":
        return [None if text == "nan" else float(text) for text in column.to_numpy().astype(str).tolist()]
    return [None if missing else int(n) for n, missing in zip(column.tolist(), column.isna().tolist(), strict=True)]


def _known(columns: Mapping[str, list[Any]], i: int) -> dict[str, Any]:
    """Return what the columns say of a row, without what is missing."""
    return {name: values[i] for name, values in columns.items() if values[i] is not None}


def _geometry(labels: LabelImage, number: int, box: tuple[slice, slice], downsample: float) -> dict[str, Any]:
    """Return the outline of a label, through the middles of its pixels' outer edges; its parts and holes too."""
    inside = np.pad(labels[box] == number, 1)
    y0, x0 = box[0].start, box[1].start
    outer: list[Rings] = []
    holes: Rings = []
    # Pixels that touch by a corner only are parts of their own: a ring never meets itself.
    for contour in find_contours(inside.astype(np.float32), 0.5, fully_connected="low"):
        y, x = contour.T
        # One pixel of padding, and half a pixel from a pixel's centre to its corner.
        ring = (downsample * np.stack([x + x0 - 0.5, y + y0 - 0.5], axis=1)).tolist()
        if _signed_area(contour) < 0:
            holes.append(ring)
        else:
            outer.append([ring])
    for hole in holes:
        _around(hole, outer).append(hole)
    if len(outer) == 1:
        return {"type": "Polygon", "coordinates": outer[0]}
    return {"type": "MultiPolygon", "coordinates": outer}


def _signed_area(contour: NDArray[np.floating]) -> float:
    y, x = contour.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def _around(hole: list[list[float]], outer: list[Rings]) -> Rings:
    """Return the smallest part that a hole lies in."""
    from skimage.measure import points_in_poly

    within = [part for part in outer if points_in_poly([hole[0]], part[0])[0]]
    return min(within, key=lambda part: abs(_signed_area(np.asarray(part[0]))))
