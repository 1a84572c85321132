"""Nothing that is done is lost, nothing else is taken for it."""

import contextlib
import errno
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
import zarr
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect import retrying, sources
from napari_all_detect.atomic import write_atomically
from napari_all_detect.batch import BatchProgress, resuming, score_batch, segment_batch, segmenting, steps, store
from napari_all_detect.cli import main
from napari_all_detect.errors import InputError, OutputError, ParameterError, StoreError
from napari_all_detect.params import OutputParams, ScoreParams, SegmentationParams
from napari_all_detect.results import locked_folder
from napari_all_detect.retrying import DELAYS_S
from napari_all_detect.segmentation import segment_cells
from napari_all_detect.sources import folders, plates, zarr_store
from napari_all_detect.sources.plane import Plane, readable
from napari_all_detect.tiling import find_in_plane

pytestmark = pytest.mark.usefixtures("reuse_engines")

Pixels = NDArray[np.uint8]
Content = Callable[[Path], dict[str, bytes]]
Failures = Callable[[Path], list[list[str]]]
RESUME = OutputParams(resume=True)
N = 6


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory, smear: Callable[..., Pixels]) -> Path:
    """Six planes in five files; the last is a stack."""
    folder = tmp_path_factory.mktemp("drawn")
    for i in range(4):
        Image.fromarray(smear(i, (96, 120), 3)).save(folder / f"{i}.png")
    tifffile.imwrite(folder / "4.tif", np.stack([smear(i, (96, 120), 3) for i in (4, 5)]), photometric="rgb")
    return folder


@pytest.fixture
def images(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "images"))


@pytest.fixture
def params(duo_bundle: Path) -> ScoreParams:
    return ScoreParams(bundle=str(duo_bundle), segmentation=SegmentationParams(method="classical"))


@pytest.fixture
def whole(images: Path, tmp_path: Path, params: ScoreParams, content: Content) -> dict[str, bytes]:
    """What a run that nothing disturbs leaves."""
    score_batch([images], tmp_path / "whole", params)
    return content(tmp_path / "whole")


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect which planes are scored."""
    names: list[str] = []
    cut_cells = steps.cut_cells

    def noted(given: Any, params: Any, crop: Any) -> Any:
        names.append(f"{given.image} {given.plane}")
        return cut_cells(given, params, crop)

    monkeypatch.setattr(steps, "cut_cells", noted)
    return names


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Wait for nothing; return the waits."""
    waits: list[float] = []
    monkeypatch.setattr(retrying.time, "sleep", waits.append)
    return waits


class StopAfter(BatchProgress):
    """Ends the run when so many planes are done."""

    def __init__(self, planes: int) -> None:
        self.left = planes

    def start(self, planes: int) -> None:
        self.planned = planes
        if self.left == 0:
            raise KeyboardInterrupt

    def plane(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def interrupted(images: Path, out: Path, params: ScoreParams, output: OutputParams = RESUME, after: int = 2) -> Path:
    with pytest.raises(KeyboardInterrupt):
        score_batch([images], out, params, output, StopAfter(after))
    return out


def unit_files(out: Path) -> dict[str, Path]:
    """Return where the results of planes are kept, by their images."""
    return {json.loads(path.read_bytes())["image"]: path for path in out.glob("units/*/*.json")}


@pytest.mark.parametrize("elsewhere", ["../mine.txt", "absolute"])
def test_what_a_record_of_somebody_else_names_elsewhere_stays(
    images: Path, tmp_path: Path, params: ScoreParams, elsewhere: str
) -> None:
    mine = tmp_path / "mine.txt"
    mine.touch()
    out = interrupted(images, tmp_path / "out", params)
    file = unit_files(out)["0.png"]
    record = json.loads(file.read_bytes()) | {"stem": "other"}
    record["files"] = [str(mine) if elsewhere == "absolute" else elsewhere]
    file.with_stem("another").write_text(json.dumps(record))
    score_batch([images], out, params, RESUME)
    assert mine.exists()


@pytest.mark.parametrize("after", [0, 2])
def test_an_interrupted_run_goes_on_where_it_stopped(
    images: Path,
    tmp_path: Path,
    params: ScoreParams,
    whole: dict[str, bytes],
    scored: list[str],
    after: int,
    content: Content,
) -> None:
    out = interrupted(images, tmp_path / "out", params, after=after)
    assert (out / "images.csv").read_text().count("\n") == 1 + after
    progress = StopAfter(100)
    scored.clear()
    summary = score_batch([images], out, params, RESUME, progress)
    assert content(out) == whole
    assert (summary.planes, summary.exit_status, progress.planned) == (N, 0, N - after)
    assert sorted(scored) == ["0.png 0", "1.png 0", "2.png 0", "3.png 0", "4.tif p0", "4.tif p1"][after:]
    scored.clear()
    # What is complete is not scored again, nor lost.
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "complete"
    assert [row["image"] for row in record["images"] if "sha256" in row] == [f"{i}.png" for i in range(4)] + ["4.tif"]


def test_resuming_a_complete_run_changes_nothing(
    images: Path, tmp_path: Path, params: ScoreParams, whole: dict[str, bytes], scored: list[str], content: Content
) -> None:
    summary = score_batch([images], tmp_path / "whole", params, RESUME)
    assert content(tmp_path / "whole") == whole
    assert scored == []
    assert (summary.planes, summary.exit_status) == (N, 0)
    calls = pd.read_csv(tmp_path / "whole/cells.csv")["call"].value_counts().to_dict()
    assert calls == {"ALL": summary.called_all, "Hem": summary.called_hem}
    assert summary.cells == sum(calls.values()) == whole["cells.csv"].count(b"\n") - 1
    with pytest.raises(OutputError, match=r"holds a complete run without missing.png, which can't be opened \("):
        score_batch([images, tmp_path / "missing.png"], tmp_path / "whole", params, RESUME)
    assert content(tmp_path / "whole") == whole


def test_killed_at_any_moment_it_ends_with_the_same_bytes(
    drawn: Path, duo_bundle: Path, tmp_path: Path, content: Content
) -> None:
    images = tmp_path / "images"
    for i in range(4):
        shutil.copytree(drawn, images / str(i))
    program = Path(__file__).with_name("killed.py")
    command = [sys.executable, str(program), str(duo_bundle), str(images), str(tmp_path), "20"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["killed"] == 20
    assert len(set(told["units"])) > 4  # the moments were different ones
    whole = content(tmp_path / "whole")
    assert {"cells.parquet", "cells.h5ad", "geojson/0/1.geojson", "labels/3/4_p1_labels.tif"} < whole.keys()
    assert whole["cells.csv"].count(b"\n") > 40
    for i in range(told["rounds"]):
        assert content(tmp_path / f"round_{i}") == whole


def test_without_resume_an_interrupted_run_is_refused(images: Path, tmp_path: Path, params: ScoreParams) -> None:
    out = interrupted(images, tmp_path / "out", params, OutputParams())
    with pytest.raises(OutputError, match=r"add --overwrite or, to go on with an interrupted run, --resume"):
        score_batch([images], out, params)


def test_resuming_into_links_is_refused(images: Path, tmp_path: Path, params: ScoreParams) -> None:
    out = interrupted(images, tmp_path / "out", params)
    (tmp_path / "mine.csv").write_text("precious")
    (out / "cells.csv").unlink(missing_ok=True)
    (out / "cells.csv").symlink_to(tmp_path / "mine.csv")
    with pytest.raises(OutputError, match=r"cells\.csv is a link"):
        score_batch([images], out, params, RESUME)
    assert (tmp_path / "mine.csv").read_text() == "precious"


def test_resuming_where_nothing_began_begins(
    images: Path, tmp_path: Path, params: ScoreParams, whole: dict[str, bytes], content: Content
) -> None:
    score_batch([images], tmp_path / "out", params, RESUME)
    assert content(tmp_path / "out") == whole
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "cells.csv").touch()
    with pytest.raises(OutputError, match=r"holds results already \(cells.csv\)"):
        score_batch([images], tmp_path / "foreign", params, RESUME)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"threshold": 0.7}, r"parameters.threshold was None, now 0.7, bundle.threshold was 0.5, now 0.7"),
        ({"segmentation": SegmentationParams("classical", 40.0)}, "segmentation.cell_diameter_px was None, now 40.0"),
        ({"batch_size": 4}, "parameters.batch_size was None, now 4"),
    ],
)
def test_changed_settings_are_refused(
    images: Path, tmp_path: Path, params: ScoreParams, changed: dict[str, Any], said: str, content: Content
) -> None:
    out = interrupted(images, tmp_path / "out", params)
    before = content(out)
    with pytest.raises(OutputError, match=f"out holds a run with other settings: .*{said}"):
        score_batch([images], out, replace(params, **changed), RESUME)
    assert content(out) == before


