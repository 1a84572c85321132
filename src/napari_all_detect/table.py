"""The columns of `cells.csv` and `images.csv`: name, type, unit, meaning; and how a plane's rows are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from skimage.measure import label

from napari_all_detect.hull import hull_areas
from napari_all_detect.moments import moments

__all__ = ["CALLS", "IMAGE_COLUMNS", "Column", "cell_columns", "empty_cells", "geometry", "image_row", "typed"]

CALLS = ("ALL", "Hem", "uncertain")
"""The values of column `call`."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    dtype: str
    unit: str
    meaning: str


IDENTITY = (
    Column("image", "str", "", "Name of the image file or store"),
    Column("plane", "str", "", "Which plane of the image: 0, or page (p3), or position (t0_z3)"),
    Column("label", "int64", "", "Value of the cell in the label image; consecutive from 1 in a plane, or as given"),
)
GEOMETRY = (
    Column("y_px", "float32", "px", "Centroid, downwards from the centre of the first pixel"),
    Column("x_px", "float32", "px", "Centroid, rightwards from the centre of the first pixel"),
    Column("bbox_y0", "int64", "px", "First row of the bounding box"),
    Column("bbox_x0", "int64", "px", "First column of the bounding box"),
    Column("bbox_y1", "int64", "px", "Row after the last of the bounding box"),
    Column("bbox_x1", "int64", "px", "Column after the last of the bounding box"),
    Column("area_px", "int64", "px", "Number of pixels"),
    Column("diameter_px", "float32", "px", "Diameter of the circle of the same area"),
    Column("eccentricity", "float32", "", "Of the ellipse with the same second moments: 0 round, towards 1 long"),
    Column("solidity", "float32", "", "Share of its convex hull that the cell fills"),
    Column("y_um", "float32", "um", "y_px in micrometres; empty without a pixel size"),
    Column("x_um", "float32", "um", "x_px in micrometres; empty without a pixel size"),
    Column("area_um2", "float32", "um2", "Area; empty without a pixel size"),
    Column("diameter_um", "float32", "um", "diameter_px in micrometres; empty without a pixel size"),
    Column("nc_ratio", "float32", "", "Area of the nucleus over that of the cytoplasm; empty without either"),
    Column("nucleus_area_px", "Int64", "px", "Number of pixels of the nucleus; empty if nuclei were not looked for"),
    Column("nucleus_lobes", "Int64", "", "Separate parts of the nucleus, each a tenth of it at least; empty likewise"),
)
LEAST_LOBE = 0.1
"""Smaller parts of a nucleus are grains at its edge."""

SCORES = (
    Column("p_all", "float32", "", "Probability of ALL by the ensemble (Eq. 2): by those members that ran"),
    Column("p_hem", "float32", "", "Probability of Hem; with p_all it makes 1"),
    Column("call", "str", "", "ALL, Hem or uncertain: always that of the whole ensemble"),
    Column("spread", "float32", "", "Standard deviation of the members' p_all; empty unless all ran"),
    Column("votes_all", "int64", "", "Members that ran and call the cell ALL"),
    Column("members_run", "Int64", "", "Members that ran: fewer than there are only with --fast-calls"),
    # Not p_all_low: by the prefix p_all_ readers know the members' columns.
    Column("least_p_all", "float32", "", "p_all of the whole ensemble is this at least; p_all itself if all ran"),
    Column("most_p_all", "float32", "", "p_all of the whole ensemble is this at most; p_all itself if all ran"),
)
TRUST = (
    Column(
        "domain_distance",
        "float32",
        "",
        "Distance from the training cells' colours; 1 is where in_domain ends; empty if the bundle has no domain",
    ),
    Column("in_domain", "boolean", "", "Whether domain_distance is 1 at most; empty likewise"),
    Column("flags", "str", "", "Reasons for doubt, joined by ;"),
    Column("bundle", "str", "", "Bundle that scored: name-version"),
)
PLATE = (
    Column("well", "str", "", "Well of the plate: A1; empty if the image lies on none"),
    Column("field", "str", "", "Field of view in the well; empty likewise"),
)
IMAGE_COLUMNS = (
    *IDENTITY[:2],
    Column("cells", "int64", "", "White cells found"),
    Column("all", "int64", "", "Cells called ALL"),
    Column("hem", "int64", "", "Cells called Hem"),
    Column("uncertain", "int64", "", "Cells called uncertain"),
    Column("out_of_domain", "Int64", "", "Cells out of the domain, called all the same; empty if that is unknown"),
    Column("fraction_all", "float32", "", "Cells called ALL among those called ALL or Hem; empty without any"),
    Column("mean_p_all", "float32", "", "Mean of p_all; empty without cells"),
    Column("median_diameter_px", "float32", "px", "Median diameter; empty without cells"),
    Column("pixel_size_um", "float32", "um", "Edge of a pixel; empty if unknown"),
    Column("rescale", "float32", "", "Factor by which the plane was rescaled before cropping"),
    Column("notes", "str", "", "What was done to the pixel values, and what is missing or doubtful; joined by ;"),
    *PLATE,
)


