"""The command line on planes in tiles: every file says what it says of whole planes."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from numpy.testing import assert_array_equal
from PIL import Image

from napari_all_detect import scratch
from napari_all_detect.batch import BatchProgress, score_batch
from napari_all_detect.cli import main
from napari_all_detect.params import OutputParams, ReadParams, ScoreParams, SegmentationParams
from napari_all_detect.samples import draw_smear
from napari_all_detect.sources import RgbPlane, identity
from napari_all_detect.sources.labels import TiffLabels
from napari_all_detect.sources.tiled import of_plane
from napari_all_detect.tiling import given_tiled

pytestmark = pytest.mark.usefixtures("reuse_engines")

TILE_PX = 256
RGB = draw_smear((420, 610), n_cells=30, touching=0.4, seed=21).rgb


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One smear as OME-Zarr, a pyramidal TIFF in tiles and a PNG."""
    from ngio import create_ome_zarr_from_array

    folder = tmp_path_factory.mktemp("inputs")
    create_ome_zarr_from_array(
        folder / "slide.zarr",
        np.ascontiguousarray(np.moveaxis(RGB, 2, 0)),
        pixelsize=0.25,
        axes_names=["c", "y", "x"],
        ngff_version="0.5",
        levels=2,
        consolidation_mode="numpy",
    )
    with tifffile.TiffWriter(folder / "slide.tif") as tif:
        facts: dict[str, Any] = {"photometric": "rgb", "tile": (128, 128), "compression": "zlib"}
        tif.write(RGB, subifds=1, **facts)
        tif.write(np.asarray(Image.fromarray(RGB).reduce(2)), subfiletype=1, **facts)
    Image.fromarray(RGB).save(folder / "smear.png")
    return folder


def run(inputs: Path, out: Path, bundle: Path, *more: str) -> Path:
    command = ["score", str(inputs), "--out", str(out), "--bundle", str(bundle), "--segmentation", "classical"]
    assert main([*command, *more]) == 0
    return out


def test_what_is_replaced_beside_a_run_that_is_repeated_is_no_change(
    inputs: Path, duo_bundle: Path, tmp_path: Path
) -> None:
    """The same pixels in tiles, others as asked for, other labels."""

    def again(of: Path, *more: str) -> Path:
        out = tmp_path / more[0]
        assert main(["score", "--from-run", str(of / "run.json"), "--out", str(out), *more]) == 0
        return out

    first = run(inputs / "slide.zarr", tmp_path / "first", duo_bundle)
    (whole,), (tiled,) = (
        json.loads((out / "run.json").read_text())["images"] for out in (first, again(first, "--tile-size", "256"))
    )
    assert tiled["pixels_sha256"] == whole["pixels_sha256"]
    assert tiled["pixels_sha256"]["0"] == hashlib.sha256(RGB.tobytes()).hexdigest()
    again(first, "--level", "1")
    again(first, "--channels", "2,1,0")
    labelled = again(first, "--labels", str(first / "labels"))
    (path,) = (first / "labels").iterdir()
    tifffile.imwrite(tmp_path / "other.tif", tifffile.imread(path) % 7)
    again(labelled, "--labels", str(tmp_path / "other.tif"), "--overwrite")


