"""Collections of images as bioformats2raw writes them: numbered groups, and the metadata of the file they were in."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_all_detect.errors import InputError
from napari_all_detect.sources import Plane, find_images, open_planes

ngio = pytest.importorskip("ngio")

Pixels = NDArray[np.uint8]
OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def planes_in(path: Path) -> list[Plane]:
    return [plane for file in find_images([path]) for plane in open_planes(file)]


def write_collection(
    path: Path, images: Sequence[Pixels], version: str, series: Sequence[str] = (), names: Sequence[str] = ()
) -> None:
    def group(place: Path, attributes: dict[str, Any]) -> None:
        whole = {"ome": {"version": "0.5", **attributes}} if version == "0.5" else attributes
        zarr.create_group(place, zarr_format={"0.4": 2, "0.5": 3}[version], attributes=whole)

    group(path, {"bioformats2raw.layout": 3})
    for number, pixels in enumerate(images):
        ngio.create_ome_zarr_from_array(
            path / (series[number] if series else str(number)),
            np.moveaxis(pixels, 2, 0)[None, :, None],
            axes_names=list("tczyx"),
            pixelsize=0.25,
            levels=1,
            ngff_version=version,
        )
    if series:
        group(path / "OME", {"series": list(series)})
    if names:
        listed = "".join(f'<Image ID="Image:{i}" Name="{name}"/>' for i, name in enumerate(names))
        (path / "OME").mkdir(exist_ok=True)
        (path / "OME/METADATA.ome.xml").write_text(
            f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{OME}">{listed}</OME>', encoding="utf-8"
        )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("series", [(), ("0", "1", "2")], ids=["numbered", "listed"])
def test_images_of_a_collection_come_in_their_order(
    version: str, series: tuple[str, ...], tmp_path: Path, smear: Callable[..., Pixels]
) -> None:
    write_collection(tmp_path / "slides.zarr", [smear(seed) for seed in range(3)], version, series)
    planes = planes_in(tmp_path / "slides.zarr")
    assert [plane.image for plane in planes] == ["slides.zarr/0", "slides.zarr/1", "slides.zarr/2"]
    assert {(plane.plane, plane.well, plane.field, plane.pixel_size_um) for plane in planes} == {("0", "", "", 0.25)}
    for seed, plane in enumerate(planes):
        np.testing.assert_array_equal(plane.read().rgb, smear(seed))
    (alone,) = planes_in(tmp_path / "slides.zarr/2")
    assert alone.image == "slides.zarr/2"


def test_images_are_where_the_list_says(tmp_path: Path, smear: Callable[..., Pixels]) -> None:
    write_collection(tmp_path / "slides.zarr", [smear(0), smear(1)], "0.5", series=("second", "1"))
    assert [plane.image for plane in planes_in(tmp_path / "slides.zarr")] == ["slides.zarr/second", "slides.zarr/1"]


NAMES = ("smear.svs", "Label image", "macro image")


def test_pictures_of_the_slide_and_its_label_are_left_out(tmp_path: Path, smear: Callable[..., Pixels]) -> None:
    write_collection(tmp_path / "slide.zarr", [smear(seed) for seed in range(3)], "0.4", ("0", "1", "2"), NAMES)
    assert [plane.image for plane in planes_in(tmp_path / "slide.zarr")] == ["slide.zarr/0"]


@pytest.mark.parametrize("names", [NAMES[:2], ("label", "overview", "macro image")], ids=["too few", "no smear"])
def test_names_that_can_not_tell_leave_all_images(
    names: tuple[str, ...], tmp_path: Path, smear: Callable[..., Pixels]
) -> None:
    write_collection(tmp_path / "slide.zarr", [smear(seed) for seed in range(3)], "0.5", ("0", "1", "2"), names)
    assert len(planes_in(tmp_path / "slide.zarr")) == 3


def test_metadata_that_are_no_xml_leave_all_images(tmp_path: Path, smear: Callable[..., Pixels]) -> None:
    write_collection(tmp_path / "slide.zarr", [smear(seed) for seed in range(3)], "0.5", ("0", "1", "2"), NAMES)
    (tmp_path / "slide.zarr/OME/METADATA.ome.xml").write_bytes(b"<OME")
    assert len(planes_in(tmp_path / "slide.zarr")) == 3


def test_an_image_that_is_missing_spoils_no_other(tmp_path: Path, smear: Callable[..., Pixels]) -> None:
    write_collection(tmp_path / "slides.zarr", [smear(seed) for seed in range(3)], "0.5", ("0", "1", "2"))
    shutil.rmtree(tmp_path / "slides.zarr/1")
    first, second, third = planes_in(tmp_path / "slides.zarr")
    with pytest.raises(InputError, match=r"slides\.zarr: 1 is named in the metadata but missing"):
        second.read()
    assert first.read().rgb.shape == third.read().rgb.shape == (144, 176, 3)


def test_an_image_that_says_how_it_was_made_is_an_image(tmp_path: Path, smear: Callable[..., Pixels]) -> None:
    write_collection(tmp_path / "slides.zarr", [smear(0)], "0.4")
    image = zarr.open_group(tmp_path / "slides.zarr/0")
    image.attrs["bioformats2raw.layout"] = 3
    assert [plane.image for plane in planes_in(tmp_path / "slides.zarr/0")] == ["slides.zarr/0"]


def test_a_collection_without_an_image(tmp_path: Path) -> None:
    write_collection(tmp_path / "empty.zarr", [], "0.5")
    with pytest.raises(InputError, match="a collection without an image; convert the file again"):
        planes_in(tmp_path / "empty.zarr")