def test_a_changed_bundle_is_refused(images: Path, tmp_path: Path, params: ScoreParams, duo_bundle: Path) -> None:
    copy = Path(shutil.copytree(duo_bundle, tmp_path / "copy"))
    params = replace(params, bundle=str(copy))
    out = interrupted(images, tmp_path / "out", params)
    facts = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps(facts | {"description": "another"}))
    with pytest.raises(OutputError, match=r"bundle\.digest was '"):
        score_batch([images], out, params, RESUME)


def test_other_inputs_are_refused(
    images: Path, tmp_path: Path, params: ScoreParams, smear: Callable[..., Pixels]
) -> None:
    out = interrupted(images, tmp_path / "out", params)
    Image.fromarray(smear(9)).save(images / "9.png")
    with pytest.raises(OutputError, match=r"settings: 9\.png was no input;"):
        score_batch([images], out, params, RESUME)
    (images / "9.png").unlink()
    (images / "0.png").rename(tmp_path / "0.png")
    with pytest.raises(OutputError, match=r"settings: 0\.png is no input now;"):
        score_batch([images], out, params, RESUME)
    (tmp_path / "0.png").rename(images / "0.png")
    tifffile.imwrite(images / "4.tif", np.stack([smear(1)] * 3), photometric="rgb")
    with pytest.raises(OutputError, match=r"4\.tif had 2 planes, now 3"):
        score_batch([images], out, params, RESUME)
    tifffile.imwrite(images / "4.tif", np.stack([smear(1)] * 2), photometric="rgb")
    paths = [images / name for name in ("1.png", "0.png", "2.png", "3.png", "4.tif")]
    with pytest.raises(OutputError, match="the inputs come in another order"):
        score_batch(paths, out, params, RESUME)


def test_an_image_that_changed_is_refused_if_it_was_scored(
    images: Path, tmp_path: Path, params: ScoreParams, whole: dict[str, bytes], smear: Callable[..., Pixels]
) -> None:
    out = interrupted(images, tmp_path / "out", params)
    (images / "0.png").touch()  # another time, the same picture
    Image.fromarray(smear(9)).save(images / "3.png")  # not scored yet
    kept = (images / "1.png").read_bytes()
    Image.fromarray(smear(9)).save(images / "1.png")
    with pytest.raises(OutputError, match=r"holds results of images that changed since: 1\.png; bring them back"):
        score_batch([images], out, params, RESUME)
    (images / "1.png").write_bytes(kept)
    assert score_batch([images], out, params, RESUME).exit_status == 0
    rows = (out / "cells.csv").read_text().splitlines()
    expected = whole["cells.csv"].decode().splitlines()
    for name in ("0.png", "1.png", "2.png", "4.tif"):
        assert [row for row in rows if row.startswith(name)] == [row for row in expected if row.startswith(name)]


