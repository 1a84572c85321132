"""A bundle that is loaded, with the engine that runs it."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from napari_all_detect import trust
from napari_all_detect.bundle import Bundle, load_bundle
from napari_all_detect.costs import member_gflop
from napari_all_detect.engines import Choice, Engine, MemberEngine, choose, open_engine
from napari_all_detect.ensemble import member_weights
from napari_all_detect.errors import BundleError
from napari_all_detect.fast_calls import FastCalls
from napari_all_detect.params import ScoreParams

__all__ = ["Scorer", "kept_scorer", "make_scorer", "open_scorer", "settle"]


@dataclass(frozen=True)
class Scorer:
    """A loaded bundle with the engine that runs it, ready for any number of planes: see `make_scorer`."""

    params: ScoreParams
    bundle: Bundle
    engine: Engine
    choice: Choice | None = None
    """Why this engine and its precision, if `open_scorer` chose them."""

    @property
    def members(self) -> list[str]:
        """Names of the members, in the bundle's order."""
        return [member.name for member in self.bundle.manifest.members]

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(M,) weights W_k of Eq. 2."""
        return _weights(self.bundle, self.params)

    @property
    def weighting(self) -> str:
        """What weighs the members' votes."""
        return self.params.weighting or self.bundle.manifest.ensemble.weighting

    @property
    def threshold(self) -> float:
        """Probability from which a cell is called ALL."""
        own = self.bundle.manifest.ensemble.threshold
        return own if self.params.threshold is None else self.params.threshold

    @property
    def temperature(self) -> float:
        """By which the log-odds of the combined vote are divided."""
        return self.bundle.manifest.ensemble.temperatures.get(self.weighting, 1.0)

    @cached_property
    def bounds(self) -> trust.Bounds | None:
        """Between which probabilities a call is uncertain; None if every cell is called."""
        return _uncertain_bounds(self.bundle, self.params)


def open_scorer(params: ScoreParams) -> Scorer:
    """Load the bundle and build its networks, which takes seconds; raises as `settle` and `open_engine`."""
    bundle, params, choice = settle(params)
    return replace(make_scorer(params, bundle, open_engine(bundle, params)), choice=choice)


def settle(params: ScoreParams) -> tuple[Bundle, ScoreParams, Choice]:
    """Load the bundle and settle what runs it: once, for every process that takes part, and for the record.

    Returns
    -------
    bundle : Bundle
    params : ScoreParams
        With engine and precision as they are chosen, where they were left open.
    choice : Choice

    Raises
    ------
    BundleError
        If the bundle is unknown or damaged, no member weighs anything, or an error rate is asked for of a bundle that
        was not calibrated.
    MissingDependencyError
        If a GPU or OpenVINO is asked for and can't be used.
    ParameterError
        If engine, device and precision don't go together.
    """
    bundle = load_bundle(params.bundle)
    _weights(bundle, params)
    _uncertain_bounds(bundle, params)
    choice = choose(bundle, params)
    return bundle, replace(params, engine=choice.engine, precision=choice.precision), choice


def make_scorer(params: ScoreParams, bundle: Bundle, engine: MemberEngine) -> Scorer:
    """Make a scorer of what is loaded; with `fast_calls` its engine runs only the members that a call needs."""
    scorer = Scorer(params, bundle, engine)
    if not params.fast_calls:
        return scorer

    def settled(low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.bool_]:
        ends = trust.calibrate_bounds(low, high, scorer.temperature)
        return trust.settled(*ends, scorer.threshold, scorer.bounds)

    costs = [member_gflop(m.architecture, m.cut, m.input_size) for m in bundle.manifest.members]
    return replace(scorer, engine=FastCalls(engine, scorer.weights, costs, settled))


def kept_scorer(params: ScoreParams) -> Scorer:
    """Make a scorer of networks that are kept for the next call; raises as `open_scorer`."""
    bundle, params, choice = settle(params)
    needed = ScoreParams(
        bundle=params.bundle,
        engine=params.engine,
        precision=params.precision,
        device=params.device,
        batch_size=params.batch_size,
    )
    return replace(make_scorer(params, bundle, _kept(bundle.digest, choice.calibration, needed)), choice=choice)


@lru_cache(maxsize=2)
def _kept(digest: str, calibration: str, params: ScoreParams) -> MemberEngine:
    """Keep the networks: a bundle of another digest, or tuned on other cells, has other ones."""
    return open_engine(load_bundle(params.bundle), params)


def _weights(bundle: Bundle, params: ScoreParams) -> NDArray[np.float64]:
    """Return the members' weights, or refuse if not one is above 0."""
    weighting = params.weighting or bundle.manifest.ensemble.weighting
    weights = member_weights([member.validation for member in bundle.manifest.members], weighting)
    if not weights.any():
        raise BundleError(f"bundle {bundle.label}: no member's {weighting} is above 0; take another weighting: equal")
    return weights


def _uncertain_bounds(bundle: Bundle, params: ScoreParams) -> trust.Bounds | None:
    """Return the bounds of the uncertain calls at the rates asked for, the bundle's own unless a threshold is given.

    Raises
    ------
    BundleError
        If a rate is asked for and the bundle was not calibrated.
    """
    ensemble, rate = bundle.manifest.ensemble, params.error_rate
    conformal = ensemble.conformal
    if rate == "none" or (rate is None and (conformal is None or params.threshold is not None)):
        return None
    bounds = None if conformal is None else conformal.bounds.get(params.weighting or ensemble.weighting)
    if conformal is None or bounds is None:
        raise BundleError(
            f"bundle {bundle.label} is not calibrated, so no error rate can be kept to; leave it out, or take another "
            "bundle or weighting"
        )
    of_all, of_hem = (conformal.error_rate_all, conformal.error_rate_hem) if rate is None else (rate, rate)
    return trust.Bounds.at_rates(conformal.rates, bounds.least_all, bounds.most_hem, float(of_all), float(of_hem))
