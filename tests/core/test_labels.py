"""Label images: written by us, brought by the user."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from PIL import Image

from napari_all_detect.errors import InputError
from napari_all_detect.export.labels import write_labels
from napari_all_detect.sources.labels import find_labels, label_names, read_labels

LABELS = np.array([[0, 1, 1], [0, 0, 200]])


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [(0, np.uint16), (200, np.uint16), (65535, np.uint16), (65536, np.uint32), (2**31 - 1, np.uint32)],
)
def test_labels_round_trip_in_the_smallest_type(largest: int, dtype: type[np.integer], tmp_path: Path) -> None:
    labels = np.array([[0, 1, 0], [0, 0, largest]], np.int32)
    path = tmp_path / "day1" / "a_labels.tif"
    write_labels(labels, path)
    assert tifffile.imread(path).dtype == dtype
    assert_array_equal(read_labels(path), labels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 3), (3, 5), (4, 4)])
def test_labels_keep_their_shape(shape: tuple[int, int], tmp_path: Path) -> None:
    labels = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    write_labels(labels, tmp_path / "a_labels.tif")
    assert_array_equal(read_labels(tmp_path / "a_labels.tif"), labels)


def test_the_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_labels(LABELS, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("planes", "names"),
    [
        ([("a.png", "0")], ["a"]),
        ([("day1/a.png", "0"), ("day2/a.png", "0")], ["day1/a", "day2/a"]),
        ([("a.tif", "p0"), ("a.tif", "p1")], ["a_p0", "a_p1"]),
        ([("a.png", "0"), ("a.tif", "0"), ("b.png", "0")], ["a.png", "a.tif", "b"]),
        ([("a.png", "0"), ("a.tif", "p0")], ["a.png", "a.tif_p0"]),
        ([("a.png", "0"), ("A.tif", "0"), ("B.tif", "0")], ["a.png", "A.tif", "B"]),
        ([("a_p1.png", "0"), ("a.tif", "p0"), ("a.tif", "p1")], ["a_p1.png", "a.tif_p0", "a.tif_p1"]),
        ([("day.1/slide", "t0_z3")], ["day.1/slide_t0_z3"]),
        ([("a.b.png", "0"), ("a.c.png", "0")], ["a.b", "a.c"]),
    ],
)
def test_label_names(planes: list[tuple[str, str]], names: list[str]) -> None:
    expected = {key: f"{name}_labels.tif" for key, name in zip(planes, names, strict=True)}
    assert label_names(planes) == expected


@pytest.mark.parametrize("folder", ["", "day1"])
@pytest.mark.parametrize(
    "images", [[("a.png", "0")], [("a.png", "0"), ("a.tif", "p1")], [("a_p1.png", "0"), ("a.tif", "p1")]]
)
def test_what_was_named_is_found(folder: str, images: list[tuple[str, str]], tmp_path: Path) -> None:
    planes = [(str(Path(folder, image)), name) for image, name in images]
    names = label_names(planes)
    for name in names.values():
        write_labels(LABELS, tmp_path / name)
    assert [find_labels(tmp_path, *p) for p in planes] == [tmp_path / name for name in names.values()]


@pytest.mark.parametrize("name", ["a_labels.tif", "a_labels.png", "a_labels.npy", "a.tif", "a.png", "a.npy"])
def test_labels_of_other_programs_are_found_by_the_images_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert find_labels(tmp_path, "a.jpg", "0") == tmp_path / name


def test_our_own_name_comes_before_the_images(tmp_path: Path) -> None:
    for name in ("a.tif", "a_labels.tif"):
        (tmp_path / name).touch()
    assert find_labels(tmp_path, "a.jpg", "0").name == "a_labels.tif"


def test_a_name_of_two_images_is_neither_ones(tmp_path: Path) -> None:
    """The stem tells that there is another `a` in the run."""
    for name in ("a_labels.tif", "a.npy", "a.tif"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"expected for instance a\.png_labels\.tif, as names"):
        find_labels(tmp_path, "a.png", "0", "a.png")
    assert find_labels(tmp_path, "a.tif", "0", "a.tif").name == "a.tif"
    (tmp_path / "a.png_labels.npy").touch()
    assert find_labels(tmp_path, "a.png", "0", "a.png").name == "a.png_labels.npy"


def test_a_file_is_taken_for_every_plane(tmp_path: Path) -> None:
    assert find_labels(tmp_path / "labels.png", "a.jpg", "p7") == tmp_path / "labels.png"


def test_labels_of_another_plane_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "a_p0_labels.tif").touch()
    with pytest.raises(InputError, match=r"no label image for a.tif; expected for instance a_p1_labels.tif"):
        find_labels(tmp_path, "a.tif", "p1")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("8.png", np.uint8), ("16.png", np.uint16), ("8.TIF", np.uint8), ("32.tiff", np.int32), ("64.npy", np.int64)],
)
def test_numbers_come_as_they_are(name: str, dtype: type[np.integer], tmp_path: Path) -> None:
    path, labels = tmp_path / name, LABELS.astype(dtype)
    if path.suffix == ".png":
        Image.fromarray(labels).save(path)
    elif path.suffix == ".npy":
        np.save(path, labels)
    else:
        tifffile.imwrite(path, labels)
    assert_array_equal(read_labels(path), labels)


def test_a_palette_png_gives_its_numbers_not_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (3, 2))
    image.putdata(LABELS.ravel().tolist())
    image.putpalette([7, 8, 9] * 256)
    image.save(tmp_path / "a.png")
    assert_array_equal(read_labels(tmp_path / "a.png"), LABELS)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 5, 3), np.uint8), np.zeros((2, 4, 5), np.uint16), np.zeros((4, 5)), np.zeros(4, int)]
)
def test_what_is_no_label_image_is_refused(array: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=r"a.npy: .* expected a label image: whole numbers of shape \(H, W\)"):
        read_labels(tmp_path / "a.npy")


def test_an_rgb_png_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"uint8 of shape \(4, 5, 3\)"):
        read_labels(tmp_path / "a.png")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[print]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="can't be read as label image"):
        read_labels(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy"])
def test_missing_and_damaged_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / name)
    (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(InputError, match="can't be read as label image"):
        read_labels(tmp_path / name)