def test_an_image_that_changed_without_growing_is_refused(images: Path, tmp_path: Path, params: ScoreParams) -> None:
    image = images / "4.tif"
    out, size = interrupted(image, tmp_path / "out", params, after=1), image.stat().st_size
    tifffile.imwrite(image, 255 - tifffile.imread(image), photometric="rgb")
    assert image.stat().st_size == size
    with pytest.raises(OutputError, match=r"changed since: 4\.tif"):
        score_batch([image], out, params, RESUME)


def test_a_store_that_changed_is_refused(tmp_path: Path, params: ScoreParams, smear: Callable[..., Pixels]) -> None:
    import zarr

    images, pixels = tmp_path / "images", smear(3, (96, 120), 3)
    images.mkdir()
    array = zarr.create_array(images / "a.zarr", data=pixels)
    Image.fromarray(pixels).save(images / "b.png")
    out = interrupted(images, tmp_path / "out", params, after=1)
    array[0, 0] = array[0, 0]  # written again, with the same pixels
    interrupted(images, out, params, after=1)
    array[0, 0] = 255 - array[0, 0]
    with pytest.raises(OutputError, match=r"changed since: a\.zarr"):
        score_batch([images], out, params, RESUME)


def test_a_damaged_unit_is_done_again(
    images: Path, tmp_path: Path, params: ScoreParams, whole: dict[str, bytes], scored: list[str], content: Content
) -> None:
    out = interrupted(images, tmp_path / "out", params)
    unit_files(out)["0.png"].write_text('{"image": "0.p')
    scored.clear()
    score_batch([images], out, params, RESUME)
    assert content(out) == whole
    assert "0.png 0" in scored
    assert "1.png 0" not in scored


@pytest.mark.parametrize("left", ['{"image": "2.p', '{"image": "2.png"}', "[]", None])
def test_a_result_that_cannot_be_read_back_is_not_left_out(
    left: str | None,
    images: Path,
    tmp_path: Path,
    params: ScoreParams,
    whole: dict[str, bytes],
    scored: list[str],
    monkeypatch: pytest.MonkeyPatch,
    content: Content,
) -> None:
    out, write = tmp_path / "out", store.UnitStore.write

    def damaged(self: store.UnitStore, unit: Any, result: Any) -> None:
        write(self, unit, result)
        if unit.number == 2:
            path = unit_files(out)["2.png"]
            path.unlink() if left is None else path.write_text(left)

    with monkeypatch.context() as patch:
        patch.setattr(store.UnitStore, "write", damaged)
        with pytest.raises(OutputError, match=r"the result of 2\.png can't be read back; go on with --resume"):
            score_batch([images], out, params)
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    scored.clear()
    assert score_batch([images], out, params, RESUME).exit_status == 0
    assert scored == ["2.png 0"]
    assert content(out) == whole


def test_what_failed_is_tried_again(
    images: Path,
    tmp_path: Path,
    params: ScoreParams,
    whole: dict[str, bytes],
    scored: list[str],
    content: Content,
    failures: Failures,
) -> None:
    kept = (images / "1.png").read_bytes()
    (images / "1.png").write_bytes(kept[:2000])
    out = tmp_path / "out"
    assert score_batch([images], out, params).exit_status == 3
    assert [row[:2] for row in failures(out)] == [["1.png", "read"]]
    (images / "1.png").write_bytes(kept)
    scored.clear()
    assert score_batch([images], out, params, RESUME).exit_status == 0
    assert scored == ["1.png 0"]
    assert content(out) == whole


def test_two_runs_into_one_folder(images: Path, tmp_path: Path, params: ScoreParams) -> None:
    with locked_folder(tmp_path / "out"):
        for output in (OutputParams(), RESUME, OutputParams(overwrite=True)):
            with pytest.raises(OutputError, match=r"another run writes into .*out now; wait for it, or name another"):
                score_batch([images], tmp_path / "out", params, output)


def test_overwrite_and_resume_exclude_each_other() -> None:
    with pytest.raises(ParameterError, match="overwrite and resume are both set"):
        OutputParams(overwrite=True, resume=True)


class Flaky:
    """Fails so many times, then works."""

    def __init__(self, work: Callable[..., Any], times: int, error: Exception) -> None:
        self.work, self.times, self.error, self.calls = work, times, error, 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return self.work(*arguments)


@pytest.mark.parametrize("times", [3, 4])
def test_a_disk_that_fails_now_and_then(
    images: Path,
    tmp_path: Path,
    params: ScoreParams,
    whole: dict[str, bytes],
    at_once: list[float],
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    content: Content,
    failures: Failures,
) -> None:
    from napari_all_detect.sources import raster

    flaky = Flaky(raster.as_rgb, times, OSError(errno.EIO, os.strerror(errno.EIO)))
    monkeypatch.setattr(raster, "as_rgb", _only_for("2.png", flaky, flaky.work))
    summary = score_batch([images], tmp_path / "out", params)
    assert at_once == [0.5, 2.0, 8.0]
    if times == 3:
        assert content(tmp_path / "out") == whole
    else:
        assert summary.exit_status == 3
        ((name, stage, reason),) = failures(tmp_path / "out")
        assert (name, stage) == ("2.png", "read")
        assert "the disk or server failed ([Errno 5] Input/output error)" in reason


@pytest.mark.parametrize("times", [3, 4])
@pytest.mark.parametrize("what", ["image", "labels"])
def test_a_disk_that_fails_is_no_change(
    images: Path,
    tmp_path: Path,
    params: ScoreParams,
    at_once: list[float],
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    what: str,
) -> None:
    from napari_all_detect.sources import raster

    segment_batch([images], tmp_path / "labels", params.segmentation)
    output = replace(RESUME, labels=str(tmp_path / "labels"))
    out = interrupted(images, tmp_path / "out", params, output)
    at_once.clear()
    if what == "image":
        (images / "0.png").touch()  # read again to tell whether it changed
        broken = OSError(errno.EIO, os.strerror(errno.EIO))
        monkeypatch.setattr(raster, "as_rgb", Flaky(raster.as_rgb, times, broken))
    else:
        read = Flaky(resuming.labels_sha256, times, StoreError("labels: the disk or server failed"))
        monkeypatch.setattr(resuming, "labels_sha256", read)
    if times == 3:
        assert score_batch([images], out, params, output).exit_status == 0
    else:
        with pytest.raises(OutputError, match=r"0\.png was scored, .* can't be told now: .* the disk or server failed"):
            score_batch([images], out, params, output)
    assert at_once == [0.5, 2.0, 8.0]


