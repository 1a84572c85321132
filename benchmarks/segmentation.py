"""Finding cells: seconds a megapixel of both methods, and the classical one beside Voronoi-Otsu labelling."""

import statistics
import sys
import time

import numpy as np

from benchmarks.measure import Row, Tables, alternate, ratio, row
from napari_all_detect import SegmentationParams, draw_smear, segment_cells

MP = "s/megapixel"


def run(smoke: bool = False) -> Tables:
    """Measure drawn smears."""
    rounds, side = (1, 256) if smoke else (5, 1024)
    return {"Finding cells": [*methods(rounds, side), *peers(rounds, side)]}


def methods(rounds: int, side: int) -> list[Row]:
    """Seconds a megapixel, with cells 40 px wide and, reduced first, 160 px wide.

    The classical method runs on one core, and is timed on that core's clock; the network takes all there are.
    """
    rows = []
    for diameter in (40, 160):
        rgb = draw_smear((side, side), n_cells=_n_cells(side, diameter), cell_diameter_px=diameter, seed=1).rgb
        for name, clock in (("classical", time.process_time), ("learned", time.perf_counter)):
            params = SegmentationParams(method=name)
            (seconds,) = alternate([lambda rgb=rgb, params=params: segment_cells(rgb, params)], rounds, clock)
            rows.append(row(f"{name}, cells {diameter} px wide", statistics.median(seconds) / _megapixels(side), MP))
    return rows


def peers(rounds: int, side: int) -> list[Row]:
    """Classical segmentation beside Voronoi-Otsu labelling: processor time, and Dice of whole cells."""
    try:
        from napari_segment_blobs_and_things_with_membranes import voronoi_otsu_labeling
    except ImportError:
        print("Voronoi-Otsu labelling is left out: pip install 'napari-all-detect[bench]'", file=sys.stderr)
        return []
    diameter = 40
    smear = draw_smear((side, side), n_cells=_n_cells(side, diameter), cell_diameter_px=diameter, seed=1)
    # What white cells absorb most; sigmas as one would set them for cells of this size.
    dark = 255 - smear.rgb[..., 1]

    def voronoi_otsu() -> np.ndarray:
        return np.asarray(voronoi_otsu_labeling(dark, spot_sigma=diameter / 5, outline_sigma=1))

    def classical() -> np.ndarray:
        return segment_cells(smear.rgb, SegmentationParams(method="classical"))

    ours, theirs = alternate([classical, voronoi_otsu], rounds, time.process_time)
    dice = [
        2 * ((a > 0) & (smear.labels > 0)).sum() / ((a > 0).sum() + (smear.labels > 0).sum())
        for a in (classical(), voronoi_otsu())
    ]
    return [
        row("Voronoi-Otsu labelling, cells 40 px wide", statistics.median(theirs) / _megapixels(side), MP),
        row("classical over Voronoi-Otsu, time", ratio(ours, theirs), "ratio"),
        row("Dice of whole cells, classical", float(dice[0]), ""),
        row("Dice of whole cells, Voronoi-Otsu", float(dice[1]), ""),
    ]


def _n_cells(side: int, diameter: int) -> int:
    return (side // (3 * diameter)) ** 2 + 1


def _megapixels(side: int) -> float:
    return side * side / 1e6
