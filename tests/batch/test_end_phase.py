"""What is written when all planes are scored: whole or not at all, and one trouble costs nothing else."""

import errno
import json
import os
import shutil
from collections.abc import Callable
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

from napari_all_detect import retrying
from napari_all_detect.batch import collecting, containers, score_batch
from napari_all_detect.errors import OutputError
from napari_all_detect.export import ome_zarr
from napari_all_detect.export.ome_zarr import NAME
from napari_all_detect.params import OutputParams, ScoreParams, SegmentationParams
from napari_all_detect.results import ResultTables, prepare_folder

ngio = pytest.importorskip("ngio")
pytestmark = pytest.mark.usefixtures("reuse_engines")

Pixels = NDArray[np.uint8]
Content = Callable[[Path], dict[str, bytes]]
Failures = Callable[[Path], list[list[str]]]
ZARR = OutputParams(formats=("csv", "ome-zarr"))
RESUME = OutputParams(formats=ZARR.formats, resume=True)


@pytest.fixture
def params(duo_bundle: Path) -> ScoreParams:
    return ScoreParams(bundle=str(duo_bundle), segmentation=SegmentationParams(method="classical"))


@pytest.fixture
def images(tmp_path: Path, smear: Callable[..., Pixels]) -> Path:
    """Three planes in two files."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(smear(1, (96, 120), 3)).save(folder / "a.png")
    tifffile.imwrite(folder / "b.tif", np.stack([smear(i, (96, 120), 3) for i in (2, 3)]), photometric="rgb")
    return folder


@pytest.fixture
def store(tmp_path: Path, smear: Callable[..., Pixels]) -> Path:
    """An OME-Zarr image of one level."""
    return written(tmp_path / "in" / "image.zarr", smear(1))


def written(path: Path, pixels: Pixels) -> Path:
    ngio.create_ome_zarr_from_array(
        path,
        np.ascontiguousarray(np.moveaxis(pixels, 2, 0)),
        pixelsize=0.25,
        axes_names=list("cyx"),
        levels=1,
        ngff_version="0.5",
        consolidation_mode="auto",
    )
    return path


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Wait for nothing; return the waits."""
    found: list[float] = []
    monkeypatch.setattr(retrying.time, "sleep", found.append)
    return found


def status(folder: Path) -> str:
    return str(json.loads((folder / "run.json").read_text())["status"])


