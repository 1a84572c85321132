"""The figures of calls, their names, and how they are written."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from all_detect_training.resampling import confusion_by_group

__all__ = ["ENSEMBLES", "FIGURES", "call_figures", "confusion_of", "figure_in", "figure_text", "paper_figures"]

Bools = NDArray[np.bool_]

FIGURES = {
    "weighted_precision": "WP",
    "weighted_recall": "WR",
    "weighted_f1": "WFS",
    "accuracy": "ACC",
    "balanced_accuracy": "BA",
    "auc": "AUC",
}
ENSEMBLES = {"equal": "SAP", "accuracy": "WEN-accuracy", "auc": "WEN-AUC", "f1": "WEN-F1", "kappa": "WEN-kappa"}


def confusion_of(is_all: Bools, called: Bools) -> NDArray[np.int64]:
    """Count all of them; (2, 2): rows true Hem and ALL, columns called Hem and ALL."""
    return confusion_by_group(is_all, called, np.zeros(len(is_all), np.intp), 1).reshape(2, 2)


def call_figures(confusion: NDArray[np.integer]) -> dict[str, NDArray[np.float64]]:
    """Return the figures of (R, 4) confusion counts; NaN where one is not defined.

    Nor are F1 and kappa where a class is missing: what they would be there, mostly 0, says nothing of the calls.
    """
    tn, fp, fn, tp = confusion.T.astype(np.float64)
    n = tn + fp + fn + tp
    has_both = (tn + fp > 0) & (fn + tp > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
        chance = ((tp + fp) * (tp + fn) + (tn + fn) * (tn + fp)) / n**2
        return {
            "accuracy": (tp + tn) / n,
            "f1": np.where(has_both, 2 * tp / (2 * tp + fp + fn), np.nan),
            "kappa": np.where(has_both, ((tp + tn) / n - chance) / (1 - chance), np.nan),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "sensitivity": sensitivity,
            "specificity": specificity,
        }


def paper_figures(confusion: NDArray[np.integer]) -> dict[str, NDArray[np.float64]]:
    """Return the figures of calls that the paper prints.

    Parameters
    ----------
    confusion : (R, 4) int
        Hem called Hem, Hem called ALL, ALL called Hem, ALL called ALL.

    Returns
    -------
    figures : dict of str to (R,) float64
        Precision, recall and F1 of the two classes weighted by their numbers of cells (a class that is never called
        has precision and F1 0), accuracy, and balanced accuracy. NaN where a class is missing, but for recall and
        accuracy, which are one.

    Examples
    --------
    The matrix of the paper's Table 5, for WEN-kappa:

    >>> figures = paper_figures(np.array([[502, 146, 64, 1155]]))
    >>> [round(float(value[0]), 3) for value in figures.values()]
    [0.887, 0.888, 0.886, 0.888, 0.861]
    """
    hem_hem, hem_all, all_hem, all_all = confusion.T.astype(np.float64)
    n_hem, n_all = hem_hem + hem_all, all_hem + all_all
    of_all, of_hem = call_figures(confusion), call_figures(confusion[:, ::-1])

    def weighted(for_hem: NDArray[np.float64], for_all: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where((n_hem > 0) & (n_all > 0), (n_hem * for_hem + n_all * for_all) / (n_hem + n_all), np.nan)

    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "weighted_precision": weighted(
                np.nan_to_num(hem_hem / (hem_hem + all_hem)), np.nan_to_num(all_all / (all_all + hem_all))
            ),
            "weighted_recall": of_all["accuracy"],
            "weighted_f1": weighted(of_hem["f1"], of_all["f1"]),
            "accuracy": of_all["accuracy"],
            "balanced_accuracy": of_all["balanced_accuracy"],
        }


def figure_text(
    figure: Mapping[str, float | None], undefined: str = "n/a", interval: str = " ({low:.3f} to {high:.3f})"
) -> str:
    """Return a figure with its interval, as far as they are defined: neither None nor NaN.

    >>> figure_text({"value": 0.9, "low": 0.8, "high": 0.95}), figure_text({"value": 1.0, "low": None, "high": None})
    ('0.900 (0.800 to 0.950)', '1.000')
    """
    value, low, high = (figure[key] for key in ("value", "low", "high"))
    if value is None or np.isnan(value):
        return undefined
    return f"{value:.3f}" + ("" if low is None or np.isnan(low) else interval.format(low=low, high=high))


def figure_in(row: Mapping[Any, Any], name: str) -> dict[str, float | None]:
    """Return a figure of a table's row, whose columns are `<name>`, `<name>_low` and `<name>_high`."""
    return {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
