"""Processes that find cells: the same bytes, and what one that dies costs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect import piped
from napari_all_detect.batch import BatchProgress, cutting, score_batch
from napari_all_detect.batch.cutting import CuttingProcess, n_processes
from napari_all_detect.batch.planning import plan_units
from napari_all_detect.batch.running import Stopped
from napari_all_detect.batch.steps import cut_unit
from napari_all_detect.batch.units import CutUnit, Job, Unit
from napari_all_detect.bundle import load_bundle
from napari_all_detect.params import ClusterParams, OutputParams, ScoreParams, SegmentationParams
from napari_all_detect.results import Failure
from napari_all_detect.sources import find_images

pytestmark = pytest.mark.usefixtures("reuse_engines")

Content = Callable[[Path], dict[str, bytes]]

TWO = ClusterParams(segmentation_processes=2)


@pytest.fixture(scope="session")
def planes(tmp_path_factory: pytest.TempPathFactory, smear: Callable[..., NDArray[np.uint8]]) -> Path:
    """Twelve planes of one to four cells, and a file that is none."""
    folder = tmp_path_factory.mktemp("planes")
    for i in range(12):
        Image.fromarray(smear(i, (96, 120), 1 + i % 4)).save(folder / f"{i:02}.png")
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:3000])
    return folder


@pytest.fixture
def params(duo_bundle: Path) -> ScoreParams:
    return ScoreParams(bundle=str(duo_bundle), segmentation=SegmentationParams(method="classical"))


@pytest.fixture
def job(params: ScoreParams) -> Job:
    return Job(params, load_bundle(params.bundle).manifest.crop, OutputParams())


@pytest.fixture
def units(planes: Path) -> list[Unit]:
    return plan_units(find_images([planes]))[0]


def children() -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process().children() if cutting.PROGRAM in child.cmdline()]


def test_the_same_bytes_from_processes(planes: Path, tmp_path: Path, params: ScoreParams, content: Content) -> None:
    formats = OutputParams(formats=("csv", "geojson", "parquet"))
    score_batch([planes], tmp_path / "here", params, formats)
    summary = score_batch([planes], tmp_path / "there", params, formats, cluster=TWO)
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert (summary.planes, [failure.input for failure in summary.failures]) == (11, ["05.png"])
    assert children() == []


def test_a_plane_that_kills_its_process_fails_alone(among_deadly: Path, tmp_path: Path, deadly: ScoreParams) -> None:
    summary = score_batch([among_deadly], tmp_path / "out", deadly, cluster=TWO)
    assert (summary.planes, summary.exit_status) == (4, 3)
    failures = pd.read_csv(tmp_path / "out/failures.csv")
    assert failures["input"].tolist() == ["2.png", "4.png"]
    assert "was ended by the operating system, most likely for want of memory" in failures["reason"][0]
    assert "MemoryError" in failures["reason"][1]


def test_one_that_is_killed_between_planes_costs_nothing(units: list[Unit], job: Job) -> None:
    process = CuttingProcess()
    try:
        assert isinstance(process(job, units[0]), CutUnit)
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        _wait_for(lambda: process._process is not None and not process._process.runs)
        found = process(job, units[1])
    finally:
        process.end()
    here = cut_unit(job, units[1])
    assert isinstance(found, CutUnit)
    assert isinstance(here, CutUnit)
    assert found.files == here.files
    assert np.array_equal(found.cut.crops, here.cut.crops)
    with pytest.raises(Stopped):
        process(job, units[2])
    assert children() == []


def test_one_that_breaks_says_so(units: list[Unit], job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    broken = replace(units[0], plane=replace(units[0].plane, reader=partial(sys.exit, "that was no plane")))
    process = CuttingProcess()
    found = process(job, broken)
    process.end()
    assert isinstance(found, Failure)
    assert (found.input, found.stage) == ("00.png", "score")
    assert "ended (exit status 1)" in found.reason
    assert "that was no plane" in capfd.readouterr().err


def test_an_answer_that_there_is_no_memory_for_costs_its_plane(
    units: list[Unit], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it taken for the next one's."""

    def no_memory(_: object) -> None:
        raise MemoryError

    process = CuttingProcess()
    with monkeypatch.context() as patch:
        patch.setattr(piped.pickle, "load", no_memory)
        found = process(job, units[0])
    following = process(job, units[1])
    process.end()
    assert isinstance(found, Failure)
    assert "out of memory" in found.reason
    assert isinstance(following, CutUnit)
    assert following.cut.names["image"] == units[1].plane.image


def test_a_script_needs_no_guard(planes: Path, duo_bundle: Path, tmp_path: Path) -> None:
    """Processes of `multiprocessing` would run it again, each of them."""
    script = tmp_path / "script.py"
    script.write_text(
        "import napari_all_detect as ad\n"
        "from napari_all_detect.params import ClusterParams\n"
        "print('begins', flush=True)\n"
        f"params = ad.ScoreParams(bundle={str(duo_bundle)!r}, segmentation=ad.SegmentationParams(method='classical'))\n"
        f"there = ClusterParams(segmentation_processes=1)\n"
        f"print(ad.score_batch([{str(planes / '00.png')!r}], 'out', params, cluster=there).planes)\n"
    )
    # A file that bears a library's name lies beside what is scored, as happens.
    (tmp_path / "pandas.py").write_text("raise ImportError('the wrong one')\n")
    command = [sys.executable, "-P", str(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["begins", "1"], done.stderr


def test_an_interrupted_run_ends_its_processes(
    planes: Path, tmp_path: Path, params: ScoreParams, content: Content
) -> None:
    class Stop(BatchProgress):
        def plane(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_batch([planes], tmp_path / "out", params, progress=Stop(), cluster=TWO)
    assert children() == []
    score_batch([planes], tmp_path / "whole", params)
    score_batch([planes], tmp_path / "out", params, OutputParams(resume=True), cluster=TWO)
    done = {name: data for name, data in content(tmp_path / "out").items() if not name.startswith("units/")}
    assert done == {name: data for name, data in content(tmp_path / "whole").items() if not name.startswith("units/")}


def test_it_ends_with_the_process_that_asks(units: list[Unit], job: Job) -> None:
    """As after a kill -9, when nobody can tell it to."""
    process = CuttingProcess()
    process(job, units[0])
    assert process._process is not None
    assert process._process.close() == 0
    process.end()


@pytest.mark.parametrize(
    ("wanted", "cores", "planes", "processes"),
    [("auto", 2, 1000, 0), ("auto", 8, 1000, 2), ("auto", 8, 20, 1), ("auto", 8, 3, 0), (3, 2, 1, 3), (0, 64, 1000, 0)],
)
def test_how_many(wanted: int | str, cores: int, planes: int, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "n_cores", lambda: cores)
    assert n_processes(wanted, planes) == processes


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="other systems leave a process all cores")
def test_cores_that_a_process_may_not_use_do_not_count() -> None:
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    code += "from napari_all_detect.cores import n_cores; print(n_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split() == [b"1"]


def _wait_for(condition: Callable[[], bool], at_most_s: float = 30) -> None:
    end = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
