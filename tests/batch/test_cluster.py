"""The same bytes on a cluster, whatever its workers have and whenever they come; what a lost one costs."""

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
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Timer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect import __version__
from napari_all_detect.batch import BatchProgress, cluster, delegating, score_batch
from napari_all_detect.batch.record import scored_by
from napari_all_detect.batch.steps import score_unit
from napari_all_detect.cli import main
from napari_all_detect.errors import MissingDependencyError, OutputError, ParameterError
from napari_all_detect.params import ClusterParams, OutputParams, ScoreParams, SegmentationParams
from napari_all_detect.pipeline import kept_scorer
from napari_all_detect.results import Failure

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
    delegating._scorer.cache_clear()


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

    monkeypatch.setattr(delegating, "score_unit", noted)
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


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"bundle": {"digest": "0f0f"}}, ", now '0f0f';"),
        ({"segmentation": {"method": "classical", "package": "a-2"}}, "segmentation.package was None, now 'a-2';"),
        ({"engine": "openvino 1"}, ", now 'openvino 1';"),
        ({"versions": {"keras": "1.0"}}, ", now '1.0', versions."),
        ({"device": "gpu"}, None),
    ],
)
def test_a_worker_that_would_score_otherwise_than_run_json_says(
    many: Path,
    tmp_path: Path,
    params: ScoreParams,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    failures: Callable[[Path], list[list[str]]],
    there: dict[str, Any],
    said: str | None,
) -> None:
    monkeypatch.setattr(delegating, "scored_by", lambda scorer, labels: scored_by(scorer, labels) | there)
    where = ClusterParams(scheduler=address)
    score_batch([many / "0.png"], tmp_path / "out", replace(params, engine="keras"), cluster=where)
    found = failures(tmp_path / "out")
    if said is None:
        assert found == []
        return
    ((name, stage, reason),) = found
    assert (name, stage) == ("0.png", "load")
    assert reason.startswith("worker tcp://127.0.0.1:")
    assert said in reason
    assert reason.endswith("; install the same there, then go on with --resume")


@pytest.mark.parametrize(
    ("error", "said"), [(MemoryError(), "out of memory"), (ImportError("no keras"), "ImportError: no keras")]
)
def test_whatever_keeps_a_worker_from_loading_is_the_plane_s_failure(
    many: Path,
    tmp_path: Path,
    params: ScoreParams,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    said: str,
    failures: Callable[[Path], list[list[str]]],
) -> None:
    first = iter([error])

    def load(params: ScoreParams) -> Any:
        for raised in first:
            raise raised
        return kept_scorer(params)

    monkeypatch.setattr(delegating, "kept_scorer", load)
    score_batch([many / "0.png", many / "1.png"], tmp_path / "out", params, cluster=ClusterParams(scheduler=address))
    ((_, stage, reason),) = failures(tmp_path / "out")
    assert stage == "load"
    assert f" could not load what it needs: {said}" in reason


def test_a_result_that_can_t_be_sent_is_the_plane_s_failure(
    many: Path,
    tmp_path: Path,
    params: ScoreParams,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    failures: Callable[[Path], list[list[str]]],
) -> None:
    class Huge:
        def __reduce__(self) -> str:
            raise MemoryError("too large")

    def score(scorer: Any, job: Any, unit: Any) -> Any:
        return Huge() if unit.plane.image == "0.png" else score_unit(scorer, job, unit)

    monkeypatch.setattr(delegating, "score_unit", score)
    score_batch([many / "0.png", many / "1.png"], tmp_path / "out", params, cluster=ClusterParams(scheduler=address))
    ((name, stage, reason),) = failures(tmp_path / "out")
    assert (name, stage) == ("0.png", "score")
    assert reason.startswith("the cluster can't pass it on (")


def test_workers_that_come_after_the_start_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of SLURM do. That there is none yet is said, and few planes are known to the scheduler ever."""
    threads, planes, said = 4, 24, list[str]()
    together = Barrier(threads, timeout=60)
    begun = done = most = 0

    def units() -> Iterator[Any]:
        nonlocal begun, most
        for begun in range(1, planes + 1):
            most = max(most, begun - done)
            yield SimpleNamespace(number=begun, name=str(begun))

    def meet(scorer: Any, job: Any, unit: Any) -> Failure:
        with contextlib.suppress(BrokenBarrierError):
            together.wait()
        return Failure(unit.name, "score", "alone" if together.broken else "with three others")

    monkeypatch.setattr(delegating, "_scorer", lambda *_: None)
    monkeypatch.setattr(delegating, "score_unit", meet)
    monkeypatch.setattr(delegating, "ASK_S", 0.05)
    monkeypatch.setattr(delegating, "ALONE_S", 0.2)
    options = {"n_workers": 0, "threads_per_worker": 2, "processes": False, "dashboard_address": "127.0.0.1:0"}
    job: Any = SimpleNamespace(params=None, output=OutputParams())
    record = {"bundle": {"digest": ""}} | dict.fromkeys(delegating.SAME)
    with distributed.LocalCluster(protocol="tcp", host="127.0.0.1", **options) as local:
        arrival = Timer(0.3, local.scale, [2])
        monkeypatch.setattr(delegating.log, "warning", lambda text, *_: (said.append(text), arrival.start()))
        with distributed.Client(local) as client:
            for _, result in delegating.on_cluster(client, job, units(), record):
                assert result.reason == "with three others"
                done += 1
    assert done == planes
    assert most == delegating.AHEAD * threads
    assert [text[:31] for text in said] == ["the cluster has no worker, and "]


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


def test_a_cluster_without_this_version_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked by the standard library alone."""

    class Client:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def run(self, asked: Any, name: str, on_error: str) -> dict[str, Any]:
            assert (asked.__module__, on_error) == ("importlib.metadata", "return")
            lacks = PackageNotFoundError(name)
            return {
                "tcp://a": lacks,
                "tcp://b": __version__,
                "tcp://c": OSError("late"),
                "tcp://d": "0.0",
                "tcp://e": lacks,
            }

        def run_on_scheduler(self, asked: Any, name: str) -> str:
            raise PackageNotFoundError(name)

        def close(self, timeout: float) -> None:
            pass

    monkeypatch.setattr(distributed, "Client", Client)
    said = rf"{__version__} is needed .*; tcp://a has none, tcp://d has 0\.0, tcp://e has none, and 1 more; install it"
    with (
        pytest.raises(MissingDependencyError, match=said),
        cluster.connected(ClusterParams(scheduler="tcp://f")),
    ):
        pass


def test_workers_that_cannot_start_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without a /dev/shm that can be written, where Dask may wait for them for ever."""

    def no_lock() -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cluster, "get_context", lambda _: SimpleNamespace(Lock=no_lock))
    said = r"workers can't be started on this machine \(.*Read-only file system\); try again, or without --workers"
    with pytest.raises(OutputError, match=said), cluster.connected(ClusterParams(workers=1)):
        pass


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
def test_ctrl_c_ends_workers_and_it_goes_on(
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
        printed = process.communicate(timeout=60)
        _, alive = psutil.wait_procs(workers, timeout=30)
    finally:
        process.kill()
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
    assert process.returncode == 130, printed
    lines = printed[1].splitlines()
    assert lines[-1].startswith("all-detect: interrupted; what was done so far is in the output folder"), printed[1]
    assert "Traceback" not in printed[1]
    assert not alive
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    score_batch([many], out, params, OutputParams(resume=True))
    assert content(out) == alone | unit_files(content(out))
