"""Planes that are read by parts, and TIFF pyramids."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image

from napari_all_detect import retrying
from napari_all_detect.errors import InputError, StoreError
from napari_all_detect.params import ReadParams
from napari_all_detect.sources import Plane, RgbPlane, TiledPlane, find_images, open_planes, tiff, zarr_store

SHAPE = (310, 450)
RNG = np.random.default_rng(7)
RGB = np.clip(
    np.add.outer(np.arange(SHAPE[0]), np.arange(SHAPE[1]))[..., None] % 200 + RNG.integers(0, 40, (*SHAPE, 3)), 0, 255
).astype(np.uint8)
GREY_16 = (RGB[..., 0].astype(np.uint16) * 10 + 3).astype(np.uint16)
GREY_16[200, 333] = 4000  # what decides on the depth lies in one tile only
RGBA = np.dstack([RGB, np.full(SHAPE, 255, np.uint8)])
RGBA[250:260, 20:30, 3] = 90

Writer = Callable[[Path], None]


def tiff_of(array: np.ndarray, **options: Any) -> Writer:
    return lambda path: tifffile.imwrite(path, array, **options)


def zarr_array(array: np.ndarray, **options: Any) -> Writer:
    def write(path: Path) -> None:
        stored = zarr.create_array(path, shape=array.shape, dtype=array.dtype, **options)
        stored[...] = array

    return write


KINDS: dict[str, tuple[str, Writer]] = {
    "strips": ("a.tif", tiff_of(RGB, photometric="rgb")),
    "short-strips": ("a.tif", tiff_of(RGB, photometric="rgb", rowsperstrip=32, compression="lzw")),
    "tiles": ("a.tif", tiff_of(RGB, photometric="rgb", tile=(64, 96), compression="zlib", predictor=2)),
    "plain-tiles": ("a.tif", tiff_of(RGB, photometric="rgb", tile=(128, 128), bigtiff=True)),
    "jpeg": ("a.tif", tiff_of(RGB, photometric="ycbcr", subsampling=(2, 2), tile=(128, 128), compression="jpeg")),
    "separate": ("a.tif", tiff_of(RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", tile=(64, 64))),
    "channels": ("a.ome.tif", tiff_of(RGB.transpose(2, 0, 1), photometric="minisblack", metadata={"axes": "CYX"})),
    "grey-16": ("a.tif", tiff_of(GREY_16, photometric="minisblack", tile=(64, 64))),
    "white-is-zero": ("a.tif", tiff_of(RGB[..., 0], photometric="miniswhite", tile=(64, 64))),
    "white-is-zero-16": ("a.tif", tiff_of(GREY_16, photometric="miniswhite", tile=(64, 64))),
    "multiplied-by-alpha": ("a.tif", tiff_of(RGBA, photometric="rgb", extrasamples=("assocalpha",), tile=(64, 64))),
    "alpha": ("a.tif", tiff_of(RGBA, photometric="rgb", extrasamples=("unassalpha",), tile=(64, 64))),
    "imagej": ("a.tif", tiff_of(np.stack([RGB, RGB[::-1]]), photometric="rgb", imagej=True)),
    "pages": ("a.tif", tiff_of(np.stack([RGB, RGB[::-1]]), photometric="rgb", tile=(64, 64), compression="zlib")),
    "floats": ("a.zarr", zarr_array(RGB.astype(np.float32) / 255, chunks=(100, 100, 3))),
    "v2": ("a.zarr", zarr_array(RGB, chunks=(64, 64, 3), zarr_format=2)),
    "sharded": ("a.zarr", zarr_array(RGB.transpose(2, 0, 1), chunks=(1, 64, 64), shards=(3, 128, 128))),
    "stack": ("a.zarr", zarr_array(np.stack([RGB, RGB[::-1]]), chunks=(1, 100, 100, 3))),
    "glass": ("a.zarr", zarr_array(RGB, chunks=(100, 100, 3), fill_value=240)),
    "png": ("a.png", lambda path: Image.fromarray(RGB).save(path)),
}


def planes_of(path: Path, **options: Any) -> list[Plane]:
    return [plane for file in find_images([path]) for plane in open_planes(file, ReadParams(**options))]


def opened(plane: Plane) -> TiledPlane:
    tiled = plane.open()
    assert isinstance(tiled, TiledPlane)
    return tiled


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_are_parts_of_the_whole(kind: str, tmp_path: Path) -> None:
    name, write = KINDS[kind]
    write(tmp_path / name)
    for plane in planes_of(tmp_path / name, tile_size_px=256):
        whole, tiled = plane.read(), opened(plane)
        assert (tiled.shape, tiled.notes, tiled.tile_px) == (SHAPE, whole.notes, 256)
        assert len(tiled.tiles) == 4
        for window in (*tiled.tiles, (slice(100, 101), slice(0, 450)), (slice(63, 129), slice(95, 400))):
            assert_array_equal(tiled[window], whole.rgb[window])


@settings(max_examples=25)
@given(st.data())
def test_any_window_is_a_part_of_the_whole(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tif"
    if not path.exists():
        KINDS["tiles"][1](path)
    (y0, y1), (x0, x1) = (
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in SHAPE
    )
    assert_array_equal(opened(planes_of(path, tile_size_px=256)[0])[y0:y1, x0:x1], RGB[y0:y1, x0:x1])


def test_small_planes_are_taken_as_a_whole_and_large_ones_in_tiles() -> None:
    assert ReadParams().tile_px((8192, 8192)) is None
    assert ReadParams().tile_px((8192, 8193)) == 2048
    assert ReadParams(tile_size_px=512).tile_px((100, 100)) == 512


def test_a_plane_is_opened_as_a_whole_unless_told(tmp_path: Path) -> None:
    KINDS["tiles"][1](tmp_path / "a.tif")
    assert isinstance(planes_of(tmp_path / "a.tif")[0].open(), RgbPlane)


def test_tiles_are_read_without_the_whole(tmp_path: Path) -> None:
    """An array of which one chunk is damaged gives all others."""
    KINDS["v2"][1](tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "4.6.0").write_bytes(b"junk")
    tiled = opened(planes_of(tmp_path / "a.zarr", tile_size_px=256)[0])
    assert_array_equal(tiled[0:256, 0:300], RGB[0:256, 0:300])
    with pytest.raises(InputError, match="can't be read as zarr"):
        tiled[256:310, 384:450]


@pytest.mark.parametrize(
    ("kind", "lost", "note"),
    [
        ("v2", "4.[67].0", "2 of 40 chunks missing in the store: black there"),
        ("v2", "?.?.0", "40 of 40 chunks missing in the store: black there"),
        ("floats", "c/1/*/0", "5 of 20 chunks missing in the store: black there"),
        ("sharded", "c/0/[01]/1", "2 of 12 chunks missing in the store: black there"),
        ("stack", "c/1/0/4/0", "1 of 20 chunks missing in the store: black there"),
        ("glass", "c/2/2/0", "1 of 20 chunks missing in the store: filled with 240 there"),
    ],
)
def test_chunks_that_are_missing_are_noted(kind: str, lost: str, note: str, tmp_path: Path) -> None:
    KINDS[kind][1](tmp_path / "a.zarr")
    *others, plane = planes_of(tmp_path / "a.zarr", tile_size_px=256)
    before = plane.read()
    for chunk in list((tmp_path / "a.zarr").glob(lost)):
        chunk.unlink()
    whole, tiled = plane.read(), opened(plane)
    assert whole.notes == (*before.notes, note)
    assert set(whole.rgb[whole.rgb != before.rgb].tolist()) == {240 if kind == "glass" else 0}
    for _ in range(2):
        for window in tiled.tiles:
            assert_array_equal(tiled[window], whole.rgb[window])
        assert tiled.notes == whole.notes
    assert [other.read().notes for other in others] == [before.notes] * len(others)


def test_a_tiff_that_is_cut_short_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", tile=(64, 64), metadata=None)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.tif"):
        opened(planes_of(path, tile_size_px=256)[0])[0:10, 0:10]


# A disk that fails now and then


class FlakyDisk:
    """Reads as `work`, but for I/O errors as often as `failing` says."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work, self.failing, self.calls = work, 0, 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        if self.failing:
            self.failing -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self.work(*arguments)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Wait for nothing; return the waits."""
    waits: list[float] = []
    monkeypatch.setattr(retrying.time, "sleep", waits.append)
    return waits


def flaky_plane(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Plane, FlakyDisk]:
    name, write = KINDS[kind]
    write(folder / name)
    module, reads = (zarr_store, "_cut") if name.endswith(".zarr") else (tiff, "_values")
    disk = FlakyDisk(getattr(module, reads))
    monkeypatch.setattr(module, reads, disk)
    return planes_of(folder / name, tile_size_px=256)[0], disk


@pytest.mark.parametrize("kind", ["v2", "sharded", "tiles", "grey-16"])
def test_a_part_is_asked_for_again(
    kind: str, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, disk = flaky_plane(kind, tmp_path, monkeypatch)
    whole, tiled = plane.read(), opened(plane)
    for window in tiled.tiles:
        disk.failing = 3
        assert_array_equal(tiled[window], whole.rgb[window])
    assert waits == [0.5, 2.0, 8.0] * 4
    disk.failing, disk.calls = 4, 0
    with pytest.raises(InputError, match="the disk or server failed") as caught:
        retrying.with_retries(lambda: tiled[0:10, 0:10], StoreError)
    assert not isinstance(caught.value, StoreError)  # that would be for the caller to try again, four times four
    assert disk.calls == 4


def test_a_part_that_is_damaged_is_asked_for_once(tmp_path: Path, waits: list[float]) -> None:
    KINDS["v2"][1](tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "4.6.0").write_bytes(b"junk")
    tiled = opened(planes_of(tmp_path / "a.zarr", tile_size_px=256)[0])
    with pytest.raises(InputError, match="can't be read as zarr"):
        tiled[256:310, 384:450]
    assert waits == []


@pytest.mark.parametrize("kind", ["floats", "grey-16"])
def test_values_that_are_read_for_their_greatest_are_asked_for_again(
    kind: str, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, disk = flaky_plane(kind, tmp_path, monkeypatch)
    whole, real = plane.read(), disk.work

    def failing_at_first(*arguments: Any) -> Any:
        disk.failing = 3 * (len(waits) == 0)  # but for the first pixel, which the caller tries again
        disk.work = real
        return real(*arguments)

    disk.work = failing_at_first
    assert_array_equal(opened(plane)[:, :], whole.rgb)
    assert waits == [0.5, 2.0, 8.0]


def test_what_was_asked_for_four_times_is_not_for_the_caller_to_try_again(
    tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, disk = flaky_plane("floats", tmp_path, monkeypatch)
    real = disk.work

    def failing_from_now_on(*arguments: Any) -> Any:
        disk.failing = 1000
        return real(*arguments)

    disk.work = failing_from_now_on
    with pytest.raises(InputError, match="the disk or server failed") as caught:
        retrying.with_retries(plane.open, StoreError)
    assert not isinstance(caught.value, StoreError)
    assert disk.calls == 1 + 4


# Pyramids

SIZE_UM = 0.1


def reduced(factor: int) -> np.ndarray:
    return np.asarray(Image.fromarray(RGB).reduce(factor))


def write_sub_ifds(path: Path) -> None:
    facts: dict[str, Any] = {"photometric": "rgb", "tile": (64, 64)}
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        tif.write(RGB, subifds=2, resolution=(1e4 / SIZE_UM, 1e4 / SIZE_UM), resolutionunit="CENTIMETER", **facts)
        tif.write(reduced(2), subfiletype=1, **facts)
        tif.write(reduced(4), subfiletype=1, **facts)


def write_series(path: Path) -> None:
    facts: dict[str, Any] = {"photometric": "rgb", "tile": (64, 64), "metadata": None}
    with tifffile.TiffWriter(path) as tif:
        tif.write(RGB, resolution=(1e4 / SIZE_UM, 1e4 / SIZE_UM), resolutionunit="CENTIMETER", **facts)
        tif.write(np.zeros((64, 200, 3), np.uint8), subfiletype=1, **facts)  # the slide's label
        tif.write(reduced(2), subfiletype=1, **facts)
        tif.write(reduced(4), subfiletype=1, **facts)


def write_aperio(path: Path) -> None:
    facts: dict[str, Any] = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as tif:
        tif.write(RGB, tile=(64, 64), description=f"Aperio Image Library v11|AppMag = 40|MPP = {SIZE_UM}", **facts)
        tif.write(reduced(3), **facts)  # the thumbnail
        tif.write(reduced(2), tile=(64, 64), **facts)
        tif.write(reduced(4), tile=(64, 64), **facts)
        tif.write(RGB[:64, :200], subfiletype=1, **facts)  # the label
        tif.write(RGB[:90, :300], subfiletype=9, **facts)  # the whole slide


@pytest.mark.parametrize("write", [write_sub_ifds, write_series, write_aperio])
def test_levels_of_a_pyramid(write: Writer, tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    write(path)
    for level, factor in enumerate((1, 2, 4)):
        (plane,) = planes_of(path, level=level, tile_size_px=256)
        expected = RGB if factor == 1 else reduced(factor)
        assert plane.plane == "0"
        assert plane.downsample == pytest.approx(factor, rel=0.02)
        assert plane.pixel_size_um == pytest.approx(SIZE_UM * factor, rel=0.02)
        assert_array_equal(plane.read().rgb, expected)
        assert_array_equal(opened(plane)[60:70, 3:66], expected[60:70, 3:66])
    with pytest.raises(InputError, match="no resolution level 3; it has 0 to 2"):
        planes_of(path, level=3)


@pytest.mark.parametrize("write", [write_sub_ifds, write_series, write_aperio])
@pytest.mark.parametrize(("wanted_um", "height"), [(None, 310), (0.05, 310), (0.19, 310), (0.25, 155), (1.0, 78)])
def test_the_level_is_found_by_pixel_size(write: Writer, wanted_um: float | None, height: int, tmp_path: Path) -> None:
    write(tmp_path / "slide.tif")
    (file,) = find_images([tmp_path / "slide.tif"])
    (plane,) = open_planes(file, ReadParams(level="auto"), wanted_um)
    assert plane.read().rgb.shape[0] == height


def test_pages_of_other_sizes_are_images_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(RGB, photometric="rgb", metadata=None)
        tif.write(RGB[:200, :300], photometric="rgb", metadata=None)
    assert [plane.read().rgb.shape[0] for plane in planes_of(path)] == [310, 200]
