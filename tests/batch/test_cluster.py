"""The same bytes on a cluster; what a lost worker costs."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect.batch import BatchProgress, cluster, score_batch
from napari_all_detect.batch.unit import score_unit
from napari_all_detect.cli import main
from napari_all_detect.errors import MissingDependencyError, OutputError, ParameterError
from napari_all_detect.params import ClusterParams, OutputParams, ScoreParams, SegmentationParams

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.usefixtures("reuse_engines")

Pixels = NDArray[np.uint8]
Content = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory, smear: Callable[..., Pixels]) -> Path:
    """Twenty planes, and a file that is none."""
    folder = tmp_path_factory.mktemp("many")
    for i in range(18):
        Image.fromarray(smear(i, (96, 120), 1 + i % 4)).save(folder / f"{i}.png")
    tifffile.imwrite(folder / "stack.tif", np.stack([smear(i, (96, 120), 3) for i in (4, 5)]), photometric="rgb")
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:3000])
    return folder


@pytest.fixture
def params(duo_bundle: Path) -> ScoreParams:
    return ScoreParams(bundle=str(duo_bundle), segmentation=SegmentationParams(method="classical"))


@pytest.fixture
def alone(many: Path, tmp_path: Path, params: ScoreParams, content: Content) -> dict[str, bytes]:
    """What one process gives."""
    score_batch([many], tmp_path / "alone", params)
    return content(tmp_path / "alone")


@pytest.fixture
def address() -> Iterator[str]:
    """A cluster in this process: two workers of two threads, which share the fixture's networks."""
    options = {"n_workers": 2, "threads_per_worker": 2, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(protocol="tcp", host="127.0.0.1", **options) as local:
        yield local.scheduler_address
    cluster._scorer.cache_clear()


class Progress(BatchProgress):
    def __init__(self) -> None:
        self.n_cells, self.planes = 0, 0

    def cells(self, n: int) -> None:
        self.n_cells += n

    def plane(self) -> None:
        self.planes += 1


def test_an_existing_cluster_gives_the_same_bytes(
    many: Path, tmp_path: Path, params: ScoreParams, alone: dict[str, bytes], address: str, content: Content
) -> None:
    progress = Progress()
    where = ClusterParams(scheduler=address)
    summary = score_batch([many], tmp_path / "out", params, progress=progress, cluster=where)
    assert content(tmp_path / "out") == alone
    assert (summary.planes, summary.exit_status, progress.planes, progress.n_cells) == (19, 3, 20, summary.cells)


def test_relative_paths_are_found_by_workers_elsewhere(
    many: Path, tmp_path: Path, params: ScoreParams, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def noted(scorer: Any, job: Any, unit: Any) -> Any:
        seen.append((unit.plane.path, job.output.labels, scorer.params.bundle))
        return score_unit(scorer, job, unit)

    monkeypatch.setattr(cluster, "score_unit", noted)
    monkeypatch.chdir(many)
    shutil.copytree(params.bundle, tmp_path / "bundle")
    (tmp_path / "labels").mkdir()
    command = ["score", "0.png", "--out", str(tmp_path / "out"), "--bundle", os.path.relpath(tmp_path / "bundle")]
    assert main([*command, "--labels", os.path.relpath(tmp_path / "labels"), "--scheduler", address]) == 1
    assert seen == [(many / "0.png", str(tmp_path / "labels"), str(tmp_path / "bundle"))]


def test_an_interrupted_run_goes_on_on_a_cluster(
    many: Path, tmp_path: Path, params: ScoreParams, alone: dict[str, bytes], address: str, content: Content
) -> None:
    class Stop(Progress):
        def plane(self) -> None:
            super().plane()
            if self.planes == 4:
                raise KeyboardInterrupt

    where = ClusterParams(scheduler=address)
    with pytest.raises(KeyboardInterrupt):
        score_batch([many], tmp_path / "out", params, progress=Stop(), cluster=where)
    assert len(list((tmp_path / "out/units").rglob("*.json"))) in (3, 4)  # the file that is no image may be among them
    score_batch([many], tmp_path / "out", params, OutputParams(resume=True), cluster=where)
    assert content(tmp_path / "out") == alone | unit_files(content(tmp_path / "out"))


def test_a_bundle_that_is_another_one_by_the_next_run(
    many: Path, tmp_path: Path, params: ScoreParams, address: str
) -> None:
    """Workers outlive a run: they look at the bundle anew, and hand out no result of the run before."""
    copy, labels = Path(shutil.copytree(params.bundle, tmp_path / "copy")), list[str]()
    for name in ("before", "after"):
        where = ClusterParams(scheduler=address)
        score_batch([many / "0.png"], tmp_path / name, replace(params, bundle=str(copy)), cluster=where)
        labels += pd.read_csv(tmp_path / name / "cells.csv")["bundle"].unique().tolist()
        facts = json.loads((copy / "bundle.json").read_text())
        (copy / "bundle.json").write_text(json.dumps(facts | {"version": "9.9"}))
    assert labels == ["duo-0.1", "duo-9.9"]


def test_tasks_of_two_runs_have_no_key_in_common(
    many: Path, tmp_path: Path, params: ScoreParams, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, keys = distributed.Client.submit, list[str]()

    def noted(self: Any, *arguments: Any, **options: Any) -> Any:
        keys.append(options["key"])
        return submit(self, *arguments, **options)

    monkeypatch.setattr(distributed.Client, "submit", noted)
    for name in ("one", "other"):
        score_batch([many / "0.png"], tmp_path / name, params, cluster=ClusterParams(scheduler=address))
    assert len(set(keys)) == 2


def test_a_cluster_of_its_own_that_does_not_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Local:
        sync = staticmethod(lambda *_, **__: closed.append("workers"))
        close = staticmethod(lambda timeout: closed.append("scheduler"))

    def unreachable(*_: Any, **__: Any) -> None:
        raise TimeoutError("too late")

    monkeypatch.setattr(cluster, "_local", lambda workers: Local)
    monkeypatch.setattr(distributed, "Client", unreachable)
    with (
        pytest.raises(OutputError, match=r"answers at this machine \(too late\); try again, or without --workers"),
        cluster.connected(ClusterParams(workers=2)),
    ):
        pass
    assert closed == ["workers", "scheduler"]


def unit_files(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.startswith("units/")}


def test_workers_of_its_own_one_of_which_is_killed(
    many: Path, tmp_path: Path, params: ScoreParams, alone: dict[str, bytes], content: Content
) -> None:
    """Real processes with networks of their own."""
    killed = []

    class Kill(Progress):
        def plane(self) -> None:
            super().plane()
            if not killed:
                (worker, *_) = _workers()
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)

    progress = Kill()
    score_batch([many], tmp_path / "out", params, progress=progress, cluster=ClusterParams(workers=2))
    assert killed
    assert content(tmp_path / "out") == alone
    assert pd.read_csv(tmp_path / "out/failures.csv")["input"].tolist() == ["5.png"]


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_same_bytes(
    many: Path, tmp_path: Path, params: ScoreParams, alone: dict[str, bytes], workers: int, content: Content
) -> None:
    score_batch([many], tmp_path / "out", params, cluster=ClusterParams(workers=workers))
    assert content(tmp_path / "out") == alone


def _workers() -> list[int]:
    import psutil

    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_no_scheduler_at_the_address(many: Path, tmp_path: Path, params: ScoreParams) -> None:
    cluster.CONNECT_S, before = 1, cluster.CONNECT_S
    try:
        with pytest.raises(OutputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 "):
            score_batch([many], tmp_path / "out", params, cluster=ClusterParams(scheduler="tcp://127.0.0.1:9"))
    finally:
        cluster.CONNECT_S = before


def test_workers_and_a_scheduler_exclude_each_other() -> None:
    with pytest.raises(ParameterError, match="workers and scheduler are both set"):
        ClusterParams(workers=2, scheduler="tcp://a:8786")


def test_without_dask(many: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'napari-all-detect\[dask\]'"):
        score_batch([many], tmp_path / "out", params, cluster=ClusterParams(workers=1))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("workers", "lost"), [(2, 1), (1, 0)], ids=["usual", "with all that share its worker at first"]
)
def test_a_plane_that_kills_its_workers_fails_alone(
    among_deadly: Path, tmp_path: Path, deadly: ScoreParams, monkeypatch: pytest.MonkeyPatch, workers: int, lost: int
) -> None:
    """As one does that takes more memory than a worker has: the kernel, or Dask, kills it."""
    monkeypatch.setattr(cluster, "LOST", lost)
    summary = score_batch([among_deadly], tmp_path / "out", deadly, cluster=ClusterParams(workers=workers))
    failures = pd.read_csv(tmp_path / "out/failures.csv")
    assert failures["input"].tolist() == ["2.png", "4.png"]
    assert "several workers were lost on it, for want of memory or of time" in failures["reason"][0]
    assert "MemoryError" in failures["reason"][1]
    assert (summary.planes, summary.exit_status) == (4, 3)


@pytest.mark.parametrize("to_all", [True, False], ids=["in a terminal", "from outside"])
def test_ctrl_c_ends_workers_within_two_seconds_and_it_goes_on(
    many: Path,
    duo_bundle: Path,
    tmp_path: Path,
    params: ScoreParams,
    alone: dict[str, bytes],
    to_all: bool,
    content: Content,
) -> None:
    import psutil

    out = tmp_path / "out"
    script = str(Path(sys.executable).parent / "all-detect")
    command = [script, "score", str(many), "--out", str(out), "--bundle", str(duo_bundle), "--workers", "2"]
    command += ["--segmentation", "classical"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    workers = []
    try:
        deadline = time.monotonic() + 120
        while len(list(out.glob("units/*/*.json"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        workers = psutil.Process(process.pid).children(recursive=True)
        # In a terminal, the workers get it too.
        (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
        began = time.perf_counter()
        printed = process.communicate(timeout=60)
        seconds = time.perf_counter() - began
        _, alive = psutil.wait_procs(workers, timeout=5)
    finally:
        process.kill()
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
    assert process.returncode == 130, printed
    assert seconds < 2, printed
    lines = printed[1].splitlines()
    assert lines[-1].startswith("all-detect: interrupted; what was done so far is in the output folder"), printed[1]
    assert "Traceback" not in printed[1]
    assert not alive
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    score_batch([many], out, params, OutputParams(resume=True))
    assert content(out) == alone | unit_files(content(out))
