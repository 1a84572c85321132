"""Everything around the ensemble, stage by stage, beside the ensemble's own time.

In processor time, of all threads: so it can be measured on a machine that others use, too.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks.bundles import whole_networks
from benchmarks.cells import NoNetworks, real_smears
from benchmarks.measure import Row, Tables, alternate, row
from napari_all_detect import draw_smear, segment_cells, table
from napari_all_detect.bundle import Bundle, load_bundle
from napari_all_detect.crops import center_crop
from napari_all_detect.engines import open_engine
from napari_all_detect.export.csv import csv_text
from napari_all_detect.params import ScoreParams, SegmentationParams
from napari_all_detect.pipeline import PlaneInput, make_scorer, score_plane
from napari_all_detect.sources import as_rgb

MOST_SCORED = 8
"""Cells that the ensemble is timed on; whole networks take long."""


def run(smoke: bool = False) -> Tables:
    """Measure a smear as lite and as whole networks see it."""
    rounds, n_smears = (1, 1) if smoke else (5, 16)
    small = real_smears(n_smears) or [draw_smear((224, 224), n_cells=8, cell_diameter_px=25, seed=2).rgb]
    side, n_cells = (300, 2) if smoke else (1024, 12)
    large = draw_smear((side, side), n_cells=n_cells, cell_diameter_px=150, seed=2).rgb
    with whole_networks(smoke) as whole:
        lite = whole if smoke else load_bundle("lite")
        return {
            f"Around the ensemble: lite, smears of 224 px: {len(small)}": stages(lite, small, rounds),
            f"Around the ensemble: whole networks, a drawn smear of {side} px": stages(whole, [large], min(rounds, 2)),
        }


def stages(bundle: Bundle, smears: list[np.ndarray], rounds: int) -> list[Row]:
    """Return each stage's milliseconds a cell, and all of them as a share of the ensemble's."""
    params = ScoreParams(precision="fp32")
    engine = open_engine(bundle, params)
    around = make_scorer(params, bundle, NoNetworks(len(bundle.manifest.members)))
    size = bundle.manifest.crop.size
    found = [PlaneInput(as_rgb(rgb), labels=segment_cells(rgb)) for rgb in smears]
    crops = np.concatenate([center_crop(rgb, one.labels, size) for rgb, one in zip(smears, found, strict=True)])
    tables = [score_plane(around, one).table for one in found]
    diameter = float(np.median(np.concatenate([cells["diameter_px"] for cells in tables])))
    finding = {
        "finding cells, learned": SegmentationParams(method="learned"),
        "finding cells, learned, how wide they are being known": SegmentationParams(cell_diameter_px=diameter),
        "finding cells, classical": SegmentationParams(method="classical"),
    }
    tasks: dict[str, Callable[[], object]] = {
        "the ensemble": lambda: engine.predict(crops[:MOST_SCORED]),
        **{
            name: lambda method=method: [segment_cells(rgb, method) for rgb in smears]
            for name, method in finding.items()
        },
        "measuring them": lambda: [table.geometry(one.labels, None) for one in found],
        "crops": lambda: [center_crop(rgb, one.labels, size) for rgb, one in zip(smears, found, strict=True)],
        "all from labels to table": lambda: [score_plane(around, one) for one in found],
        "CSV": lambda: [csv_text(cells) for cells in tables],
    }
    times = dict(
        zip(tasks, map(statistics.median, alternate(list(tasks.values()), rounds, time.process_time)), strict=True)
    )
    times["the ensemble"] *= len(crops) / len(crops[:MOST_SCORED])
    after, ensemble = times["all from labels to table"] + times["CSV"], times["the ensemble"]
    return [
        row("cells", len(crops), ""),
        *(row(name, 1000 * seconds / len(crops), "ms/cell") for name, seconds in times.items()),
        row(f"around, without finding cells, over the ensemble by {engine.name} in fp32", after / ensemble, "ratio"),
        *(row(f"around, with {name}", (after + times[name]) / ensemble, "ratio") for name in finding),
    ]
