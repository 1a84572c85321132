"""What `--fast-calls` is to be expected to save whole networks: their own time, but the votes of lite's members.

The whole networks here have random weights, whose votes say nothing of how soon trained ones would settle a call.
Beside it, what one would write with Keras.
"""

import numpy as np

from benchmarks.bundles import engines_of, whole_networks
from benchmarks.cascade import CALLS, save
from benchmarks.cells import cells_of
from benchmarks.engines import YARDSTICK, peers
from benchmarks.measure import Tables
from napari_all_detect.bundle import load_bundle
from napari_all_detect.engines import open_engine
from napari_all_detect.params import ScoreParams


def run(smoke: bool = False) -> Tables:
    """Measure the fastest engine."""
    lite = load_bundle("lite")
    n_cells = 4 if smoke else 32
    crops, what = cells_of(lite, n_cells, real=True)
    votes = open_engine(lite, ScoreParams()).predict(crops)
    with whole_networks(smoke) as whole:
        large = np.repeat(crops[:, :1, :1], whole.manifest.crop.size, axis=1).repeat(whole.manifest.crop.size, axis=2)
        name, engine = list(engines_of(whole, large).items())[-1]
        said = votes[:, : len(whole.manifest.members)]
        yardstick = {YARDSTICK: peers(whole)[YARDSTICK]}
        return {
            f"Fast calls: what to expect of whole networks; {calls}, {n_cells} {what}": save(
                whole, threshold, said, {name: engine}, large, 1 if smoke else 2, yardstick
            )
            for calls, threshold in CALLS.items()
        }
