"""How far a score can be trusted.

Calibrated probabilities, calls that may be `uncertain`, the distance from the training cells, and flags. docs/trust.md
has the formulas in one place.
"""

from napari_all_detect.trust.calls import (
    Bounds,
    calibrate,
    calibrate_bounds,
    calls,
    log_odds,
    settled,
    spread,
    votes_all,
)
from napari_all_detect.trust.domain import colour_features, domain_distance, sharpness
from napari_all_detect.trust.flags import FLAGS, count_joined, domain_note, flag_cells, join_flags, n_out_of_domain

__all__ = [
    "FLAGS",
    "Bounds",
    "calibrate",
    "calibrate_bounds",
    "calls",
    "colour_features",
    "count_joined",
    "domain_distance",
    "domain_note",
    "flag_cells",
    "join_flags",
    "log_odds",
    "n_out_of_domain",
    "settled",
    "sharpness",
    "spread",
    "votes_all",
]
