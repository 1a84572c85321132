"""What a run is divided into: a unit of work, what is known for all, and what each half of the road makes of one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from napari_all_detect.bundle import Crop
from napari_all_detect.params import OutputParams, ScoreParams
from napari_all_detect.pipeline import CutCells
from napari_all_detect.sources import Plane

__all__ = ["CutUnit", "Job", "Unit", "UnitResult"]


@dataclass(frozen=True)
class Unit:
    """A piece of work that is done as a whole or not at all: one plane.

    Attributes
    ----------
    number : int
        Its place among the inputs, from 0.
    plane : Plane
    stem : str
        What its files are called, relative to their folder: `day1/smear_p3`. It leads to no place outside.
    """

    number: int
    plane: Plane
    stem: str

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.plane.image if self.plane.plane == "0" else f"{self.plane.image} [{self.plane.plane}]"


@dataclass(frozen=True)
class Job:
    """What a unit needs to know of the run; it can be pickled.

    Attributes
    ----------
    params : ScoreParams
    crop : Crop
        How the bundle's cells are cut.
    output : OutputParams
    """

    params: ScoreParams
    crop: Crop
    output: OutputParams


@dataclass(frozen=True, eq=False)
class CutUnit:
    """A unit whose cells are found and cut out, but not scored.

    Attributes
    ----------
    cut : CutCells
    source : dict
        What they were found in, by `sources.identity`.
    files : dict of str to bytes
        See `UnitResult`: what does not depend on the scores.
    """

    cut: CutCells
    source: dict[str, Any]
    files: dict[str, bytes]


@dataclass(frozen=True, eq=False)
class UnitResult:
    """What scoring a unit gave.

    Attributes
    ----------
    cells, summary : DataFrame
        The unit's rows of `cells.csv` and `images.csv`.
    source : mapping
        What it was scored from, by `sources.identity`.
    files : mapping of str to bytes
        What else it leaves in the output folder, by path; not read back.
    """

    cells: pd.DataFrame
    summary: pd.DataFrame
    source: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
