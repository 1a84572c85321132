"""What an ablation found, ready to be written."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from all_detect_training.ablation import Classifier
from all_detect_training.published import TABLE_4

__all__ = ["Findings", "Panel"]

Panel = tuple[str, Any]
"""A caption and a `PIL.Image.Image`."""


@dataclass(frozen=True, eq=False)
class Findings:
    """What runs say, side by side.

    Attributes
    ----------
    table : DataFrame
        Of `table_4`.
    classifiers : sequence of Classifier
        Those of its rows.
    facts : mapping of str to str
        What was trained on what, a line each.
    on_preliminary_px : collection of int
        Input sizes of the runs that were tested on the preliminary set of C-NMC 2019.
    calibration : mapping of str to mapping
        Caption, and the `calibration` of `trust_figures`, of each run.
    subjects : mapping of int to (str, DataFrame)
        By input size, the caption and the `subject_table` of each run whose subjects are known.
    panels : sequence of (str, image)
        Grad-CAM of cells, with captions.
    doubt : str
        Why the runs can't be compared; empty if they can.
    """

    table: pd.DataFrame
    classifiers: Sequence[Classifier]
    facts: Mapping[str, str]
    on_preliminary_px: Collection[int]
    calibration: Mapping[str, Mapping[str, Any]]
    subjects: Mapping[int, tuple[str, pd.DataFrame]]
    panels: Sequence[Panel]
    doubt: str = ""

    @property
    def not_the_papers(self) -> str:
        """Which runs have the paper's figures beside theirs, but not its test set; empty if none has."""
        elsewhere = sorted({size for size, _ in TABLE_4} & set(self.table["input_px"]) - set(self.on_preliminary_px))
        if not elsewhere:
            return ""
        sizes = " and ".join(f"{size} px" for size in elsewhere)
        return (
            f"The runs of {sizes} were not tested on the preliminary set of C-NMC 2019: the paper's figures stand "
            "beside theirs, but can't be compared with them."
        )
