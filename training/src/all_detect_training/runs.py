"""A finished run: its cells, and what its members say of them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from all_detect_training.cells import Cells
from all_detect_training.plans import read_record
from all_detect_training.preset_file import checked_params
from all_detect_training.presets import FitParams
from all_detect_training.run_cells import split_of
from napari_all_detect.errors import InputError

__all__ = ["Run", "load_run"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    folder : Path
    record : mapping
        What `run.json` says.
    params : FitParams
    cells : Cells
    split : (N,) str
        `train`, `validation` or `test` for each cell.
    p_all : (N, M) float32
        What each member says of each cell.
    subject : (N,) str or None
        Whose each cell is, where that is known.
    """

    folder: Path
    record: Mapping[str, Any]
    params: FitParams
    cells: Cells
    split: NDArray[np.str_]
    p_all: NDArray[np.float32]
    subject: NDArray[np.str_] | None = None

    @property
    def drawn(self) -> str:
        """What was drawn as one: `subjects`, or `images` where subjects are unknown."""
        return "images" if self.subject is None else "subjects"

    @property
    def group(self) -> NDArray[np.str_]:
        """Which of them each cell is of, (N,) str."""
        return self.cells.image if self.subject is None else self.subject


def load_run(folder: Path, *, crops: bool = True) -> Run:
    """Read a run folder.

    Parameters
    ----------
    folder : Path
    crops : bool
        Read the cells' crops, too, which takes long and most of the memory.

    Raises
    ------
    InputError
        If a part of it is missing or damaged.
    """
    record = read_record(folder)
    params = _params(record, folder)
    names = [f"{m.architecture}.npy" for m in params.members]
    weights = [f"members/{m.architecture}.weights.h5" for m in params.members]
    missing = [name for name in ("cells.npz", *names, *weights) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder}: no {', '.join(missing)}; go on with the same `all-detect-train fit`")
    if crops:
        log.info("%s: reading the crops of its cells", folder)
    cells = Cells.load(folder / "cells.npz", crops=crops)
    columns = [_predictions(folder / name) for name in names]
    lengths = {len(column) for column in columns}
    if lengths != {len(cells)}:
        raise InputError(f"{folder}: predictions for {lengths} cells and {len(cells)} cells; train into a new folder")
    split, subject = split_of(folder, cells, params.train_share, params.validation_share)
    return Run(folder, record, params, cells, split, np.stack(columns, axis=-1), subject)


def _params(record: Mapping[str, Any], folder: Path) -> FitParams:
    try:
        return checked_params(record["params"])
    except ValueError as error:
        raise InputError(
            f"{folder / 'run.json'}: damaged, or of another version ({error}); train into a new folder"
        ) from error


def _predictions(path: Path) -> NDArray[np.float32]:
    """Read what a member says of each cell."""
    try:
        p_all = np.load(path, allow_pickle=False)
        return np.asarray(p_all, np.float32).reshape(len(p_all))
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise InputError(
            f"{path}: damaged ({error}); remove it, and the same `all-detect-train fit` trains the member again"
        ) from error