def test_a_disk_that_failed_often_enough_is_no_change(
    images: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path, pixels: Any) -> Any:
        raise InputError(
            f"{path}: the disk or server failed"
        ) from StoreError()  # as of parts, and of fields of a plate

    out = interrupted(images, tmp_path / "out", params)
    (images / "0.png").touch()
    monkeypatch.setattr(resuming, "identity", fails)
    with pytest.raises(OutputError, match=r"0\.png was scored, .* can't be told now: .* the disk or server failed"):
        score_batch([images], out, params, RESUME)


def _only_for(name: str, special: Callable[..., Any], usual: Callable[..., Any]) -> Callable[..., Any]:
    return lambda pixels, path: (special if path.endswith(name) else usual)(pixels, path)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(errno.EIO, "x"), True),
        (OSError(errno.ESTALE, "x"), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (OSError("image file is truncated"), False),
        (ValueError("x"), False),
        (FileNotFoundError(errno.ENOENT, "x"), False),
        (PermissionError(errno.EACCES, "x"), False),
        (MemoryError(), False),
    ],
)
def test_which_errors_may_pass(error: Exception, passes: bool) -> None:
    with pytest.raises(InputError) as raised, readable(Path("a.png"), "an image"):
        raise error
    assert isinstance(raised.value, StoreError) == passes


def test_a_full_disk_fails_its_planes_and_the_rest_goes_on(
    images: Path,
    tmp_path: Path,
    params: ScoreParams,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    content: Content,
    failures: Failures,
) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.name == "1_labels.tif" or data.startswith(b'{"image":"3.png"'):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_atomically(path, data)

    out = tmp_path / "out"
    monkeypatch.setattr(store, "write_atomically", full)
    summary = score_batch([images], out, params)
    assert (summary.planes, summary.exit_status) == (4, 3)
    assert [row[:2] for row in failures(out)] == [["1.png", "write"], ["3.png", "write"]]
    assert all("can't be written (No space left on device)" in row[2] for row in failures(out))
    monkeypatch.undo()
    # The networks are built anew here: not those of the fixture, but the same ones.
    assert score_batch([images], out, params, RESUME).exit_status == 0
    assert content(out) == whole