def raising(error: BaseException, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the writing of a container raise when it is almost done."""
    write, calls = containers.write_ome_zarr, list[Path]()

    def write_or_raise(*arguments: Any) -> None:
        write(*arguments)
        calls.append(arguments[3])
        if len(calls) == at:
            raise error

    monkeypatch.setattr(containers, "write_ome_zarr", write_or_raise)


def test_a_run_with_containers_goes_on_after_an_image_that_failed(
    images: Path, tmp_path: Path, params: ScoreParams, content: Content, failures: Failures
) -> None:
    score_batch([images], tmp_path / "whole", params, ZARR)
    good, out = (images / "a.png").read_bytes(), tmp_path / "out"
    (images / "a.png").write_bytes(good[: len(good) // 2])
    assert score_batch([images], out, params, ZARR).exit_status == 3
    first = content(out)
    assert score_batch([images], out, params, RESUME).exit_status == 3
    assert content(out) == first
    assert [row[:2] for row in failures(out)] == [["a.png", "read"]]
    (images / "a.png").write_bytes(good)
    assert score_batch([images], out, params, RESUME).exit_status == 0
    assert content(out) == content(tmp_path / "whole")


def test_a_container_is_there_whole_or_not_at_all(
    images: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch, content: Content
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        raising(KeyboardInterrupt(), 2, patch)
        with pytest.raises(KeyboardInterrupt):
            score_batch([images], out, params, ZARR)
    assert [path.name for path in (out / "ome-zarr").iterdir()] == ["a.zarr"]
    assert status(out) == "interrupted"
    # As killed while one was written, and while one was deleted.
    (out / "ome-zarr/.part.zarr/0").mkdir(parents=True)
    (out / "ome-zarr/.part.zarr/0/chunk").touch()
    score_batch([images], out, params, RESUME)
    score_batch([images], tmp_path / "whole", params, ZARR)
    assert content(out) == content(tmp_path / "whole")


def test_a_part_that_a_killed_run_left_is_cleared_away_with_the_results(tmp_path: Path) -> None:
    (tmp_path / "ome-zarr" / containers.PART / "0").mkdir(parents=True)
    prepare_folder(tmp_path, overwrite=True)
    assert list((tmp_path / "ome-zarr").iterdir()) == []


def test_a_folder_of_someone_else_stays(
    images: Path,
    tmp_path: Path,
    params: ScoreParams,
    monkeypatch: pytest.MonkeyPatch,
    content: Content,
    failures: Failures,
) -> None:
    """Everything else goes on; the failure is in table and report, and is tried again."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        raising(KeyboardInterrupt(), 1, patch)
        with pytest.raises(KeyboardInterrupt):
            score_batch([images], out, params, ZARR)
    (out / "ome-zarr/b_p0.zarr").mkdir(parents=True)
    (out / "ome-zarr/b_p0.zarr/notes.txt").touch()
    summary = score_batch([images], out, params, RESUME)
    assert (summary.planes, summary.exit_status) == (3, 3)
    names = [path.name for path in sorted((out / "ome-zarr").iterdir())]
    assert names == ["a.zarr", "b_p0.zarr", "b_p1.zarr"]
    assert (out / "ome-zarr/b_p0.zarr/notes.txt").exists()
    ((name, stage, reason),) = failures(out)
    assert (name, stage) == ("b.tif [p0]", "write")
    assert "b_p0.zarr can't be written ([Errno" in reason
    assert reason.endswith("; mend that, then go on with --resume")
    assert "b_p0.zarr can&#x27;t be written" in (out / "report.html").read_text()
    (out / "ome-zarr/b_p0.zarr/notes.txt").unlink()
    assert score_batch([images], out, params, RESUME).exit_status == 0
    score_batch([images], tmp_path / "whole", params, ZARR)
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.parametrize("error", [ValueError("two\nlines"), MemoryError(), OSError("no number"), PermissionError(13)])
def test_a_container_that_fails_costs_nothing_else(
    error: Exception, images: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(error, 1, monkeypatch)
    summary = score_batch([images], tmp_path / "out", params, ZARR)
    assert summary.exit_status == 3
    assert [failure.input for failure in summary.failures] == ["a.png"]
    said = {"ValueError": "(two lines)", "MemoryError": "(out of memory)"}.get(type(error).__name__, f"({error})")
    assert said in summary.failures[0].reason
    assert sorted(path.name for path in (tmp_path / "out/ome-zarr").iterdir()) == ["b_p0.zarr", "b_p1.zarr"]
    assert status(tmp_path / "out") == "complete"
    assert "a.png" in (tmp_path / "out/report.html").read_text()


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def raise_error(error: Exception) -> Callable[..., None]:
    def raise_it(*_: Any) -> None:
        raise error

    return raise_it


def test_a_disk_with_no_room_for_containers(
    images: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch, failures: Failures
) -> None:
    """All else is written as far as there is room; without any for the tables the run ends."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        raising(FULL, 2, patch)
        assert score_batch([images], out, params, ZARR).exit_status == 3
    assert sorted(path.name for path in (out / "ome-zarr").iterdir()) == ["a.zarr", "b_p1.zarr"]
    assert [row[:2] for row in failures(out)] == [["b.tif [p0]", "write"]]
    assert (status(out), (out / "report.html").exists()) == ("complete", True)
    with monkeypatch.context() as patch:
        raising(FULL, 2, patch)
        patch.setattr(ResultTables, "add_failure", raise_error(FULL))
        with pytest.raises(OutputError, match=r"No space left on device\); mend that, then go on with --resume"):
            score_batch([images], out, params, RESUME)
    assert status(out) == "interrupted"
    assert score_batch([images], out, params, RESUME).exit_status == 0


class TestAnImageWhoseDiskFails:
    @pytest.fixture
    def stores(self, store: Path, smear: Callable[..., Pixels]) -> Path:
        """Two images; return their folder."""
        written(store.with_name("other.zarr"), smear(2))
        return store.parent

    @pytest.mark.parametrize(("error", "n_waits"), [(FULL, 3), (OSError(errno.EIO, "Input/output error"), 6)])
    def test_that_is_a_failure(
        self,
        error: OSError,
        n_waits: int,
        stores: Path,
        tmp_path: Path,
        params: ScoreParams,
        monkeypatch: pytest.MonkeyPatch,
        waits: list[float],
        failures: Failures,
    ) -> None:
        """A full disk is waited for once. Samples and report are written, and nothing beside the image."""
        out, sheet = tmp_path / "out", tmp_path / "sheet.csv"
        sheet.write_text("image,sample\nimage.zarr,S\nother.zarr,S\n")
        output = OutputParams(formats=ZARR.formats, samples=str(sheet))
        with monkeypatch.context() as patch:
            patch.setattr(ome_zarr, "_colour", raise_error(error))
            summary = score_batch([stores], out, params, output)
        assert (summary.planes, summary.exit_status, len(waits)) == (2, 3, n_waits)
        reason = f"{stores}/image.zarr can't be written ({error}); mend that, then go on with --resume"
        assert failures(out)[0] == ["image.zarr", "write", reason]
        assert [row[0] for row in failures(out)] == ["image.zarr", "other.zarr"]
        assert status(out) == "complete"
        assert (out / "samples.csv").exists()
        assert "other.zarr can&#x27;t be written" in (out / "report.html").read_text()
        assert not (out / "ome-zarr").exists()
        assert not (stores / "image.zarr/labels/all_detect").exists()
        assert score_batch([stores], out, params, replace(output, resume=True)).exit_status == 0
        assert ngio.open_ome_zarr_container(stores / "other.zarr").list_labels() == [NAME]

    def test_once_it_gets_its_labels_all_the_same(
        self, store: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch, content: Content
    ) -> None:
        calm = Path(shutil.copytree(store, tmp_path / "calm" / store.name))
        score_batch([calm], tmp_path / "undisturbed", params, ZARR)
        colour, errors = ome_zarr._colour, iter([OSError(errno.EIO, "Input/output error")])

        def failing_once(*arguments: Any) -> None:
            for error in errors:
                raise error
            colour(*arguments)

        monkeypatch.setattr(ome_zarr, "_colour", failing_once)
        assert score_batch([store], tmp_path / "out", params, ZARR).exit_status == 0
        assert next(errors, None) is None
        assert content(tmp_path / "out") == content(tmp_path / "undisturbed")
        assert content(store) == content(calm)

    def test_one_that_may_not_be_written_to_gets_a_container_beside(
        self, store: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch, waits: list[float]
    ) -> None:
        monkeypatch.setattr(ome_zarr, "_colour", raise_error(PermissionError(errno.EACCES, "Permission denied")))
        monkeypatch.setattr(containers, "write_ome_zarr", lambda *arguments: arguments[3].mkdir(parents=True))
        assert score_batch([store], tmp_path / "out", params, ZARR).exit_status == 0
        assert [path.name for path in (tmp_path / "out/ome-zarr").iterdir()] == ["image.zarr"]
        assert waits == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 15), (2, 3), (1, 40)])
def test_images_too_small_for_a_pyramid(shape: tuple[int, int], tmp_path: Path, params: ScoreParams) -> None:
    Image.fromarray(np.full((*shape, 3), 200, np.uint8)).save(tmp_path / "tiny.png")
    pixels = np.full((*shape, 3), 200, np.uint8)
    image = written(tmp_path / "tiny.zarr", pixels)
    assert score_batch([tmp_path / "tiny.png", image], tmp_path / "out", params, ZARR).exit_status == 0
    for place in (tmp_path / "out/ome-zarr/tiny.png.zarr", image):
        container = ngio.open_ome_zarr_container(place)
        assert container.get_image().get_as_numpy().shape == (3, *shape)
        assert container.get_label(NAME).get_as_numpy().shape == shape


def named_row_and_col(multiscale: dict[str, Any]) -> None:
    multiscale["axes"][1]["name"], multiscale["axes"][2]["name"] = "row", "col"


def upside_down(multiscale: dict[str, Any]) -> None:
    multiscale["datasets"][0]["coordinateTransformations"][0]["scale"][1] *= -1


def lacking_a_level(multiscale: dict[str, Any]) -> None:
    """As a pyramid that was copied in part."""
    scale = {"type": "scale", "scale": [1, 0.5, 0.5]}
    multiscale["datasets"].append({"path": "1", "coordinateTransformations": [scale]})


@pytest.mark.parametrize("change", [named_row_and_col, upside_down, lacking_a_level])
def test_an_image_that_ngio_refuses_gets_a_container_beside(
    change: Callable[[dict[str, Any]], None], store: Path, tmp_path: Path, params: ScoreParams, waits: list[float]
) -> None:
    metadata = json.loads((store / "zarr.json").read_text())
    change(metadata["attributes"]["ome"]["multiscales"][0])
    (store / "zarr.json").write_text(json.dumps(metadata))
    summary = score_batch([store], tmp_path / "out", params, ZARR)
    assert (summary.failures, summary.planes) == ((), 1)
    container = ngio.open_ome_zarr_container(tmp_path / "out/ome-zarr/image.zarr")
    own = tifffile.imread(tmp_path / "out/labels/image_labels.tif")
    np.testing.assert_array_equal(container.get_label(NAME).get_as_numpy(), own)
    assert not (store / "labels" / NAME).exists()
    assert (tmp_path / "out/report.html").exists()
    assert waits == []


def test_no_labels_go_through_a_link(store: Path, tmp_path: Path, params: ScoreParams) -> None:
    (tmp_path / "elsewhere").mkdir()
    (store / "labels").symlink_to(tmp_path / "elsewhere")
    assert score_batch([store], tmp_path / "out", params, ZARR).exit_status == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "out/ome-zarr/image.zarr").is_dir()


def test_a_container_beside_goes_when_the_image_takes_its_labels(
    store: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was tried before, the results are those of a run that nothing disturbed."""
    out, broken = tmp_path / "out", tmp_path / "broken.png"
    broken.touch()
    with monkeypatch.context() as patch:
        patch.setattr(containers.os, "access", lambda path, mode: False)
        assert score_batch([store, broken], out, params, ZARR).exit_status == 3
    assert (out / "ome-zarr/image.zarr").exists()
    assert score_batch([store, broken], out, params, RESUME).exit_status == 3
    assert list((out / "ome-zarr").iterdir()) == []
    assert ngio.open_ome_zarr_container(store).list_labels() == [NAME]


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_names_that_are_no_unicode(images: Path, tmp_path: Path, params: ScoreParams) -> None:
    (images / "a.png").rename(images / "a\udcff.png")
    assert score_batch([images], tmp_path / "out", params, ZARR).failures == ()
    container = ngio.open_ome_zarr_container(tmp_path / "out/ome-zarr/a\\udcff.zarr")
    cells = pd.read_csv(tmp_path / "out/cells.csv").query("image == 'a\\\\udcff.png'")
    table = container.get_feature_table(NAME).dataframe
    assert table["image"].tolist() == cells["image"].tolist() == ["a\\udcff.png"] * len(cells)
    assert len(cells)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_no_half_written_labels_stay_in_an_image(store: Path, tmp_path: Path, params: ScoreParams) -> None:
    """Parquet can't write below such a name, and comes last."""
    image = store.rename(store.with_name("image\udcff.zarr"))
    assert score_batch([image], tmp_path / "out", params, ZARR).failures == ()
    assert [path.name for path in (tmp_path / "out/ome-zarr").iterdir()] == ["image\\udcff.zarr"]
    for kind in ("labels", "tables"):
        assert [path.name for path in (image / kind).iterdir()] == ["zarr.json"]
    assert zarr.open_group(image / "labels", mode="r").attrs.asdict()["ome"]["labels"] == []


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_an_output_folder_whose_name_is_no_unicode(
    images: Path, tmp_path: Path, params: ScoreParams, failures: Failures
) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "out\udcff"
    summary = score_batch([images], out, params, OutputParams(formats=("csv", "parquet", "ome-zarr")))
    assert summary.exit_status == 3
    assert [row[:2] for row in failures(out)] == [
        ["cells.parquet", "write"],
        ["a.png", "write"],
        ["b.tif [p0]", "write"],
        ["b.tif [p1]", "write"],
    ]
    assert len(pd.read_csv(os.fspath(out / "cells.csv"))) == summary.cells
    assert "cells.parquet" in (out / "report.html").read_text(encoding="utf-8")


def test_half_a_table_does_not_stay(
    images: Path, tmp_path: Path, params: ScoreParams, monkeypatch: pytest.MonkeyPatch, failures: Failures
) -> None:
    pytest.importorskip("anndata")
    out = tmp_path / "out"

    def short_of_memory(table: pd.DataFrame, path: Path) -> None:
        path.write_text("half")
        raise MemoryError

    formats = ("csv", "h5ad", "ome-zarr")
    with monkeypatch.context() as patch:
        patch.setattr(collecting, "write_h5ad", short_of_memory)
        assert score_batch([images], out, params, OutputParams(formats=formats)).exit_status == 3
    assert not (out / "cells.h5ad").exists()
    ((name, stage, reason),) = failures(out)
    assert (name, stage) == ("cells.h5ad", "write")
    assert "cells.h5ad can't be written (out of memory)" in reason
    assert len(list((out / "ome-zarr").iterdir())) == 3
    assert score_batch([images], out, params, OutputParams(formats=formats, resume=True)).exit_status == 0
    assert (out / "cells.h5ad").exists()
