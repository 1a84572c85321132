"""How long a run takes to stop, once it is asked to: by Ctrl-C in a terminal, by Cancel in napari."""

import queue
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.batch import planes
from benchmarks.bundles import whole_networks
from benchmarks.measure import Tables, row
from napari_all_detect import draw_smear

ALL_DETECT = str(Path(sys.executable).with_name("all-detect"))
PATIENCE_S = 600


def run(smoke: bool = False) -> Tables:
    """Stop runs in their midst: planes are done, others are not."""
    rounds = 1 if smoke else 5
    with TemporaryDirectory() as name, whole_networks(smoke) as whole:
        folder = Path(name)
        images = planes(folder, 160, 200)
        ways = {
            "Ctrl-C, lite": lambda: ctrl_c(images, folder / "out"),
            "Ctrl-C, lite, two workers": lambda: ctrl_c(images, folder / "out", "--workers", "2"),
            "Ctrl-C, five whole networks": lambda: ctrl_c(images, folder / "out", "--bundle", str(whole.folder)),
            "Cancel in napari, five whole networks": lambda: cancel(str(whole.folder)),
        }
        rows = []
        for what, stop in list(ways.items())[:: 3 if smoke else 1]:
            seconds = [stop() for _ in range(rounds)]
            rows += [row(what, statistics.median(seconds), "s"), row(f"{what}, longest of {rounds}", max(seconds), "s")]
    return {"From the wish to stop to the end": rows}


def ctrl_c(images: Path, out: Path, *options: str) -> float:
    """Interrupt `all-detect score` when it has done some planes; return the seconds until it has ended."""
    with TemporaryDirectory(dir=out.parent) as folder:
        command = [ALL_DETECT, "score", str(images), "--out", folder + "/out", *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            wait_for(lambda: any(Path(folder).glob("out/units/*/*.json")))
            process.send_signal(signal.SIGINT)
            began = time.perf_counter()
            _, said = process.communicate(timeout=PATIENCE_S)
            seconds = time.perf_counter() - began
        finally:
            process.kill()
    if process.returncode != 130:
        raise RuntimeError(f"the run was not interrupted:\n{said.decode()}")
    return seconds


def cancel(bundle: str) -> float:
    """Cancel in napari's controller while networks run; return the seconds until it is idle."""
    from napari.components import ViewerModel

    from napari_all_detect import ScoreParams
    from napari_all_detect._napari.process.client import ScoringProcess
    from napari_all_detect._napari.run.controller import Controller
    from napari_all_detect._napari.run.task import Task

    viewer, process, calls = ViewerModel(), ScoringProcess(), queue.Queue[Callable[[], None]]()
    controller = Controller(viewer, process, calls.put)
    image = viewer.add_image(draw_smear((640, 640), n_cells=40, cell_diameter_px=40, seed=1).rgb)
    controller.score(Task(image, None, ScoreParams(bundle=bundle)))

    def turn() -> None:
        calls.get(timeout=PATIENCE_S)()

    try:
        while not (controller.state.total and controller.state.done):
            turn()
        controller.cancel()
        began = time.perf_counter()
        while controller.state.busy:
            turn()
        return time.perf_counter() - began
    finally:
        controller.close()
        process.end()


def wait_for(condition: Callable[[], bool]) -> None:
    """Look until it holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("no plane was done")
        time.sleep(0.05)
