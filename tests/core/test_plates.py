"""Plates, resolution levels and channels of OME-Zarr; what is written by ngio and validated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_all_detect import retrying
from napari_all_detect.errors import InputError
from napari_all_detect.params import ReadParams
from napari_all_detect.sources import Plane, find_images, open_planes
from napari_all_detect.sources.plane import OmePlace

ngio = pytest.importorskip("ngio")

Pixels = NDArray[np.uint8]
FIELDS = [("A", "02", "0"), ("A", "10", "0"), ("B", "02", "0"), ("B", "02", "1")]


def planes_in(path: Path, reading: ReadParams | None = None, wanted_um: float | None = None) -> list[Plane]:
    return [plane for file in find_images([path]) for plane in open_planes(file, reading, wanted_um)]


def write_image(store: Any, pixels: NDArray[np.generic], axes: str = "cyx", version: str = "0.5", **more: Any) -> None:
    options = {"pixelsize": 0.25, "levels": 1, "consolidation_mode": "auto"} | more
    ngio.create_ome_zarr_from_array(store, pixels, axes_names=list(axes), ngff_version=version, **options)


@pytest.fixture(params=["0.4", "0.5"])
def plate(request: pytest.FixtureRequest, tmp_path: Path, smear: Callable[..., Pixels]) -> Path:
    """A plate of three wells and four fields, each another smear."""
    path, version = tmp_path / "plate.zarr", request.param
    wells = [
        ngio.ImageInWellPath(row=row, column=column, path=field, acquisition_id=0) for row, column, field in FIELDS
    ]
    created = ngio.create_empty_plate(path, name="plate", images=wells, ngff_version=version)
    for seed, (row, column, field) in enumerate(FIELDS):
        write_image(created.get_image_store(row, column, field), np.moveaxis(smear(seed), 2, 0).copy(), version=version)
    return path


def test_a_plate_is_valid_and_its_fields_come_by_row_and_column(plate: Path, smear: Callable[..., Pixels]) -> None:
    from ome_zarr_models import v04, v05

    group = zarr.open_group(plate, mode="r")
    if group.metadata.zarr_format == 3:
        v05.HCS.from_zarr(group)
    else:
        v04.plate.Plate.model_validate(group.attrs["plate"])
    planes = planes_in(plate)
    assert [plane.image for plane in planes] == [f"plate.zarr/{row}/{column}/{field}" for row, column, field in FIELDS]
    assert [(plane.well, plane.field) for plane in planes] == [(row + column, field) for row, column, field in FIELDS]
    for seed, plane in enumerate(planes):
        np.testing.assert_array_equal(plane.read().rgb, smear(seed))
        assert plane.pixel_size_um == 0.25


def test_a_well_and_a_field_of_a_plate(plate: Path) -> None:
    planes = planes_in(plate / "B" / "02")
    assert [(plane.image, plane.well, plane.field) for plane in planes] == [
        ("plate.zarr/B/02/0", "B02", "0"),
        ("plate.zarr/B/02/1", "B02", "1"),
    ]
    (plane,) = planes_in(plate / "B" / "02" / "1")
    assert (plane.image, plane.well, plane.field) == ("plate.zarr/B/02/1", "B02", "1")
    assert [(plane.well, plane.field) for plane in planes_in(plate / "*/*/0")] == [
        (row + column, field) for row, column, field in FIELDS if field == "0"
    ]


def test_a_field_that_is_damaged_spoils_no_other(plate: Path) -> None:
    for file in [*(plate / "A" / "10" / "0").glob("zarr.json"), *(plate / "A" / "10" / "0").glob(".z*")]:
        file.unlink()
    planes = planes_in(plate)
    assert [plane.image for plane in planes] == [f"plate.zarr/{row}/{column}/{field}" for row, column, field in FIELDS]
    with pytest.raises(InputError, match="A/10/0 is named in the metadata but missing"):
        planes[1].read()
    for plane in (planes[0], *planes[2:]):
        assert plane.read().rgb.shape == (144, 176, 3)


def test_a_chunk_that_is_missing_is_noted_of_its_field(plate: Path) -> None:
    (chunk,) = (path for path in (plate / "A/10/0/0").rglob("0") if path.is_file())
    chunk.unlink()
    note = "1 of 1 chunks missing in the store: black there"
    assert [plane.read().notes for plane in planes_in(plate)] == [(), (note,), (), ()]


def test_a_well_that_is_missing_spoils_no_other(plate: Path) -> None:
    for file in [*(plate / "A" / "10").glob("zarr.json"), *(plate / "A" / "10").glob(".z*")]:
        file.unlink()
    planes = planes_in(plate)
    assert [plane.well for plane in planes] == ["A02", "A10", "B02", "B02"]
    with pytest.raises(InputError, match="A/10 is named in the metadata but missing"):
        planes[1].read()


@pytest.mark.filterwarnings("ignore:Path '0_registered' contains non-alphanumeric characters")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_fields_whose_names_only_ngio_allows(version: str, tmp_path: Path, smear: Callable[..., Pixels]) -> None:
    names = ["0", "0_registered"]
    images = [ngio.ImageInWellPath(row="B", column="03", path=name) for name in names]
    created = ngio.create_empty_plate(tmp_path / "plate.zarr", name="plate", images=images, ngff_version=version)
    for seed, name in enumerate(names):
        write_image(created.get_image_store("B", "03", name), np.moveaxis(smear(seed), 2, 0).copy(), version=version)
    for path in (tmp_path / "plate.zarr", tmp_path / "plate.zarr/B/03"):
        planes = planes_in(path)
        assert [(plane.well, plane.field) for plane in planes] == [("B03", name) for name in names]
        for seed, plane in enumerate(planes):
            assert plane.image == f"plate.zarr/B/03/{plane.field}"
            np.testing.assert_array_equal(plane.read().rgb, smear(seed))


@pytest.mark.parametrize(
    ("well", "reason"),
    [
        ({"images": [{"path": 7}]}, r"A.10: OME-Zarr metadata not valid at well\.images\.0\.path"),
        ({"images": [{"path": "/0"}]}, r"A.10: OME-Zarr metadata not valid at well\.images\.0\.path"),
        ({}, r"A.10: OME-Zarr metadata not valid at well\.images \(Field required\)"),
        (None, r"A.10: OME-Zarr metadata not valid at well \("),
    ],
)
def test_a_well_whose_metadata_are_damaged_says_so(plate: Path, well: Any, reason: str) -> None:
    group = zarr.open_group(plate / "A" / "10")
    attributes: dict[str, Any] = group.attrs.asdict()
    attributes.get("ome", attributes)["well"] = well
    group.attrs.put(attributes)
    planes = planes_in(plate)
    assert [plane.well for plane in planes] == ["A02", "A10", "B02", "B02"]
    with pytest.raises(InputError, match=reason):
        planes[1].read()


def test_a_well_whose_metadata_are_no_json_spoils_no_other(plate: Path) -> None:
    for file in [*(plate / "A" / "10").glob("zarr.json"), *(plate / "A" / "10").glob(".z*")]:
        file.write_text("{")
    planes = planes_in(plate)
    assert [plane.well for plane in planes] == ["A02", "A10", "B02", "B02"]
    with pytest.raises(InputError, match=r"A.10: can't be read as zarr"):
        planes[1].read()


def test_a_server_that_fails_now_and_then_loses_no_field(plate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "DELAYS_S", (0.0, 0.0))
    asked, get = set[tuple[str, str]](), zarr.Group.__getitem__

    def moody(group: zarr.Group, path: str) -> Any:
        if (group.name, path) not in asked:
            asked.add((group.name, path))
            raise ConnectionError("reset by peer")
        return get(group, path)

    monkeypatch.setattr(zarr.Group, "__getitem__", moody)
    planes = planes_in(plate)
    assert [plane.image for plane in planes] == [f"plate.zarr/{row}/{column}/{field}" for row, column, field in FIELDS]
    for plane in planes:
        assert plane.read().rgb.shape == (144, 176, 3)


def test_plate_metadata_that_are_not_valid(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "plate.zarr")
    group.attrs["ome"] = {"version": "0.5", "plate": {"wells": []}}
    with pytest.raises(InputError, match=r"OME-Zarr metadata not valid at plate\.columns"):
        planes_in(tmp_path / "plate.zarr")


@pytest.fixture
def pyramid(tmp_path: Path) -> tuple[Path, list[Pixels]]:
    """Three levels of 0.25, 0.5 and 1 um."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 96), np.uint8)
    write_image(tmp_path / "a.zarr", pixels, levels=3)
    container = ngio.open_ome_zarr_container(tmp_path / "a.zarr")
    levels = [np.moveaxis(container.get_image(path=str(i)).get_as_numpy(), 0, 2) for i in range(3)]
    assert [level.shape[0] for level in levels] == [64, 32, 16]
    return tmp_path / "a.zarr", levels


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_level_by_choice(pyramid: tuple[Path, list[Pixels]], level: int) -> None:
    path, levels = pyramid
    (plane,) = planes_in(path, ReadParams(level=level))
    np.testing.assert_array_equal(plane.read().rgb, levels[level])
    assert plane.pixel_size_um == 0.25 * 2**level
    assert plane.ome == OmePlace(str(level), {})
    (path / "1/c/0/0/0").unlink()
    assert len(plane.read().notes) == (level == 1)