def test_a_full_disk_is_waited_for_once_until_something_is_written(
    images: Path,
    tmp_path: Path,
    params: ScoreParams,
    at_once: list[float],
    monkeypatch: pytest.MonkeyPatch,
    failures: Failures,
) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".json" and not data.startswith(b'{"image":"2.png"'):
            raise OSError(errno.EDQUOT if data.startswith(b'{"image":"4.tif","plane":"p1"') else errno.ENOSPC, "full")
        write_atomically(path, data)

    monkeypatch.setattr(store, "write_atomically", full)
    assert score_batch([images], tmp_path / "out", params).planes == 1
    assert at_once == [*DELAYS_S, *DELAYS_S]
    assert all(row[2] == "its results: can't be written (full); mend that" for row in failures(tmp_path / "out"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 96 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "none", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no `mount`, which makes a small disk")
    if done.returncode != 0:
        pytest.skip(f"a small disk can't be made: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(
    images: Path,
    small_disk: Path,
    tmp_path: Path,
    params: ScoreParams,
    capsys: pytest.CaptureFixture[str],
    content: Content,
) -> None:
    for i in range(24):
        shutil.copy(images / f"{i % 4}.png", images / f"more_{i:02}.png")
    score_batch([images], tmp_path / "whole", params)
    out = small_disk / "out"
    command = ["score", str(images), "--out", str(out), "--bundle", params.bundle, "--segmentation", "classical"]
    status = main(command)
    said = capsys.readouterr().err
    assert status == 1
    assert "No space left on device" in said.splitlines()[-1]
    assert said.splitlines()[-1].endswith("mend that, then go on with --resume")
    done = {path.name for path in out.glob("units/*/*.json")}
    assert len(done) > 5
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    progress = StopAfter(1000)
    summary = score_batch([images], out, params, RESUME, progress)
    assert (summary.planes, summary.exit_status) == (30, 0)
    assert progress.planned == 30 - len(done)  # nothing that was done is lost
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.parametrize("stage", ["read", "labels"])
def test_labels_are_asked_for_again_as_images_are(
    stage: str,
    images: Path,
    tmp_path: Path,
    params: ScoreParams,
    at_once: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segment_batch([images / "0.png"], tmp_path / "labels", params.segmentation)
    name = {"read": "read_labels", "labels": "_sha256"}[stage]
    asked, read = list[Path](), getattr(steps, name)

    def fails_once(path: Path) -> Any:
        asked.append(path)
        if len(asked) == 1:
            raise StoreError("the server failed")
        return read(path)

    monkeypatch.setattr(steps, name, fails_once)
    output = OutputParams(labels=str(tmp_path / "labels"))
    assert score_batch([images / "0.png"], tmp_path / "out", params, output).exit_status == 0
    assert (len(asked), at_once) == (2, [DELAYS_S[0]])


class TestSegmenting:
    """`segment` bears what `score` bears."""

    @pytest.mark.parametrize(
        ("error", "said"), [(MemoryError(), "out of memory"), (TypeError("odd"), "TypeError: odd; a fault of the")]
    )
    def test_a_plane_fails_alone(
        self, error: Exception, said: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = list[Any]()

        def second_fails(*arguments: Any, **options: Any) -> Any:
            calls.append(arguments)
            if len(calls) == 2:
                raise error
            return find_in_plane(*arguments, **options)

        monkeypatch.setattr(segmenting, "find_in_plane", second_fails)
        summary = segment_batch([images], tmp_path / "out", SegmentationParams(method="classical"))
        ((stage, reason),) = [(failure.stage, failure.reason) for failure in summary.failures]
        assert (summary.planes, stage) == (N - 1, "segment")
        assert said in reason

    def test_a_disk_that_comes_back(
        self, images: Path, tmp_path: Path, at_once: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tried = list[Path]()

        def fails_once(path: Path, data: bytes) -> None:
            tried.append(path)
            if len(tried) == 1:
                raise OSError(errno.EIO, "I/O error")
            write_atomically(path, data)

        monkeypatch.setattr(segmenting, "write_atomically", fails_once)
        summary = segment_batch([images], tmp_path / "out", SegmentationParams(method="classical"))
        assert (summary.planes, summary.exit_status, at_once) == (N, 0, [DELAYS_S[0]])

    def test_a_full_disk_costs_the_planes_that_it_does_not_take(
        self, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path, data: bytes) -> None:
            if path.name == "1_labels.tif":
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            write_atomically(path, data)

        monkeypatch.setattr(segmenting, "write_atomically", full)
        summary = segment_batch([images], tmp_path / "out", SegmentationParams(method="classical"))
        (failure,) = summary.failures
        assert (summary.planes, failure.input, failure.stage) == (N - 1, "1.png", "write")
        assert "1_labels.tif: can't be written (No space left on device)" in failure.reason

    def test_a_folder_that_cannot_be_made_is_told_at_once(
        self, images: Path, tmp_path: Path, at_once: list[float]
    ) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="can't be written to"):
            segment_batch([images], tmp_path / "file" / "out", SegmentationParams(method="classical"))
        assert at_once == []

    def test_a_server_that_comes_back(
        self, images: Path, tmp_path: Path, at_once: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked, read = list[Plane](), Plane.open

        def fails_once(self: Plane) -> Any:
            asked.append(self)
            if len(asked) == 1:
                raise StoreError("the server failed")
            return read(self)

        monkeypatch.setattr(Plane, "open", fails_once)
        summary = segment_batch([images], tmp_path / "out", SegmentationParams(method="classical"))
        assert (summary.exit_status, at_once) == (0, [DELAYS_S[0]])


def test_tables_that_cannot_be_written_end_the_run_which_can_go_on(
    images: Path,
    tmp_path: Path,
    params: ScoreParams,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    content: Content,
) -> None:
    from napari_all_detect.results import ResultTables

    out, append = tmp_path / "out", ResultTables._append

    def full(tables: ResultTables, name: str, rows: pd.DataFrame) -> None:
        if tables.planes == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(tables, name, rows)

    with monkeypatch.context() as patch:
        patch.setattr(ResultTables, "_append", full)
        with pytest.raises(OutputError, match=r"any more \(No space left on device\); .* go on with --resume"):
            score_batch([images], out, params)
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    score_batch([images], out, params, RESUME)
    assert content(out) == whole


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory; give it more"),
        (ZeroDivisionError("by another package"), "ZeroDivisionError: by another package; "),
    ],
)
def test_what_goes_wrong_in_one_plane_costs_that_plane(
    images: Path,
    tmp_path: Path,
    params: ScoreParams,
    monkeypatch: pytest.MonkeyPatch,
    failures: Failures,
    error: Exception,
    said: str,
) -> None:
    cut_cells = steps.cut_cells

    def faulty(given: Any, params: Any, crop: Any) -> Any:
        if given.image == "2.png":
            raise error
        return cut_cells(given, params, crop)

    monkeypatch.setattr(steps, "cut_cells", faulty)
    summary = score_batch([images], tmp_path / "out", params)
    assert (summary.planes, summary.exit_status) == (N - 1, 3)
    ((name, stage, reason),) = failures(tmp_path / "out")
    assert (name, stage) == ("2.png", "score")
    assert reason.startswith(said)


@pytest.mark.parametrize("times", [1, 4])
def test_a_disk_that_fails_while_a_file_is_identified(
    images: Path,
    tmp_path: Path,
    params: ScoreParams,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    content: Content,
    failures: Failures,
) -> None:
    flaky = Flaky(steps.identity, times, OSError(errno.EIO, os.strerror(errno.EIO)))
    monkeypatch.setattr(
        steps, "identity", lambda path, pixels: (flaky if path.name == "2.png" else flaky.work)(path, pixels)
    )
    score_batch([images], tmp_path / "out", params)
    if times == 1:
        assert content(tmp_path / "out") == whole
    else:
        ((name, stage, reason),) = failures(tmp_path / "out")
        assert (name, stage) == ("2.png", "read")
        assert "the disk or server failed" in reason


@pytest.mark.parametrize("what", ["labels", "sheet"])
@pytest.mark.parametrize("complete", [True, False])
def test_labels_and_sheets_that_changed_are_noticed(
    images: Path, tmp_path: Path, params: ScoreParams, what: str, complete: bool
) -> None:
    sheet, labels, out = tmp_path / "sheet.csv", tmp_path / "labels", tmp_path / "out"
    sheet.write_text("image,sample\n0.png,S\n")
    segment_batch([images], labels, params.segmentation)
    output = OutputParams(labels=str(labels), samples=str(sheet))
    with contextlib.nullcontext() if complete else pytest.raises(KeyboardInterrupt):
        score_batch([images], out, params, output, None if complete else StopAfter(3))
    again = replace(output, resume=True)
    if what == "labels":
        tifffile.imwrite(labels / "0_labels.tif", np.zeros((96, 120), np.uint8))
        expected = r"holds results of images that changed since: 0\.png; bring them back, or their labels,"
    else:
        sheet.write_text("image,sample\n0.png,T\n")
        expected = "samples_sha256 was"
    with pytest.raises(OutputError, match=expected):
        score_batch([images], out, params, again)


def test_an_image_that_could_not_be_opened_is_scored_when_it_can(
    images: Path, tmp_path: Path, params: ScoreParams, whole: dict[str, bytes], scored: list[str], content: Content
) -> None:
    kept = (images / "2.png").read_bytes()
    (images / "2.png").write_bytes(b"")
    assert score_batch([images], tmp_path / "out", params).exit_status == 3
    (images / "2.png").write_bytes(kept)
    scored.clear()
    assert score_batch([images], tmp_path / "out", params, RESUME).exit_status == 0
    assert scored == ["2.png 0"]
    assert content(tmp_path / "out") == whole


def test_a_run_of_which_nothing_could_be_opened_goes_on(images: Path, tmp_path: Path, params: ScoreParams) -> None:
    lost = images.rename(tmp_path / "lost")
    assert score_batch([images], tmp_path / "out", params).exit_status == 1
    lost.rename(images)
    assert score_batch([images], tmp_path / "out", params, RESUME).exit_status == 0


@pytest.fixture
def plate(tmp_path: Path, smear: Callable[..., Pixels]) -> Path:
    """Write a plate of two wells, each with one field of two planes, in a folder beside a picture."""
    store = tmp_path / "day" / "plate.zarr"
    wells = [{"path": f"A/{i + 1}", "rowIndex": 0, "columnIndex": i} for i in range(2)]
    facts = {"version": "0.5", "rows": [{"name": "A"}], "columns": [{"name": "1"}, {"name": "2"}], "wells": wells}
    zarr.create_group(store, attributes={"ome": {"version": "0.5", "plate": facts}})
    axes = [{"name": "c", "type": "channel"}, *({"name": name, "type": "space"} for name in "zyx")]
    levels = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1, 1]}]}]
    for i, well in enumerate(wells):
        of_well = {"version": "0.5", "well": {"images": [{"path": "0"}]}}
        zarr.create_group(store / well["path"], attributes={"ome": of_well})
        image = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
        group = zarr.create_group(store / well["path"] / "0", attributes={"ome": image})
        group.create_array("0", data=np.stack([smear(i + k, (96, 120), 3).transpose(2, 0, 1) for k in (0, 5)], 1))
    Image.fromarray(smear(9, (96, 120), 3)).save(store.parent / "a.png")
    return store


