"""Kill a run at random moments, go on, kill again; a program of its own, as it forks.

Nothing here loads a network: forking would break it. What stands in for the engine gives each cell's mean colour.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_all_detect.batch import score_batch
from napari_all_detect.params import OutputParams, ScoreParams, SegmentationParams
from napari_all_detect.pipeline import scorer

FORMATS = ("csv", "parquet", "h5ad", "geojson")


class MeanColour:
    name, device = "mean colour", "cpu"

    def predict(self, crops: Any, progress: Any = None, members: Any = None) -> Any:
        time.sleep(0.1)  # as networks do, or all planes would be done in one moment
        blue = crops[..., 2].mean(axis=(1, 2), dtype=np.float64)[:, None] / 255 * np.array([0.9, 1.1])
        return np.stack([1 - blue, blue], axis=2).astype(np.float32)


def run(bundle: str, images: Path, out: Path, resume: bool) -> None:
    params = ScoreParams(bundle=bundle, batch_size=4, segmentation=SegmentationParams(method="classical"))
    score_batch([images], out, params, OutputParams(formats=FORMATS, resume=resume))


def run_and_kill(bundle: str, images: Path, out: Path, after_s: float | None) -> bool:
    """Run in a fork; kill it after so many seconds. Return whether it was killed."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            run(bundle, images, out, resume=True)
            status = 0
        finally:
            os._exit(status)
    if after_s is not None:
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit("a run failed")
    return False


def main(bundle: str, images: str, folder: str, kills: str) -> None:
    import anndata  # noqa: F401 - loaded once, not in each fork: most moments would fall into that
    import pyarrow.parquet  # noqa: F401

    scorer.open_engine = lambda bundle, params: MeanColour()  # type: ignore[assignment,return-value]
    began = time.perf_counter()
    run_and_kill(bundle, Path(images), Path(folder, "whole"), None)
    seconds = time.perf_counter() - began
    moments, killed, rounds, units = random.Random(1), 0, 0, []
    while killed < int(kills):
        out = Path(folder, f"round_{rounds}")
        # Most runs are cut early, so that one folder sees many kills.
        while killed < int(kills) and run_and_kill(bundle, Path(images), out, moments.uniform(0, 0.7 * seconds)):
            killed += 1
            units.append(len(list(out.glob("units/*/*.json"))))
        run_and_kill(bundle, Path(images), out, None)
        rounds += 1
    json.dump({"killed": killed, "rounds": rounds, "units": units, "seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