@pytest.mark.parametrize(
    ("wanted_um", "level"), [(None, 0), (0.1, 0), (0.25, 0), (0.49, 0), (0.4999, 1), (0.5, 1), (0.9, 1), (7.0, 2)]
)
def test_a_level_by_the_pixel_size(pyramid: tuple[Path, list[Pixels]], wanted_um: float | None, level: int) -> None:
    (plane,) = planes_in(pyramid[0], ReadParams(level="auto"), wanted_um)
    assert plane.pixel_size_um == 0.25 * 2**level


def test_a_level_that_is_not_there(pyramid: tuple[Path, list[Pixels]]) -> None:
    with pytest.raises(InputError, match="no resolution level 3; it has 0 to 2"):
        planes_in(pyramid[0], ReadParams(level=3))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("by", ["colours", "names"])
def test_rgb_is_found_among_other_channels(tmp_path: Path, version: str, by: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 3, 20, 30), np.uint8)
    names = ["IR", "Blue", "mask", "red", "G"] if by == "names" else list("abcde")
    write_image(tmp_path / "a.zarr", pixels, "tczyx", version, channels_meta=names)
    if by == "colours":
        container = ngio.open_ome_zarr_container(tmp_path / "a.zarr")
        container.set_channel_colors(["FFFFFF", "0000FF", "FF00FF", "FF0000", "00FF00"])
    planes = planes_in(tmp_path / "a.zarr")
    assert [plane.plane for plane in planes] == ["t0_z0", "t0_z1", "t0_z2", "t1_z0", "t1_z1", "t1_z2"]
    np.testing.assert_array_equal(planes[4].read().rgb, np.moveaxis(pixels[1, [3, 4, 1], 1], 0, 2))
    assert planes[4].ome == OmePlace("0", {"t": 1, "z": 1})