@pytest.mark.parametrize("hidden", ["zarr.json", "A/2/zarr.json", "A/2/0/zarr.json", ".."])
def test_what_could_not_be_listed_is_scored_when_it_can(
    hidden: str, plate: Path, images: Path, tmp_path: Path, params: ScoreParams, scored: list[str], content: Content
) -> None:
    inputs, lost = [images / "0.png", plate.parent], (plate / hidden).resolve()
    assert score_batch(inputs, tmp_path / "whole", params).exit_status == 0
    lost.rename(tmp_path / "lost")
    assert score_batch(inputs, tmp_path / "out", params).exit_status == 3
    (tmp_path / "lost").rename(lost)
    scored.clear()
    assert score_batch(inputs, tmp_path / "out", params, RESUME).exit_status == 0
    assert scored
    assert "0.png 0" not in scored
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_an_input_that_failed_hides_nothing_below_folders_that_are_called_as_it_is(
    images: Path, tmp_path: Path, params: ScoreParams
) -> None:
    inputs = [images, tmp_path / "day2" / images.name]
    assert score_batch(inputs, tmp_path / "out", params).exit_status == 3
    (images / "0.png").unlink()
    with pytest.raises(OutputError, match=r"settings: 0\.png is no input now;"):
        score_batch(inputs, tmp_path / "out", params, RESUME)


