"""What a bundle needs to say how far its scores can be trusted: fitted on validation cells, measured on test cells."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from all_detect_training.calibration import (
    CONFIDENCE,
    FEW,
    RATES,
    bounds_at,
    calibration_error,
    fit_temperature,
    log_loss,
    reliability,
)
from all_detect_training.domain import fit_domain, looked_at
from all_detect_training.resampling import DIGITS, resamples, with_interval
from all_detect_training.runs import Run
from all_detect_training.voting import ensemble_p_all
from napari_all_detect.bundle.manifest import Conformal, Domain, Ensemble, Validation
from napari_all_detect.errors import InputError
from napari_all_detect.params import WEIGHTINGS
from napari_all_detect.table import CALLS
from napari_all_detect.trust import (
    Bounds,
    calibrate,
    calls,
    colour_features,
    domain_distance,
    sharpness,
)

__all__ = ["TrustTargets", "Trusted", "fit_trust", "member_temperatures", "trust_figures"]

log = logging.getLogger(__name__)
WEIGHTING = "kappa"

CONFIDENCES = (0.5, 0.99)
"""Below, a rate would be kept to less often than not; above, the resamples don't tell."""


@dataclass(frozen=True)
class TrustTargets:
    """What a bundle aims at.

    Attributes
    ----------
    error_rate_all, error_rate_hem : float
        Share of ALL cells that may be called Hem, and of Hem cells that may be called ALL; the rest is `uncertain`
        where it must.
    sensitivity : float or None
        Share of ALL cells that are not to be called Hem: the error rate of ALL is 1 minus it at most, and the
        threshold, for where every cell is called, the highest at which this share is called ALL. None leaves the
        threshold at 0.5.
    false_alarm_rate : float
        Share of the validation cells that may be out of domain.
    confidence : float
        With which error rates and sensitivity are to be kept to, over subjects, or images, like those that validate.
    """

    error_rate_all: float = 0.05
    error_rate_hem: float = 0.05
    sensitivity: float | None = None
    false_alarm_rate: float = 0.02
    confidence: float = CONFIDENCE


@dataclass(frozen=True)
class Trusted:
    """The parts of a manifest that say how far scores can be trusted."""

    ensemble: Ensemble
    domain: Domain | None


def member_temperatures(run: Run) -> list[float]:
    """Return each member's temperature, fitted on the validation cells."""
    side = run.split == "validation"
    votes = {spec.architecture: p[side] for spec, p in zip(run.params.members, run.p_all.T, strict=True)}
    return list(_temperatures(run.cells.is_all[side], votes, "members").values())


def _temperatures(is_all: NDArray[np.bool_], p_all: Mapping[str, NDArray[np.floating]], what: str) -> dict[str, float]:
    """Return the temperature of each; 1, which is logged, where the cells don't tell it."""
    found = {name: fit_temperature(is_all, p) for name, p in p_all.items()}
    untold = [name for name, temperature in found.items() if temperature is None]
    if untold:
        log.warning(
            "temperature of %s %s left at 1: all %d validation cells are told apart, or nearly, and don't show how "
            "sure to be; validate on more",
            *(what, ", ".join(untold), len(is_all)),
        )
    return {name: 1.0 if temperature is None else round(temperature, DIGITS) for name, temperature in found.items()}


