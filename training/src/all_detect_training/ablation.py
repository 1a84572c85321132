"""Table 4 of Mondal et al. (2021) for runs of one's own: members, simple average and weighted ensembles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from all_detect_training.figures import ENSEMBLES, FIGURES, confusion_of, paper_figures
from all_detect_training.metrics import THRESHOLD, member_figures
from all_detect_training.published import TABLE_4
from all_detect_training.resampling import confusion_by_group, resamples, weighted_auc, with_interval
from all_detect_training.runs import Run
from all_detect_training.voting import ensemble_p_all
from napari_all_detect.bundle.manifest import Validation
from napari_all_detect.errors import InputError

__all__ = ["UNCALIBRATED", "Classifier", "classifiers", "table_4"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]

UNCALIBRATED = (
    "Members are combined uncalibrated, as in the paper; a bundle calibrates them first, so that its card has somewhat "
    "other figures of the same run's ensembles."
)


@dataclass(frozen=True)
class Classifier:
    """What one member or ensemble says of the test cells.

    Attributes
    ----------
    name : str
        The architecture, `SAP` or `WEN-<figure>`.
    input_px : int
        Side of the crops that the run was trained on.
    is_all : (N,) bool
    p_all : (N,) float
        Not calibrated: the paper's are not. NaN of an ensemble of which no member weighs anything.
    group : (N,) str
        What is resampled: the cells' subjects, or their images where subjects are unknown.
    """

    name: str
    input_px: int
    is_all: Bools
    p_all: Floats
    group: NDArray[np.str_]

    @property
    def is_defined(self) -> bool:
        """Whether it says anything."""
        return not np.isnan(self.p_all).any()

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(2, 2) counts: rows true Hem and ALL, columns called Hem and ALL."""
        return confusion_of(self.is_all, self.p_all >= THRESHOLD)


def classifiers(run: Run) -> list[Classifier]:
    """Return the members of a run, their simple average and the weighted ensembles, on its test cells."""
    validation, test = run.split == "validation", run.split == "test"
    is_all = run.cells.is_all
    weights = [
        Validation(**member_figures(is_all[validation], p[validation]), n=int(validation.sum())) for p in run.p_all.T
    ]
    p_all = run.p_all[test]
    named = {spec.architecture: p_all[:, k] for k, spec in enumerate(run.params.members)}
    named |= {name: _combined(p_all, weights, weighting) for weighting, name in ENSEMBLES.items()}
    group = run.group[test]
    return [Classifier(name, run.params.crop_size, is_all[test], p, group) for name, p in named.items()]


def _combined(p_all: Floats, validation: Sequence[Validation], weighting: str) -> Floats:
    """Return the ensemble's P(ALL), or NaN where no member weighs anything."""
    try:
        return ensemble_p_all(p_all, validation, weighting)
    except InputError:
        return np.full(len(p_all), np.nan, np.float32)


def table_4(of: Sequence[Classifier]) -> pd.DataFrame:
    """Return a row per classifier: each figure, its interval from resampled groups, and what the paper prints.

    Parameters
    ----------
    of : sequence of Classifier

    Returns
    -------
    table : DataFrame
        `input_px, classifier`, then for each figure its name, `<name>_low`, `<name>_high` and `<name>_paper`. What is
        not defined is NaN.
    """
    return pd.DataFrame([_row(classifier) for classifier in of])


def _row(one: Classifier) -> dict[str, object]:
    figures = _figures(one) if one.is_defined else dict.fromkeys(FIGURES, np.full(1, np.nan))
    row: dict[str, object] = {"input_px": one.input_px, "classifier": one.name}
    published = TABLE_4.get((one.input_px, one.name), {})
    for name in FIGURES:
        interval = with_interval(figures[name])
        row |= {name: interval["value"], f"{name}_low": interval["low"], f"{name}_high": interval["high"]}
        row[f"{name}_paper"] = published.get(name, float("nan"))
    return row


def _figures(one: Classifier) -> dict[str, NDArray[np.float64]]:
    """Return each figure on the test cells, then on each resample of them."""
    groups, group = np.unique(one.group, return_inverse=True)
    times = resamples(len(groups))
    confusion = times @ confusion_by_group(one.is_all, one.p_all >= THRESHOLD, group, len(groups))
    return paper_figures(confusion) | {"auc": weighted_auc(one.is_all, one.p_all, times, group)}