@pytest.mark.parametrize("place", ["day", "a.png", "plate.zarr", "A/2", "A/2/0"])
def test_what_cannot_be_reached_for_a_while_is_no_other_input(
    place: str, plate: Path, tmp_path: Path, params: ScoreParams, scored: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def failing(path: Path, what: str) -> Iterator[None]:
        if path.as_posix().endswith(f"/{place}"):
            raise StoreError(f"{path}: the disk or server failed")
        with readable(path, what):
            yield

    inputs, out = [plate.parent], tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        score_batch(inputs, out, params, RESUME, StopAfter(5))
    scored.clear()
    with monkeypatch.context() as patch:
        for module in (folders, plates, sources, zarr_store):
            patch.setattr(module, "readable", failing)
        with pytest.raises(
            OutputError, match=f"not all inputs can be reached now: .*{place}: the disk or server failed"
        ):
            score_batch(inputs, out, params, RESUME)
    assert score_batch(inputs, out, params, RESUME).exit_status == 0
    assert scored == []


def test_a_field_that_cannot_be_reached_and_then_can_is_scored_whenever_the_run_was_interrupted(
    plate: Path, tmp_path: Path, params: ScoreParams, scored: list[str]
) -> None:
    inputs, out, facts = [plate.parent], tmp_path / "out", plate / "A/2/0/zarr.json"
    facts.rename(tmp_path / "facts")
    with pytest.raises(KeyboardInterrupt):
        score_batch(inputs, out, params, RESUME, StopAfter(1))
    (tmp_path / "facts").rename(facts)
    assert score_batch(inputs, out, params, RESUME).exit_status == 0
    assert {"plate.zarr/A/2/0 z0", "plate.zarr/A/2/0 z1"} <= set(scored)


def test_what_cannot_be_opened_for_a_while_is_not_scored_again(
    images: Path, tmp_path: Path, params: ScoreParams, whole: dict[str, bytes], scored: list[str], content: Content
) -> None:
    kept = {name: (images / name).read_bytes() for name in ("1.png", "2.png")}
    stat = (images / "1.png").stat()
    (images / "2.png").write_bytes(b"")
    assert score_batch([images], tmp_path / "out", params).exit_status == 3
    (images / "1.png").write_bytes(b"")
    with pytest.raises(OutputError, match=r"1\.png is no input now"):
        score_batch([images], tmp_path / "out", params, RESUME)
    for name, content_of in kept.items():
        (images / name).write_bytes(content_of)
    os.utime(images / "1.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    scored.clear()
    assert score_batch([images], tmp_path / "out", params, RESUME).exit_status == 0
    assert scored == ["2.png 0"]
    assert content(tmp_path / "out") == whole


@pytest.mark.parametrize("mended", [True, False], ids=["mended", "deleted"])
def test_files_are_called_as_if_all_images_could_have_been_opened(
    images: Path, tmp_path: Path, params: ScoreParams, scored: list[str], content: Content, mended: bool
) -> None:
    out, output = tmp_path / "out", OutputParams(formats=("csv", "geojson", "ome-zarr"))
    (images / "1.bmp").write_bytes(b"")
    assert score_batch([images], out, params, output).exit_status == 3
    Image.open(images / "2.png").save(images / "1.bmp")
    if not mended:
        (images / "1.bmp").unlink()
    scored.clear()
    assert score_batch([images], out, params, replace(output, resume=True)).exit_status == 0
    assert scored == (["1.bmp 0"] if mended else ["1.png 0"])
    score_batch([images], tmp_path / "whole", params, output)
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.parametrize("place", ["results", "."])
def test_results_within_the_inputs_are_no_inputs(images: Path, params: ScoreParams, place: str) -> None:
    out = images / place
    score_batch([images], out, params)
    assert score_batch([images], out, params, RESUME).planes == N
    again = score_batch([images], out, params, OutputParams(overwrite=True))
    assert (again.planes, again.failures) == (N, ())


class TestFromRun:
    @pytest.fixture
    def command(self, images: Path, duo_bundle: Path, tmp_path: Path) -> Callable[..., int]:
        """Run `all-detect score --from-run` of a first run with odd options."""
        sheet = tmp_path / "sheet.csv"
        sheet.write_text("image,sample\n0.png,S\n")
        options = ["--weighting", "equal", "--threshold", "0.4", "--pixel-size", "0.5", "--segmentation", "classical"]
        options += ["--rescale", "1.5", "--cell-diameter", "30", "--samples", str(sheet), "--format", "csv,parquet"]
        first = tmp_path / "first"
        assert main(["score", str(images), "--out", str(first), "--bundle", str(duo_bundle), *options]) == 0

        def run(*more: str) -> int:
            return main(["score", "--from-run", str(first / "run.json"), "--out", str(tmp_path / "second"), *more])

        return run

    def test_it_gives_the_same_bytes(
        self, command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Content
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert command() == 0
        assert content(tmp_path / "second") == content(tmp_path / "first")
        records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("first", "second")]
        assert records[0]["parameters"] == records[1]["parameters"]

    def test_what_no_run_writes_is_no_option(self, command: Callable[..., int], tmp_path: Path) -> None:
        path = tmp_path / "first/run.json"
        record = json.loads(path.read_text())
        record["parameters"] |= {"run": "x", "scheduler": "tcp://127.0.0.1:9", "workers": 3}
        path.write_text(json.dumps(record))
        assert command() == 0

    def test_other_programs_are_told(
        self, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "first/run.json"
        record = json.loads(path.read_text())
        engine, record["engine"] = record["engine"], "another 1.0"
        del record["device"]  # of that nothing is known
        path.write_text(json.dumps(record))
        assert command() == 0
        said = f"unlike in the repeated run: engine was 'another 1.0', now '{engine}'; numbers may differ"
        assert said in capsys.readouterr().err
        assert main(["score", "--from-run", str(tmp_path / "second/run.json"), "--out", str(tmp_path / "third")]) == 0
        assert "unlike" not in capsys.readouterr().err

    def test_options_beside_it_win(self, command: Callable[..., int], tmp_path: Path) -> None:
        assert command("--threshold", "0") == 0
        calls = pd.read_csv(tmp_path / "second/cells.csv")["call"]
        assert set(calls) == {"ALL"}
        record = json.loads((tmp_path / "second/run.json").read_text())
        assert (record["parameters"]["threshold"], record["parameters"]["weighting"]) == (0.0, "equal")

    def test_an_image_that_changed_fails(
        self,
        command: Callable[..., int],
        images: Path,
        tmp_path: Path,
        smear: Callable[..., Pixels],
        failures: Failures,
    ) -> None:
        Image.fromarray(smear(9)).save(images / "2.png")
        assert command() == 3
        ((name, stage, reason),) = failures(tmp_path / "second")
        assert (name, stage) == ("2.png", "read")
        assert "not the file that the repeated run scored" in reason

    def test_an_image_that_is_gone_fails(
        self, command: Callable[..., int], images: Path, tmp_path: Path, failures: Failures
    ) -> None:
        (images / "2.png").unlink()
        assert command() == 3
        ((name, stage, reason),) = failures(tmp_path / "second")
        assert (name, stage) == ("2.png", "open")
        assert "was scored by the repeated run and is not there now" in reason

    def test_an_image_that_was_not_there_is_refused(
        self, command: Callable[..., int], images: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copy(images / "2.png", images / "new.png")
        assert command() == 1
        assert "the inputs hold images that the repeated run had not: new.png" in capsys.readouterr().err

    def test_another_sample_sheet_is_refused(
        self, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "sheet.csv").write_text("image,sample\n0.png,T\n")
        assert command() == 1
        assert "sheet.csv is not the sample sheet of the repeated run" in capsys.readouterr().err

    @pytest.mark.parametrize("part", ["pixels", "labels"])
    def test_pixels_of_a_store_and_labels_that_changed_fail(
        self, duo_bundle: Path, tmp_path: Path, smear: Callable[..., Pixels], part: str, failures: Failures
    ) -> None:
        rgb, store_, labels = smear(3, (96, 120), 3), tmp_path / "a.zarr", tmp_path / "labels.tif"
        array = zarr.create_array(store_, shape=rgb.shape, dtype=rgb.dtype)
        array[:] = rgb
        tifffile.imwrite(labels, segment_cells(rgb, SegmentationParams(method="classical")))
        first, second = tmp_path / "first", tmp_path / "second"
        shutil.copy(labels, tmp_path / "other.tif")
        options = ["--labels", str(labels), "--bundle", str(duo_bundle)]
        assert main(["score", str(store_), "--out", str(first), *options]) == 0
        if part == "pixels":
            array[0, 0] = 7
        else:
            tifffile.imwrite(labels, np.zeros(rgb.shape[:2], np.uint8))
        # Nor does what is replaced beside it hide a change of the rest.
        beside = {"pixels": ["--labels", str(tmp_path / "other.tif")], "labels": ["--channels", "2,1,0"]}[part]
        for more in ([], beside):
            again = ["score", "--from-run", str(first / "run.json"), "--out", str(second), "--overwrite"]
            assert main([*again, *more]) == 1
            ((_, stage, reason),) = failures(second)
            assert stage == "read"
            assert f"not the {part} that the repeated run scored" in reason

    def test_other_images_may_be_scored_with_its_settings(
        self, command: Callable[..., int], images: Path, tmp_path: Path, smear: Callable[..., Pixels]
    ) -> None:
        Image.fromarray(smear(9)).save(tmp_path / "2.png")
        (tmp_path / "other.csv").write_text("image,sample\n2.png,S\n")
        assert command(str(tmp_path / "2.png"), "--samples", str(tmp_path / "other.csv")) == 0
        record = json.loads((tmp_path / "second/run.json").read_text())
        assert (record["parameters"]["threshold"], len(record["images"])) == (0.4, 1)

    def test_another_bundle_is_refused(
        self, images: Path, duo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        copy = Path(shutil.copytree(duo_bundle, tmp_path / "copy"))
        assert main(["score", str(images / "0.png"), "--out", str(tmp_path / "first"), "--bundle", str(copy)]) == 0
        facts = json.loads((copy / "bundle.json").read_text())
        (copy / "bundle.json").write_text(json.dumps(facts | {"description": "another"}))
        record = tmp_path / "first/run.json"
        assert main(["score", "--from-run", str(record), "--out", str(tmp_path / "second")]) == 1
        assert "duo has the digest" in capsys.readouterr().err.splitlines()[-1]

    def test_another_segmenter_is_refused(
        self, images: Path, duo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "first/run.json"
        assert main(["score", str(images / "0.png"), "--out", str(path.parent), "--bundle", str(duo_bundle)]) == 0
        record = json.loads(path.read_text())
        record["segmentation"]["digest"] = "12ab"
        path.write_text(json.dumps(record))
        assert main(["score", "--from-run", str(path), "--out", str(tmp_path / "second")]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"{record['segmentation']['bundle']} has the digest" in said
        assert "in the repeated run 12ab; install the one of then" in said
        # Found in another way, or elsewhere, as asked: no reason to refuse.
        given = ["score", "--from-run", str(path), "--segmentation", "classical", "--out"]
        assert main([*given, str(tmp_path / "third")]) == 0
        given[3:5] = ["--labels", str(tmp_path / "third/labels")]
        assert main([*given, str(tmp_path / "fourth")]) == 0

    def test_what_is_no_record(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "run.json").write_text("{}")
        assert main(["score", "--from-run", str(tmp_path / "run.json"), "--out", str(tmp_path / "out")]) == 1
        assert "no record of a run" in capsys.readouterr().err


@contextlib.contextmanager
def ended_by_ctrl_c(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `all-detect score` as a program; check that Ctrl-C ends it, and what it says."""
    command = [str(Path(sys.executable).parent / "all-detect"), "score", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, printed
    assert "interrupted; what was done so far is in the output folder, go on with --resume" in printed[1]
    assert "Traceback" not in printed[1]


def test_ctrl_c_ends_it_and_it_goes_on(
    images: Path, duo_bundle: Path, tmp_path: Path, params: ScoreParams, content: Content
) -> None:
    for i in range(40):
        shutil.copy(images / "0.png", images / f"more_{i}.png")
    out = tmp_path / "out"
    options = ["--bundle", str(duo_bundle), "--segmentation", "classical"]
    with ended_by_ctrl_c(str(images), "--out", str(out), *options):
        _wait_for(lambda: len(unit_files(out)) > 2)
    assert len(unit_files(out)) < 40
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    score_batch([images], out, params, RESUME)
    score_batch([images], tmp_path / "whole", params)
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c_ends_it_amid_a_plane(slow_plane: Path, deadly: ScoreParams, tmp_path: Path, workers: str) -> None:
    """With OME-Zarr as well: ngio loads polars, which has waits go on when a signal comes."""
    pytest.importorskip("ngio")
    options = ["--bundle", deadly.bundle, "--segmentation", "deadly", "--format", "csv,ome-zarr", "--workers", workers]
    with ended_by_ctrl_c(str(slow_plane), "--out", str(tmp_path / "out"), *options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "slow\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_while_it_starts(number: int) -> None:
    lines = (
        "import signal, sys",
        "class Finder:",
        "    def find_spec(name, *_):",
        f"        name == 'pandas' and signal.raise_signal({number:d})",
        "sys.meta_path.insert(0, Finder)",
        "from napari_all_detect.cli import run",
        "run()",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "all-detect: interrupted\n")


def _wait_for(condition: Callable[[], bool], at_most_s: float = 120) -> None:
    end = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < end
        signal.sigtimedwait([], 0.02)
