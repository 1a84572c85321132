"""What the report shows, gathered from the units in one pass; memory does not grow with their number."""

import heapq
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_all_detect.batch.units import Unit, UnitResult
from napari_all_detect.errors import InputError, StoreError
from napari_all_detect.export.report import ROWS_SHOWN, CellPicture, Histogram, Plate, Report
from napari_all_detect.results import FAILURE_COLUMNS, Failure, ResultTables
from napari_all_detect.retrying import with_retries
from napari_all_detect.sources.places import without_secrets
from napari_all_detect.table import CALLS, typed
from napari_all_detect.trust import Bounds, count_joined, domain_note
from napari_all_detect.windows import Pixels

__all__ = ["gather_report"]

SHOWN = 12
"""Cells of each gallery."""

PICTURE_PX = 112
READERS = 3
"""Planes that are read at once."""

HISTOGRAMS = {
    "p_all": ("Cells by P(ALL)", "", np.linspace(0, 1, 21)),
    "diameter_px": ("Cells by diameter", "px", np.geomspace(8, 512, 25)),
}
"""Column -> title, unit and edges. Diameters' bins grow with them, as nobody knows how large cells will be."""

GALLERIES: dict[str, Callable[[NDArray[np.float64], float], NDArray[np.float64]]] = {
    "Highest P(ALL)": lambda p_all, threshold: p_all,
    "Lowest P(ALL)": lambda p_all, threshold: -p_all,
    "Least certain": lambda p_all, threshold: -abs(p_all - threshold),
}

SAID = ("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1", "p_all", "spread", "flags")
"""What a gallery shows of a cell, and where it lies."""

Chosen = tuple[float, int, int, dict[str, Any]]
"""How high it ranks, unit and label (negative, so that the first of equals wins), and what is said of it."""

Pictures = dict[tuple[int, int], CellPicture]
"""By unit and label."""

Counts = dict[str, dict[str, NDArray[Any]]]


def gather_report(
    results: Iterable[tuple[Unit, UnitResult]],
    units: Sequence[Unit],
    tables: ResultTables,
    run: Mapping[str, Any],
    samples: pd.DataFrame | None,
) -> Report:
    """Go through all results once; read again the planes of the cells that are shown.

    Parameters
    ----------
    results : iterable of (Unit, UnitResult)
        Of the units that were done.
    units : sequence of Unit
        All of them: each at the place of its number.
    tables : ResultTables
        Have the sums and the failures.
    run : mapping
        The record of the run.
    samples : DataFrame or None
        Rows of `samples.csv`, if there was a sample sheet.
    """
    counted: Counts = {
        column: {call: np.zeros(len(edges) - 1, np.int64) for call in CALLS}
        for column, (*_, edges) in HISTOGRAMS.items()
    }
    chosen: dict[str, list[Chosen]] = {title: [] for title in GALLERIES}
    flags, images, has_domain = Counter[str](), list[pd.DataFrame](), False
    wells: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for unit, result in results:
        if len(images) < ROWS_SHOWN:
            images.append(result.summary)
        _count(counted, result.cells)
        has_domain = has_domain or bool(result.cells["in_domain"].notna().any())
        flags += count_joined(result.cells["flags"])
        p_all = result.cells["p_all"].to_numpy(np.float64)
        for title, rank in GALLERIES.items():
            _choose(chosen[title], unit, result.cells, rank(p_all, run["bundle"]["threshold"]))
        if unit.plane.well:
            row = result.summary.iloc[0]
            wells[_plate_name(unit)][unit.plane.well].update({name: int(row[name]) for name in ("cells", "all", "hem")})
    counts, bounds = {"planes": tables.planes, **tables.counts}, run["bundle"]["bounds"]
    if counts["cells"] and not has_domain:  # not one is out of it, as far as nobody knows
        del counts["out_of_domain"]
    shown = [cell for cells in chosen.values() for cell in cells]
    pictures = _pictures(shown, units)
    return Report(
        {**run, "inputs": [without_secrets(str(name)) for name in run["inputs"]]},
        counts,
        pd.concat(images, ignore_index=True) if images else pd.DataFrame({"image": []}),
        samples,
        [Histogram(*facts, counted[column]) for column, facts in HISTOGRAMS.items()],
        {title: _gallery(cells, pictures) for title, cells in chosen.items()},
        [_plate(name, found) for name, found in wells.items()],
        flags,
        tables.notes,
        typed(FAILURE_COLUMNS, _columns(tables.failures), len(tables.failures)),
        domain_note(tables.counts["out_of_domain"], tables.counts["cells"]),
        Bounds(**bounds).in_words() if bounds else "",
        len({(number, label) for _, number, label, _ in shown}) - len(pictures),
    )


