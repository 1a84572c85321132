"""Tables that were saved -> results again. No Qt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_all_detect import table
from napari_all_detect._napari.cells.results import CellResults, Rows, called
from napari_all_detect._napari.files.cut_again import CutAgain, Planes
from napari_all_detect._napari.process.messages import Opened
from napari_all_detect.bundle import list_bundles, load_bundle
from napari_all_detect.ensemble import member_weights
from napari_all_detect.errors import AllDetectError, InputError
from napari_all_detect.export.csv import unquoted
from napari_all_detect.trust import Bounds

__all__ = [
    "Saved",
    "members_of",
    "read_cells_csv",
    "restored",
    "run_by_bundle",
    "run_by_record",
    "summaries",
    "typed_again",
]

VERDICT = "verdict"
TRUTHS = {"TRUE": 1.0, "FALSE": 0.0, "True": 1.0, "False": 0.0}


@dataclass(frozen=True, eq=False)
class Saved:
    """The scores of a labels layer, as they were read.

    Attributes
    ----------
    cells : DataFrame
        N rows, with or without verdicts.
    run : Opened
        What scored them.
    numbers : (N,) int
        Each cell's number in the layer.
    index : (N, L) int
        Where its plane lies.
    summary : DataFrame
        The planes' rows of `images.csv`; without `rescale` where that was not saved.
    moved_to : float or None
        The threshold that gave the calls, if it was moved after scoring.
    """

    cells: pd.DataFrame
    run: Opened
    numbers: NDArray[np.integer]
    index: NDArray[np.integer]
    summary: pd.DataFrame
    moved_to: float | None = None


def read_cells_csv(path: Path) -> pd.DataFrame:
    """Read `cells.csv` or `images.csv` to the types that were written.

    Raises
    ------
    InputError
        If it is no table of ours.
    """
    try:
        frame = pd.read_csv(path, dtype=object, keep_default_na=False, encoding="utf-8")
        columns = table.cell_columns(members_of(frame)) if "label" in frame else table.IMAGE_COLUMNS
        texts = [c.name for c in columns if c.dtype == "str" and c.name in frame]
        return typed_again(frame.assign(**{name: frame[name].map(unquoted) for name in texts}), columns)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a table that all-detect wrote ({error}); score the images again") from error


def members_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the members that a table has a column of."""
    return tuple(str(name).removeprefix("p_all_") for name in frame.columns if str(name).startswith("p_all_"))


def typed_again(frame: pd.DataFrame, columns: Sequence[table.Column]) -> pd.DataFrame:
    """Return a table, read from any format, with the columns' own types; a verdict is kept.

    Raises
    ------
    KeyError, ValueError
        If a column is missing or holds something else.
    """
    typed = table.typed(columns, {c.name: _values(frame[c.name], c.dtype) for c in columns}, len(frame))
    return typed.assign(verdict=frame[VERDICT].fillna("").astype(object).to_numpy()) if VERDICT in frame else typed


def _values(column: "pd.Series[Any]", dtype: str) -> Any:
    if dtype == "str":
        return column.fillna("").astype(str).to_numpy(object)
    truths = column.map(TRUTHS) if dtype == "boolean" and column.dtype == object else column
    numbers = pd.to_numeric(truths.replace("", None)).to_numpy(np.float64, na_value=np.nan)
    if dtype == "int64":
        return numbers.astype(np.int64)
    if dtype in ("Int64", "boolean"):
        return [pd.NA if np.isnan(n) else (bool(n) if dtype == "boolean" else int(n)) for n in numbers]
    return numbers


def run_by_record(run: Mapping[str, Any]) -> Opened:
    """Return what scored, from a `run.json`."""
    bundle, parameters = run["bundle"], run["parameters"]
    weights = bundle["member_weights"]
    source = str(parameters["bundle"])
    bounds = Bounds(**bundle["bounds"]) if bundle["bounds"] else None
    return Opened(
        source=source,
        bundle=f"{bundle['name']}-{bundle['version']}",
        crop_size=_crop_size(source, bundle["digest"]),
        members=tuple(weights),
        weights=tuple(map(float, weights.values())),
        threshold=float(bundle["threshold"]),
        engine=str(run["engine"]),
        device=str(run["device"]),
        bounds=None if parameters["error_rate"] is None else bounds,
        called_by=bounds,
    )


def run_by_bundle(cells: pd.DataFrame) -> Opened:
    """Return what scored, as far as a table alone tells, and the bundle that it names if that is installed."""
    label, members = str(cells["bundle"].iloc[0]) if len(cells) else "", members_of(cells)
    for listed in list_bundles():
        if listed.label == label:
            manifest = load_bundle(listed.name).manifest
            weights = member_weights([member.validation for member in manifest.members], manifest.ensemble.weighting)
            threshold, size = manifest.ensemble.threshold, manifest.crop.size
            return Opened(listed.name, label, size, members, tuple(weights.tolist()), threshold, "", "")
    return Opened(label, label, 0, members, (1.0,) * len(members), 0.5, "", "")


def restored(saved: Saved, planes: Planes) -> CellResults:
    """Make results of a saved table; crops are cut from the planes when they are looked at.

    Parameters
    ----------
    saved : Saved
    planes : mapping of index to (pixels, labels)
        Empty if the pixels are gone.
    """
    run, verdicts = saved.run, saved.cells.get(VERDICT)
    cells = saved.cells.drop(columns=VERDICT, errors="ignore")
    if saved.moved_to is not None:
        cells, _ = called(cells, run.members, run.threshold, run.called_by)
    cut = CutAgain(cells, run, saved.numbers.astype(np.int64), saved.index.astype(np.int64), planes)
    summary = cut.with_default_rescaling(saved.summary)
    results = CellResults(Rows(cells, cut.numbers, cut.index, cut.crops(summary), summary), run, saved.moved_to)
    if verdicts is not None:
        results.take_verdicts(verdicts.tolist())
    return results


def summaries(cells: pd.DataFrame, notes: Mapping[str, str], rescale: Mapping[str, float]) -> pd.DataFrame:
    """Make the rows of `images.csv` anew where it was not saved, with what was noted of planes."""
    rows = []
    for (image, plane), own in cells.groupby(["image", "plane"], sort=False):
        facts = {"image": image, "plane": plane, "notes": notes.get(str(plane), ""), "rescale": rescale.get(str(plane))}
        size = own["diameter_um"].iloc[0] / own["diameter_px"].iloc[0]
        rows.append(table.image_row(own, facts | {"pixel_size_um": size}))
    return pd.concat(rows, ignore_index=True) if rows else table.typed(table.IMAGE_COLUMNS, {}, 0)


def _crop_size(source: str, digest: str) -> int:
    """Return the crop size of a bundle, 0 if it is gone or another one by now."""
    try:
        bundle = load_bundle(source)
    except AllDetectError:
        return 0
    return bundle.manifest.crop.size if bundle.digest == digest else 0