def cell_columns(members: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of `cells.csv`, in order, for a bundle's members.

    >>> [column.name for column in cell_columns(["vgg16"])][-6:]
    ['domain_distance', 'in_domain', 'flags', 'bundle', 'well', 'field']
    """
    meaning = "Probability of ALL by {}; empty if it did not run"
    votes = [Column(f"p_all_{name}", "float32", "", meaning.format(name)) for name in members]
    return (*IDENTITY, *GEOMETRY, *SCORES, *votes, *TRUST, *PLATE)


def typed(columns: Sequence[Column], values: Mapping[str, Any], n: int) -> pd.DataFrame:
    """Make a table with exactly these columns and types; a column without values is empty.

    Parameters
    ----------
    columns : sequence of Column
    values : mapping of str to (n,) array or one value for all rows
        None is empty.
    n : int
        Number of rows.
    """
    index = pd.RangeIndex(n)
    return pd.DataFrame({c.name: _values(c, values.get(c.name), index) for c in columns}, index)


def empty_cells(members: Sequence[str]) -> pd.DataFrame:
    """Return the cell table without a row."""
    return typed(cell_columns(members), {}, 0)


def geometry(
    labels: NDArray[np.integer],
    pixel_size_um: float | None,
    nuclei: NDArray[np.integer] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """Measure every label.

    Parameters
    ----------
    labels : (H, W) integer
    pixel_size_um : float or None
    nuclei : (H, W) integer, optional
        The same numbers where the nuclei are.
    origin : (int, int)
        Row and column of the plane at which the labels begin, if they are a part of it.

    Returns
    -------
    columns : dict
        `label` and the columns of the geometry, without the `_um` ones if there is no pixel size, and without those of
        the nuclei if there are none.
    """
    boxes = {number: box for number, box in enumerate(find_objects(labels), start=1) if box is not None}
    columns: dict[str, Any] = {"label": np.array(list(boxes), np.int64)}
    measured = moments(labels, boxes)
    edges = np.array([(y.start, x.start, y.stop, x.stop) for y, x in boxes.values()], np.int64).reshape(-1, 4)
    columns |= dict(zip(("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"), edges.T, strict=True))
    area = columns["area_px"] = measured["area"]
    columns["diameter_px"] = np.sqrt(4 / np.pi * area)
    columns["eccentricity"] = measured["eccentricity"]
    columns["solidity"] = area / hull_areas([labels[box] == n for n, box in boxes.items()])
    for axis, start in zip("yx", origin, strict=True):
        for name in (f"bbox_{axis}0", f"bbox_{axis}1"):
            columns[name] = columns[name] + start
        # From the box on: the last bit does not depend on where the labels begin.
        columns[f"{axis}_px"] = columns[f"bbox_{axis}0"] + measured[axis]
    if pixel_size_um is not None:
        for name in ("y", "x", "diameter"):
            columns[f"{name}_um"] = columns[f"{name}_px"] * pixel_size_um
        columns["area_um2"] = columns["area_px"] * pixel_size_um**2
    if nuclei is not None:
        columns |= _nuclei(nuclei, columns["label"], columns["area_px"])
    return columns


def _nuclei(
    nuclei: NDArray[np.integer], numbers: NDArray[np.integer], areas: NDArray[np.floating]
) -> dict[str, NDArray[Any]]:
    """Measure the nucleus of each cell."""
    n = int(numbers.max(initial=0)) + 1
    inside = np.flatnonzero(nuclei)
    cell, part = nuclei.ravel()[inside], label(nuclei, connectivity=1).ravel()[inside]
    all_areas, area = np.bincount(cell, minlength=n), np.bincount(part)
    nucleus = all_areas[numbers]
    cytoplasm = areas - nucleus
    both = (nucleus > 0) & (cytoplasm > 0)
    owner = np.zeros(len(area), np.int64)
    owner[part] = cell
    large = area >= LEAST_LOBE * all_areas[owner]
    large[:1] = False
    return {
        "nc_ratio": np.divide(nucleus, cytoplasm, out=np.full(len(numbers), np.nan), where=both),
        "nucleus_area_px": nucleus,
        "nucleus_lobes": np.bincount(owner[large], minlength=n)[numbers],
    }


def image_row(cells: pd.DataFrame, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Sum up a plane's cells in one row of `images.csv`.

    Parameters
    ----------
    cells : DataFrame
        The plane's rows of `cells.csv`.
    facts : mapping
        `image, plane, pixel_size_um, rescale, notes, well, field`.
    """
    counts = {name: int((cells["call"] == name).sum()) for name in CALLS}
    called = counts["ALL"] + counts["Hem"]
    values = {
        **facts,
        "cells": len(cells),
        "all": counts["ALL"],
        "hem": counts["Hem"],
        "uncertain": counts["uncertain"],
        "out_of_domain": cells["in_domain"].eq(False).sum()
        if cells["in_domain"].notna().any() or not len(cells)
        else None,
        "fraction_all": counts["ALL"] / called if called else None,
        "mean_p_all": cells["p_all"].mean() if len(cells) else None,
        "median_diameter_px": cells["diameter_px"].median() if len(cells) else None,
    }
    return typed(IMAGE_COLUMNS, values, 1)


def _values(column: Column, values: Any, index: pd.RangeIndex) -> Any:
    """Return a column's values, as arrays where they can be: series make a table several times slower."""
    if values is None:
        values = pd.NA if column.dtype in ("boolean", "Int64") else (np.nan if column.dtype == "float32" else "")
    if np.ndim(values) == 0:
        values = [values] * len(index)
    if column.dtype == "str":
        # A file name may be no Unicode; every format that we write is.
        values = [str(value).encode("utf-8", "backslashreplace").decode() for value in values]
        return pd.Series(values, index, dtype="object")  # of an array pandas 3 would make another type
    if column.dtype in ("boolean", "Int64"):
        return pd.array(values, dtype=column.dtype)
    return np.asarray(values, column.dtype)