def _columns(failures: Sequence[Failure]) -> dict[str, list[str]]:
    return {column.name: [getattr(failure, column.name) for failure in failures] for column in FAILURE_COLUMNS}


def _count(counted: Counts, cells: pd.DataFrame) -> None:
    calls = cells["call"].to_numpy()
    for column, (*_, edges) in HISTOGRAMS.items():
        n = len(edges) - 1
        # What lies beyond the edges counts with the first and the last.
        bins = np.clip(np.searchsorted(edges, cells[column].to_numpy(np.float64), "right") - 1, 0, n - 1)
        for call in CALLS:
            counted[column][call] += np.bincount(bins[calls == call], minlength=n)


def _choose(chosen: list[Chosen], unit: Unit, cells: pd.DataFrame, ranks: NDArray[np.float64]) -> None:
    """Let the cells of a unit that rank higher than the lowest of those chosen take their places; highest first."""
    best = np.argsort(-ranks, kind="stable")[:SHOWN]
    if len(chosen) == SHOWN:
        best = best[ranks[best] > chosen[-1][0]]
    labels, columns = cells["label"].to_numpy(), [cells[name] for name in SAID]
    for i in best.tolist():
        said = dict(zip(SAID, (column.iat[i] for column in columns), strict=True))
        chosen.append((float(ranks[i]), -unit.number, -int(labels[i]), said))
    chosen[:] = heapq.nlargest(SHOWN, chosen, key=lambda cell: cell[:3])


def _plate_name(unit: Unit) -> str:
    """Return the store that a field lies in: `plate.zarr/A/1/0` in `plate.zarr`."""
    parents = list(PurePosixPath(unit.plane.image).parents)
    return str(parents[2]) if len(parents) > 3 else "of the wells given"


def _plate(name: str, wells: Mapping[str, Counter[str]]) -> Plate:
    def fraction(counts: Counter[str]) -> float | None:
        called = counts["all"] + counts["hem"]
        return counts["all"] / called if called else None

    return Plate(name, {_row_and_column(well): (fraction(n), n["cells"]) for well, n in wells.items()})


def _row_and_column(well: str) -> tuple[str, str]:
    row = well.rstrip("0123456789")
    return row, well[len(row) :]


def _pictures(chosen: Iterable[Chosen], units: Sequence[Unit]) -> Pictures:
    """Cut the cells out of their planes, each of which is read once."""
    by_unit: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
    for _, number, label, said in chosen:
        by_unit[-number][-label] = said
    pictures: Pictures = {}
    with ThreadPoolExecutor(READERS) as pool:
        for found in pool.map(lambda number: _cut(units[number], by_unit[number]), by_unit):
            pictures |= found
    return pictures


def _cut(unit: Unit, cells: Mapping[int, dict[str, Any]]) -> Pictures:
    """Cut cells out of a plane; none if it can't be read any more."""
    try:
        pixels = with_retries(unit.plane.open, StoreError)
        pictures = {label: _picture(pixels, said) for label, said in cells.items()}
    except InputError:
        return {}
    return {
        (unit.number, label): CellPicture(
            pictures[label], f"{unit.name} #{label}", float(said["p_all"]), float(said["spread"]), said["flags"]
        )
        for label, said in cells.items()
    }


def _gallery(chosen: Iterable[Chosen], pictures: Pictures) -> list[CellPicture]:
    return [pictures[-number, -label] for _, number, label, _ in chosen if (-number, -label) in pictures]


def _picture(pixels: Pixels, said: Mapping[str, Any]) -> bytes:
    """Return a square around a cell, half as large again, as JPEG; beyond the plane it is white."""
    from PIL import Image

    y0, x0, y1, x1 = (int(said[f"bbox_{side}"]) for side in ("y0", "x0", "y1", "x1"))
    half = max(y1 - y0, x1 - x0) * 3 // 4 + 1
    y, x = (y0 + y1) // 2, (x0 + x1) // 2
    inside = pixels[max(0, y - half) : y + half, max(0, x - half) : x + half]
    square = np.full((2 * half, 2 * half, 3), 255, np.uint8)
    top, left = max(0, half - y), max(0, half - x)
    square[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    file = io.BytesIO()
    Image.fromarray(square).resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()