def fit_trust(run: Run, validation: Sequence[Validation], targets: TrustTargets) -> Trusted:
    """Fit temperatures, bounds, threshold and domain.

    Parameters
    ----------
    run : Run
        Its predictions are those of the calibrated members.
    validation : sequence of Validation
        The members' figures.
    targets : TrustTargets

    Raises
    ------
    InputError
        If no member weighs anything, a rate is lower than the least that a bundle holds, a confidence is none that can
        be told, or there are too few validation cells for the sensitivity.
    """
    error_rate_all = _error_rate_all(targets)
    side = run.split == "validation"
    is_all, group = run.cells.is_all[side], run.group[side]
    votes = {w: ensemble_p_all(run.p_all[side], validation, w) for w in WEIGHTINGS}
    temperatures = _temperatures(is_all, votes, "ensembles by")
    p_all = {w: calibrate(p, temperatures[w]) for w, p in votes.items()}
    for name, few in _n_groups(is_all, group).items():
        if few < FEW:
            log.warning(
                "%s with %s cells that validate: %d, too few to tell how often those of others are called wrongly",
                *(run.drawn, name, few),
            )
    threshold = 0.5
    if targets.sensitivity is not None:
        threshold = _threshold_for(targets.sensitivity, is_all, p_all[WEIGHTING], group, targets.confidence)
    conformal = Conformal(
        error_rate_all=error_rate_all,
        error_rate_hem=targets.error_rate_hem,
        n_all=int(is_all.sum()),
        n_hem=int((~is_all).sum()),
        rates=RATES,
        bounds={w: _class_bounds(is_all, p, group, targets.confidence) for w, p in p_all.items()},
    )
    ensemble = Ensemble(weighting=WEIGHTING, threshold=threshold, temperatures=temperatures, conformal=conformal)
    return Trusted(ensemble, fit_domain(run.cells.crops, run.split, targets.false_alarm_rate))


def _error_rate_all(targets: TrustTargets) -> float:
    """Return the share of ALL cells that may be called Hem, once every target is found to be one that can be kept."""
    if not CONFIDENCES[0] <= targets.confidence <= CONFIDENCES[1]:
        raise InputError(f"a confidence of {targets.confidence:g}; expected {CONFIDENCES[0]:g} to {CONFIDENCES[1]:g}")
    least = min(targets.error_rate_all, targets.error_rate_hem)
    if least < RATES[0]:
        raise InputError(f"an error rate of {least:g}; expected {RATES[0]:g} at least")
    if targets.sensitivity is None:
        return targets.error_rate_all
    missed = _missed(targets.sensitivity)
    if missed < RATES[0]:
        raise InputError(f"a sensitivity of {targets.sensitivity:g}; expected {1 - RATES[0]:g} at most")
    return min(targets.error_rate_all, missed)


def _missed(sensitivity: float) -> float:
    """Return the share that is missed: 0.1 for 0.9, whose difference from 1 is a little less."""
    return round(1 - sensitivity, DIGITS)


def _threshold_for(
    sensitivity: float,
    is_all: NDArray[np.bool_],
    p_all: NDArray[np.float32],
    group: NDArray[np.str_],
    confidence: float,
) -> float:
    """Return the highest threshold at which this share of ALL cells is called ALL."""
    threshold = bounds_at(is_all, p_all, _missed(sensitivity), group, confidence).least_all
    if not threshold:
        raise InputError(
            f"a sensitivity of {sensitivity:g} can't be kept to with a confidence of {confidence:g} on {is_all.sum()} "
            f"ALL cells of {_n_groups(is_all, group)['ALL']} images or subjects that validate: ask for less, or "
            "validate on more"
        )
    return threshold


def _n_groups(is_all: NDArray[np.bool_], group: NDArray[np.str_]) -> dict[str, int]:
    """Count the images or subjects that each class's cells are of."""
    return {name: len(np.unique(group[there])) for name, there in (("ALL", is_all), ("Hem", ~is_all))}


def _class_bounds(
    is_all: NDArray[np.bool_], p_all: NDArray[np.float32], group: NDArray[np.str_], confidence: float
) -> Any:
    """Return the bounds at every rate."""
    found = [bounds_at(is_all, p_all, rate, group, confidence) for rate in RATES]
    return {"least_all": tuple(b.least_all for b in found), "most_hem": tuple(b.most_hem for b in found)}


