import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect.params import ScoreParams, SegmentationParams

DEADLY, HUNGRY, SLOW = 77, 78, 79
TIMED = ("run.json", "report.html")

CODE = f"""
import os, signal, time
import numpy as np
from napari_all_detect import SegmentationParams, segment_cells

def find_cells(rgb, cell_diameter_px):
    if (rgb == {DEADLY}).all():
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory is short
    if (rgb == {HUNGRY}).all():
        np.ones(2**45)
    if (rgb == {SLOW}).all():
        print("slow", flush=True)
        time.sleep(600)
    return segment_cells(rgb, SegmentationParams(method="classical", cell_diameter_px=cell_diameter_px), nuclei=True)
"""


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, duo_bundle: Path) -> ScoreParams:
    """Install a segmentation method, here and for the processes that are started.

    It kills its process at a plane of the grey `DEADLY`, and wants more memory than there is at one of `HUNGRY`; at
    one of `SLOW` it says so and takes a minute.
    """
    facts = tmp_path / "site" / "deadly-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[napari_all_detect.segmentation]\ndeadly = deadly_method:find_cells\n")
    (tmp_path / "site/deadly_method.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    return ScoreParams(bundle=str(duo_bundle), segmentation=SegmentationParams(method="deadly"))


@pytest.fixture
def slow_plane(tmp_path: Path) -> Path:
    Image.fromarray(np.full((96, 120, 3), SLOW, np.uint8)).save(tmp_path / "slow.png")
    return tmp_path / "slow.png"


@pytest.fixture
def among_deadly(tmp_path: Path, smear: Callable[..., NDArray[np.uint8]]) -> Path:
    """Six planes: the third is deadly, the fifth hungry."""
    folder = tmp_path / "planes"
    folder.mkdir()
    for i in range(6):
        grey = {2: DEADLY, 4: HUNGRY}.get(i)
        drawn = smear(i, (96, 120), 3) if grey is None else np.full((96, 120, 3), grey, np.uint8)
        Image.fromarray(drawn).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def content() -> Callable[[Path], dict[str, bytes]]:
    """Return all files of a folder but the record and the report, whose times differ."""

    def of(folder: Path) -> dict[str, bytes]:
        files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in TIMED)
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return of


@pytest.fixture(scope="session")
def failures() -> Callable[[Path], list[list[str]]]:
    """Return the rows of an output folder's `failures.csv`."""

    def of(folder: Path) -> list[list[str]]:
        rows: list[list[str]] = pd.read_csv(folder / "failures.csv", keep_default_na=False).to_numpy().tolist()
        return rows

    return of


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Have a handler of requests answer on this machine, for the length of a test; returns its URL."""
    with ExitStack() as stack:
        yield lambda handler: stack.enter_context(_served(handler))


@contextmanager
def _served(handler: Any) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