def test_channels_are_told(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 20, 30), np.uint8)
    write_image(tmp_path / "a.zarr", pixels)
    with pytest.raises(InputError, match=r"an image with 4 channels; .* --channels 0,1,2"):
        planes_in(tmp_path / "a.zarr")
    (plane,) = planes_in(tmp_path / "a.zarr", ReadParams(channels=(3, 0, 1)))
    np.testing.assert_array_equal(plane.read().rgb, np.moveaxis(pixels[[3, 0, 1]], 0, 2))
    (grey,) = planes_in(tmp_path / "a.zarr", ReadParams(channels=(2,)))
    np.testing.assert_array_equal(grey.read().rgb, np.dstack([pixels[2]] * 3))
    with pytest.raises(InputError, match="no channel 4; it has 0 to 3"):
        planes_in(tmp_path / "a.zarr", ReadParams(channels=(0, 1, 4)))
    write_image(tmp_path / "b.zarr", pixels[:2])
    with pytest.raises(InputError, match=r"an image with 2 channels; .* which is the grey one: --channels 0$"):
        planes_in(tmp_path / "b.zarr")


def test_channels_of_a_tiff_are_told(tmp_path: Path) -> None:
    import tifffile

    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata={"axes": "ZCYX"}, photometric="minisblack", ome=True)
    with pytest.raises(InputError, match="an image with 4 channels"):
        planes_in(tmp_path / "a.ome.tif")
    planes = planes_in(tmp_path / "a.ome.tif", ReadParams(channels=(2, 1, 3)))
    assert len(planes) == 2
    np.testing.assert_array_equal(planes[1].read().rgb, np.moveaxis(pixels[1, [2, 1, 3]], 0, 2))


def test_sharded_arrays(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), np.uint8)
    write_image(tmp_path / "a.zarr", np.moveaxis(pixels, 0, 1), "czyx", chunks=(3, 1, 16, 16), shards=(3, 1, 64, 64))
    array = zarr.open_array(tmp_path / "a.zarr", path="0", mode="r")
    assert array.shards == (3, 1, 64, 64)
    for z, plane in enumerate(planes_in(tmp_path / "a.zarr")):
        np.testing.assert_array_equal(plane.read().rgb, np.moveaxis(pixels[z], 0, 2))


def test_patterns(tmp_path: Path, smear: Callable[..., Pixels]) -> None:
    from PIL import Image

    for name in ("day2/a.png", "day10/a.png", "day10/b.tif", "night/a.png", "day[1]/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(smear(1)).save(tmp_path / name)
    found = [file.image for file in find_images([tmp_path / "day*" / "*.png"])]
    assert found == ["day2/a.png", "day10/a.png", "day[1]/a.png"]
    assert len(find_images([f"{tmp_path}/**/a.*"])) == 4
    # A name that is there is that name.
    assert [file.path for file in find_images([tmp_path / "day[1]" / "a.png"])] == [tmp_path / "day[1]" / "a.png"]
    with pytest.raises(InputError, match="no such file"):
        planes_in(tmp_path / "evening*" / "*.png")
