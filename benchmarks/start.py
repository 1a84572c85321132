"""What a new process costs: its start, and its memory."""

import statistics
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.bundles import whole_networks
from benchmarks.measure import HAS_PEAK, PEAK_MIB, Row, Tables, printed_number, row
from napari_all_detect import draw_smear

FIRST = """
import time; began = time.perf_counter(); import napari_all_detect as ad
ad.score_image(ad.draw_smear((224, 224), n_cells=5, seed=1).rgb); print(time.perf_counter() - began)
"""
LOAD = "import time; began = time.perf_counter(); import napari_all_detect; print(time.perf_counter() - began)"


def run(smoke: bool = False) -> Tables:
    """Measure in fresh processes."""
    rounds = 1 if smoke else 3
    rows = [
        row("import napari_all_detect", statistics.median(printed_number(LOAD) for _ in range(rounds)), "s"),
        row("import and first score", statistics.median(printed_number(FIRST) for _ in range(rounds)), "s"),
    ]
    return {"Start and memory": [*rows, *(peaks(smoke) if HAS_PEAK else [])]}


def peaks(smoke: bool) -> list[Row]:
    """Peak memory of a process of its own that reads a smear and works on it."""
    side = 256 if smoke else 1024
    with TemporaryDirectory() as folder, whole_networks(smoke) as whole:
        path = f"{folder}/smear.npy"
        np.save(path, draw_smear((side, side), n_cells=side // 17, cell_diameter_px=40, seed=1).rgb)
        given = f"import numpy as np, napari_all_detect as ad; rgb = np.load({path!r})"

        def peak_mib(work: str) -> float:
            return printed_number(f"{given}; {work}; print({PEAK_MIB})")

        rows = []
        for name in ("classical", "learned"):
            params = f"ad.SegmentationParams(method={name!r})"
            idle = peak_mib(f"ad.segment_cells(rgb[:64, :64].copy(), {params})")
            more = peak_mib(f"ad.segment_cells(rgb, {params})") - idle
            rows.append(row(f"finding cells, {name}, {side} px: over the image", more / (3 * side * side / 2**20), "x"))
        few = "labels = np.zeros(rgb.shape[:2], int); labels[:200, :200] = 1; labels[:200, 200:] = 2"
        five = f"{few}; ad.score_image(rgb, labels, bundle={str(whole.folder)!r}, rescale='none')"
        return [
            *rows,
            row("a plane scored with lite: whole process", peak_mib("ad.score_image(rgb)"), "MiB"),
            row("two cells scored with five whole networks: whole process", peak_mib(five), "MiB"),
        ]
