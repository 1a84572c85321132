"""Small files that state sizes beyond all memory, lead out of their folder, or bring code."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.testing import assert_array_equal
from PIL import Image

from napari_all_detect.errors import InputError
from napari_all_detect.sources import Plane, find_images, open_planes, raster, stack
from napari_all_detect.sources.labels import open_labels, read_labels

RGB = np.random.default_rng(7).integers(0, 256, (20, 30, 3), dtype=np.uint8)
STACK = np.stack([RGB] * 4)


def planes_in(path: Path) -> list[Plane]:
    (file,) = find_images([path])
    return open_planes(file)


def write_ome(path: Path, pixels: np.ndarray = RGB, data: str = "", **stated: Any) -> None:
    """Write an OME-TIFF of one page whose metadata state what is given."""
    sizes = {"SizeX": 30, "SizeY": 20, "SizeC": 3, "SizeZ": 1, "SizeT": 1, "PlaneCount": 1} | stated
    count = sizes.pop("PlaneCount")
    attributes = " ".join(f'{name}="{n}"' for name, n in sizes.items())
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0"><Image>'
        f'<Pixels DimensionOrder="XYCZT" Type="uint8" {attributes}><Channel SamplesPerPixel="{sizes["SizeC"]}"/>'
        f'<TiffData IFD="0" PlaneCount="{count}">{data}</TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(path, pixels, description=xml, metadata=None)


@pytest.mark.parametrize(
    ("suffix", "marker", "size"),
    [("jpg", b"\xff\xc0\0\x11\x08", b"\xff\0\xff\0"), ("bmp", b"\x28\0\0\0", b"\0\0\1\0\0\0\1\0")],
)
def test_a_header_of_more_pixels_than_the_file_can_hold(
    suffix: str, marker: bytes, size: bytes, tmp_path: Path
) -> None:
    path = tmp_path / f"small.{suffix}"
    Image.fromarray(RGB).save(path)
    start, end = path.read_bytes().split(marker, 1)
    path.write_bytes(start + marker + size + end[len(size) :])
    with pytest.raises(InputError, match=r"a header of 65\d{3} x 65\d{3} pixels, more than \d+ bytes can hold"):
        planes_in(path)


def test_a_blank_png_of_one_bit_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "blank.png"
    Image.new("1", (4096, 4096)).save(path, compress_level=9)
    assert path.stat().st_size * 3000 < 4096**2
    assert planes_in(path)[0].read().shape == (4096, 4096)


def test_flat_files_with_more_pixels_than_are_decoded_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(RGB).save(tmp_path / "slide.png")
    monkeypatch.setattr(raster, "MOST_PX", 599)
    with pytest.raises(InputError, match=r"30 x 20 pixels; expected 599 at most in PNG, .*tiled TIFF or zarr"):
        planes_in(tmp_path / "slide.png")


def test_zarr_arrays_that_state_more_than_there_is(tmp_path: Path) -> None:
    for name, shape, words in (
        ("planes.zarr", (10**9, 64, 64, 3), "with 1,000,000,000 planes; expected 1,000,000 at most"),
        ("pixels.zarr", (10**9, 10**9, 3), "pixels in a plane; expected 1,000,000,000,000 at most"),
    ):
        zarr.create_array(tmp_path / name, shape=shape, chunks=(1, 64, 64, 3)[-len(shape) :], dtype="uint8")
        with pytest.raises(InputError, match=words):
            planes_in(tmp_path / name)
    zarr.create_array(tmp_path / "slide.zarr", shape=(100_000, 100_000, 3), chunks=(512, 512, 3), dtype="uint8")
    assert len(planes_in(tmp_path / "slide.zarr")) == 1


@pytest.mark.parametrize(("bound", "most"), [("MOST_PLANES", 3), ("MOST_PX", 599)])
def test_stacks_beyond_a_bound(bound: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="rgb", metadata=None)
    tifffile.imwrite(tmp_path / "b.ome.tif", STACK, photometric="rgb", metadata={"axes": "TYXS"})
    monkeypatch.setattr(stack, bound, most)
    for name in ("a.tif", "b.ome.tif"):
        with pytest.raises(InputError, match=rf"{name}: .*; expected {most} at most: mend its metadata, or split it"):
            planes_in(tmp_path / name)


@pytest.mark.parametrize("stated", [{"SizeT": 2 * 10**9}, {"SizeX": 10**11}, {"PlaneCount": 2 * 10**9}], ids=str)
def test_ome_tiffs_that_state_more_than_there_is(stated: dict[str, int], tmp_path: Path) -> None:
    write_ome(tmp_path / "small.ome.tif", **stated)
    with pytest.raises(InputError, match=r"OME metadata that tell of .* pages; expected 10,000,000 at most"):
        planes_in(tmp_path / "small.ome.tif")


@pytest.mark.parametrize("is_absolute", [False, True])
def test_files_of_a_set_that_lie_outside_its_folder_are_not_opened(is_absolute: bool, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    tifffile.imwrite(tmp_path / "other.ome.tif", RGB)
    name = tmp_path / "other.ome.tif" if is_absolute else "../other.ome.tif"
    write_ome(folder / "a.ome.tif", data=f'<UUID FileName="{name}">urn:uuid:1</UUID>')
    with pytest.raises(InputError, match="lies outside the folder; expected all in it or below"):
        planes_in(folder / "a.ome.tif")


@pytest.mark.parametrize(
    "name", ["{folder}/a.ome.tif", "../{folder.name}/a.ome.tif", "C:\\data\\a.ome.tif", "../gone.tif"]
)
def test_a_file_may_say_where_it_is_or_was(name: str, tmp_path: Path) -> None:
    """Its own name stands there in many ways, also without a UUID of the whole."""
    write_ome(tmp_path / "a.ome.tif", data=f'<UUID FileName="{name.format(folder=tmp_path)}">urn:uuid:9</UUID>')
    assert len(planes_in(tmp_path / "a.ome.tif")) == 1


@pytest.mark.parametrize("read", [read_labels, open_labels])
def test_nor_are_those_of_labels(read: Callable[[Path], Any], tmp_path: Path) -> None:
    data = '<UUID FileName="../other.ome.tif">urn:uuid:1</UUID>'
    tifffile.imwrite(tmp_path / "other.ome.tif", RGB)
    (tmp_path / "labels").mkdir()
    write_ome(tmp_path / "labels/a_labels.tif", RGB[..., 0], data, SizeC=1)
    with pytest.raises(InputError, match="lies outside the folder"):
        read(tmp_path / "labels/a_labels.tif")


def test_files_of_a_set_may_lie_below_and_a_file_may_say_where_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "day1").mkdir()
    tifffile.imwrite(tmp_path / "day1" / "other.tif", RGB[::-1])
    write_ome(tmp_path / "a.ome.tif", data='<UUID FileName="day1/other.tif">urn:uuid:1</UUID>')
    assert_array_equal(planes_in(tmp_path / "a.ome.tif")[0].read().rgb, RGB[::-1])
    write_ome(tmp_path / "b.ome.tif", data='<UUID FileName="C:\\data\\b.ome.tif">urn:uuid:0</UUID>')
    assert planes_in(tmp_path / "b.ome.tif")[0].read().shape == (20, 30)


def test_zarr_arrays_of_objects_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    """Some versions of numcodecs unpickle these, and so run what code the pickle brings."""
    path = tmp_path / "texts.zarr"
    path.mkdir()
    metadata = {"zarr_format": 2, "shape": [20, 30, 3], "chunks": [20, 30, 3], "dtype": "|O", "order": "C"}
    codecs = {"compressor": {"id": "pickle"}, "filters": [{"id": "vlen-utf8"}], "fill_value": None}
    (path / ".zarray").write_text(json.dumps(metadata | codecs))
    (path / "0.0.0").write_bytes(pickle.dumps(1))
    with pytest.raises(InputError, match=r"texts\.zarr: a zarr array of .*; expected numbers"):
        planes_in(path)
