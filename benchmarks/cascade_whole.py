"""What `--fast-calls` saves whole networks, beside what one would write with Keras.

`ALL_DETECT_WHOLE` names a bundle of trained ones. Without it they have random weights, whose votes say nothing of how
soon trained ones would settle a call: then the time is theirs, but the votes are those of lite's members.
"""

import os

import numpy as np

from benchmarks.bundles import engines_of, own_cache, whole_networks
from benchmarks.cascade import CALLS, save
from benchmarks.cells import cells_of
from benchmarks.engines import YARDSTICK, keras_peers, loaded
from benchmarks.measure import Tables
from napari_all_detect.bundle import Bundle, load_bundle
from napari_all_detect.engines import open_engine
from napari_all_detect.params import ScoreParams


def run(smoke: bool = False) -> Tables:
    """Measure the fastest engine."""
    trained = os.environ.get("ALL_DETECT_WHOLE")
    if trained and not smoke:
        with own_cache():
            return measured(load_bundle(trained), 64)
    lite = load_bundle("lite")
    n_cells = 4 if smoke else 32
    crops, what = cells_of(lite, n_cells, real=True)
    votes = open_engine(lite, ScoreParams()).predict(crops)
    with whole_networks(smoke) as whole:
        large = np.repeat(crops[:, :1, :1], whole.manifest.crop.size, axis=1).repeat(whole.manifest.crop.size, axis=2)
        name, engine = list(engines_of(whole, large).items())[-1]
        said = votes[:, : len(whole.manifest.members)]
        yardstick = {YARDSTICK: keras_peers(whole, loaded(whole))[YARDSTICK]}
        return {
            f"Fast calls: what to expect of whole networks; {calls}, {n_cells} {what}": save(
                whole, threshold, said, {name: engine}, large, 1 if smoke else 2, yardstick
            )
            for calls, threshold in CALLS.items()
        }


def measured(whole: Bundle, n_cells: int) -> Tables:
    """Let trained networks say themselves what they are asked."""
    px = [bundle.manifest.crop.cell_diameter_px for bundle in (whole, load_bundle("lite"))]
    crops, what = cells_of(whole, n_cells, real=True, enlarged=round(px[0] / px[1]))
    name, engine = list(engines_of(whole, crops).items())[-1]
    votes, yardstick = engine.predict(crops), {YARDSTICK: keras_peers(whole, loaded(whole))[YARDSTICK]}
    return {
        f"Fast calls: trained whole networks; {calls.replace('lite', 'the bundle')}, {n_cells} {what}": save(
            whole, threshold, votes, {name: engine}, crops, 2, yardstick
        )
        for calls, threshold in CALLS.items()
    }
