"""Everything around the ensemble, stage by stage, beside the ensemble's own time.

In processor time, of all threads: so it can be measured on a machine that others use, too.
"""

import statistics
import time

import numpy as np

from benchmarks.bundles import whole_networks
from benchmarks.cells import NoNetworks, real_smears
from benchmarks.measure import Row, Tables, alternate, row
from napari_all_detect import draw_smear, segment_cells, table
from napari_all_detect.bundle import Bundle, load_bundle
from napari_all_detect.crops import center_crop
from napari_all_detect.engines import open_engine
from napari_all_detect.export.csv import csv_text
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import PlaneInput, make_scorer, score_plane
from napari_all_detect.sources import as_rgb

MOST_SCORED = 8
"""Cells that the ensemble is timed on; whole networks take long."""


def run(smoke: bool = False) -> Tables:
    """Measure a smear as lite and as whole networks see it."""
    rounds = 1 if smoke else 5
    small = (real_smears(1) or [draw_smear((224, 224), n_cells=8, cell_diameter_px=25, seed=2).rgb])[0]
    side, n_cells = (300, 2) if smoke else (1024, 12)
    large = draw_smear((side, side), n_cells=n_cells, cell_diameter_px=150, seed=2).rgb
    with whole_networks(smoke) as whole:
        lite = whole if smoke else load_bundle("lite")
        return {
            "Around the ensemble: lite, a smear of 224 px": stages(lite, small, rounds),
            f"Around the ensemble: whole networks, a drawn smear of {side} px": stages(whole, large, 1 if smoke else 2),
        }


def stages(bundle: Bundle, rgb: np.ndarray, rounds: int) -> list[Row]:
    """Return each stage's milliseconds a cell, and all of them as a share of the ensemble's."""
    params = ScoreParams()
    engine = open_engine(bundle, params)
    labels = segment_cells(rgb)
    crops = center_crop(rgb, labels, bundle.manifest.crop.size)
    around = make_scorer(params, bundle, NoNetworks(len(bundle.manifest.members)))
    found = PlaneInput(as_rgb(rgb), labels=labels)
    cells = score_plane(around, found).table
    tasks = {
        "the ensemble": lambda: engine.predict(crops[:MOST_SCORED]),
        "finding cells": lambda: segment_cells(rgb),
        "measuring them": lambda: table.geometry(labels, None),
        "crops": lambda: center_crop(rgb, labels, bundle.manifest.crop.size),
        "all from labels to table": lambda: score_plane(around, found),
        "CSV": lambda: csv_text(cells),
    }
    times = dict(
        zip(tasks, map(statistics.median, alternate(list(tasks.values()), rounds, time.process_time)), strict=True)
    )
    times["the ensemble"] *= len(crops) / len(crops[:MOST_SCORED])
    rows = [row(name, 1000 * seconds / len(cells), "ms/cell") for name, seconds in times.items()]
    after = times["all from labels to table"] + times["CSV"]
    return [
        row("cells", len(cells), ""),
        *rows,
        row(
            f"around, without finding cells, over the ensemble by {engine.name}", after / times["the ensemble"], "ratio"
        ),
        row("around, with finding cells", (after + times["finding cells"]) / times["the ensemble"], "ratio"),
    ]