def trust_figures(raw: Run, run: Run, validation: Sequence[Validation], trusted: Trusted) -> dict[str, Any]:
    """Measure on test cells what was aimed at on validation cells.

    Parameters
    ----------
    raw, run : Run
        With the predictions before and after the members' calibration.
    validation : sequence of Validation
    trusted : Trusted

    Returns
    -------
    figures : dict
        `calibration`: expected calibration error, log loss and reliability diagram of members and ensemble, before and
        after; `validation`: how many images or subjects the bounds rest on; `calls`: what became of the cells of each
        class, and the share called the other one with an interval from resampled subjects or images; `domain`: how many
        are in it.
    """
    test, side = run.split == "test", run.split == "validation"
    is_all, ensemble = run.cells.is_all[test], trusted.ensemble
    names = [member.architecture for member in run.params.members]
    before = dict(zip(names, raw.p_all[test].T, strict=True))
    after = dict(zip(names, run.p_all[test].T, strict=True))
    before["ensemble"] = ensemble_p_all(raw.p_all[test], validation, WEIGHTING)
    combined = ensemble_p_all(run.p_all[test], validation, WEIGHTING)
    after["ensemble"] = calibrate(combined, ensemble.temperatures[WEIGHTING])
    return {
        "calibration": {
            name: {"before": _probability_figures(is_all, p), "after": _probability_figures(is_all, after[name])}
            for name, p in before.items()
        },
        "validation": {"drawn": run.drawn, **_n_groups(run.cells.is_all[side], run.group[side])},
        "calls": _call_counts(is_all, after["ensemble"], run.group[test], ensemble),
        "domain": None if trusted.domain is None else _domain_figures(run.cells.crops, test, trusted.domain),
    }


def _probability_figures(is_all: NDArray[np.bool_], p_all: NDArray[np.floating]) -> dict[str, Any]:
    diagram = reliability(is_all, p_all)
    rounded = [{name: round(value, DIGITS) for name, value in row.items()} for row in diagram]
    return {
        "calibration_error": round(calibration_error(diagram), DIGITS),
        "log_loss": round(log_loss(is_all, p_all), DIGITS),
        "reliability": rounded,
    }


def _call_counts(
    is_all: NDArray[np.bool_], p_all: NDArray[np.float32], group: NDArray[np.str_], ensemble: Ensemble
) -> dict[str, Any]:
    """Count the calls of each class at every rate of error, the same for both classes, and at the bundle's own."""
    conformal = ensemble.conformal
    if conformal is None:
        return {}
    bounds = conformal.bounds[WEIGHTING]
    rows = []
    pairs = [(conformal.error_rate_all, conformal.error_rate_hem), *((rate, rate) for rate in conformal.rates)]
    for of_all, of_hem in pairs:
        at = Bounds.at_rates(conformal.rates, bounds.least_all, bounds.most_hem, of_all, of_hem)
        called = calls(p_all, ensemble.threshold, at)
        row: dict[str, Any] = {"error_rate_all": of_all, "error_rate_hem": of_hem}
        for name, other, there in (("ALL", "Hem", is_all), ("Hem", "ALL", ~is_all)):
            row[name] = {call: int((called[there] == call).sum()) for call in CALLS}
            row[f"{name}_called_{other}"] = _share(called[there] == other, group[there])
        rows.append(row)
    return {"own": rows[0], "by_rate": rows[1:]}


def _share(there: NDArray[np.bool_], group: NDArray[np.str_]) -> dict[str, float | None]:
    """Return a share of cells, and its interval from resampled groups; None of no cell."""
    groups, index = np.unique(group, return_inverse=True)
    if not len(groups):
        return dict.fromkeys(("value", "low", "high"))
    times = resamples(len(groups))
    return with_interval((times @ np.bincount(index, weights=there)) / (times @ np.bincount(index)))


def _domain_figures(crops: NDArray[np.uint8], test: NDArray[np.bool_], domain: Domain) -> dict[str, Any]:
    features = looked_at(colour_features, crops, test)
    distance = domain_distance(features, domain.mean, domain.covariance, domain.threshold)
    return {
        "cells": len(distance),
        "in_domain": int((distance <= 1).sum()),
        "blurred": int((looked_at(sharpness, crops, test) < domain.least_sharpness).sum()),
    }