@pytest.mark.parametrize("shape", [(300, 700), (700, 300)])
def test_a_plane_is_known_by_its_rows_however_many_are_read_at_once(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
    expected = {"pixels_sha256": hashlib.sha256(rgb.tobytes()).hexdigest()}
    for held_px, part_px in ((2**26, 2048), (2**26, 256), (20_000, 256), (100, 64)):
        monkeypatch.setattr(identity, "TILED_FROM_PX", held_px)
        monkeypatch.setattr(identity, "TILE_PX", part_px)
        for pixels in (RgbPlane(rgb), of_plane(RgbPlane(rgb), TILE_PX)):
            assert identity.identity(Path("nowhere"), pixels) == expected


def test_files_of_tiles_and_of_the_whole(inputs: Path, duo_bundle: Path, tmp_path: Path) -> None:
    formats = "--format", "csv,geojson,ome-zarr"
    whole = run(inputs, tmp_path / "whole", duo_bundle, *formats)
    labels = zarr.open_array(inputs / "slide.zarr" / "labels" / "all_detect" / "0", mode="r")[:]
    reduced = zarr.open_array(inputs / "slide.zarr" / "labels" / "all_detect" / "1", mode="r")[:]
    tiled = run(inputs, tmp_path / "tiled", duo_bundle, *formats, "--overwrite", "--tile-size", str(TILE_PX))
    names = ["cells.csv", "images.csv", "failures.csv"]
    names += [f"geojson/{name}.geojson" for name in ("slide.zarr", "slide.tif", "smear")]
    for name in names:
        assert (tiled / name).read_bytes() == (whole / name).read_bytes(), name
    assert (whole / "cells.csv").read_text().count("\n") > 50
    for stem in ("slide.zarr", "slide.tif", "smear"):
        one, other = (tifffile.imread(out / "labels" / f"{stem}_labels.tif") for out in (whole, tiled))
        assert_array_equal(one, other)
    for level, before in enumerate((labels, reduced)):
        assert_array_equal(zarr.open_array(inputs / "slide.zarr" / "labels" / "all_detect" / str(level))[:], before)
    for stem in ("slide.tif", "smear"):
        for part in ("0", "1", "labels/all_detect/0"):
            one, other = (zarr.open_array(out / "ome-zarr" / f"{stem}.zarr" / part)[:] for out in (whole, tiled))
            assert_array_equal(one, other)
    report = (tiled / "report.html").read_text()
    assert report.count("<img") == (whole / "report.html").read_text().count("<img") > 0


def test_a_level_of_a_pyramid_in_tiles(inputs: Path, duo_bundle: Path, tmp_path: Path) -> None:
    more = "--level", "1"
    slides = inputs / "slide.tif"
    whole = run(slides, tmp_path / "whole", duo_bundle, *more)
    tiled = run(slides, tmp_path / "tiled", duo_bundle, *more, "--tile-size", str(TILE_PX))
    assert (tiled / "cells.csv").read_bytes() == (whole / "cells.csv").read_bytes()
    assert tifffile.imread(tiled / "labels" / "slide_labels.tif").shape == (210, 305)


@pytest.mark.parametrize("kind", ["tif", "npy", "png"])
def test_labels_that_are_given(kind: str, inputs: Path, duo_bundle: Path, tmp_path: Path) -> None:
    labels = np.zeros(RGB.shape[:2], np.uint16)
    for number, (y, x) in enumerate([(240, 240), (20, 500), (250, 30), (400, 255)]):
        labels[y : y + 28, x : x + 31] = 900 - 200 * number
    path = tmp_path / f"given.{kind}"
    if kind == "tif":
        tifffile.imwrite(path, labels, tile=(64, 64), compression="zlib")
        assert_array_equal(TiffLabels(path)[230:300, 200:300], labels[230:300, 200:300])
    elif kind == "npy":
        np.save(path, labels)
    else:
        Image.fromarray(labels).save(path)
    more = "--labels", str(path)
    whole = run(inputs / "smear.png", tmp_path / "whole", duo_bundle, *more)
    tiled = run(inputs / "smear.png", tmp_path / "tiled", duo_bundle, *more, "--tile-size", str(TILE_PX))
    assert (tiled / "cells.csv").read_bytes() == (whole / "cells.csv").read_bytes()
    one, other = (json.loads((out / "run.json").read_text())["parameters"]["reading"] for out in (whole, tiled))
    assert (one["tile_size_px"], other["tile_size_px"]) == (None, TILE_PX)


def test_segment_in_tiles(inputs: Path, tmp_path: Path) -> None:
    for name, more in (("whole", []), ("tiled", ["--tile-size", str(TILE_PX)])):
        out = str(tmp_path / name)
        command = ["segment", str(inputs / "slide.tif"), "--out", out, "--nuclei", "--segmentation", "classical"]
        assert main([*command, *more]) == 0
    for kind in ("labels", "nuclei"):
        one, other = (tifffile.imread(tmp_path / name / f"slide_{kind}.tif") for name in ("whole", "tiled"))
        assert_array_equal(one, other)
        assert one.max() > 15


def test_a_slide_is_measured(tmp_path: Path) -> None:
    """The benchmark, on a plane so small that its figures mean nothing."""
    options = ["--edges", "700", "--tile-size", "320", "--segmentation", "classical", "--work", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tiles", *options],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (found,) = (json.loads(line) for line in done.stderr.splitlines() if line.startswith("{"))
    assert (found["edge_px"], found["tile_px"]) == (700, 320)
    assert found["cells"] > 1
    assert found["peak_mb"] > 50
    assert done.stdout.splitlines()[-1].startswith(f"| 700 x 700 | 320 | {found['cells']} |")


def test_fields_on_glass_are_found(tmp_path: Path) -> None:
    """The benchmark of a slide, on one large enough to be surveyed on squares, most of which see glass."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.slide", "--edge", "3300", "--fields", "2", "--work", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["edge_px"], seen["tiles"], seen["drawn"]) == (3300, 4, 16)
    assert seen["found"] >= 15
    assert seen["cells"] <= 18
    assert seen["peak_mb"] > 100


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what is mapped")
def test_crops_are_not_mapped_any_more_when_their_file_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows would leave the file there."""
    mapped: list[bool] = []

    def noted(path: Path) -> None:
        mapped.append(str(path) in Path("/proc/self/maps").read_text())
        delete(path)

    delete = scratch._delete
    monkeypatch.setattr(scratch, "_delete", noted)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    labels = np.zeros(RGB.shape[:2], np.int32)
    labels[100:130, 200:230] = 1
    some = given_tiled(of_plane(RgbPlane(RGB), TILE_PX), labels).cut(40, 1.0)[:1]
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    assert some.any()
    del some
    assert mapped == [False]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "more", [("--level", "auto"), ("--level", "1"), ("--channels", "2,1,0"), ("--tile-size", str(TILE_PX))]
)
def test_the_cell_that_is_explained_is_that_of_the_table(
    more: tuple[str, str], duo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ngio import create_ome_zarr_from_array

    image = tmp_path / "slide.zarr"
    create_ome_zarr_from_array(
        image,
        np.ascontiguousarray(np.moveaxis(RGB, 2, 0)),
        pixelsize=0.125,  # twice as fine as what the bundle was trained on
        axes_names=["c", "y", "x"],
        ngff_version="0.5",
        levels=2,
        consolidation_mode="numpy",
    )
    cell = pd.read_csv(run(image, tmp_path / "out", duo_bundle, *more) / "cells.csv").iloc[-1]
    capsys.readouterr()
    command = ["explain", str(image), "--label", str(cell["label"]), "--out", str(tmp_path / "heat.png")]
    assert main([*command, "--bundle", str(duo_bundle), "--segmentation", "classical", *more]) == 0
    said = capsys.readouterr().out
    flags = f" ({', '.join(cell['flags'].split(';'))})" if isinstance(cell["flags"], str) else ""
    assert said.startswith(f"cell {cell['label']}: {cell['call']}, P(ALL) {cell['p_all']:.2f}{flags}; ")


class Stop(BatchProgress):
    def plane(self) -> None:
        raise KeyboardInterrupt


def test_a_run_in_tiles_goes_on(inputs: Path, duo_bundle: Path, tmp_path: Path) -> None:
    """What was done is known again by the pixels of its tiles, when times have changed."""
    params = ScoreParams(
        bundle=str(duo_bundle),
        segmentation=SegmentationParams(method="classical"),
        reading=ReadParams(tile_size_px=TILE_PX),
    )
    score_batch([inputs], tmp_path / "undisturbed", params)
    with pytest.raises(KeyboardInterrupt):
        score_batch([inputs], tmp_path / "out", params, progress=Stop())
    for path in [inputs / "slide.zarr" / "zarr.json", *inputs.glob("*.*")]:
        path.touch()
    score_batch([inputs], tmp_path / "out", params, OutputParams(resume=True))
    for name in ("cells.csv", "images.csv", "labels/smear_labels.tif"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
