from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect.crops import center_crop, crop_scale
from napari_all_detect.errors import InputError


def never_black(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 256, (*shape, 3), dtype=np.uint8)


def box_label(shape: tuple[int, int], y0: int, x0: int, y1: int, x1: int) -> NDArray[np.int32]:
    labels = np.zeros(shape, np.int32)
    labels[y0:y1, x0:x1] = 1
    return labels


label_images = arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 4))


def test_whole_image_gives_its_central_300x300_as_in_the_paper() -> None:
    image = never_black((450, 450))
    crops = center_crop(image, np.ones((450, 450), np.int32), size=300)
    assert crops.shape == (1, 300, 300, 3)
    assert crops.dtype == np.uint8
    assert_array_equal(crops[0], image[75:375, 75:375])


def test_cnmc_images_give_their_central_300x300(data_folder: Path) -> None:
    paths = sorted((data_folder / "cnmc").rglob("*.bmp"))
    assert len(paths) == 13
    for path in paths:
        image = np.asarray(Image.open(path))
        assert_array_equal(center_crop(image, np.ones((450, 450), np.int32), 300)[0], image[75:375, 75:375])


def test_other_cells_and_background_are_black() -> None:
    image = never_black((9, 9))
    labels = box_label((9, 9), 3, 3, 6, 6)
    labels[3:6, 6:8] = 2
    one, two = center_crop(image, labels, size=7)
    assert_array_equal(one[2:5, 2:5], image[3:6, 3:6])
    assert np.count_nonzero(one.any(axis=-1)) == 9
    assert np.count_nonzero(two.any(axis=-1)) == 6


@pytest.mark.parametrize(
    ("box", "place", "part"),
    [
        ((0, 4, 2, 6), np.s_[3:5, 3:5], "top"),
        ((8, 4, 10, 6), np.s_[3:5, 3:5], "bottom"),
        ((4, 0, 6, 2), np.s_[3:5, 3:5], "left"),
        ((4, 8, 6, 10), np.s_[3:5, 3:5], "right"),
        ((0, 0, 2, 2), np.s_[3:5, 3:5], "top left corner"),
        ((9, 9, 10, 10), np.s_[4:5, 4:5], "single pixel in the last corner"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_beyond_the_plane_is_black(box: tuple[int, int, int, int], place: Any, part: str) -> None:
    y0, x0, y1, x1 = box
    image = never_black((10, 10))
    (crop,) = center_crop(image, box_label((10, 10), *box), size=8)
    expected = np.zeros_like(crop)
    expected[place] = image[y0:y1, x0:x1]
    assert_array_equal(crop, expected)


@pytest.mark.parametrize(
    ("cell", "size", "first"),
    [(4, 8, 2), (4, 7, 2), (5, 8, 2), (5, 7, 1), (1, 1, 0), (1, 2, 1)],
)
def test_odd_and_even_sizes(cell: int, size: int, first: int) -> None:
    """Where the margins can't be equal, the one before the cell is a pixel wider."""
    image = never_black((20, 20))
    (crop,) = center_crop(image, box_label((20, 20), 8, 8, 8 + cell, 8 + cell), size)
    assert_array_equal(np.flatnonzero(crop.any(axis=(1, 2))), np.arange(first, first + cell))
    assert_array_equal(crop[first : first + cell, first : first + cell], image[8 : 8 + cell, 8 : 8 + cell])


def test_larger_cells_lose_their_rim() -> None:
    image = never_black((12, 12))
    (crop,) = center_crop(image, np.ones((12, 12), np.int32), size=4)
    assert_array_equal(crop, image[4:8, 4:8])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int16, np.int32, np.int64])
def test_gapped_labels_come_in_the_order_of_their_numbers(dtype: type[np.integer]) -> None:
    image = np.zeros((3, 9, 3), np.uint8)
    image[1] = np.arange(10, 100, 10)[:, None]
    labels = np.zeros((3, 9), dtype)
    labels[1, [1, 4, 7]] = [90, 7, 30]
    assert center_crop(image, labels, size=1)[:, 0, 0, 0].tolist() == [50, 80, 20]


def test_without_cells_there_are_no_crops() -> None:
    assert center_crop(never_black((5, 6)), np.zeros((5, 6), np.int32), size=4).shape == (0, 4, 4, 3)


def test_half_scale_averages_four_pixels() -> None:
    image = np.kron(never_black((8, 8))[..., 0], np.ones((2, 2), np.uint8))[..., None].repeat(3, axis=2)
    (crop,) = center_crop(image, box_label((16, 16), 4, 4, 12, 12), size=8, scale=0.5)
    small = np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BILINEAR))
    assert_array_equal(crop[2:6, 2:6], small[2:6, 2:6])
    assert np.count_nonzero(crop.any(axis=-1)) == 16


@pytest.mark.parametrize(("scale", "expected"), [(0.5, 10), (1.0, 20), (1.5, 30), (2.0, 40)])
def test_scale_scales_the_cell_and_keeps_it_centred(scale: float, expected: int) -> None:
    (crop,) = center_crop(never_black((60, 60)), box_label((60, 60), 12, 30, 32, 50), size=50, scale=scale)
    for axis in (0, 1):
        filled = np.flatnonzero(crop.any(axis=(1 - axis, 2)))
        assert len(filled) == expected
        assert abs(filled.mean() - 24.5) <= 0.5


@pytest.mark.parametrize("scale", [0.3, 0.55, 0.7, 1.6])
@pytest.mark.parametrize("size", [24, 25])
def test_plane_and_labels_are_resampled_before_a_cell_is_cut_out(scale: float, size: int) -> None:
    image, labels = never_black((33, 41)), box_label((33, 41), 7, 11, 26, 30)
    shape = round(41 * scale), round(33 * scale)
    small = np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BILINEAR))
    cell = np.asarray(Image.fromarray(labels).resize(shape, Image.Resampling.NEAREST)) == 1
    y, x = (size + floor((ends * scale - size) / 2) for ends in (7 + 26, 11 + 30))
    padded = np.pad(np.where(cell[..., None], small, 0), ((size, size), (size, size), (0, 0)))
    (crop,), expected = center_crop(image, labels, size, scale), padded[y : y + size, x : x + size]
    assert_array_equal(crop.any(axis=-1), expected.any(axis=-1))
    assert_allclose(crop.astype(int), expected, atol=1)  # of the plane, only the cell's part is resampled


def test_a_label_that_rescaling_swallows_still_has_its_row() -> None:
    image = np.full((20, 20, 3), 200, np.uint8)
    labels = np.zeros((20, 20), np.int32)
    labels[0, 0] = 1
    labels[4:16, 4:16] = 2
    crops = center_crop(image, labels, size=6, scale=0.25)
    assert [bool(crop.any()) for crop in crops] == [False, True]


@pytest.mark.parametrize("shape", [(4, 5), (5, 4), (5, 5, 1)])
def test_other_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"the labels' shape is .* the image's \(5, 5\); expected the same"):
        center_crop(never_black((5, 5)), np.ones(shape, np.int32), size=3)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rgb": np.ones((5, 5, 3))}, r"the image is float64 of shape \(5, 5, 3\); expected uint8"),
        ({"rgb": np.ones((5, 5), np.uint8)}, r"the image is uint8 of shape \(5, 5\); expected uint8 of shape"),
        ({"rgb": "a.png"}, "the image: got str; expected an array"),
        ({"labels": [[1] * 5] * 5}, "the labels: got list; expected an array"),
        ({"labels": np.ones((5, 5))}, "labels are float64; expected whole numbers"),
        ({"labels": np.full((5, 5), -1)}, "labels run from -1 to 0"),
        ({"size": 0}, "size is 0; expected a whole number"),
        ({"size": 3.0}, "size is 3.0; expected a whole number"),
        ({"scale": 0.0}, "scale is 0.0; expected a number above 0"),
        ({"scale": float("nan")}, "scale is nan; expected a number above 0"),
    ],
)
def test_what_cannot_be_cut_is_refused(changed: dict[str, Any], said: str) -> None:
    given = {"rgb": never_black((5, 5)), "labels": np.ones((5, 5), np.int32), "size": 3} | changed
    with pytest.raises(InputError, match=said):
        center_crop(**given)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_mask_is_one_cell(scale: float) -> None:
    image, labels = never_black((9, 9)), box_label((9, 9), 3, 3, 6, 6)
    assert_array_equal(center_crop(image, labels > 0, 7, scale), center_crop(image, labels, 7, scale))


@given(label_images, st.integers(1, 15), st.sampled_from([0.25, 0.5, 1.0, 1.3, 3.0]))
def test_there_are_as_many_crops_as_labels(labels: NDArray[np.int32], size: int, scale: float) -> None:
    n = len(np.unique(labels[labels > 0]))
    assert center_crop(never_black(labels.shape), labels, size, scale).shape == (n, size, size, 3)


@given(label_images, st.integers(1, 15))
def test_a_crop_holds_pixels_of_its_own_cell_only(labels: NDArray[np.int32], size: int) -> None:
    # The red channel names the cell a pixel is from.
    image = never_black(labels.shape)
    image[..., 0] = labels + 1
    for number, crop in zip(np.unique(labels[labels > 0]), center_crop(image, labels, size), strict=True):
        assert set(np.unique(crop[..., 0]).tolist()) <= {0, number + 1}


@given(label_images, st.integers(0, 9), st.integers(0, 9), st.integers(1, 15))
def test_shifting_the_plane_changes_no_crop(labels: NDArray[np.int32], dy: int, dx: int, size: int) -> None:
    image = never_black(labels.shape)
    pad = ((dy, 3), (dx, 2))
    shifted = np.pad(image, (*pad, (0, 0)), constant_values=77)
    assert_array_equal(center_crop(shifted, np.pad(labels, pad), size), center_crop(image, labels, size))


@given(label_images)
def test_large_crops_hold_all_of_every_cell(labels: NDArray[np.int32]) -> None:
    crops = center_crop(never_black(labels.shape), labels, size=13)
    numbers, areas = np.unique(labels[labels > 0], return_counts=True)
    assert len(numbers) == len(crops)
    assert_array_equal(crops.all(axis=-1).sum(axis=(1, 2)), areas)


def scale_of(
    rescale: Any, diameters: list[float], pixel: float | None = None, bundle_pixel: float | None = None
) -> float:
    return crop_scale(
        rescale,
        pixel_size_um=pixel,
        diameters_px=np.array(diameters),
        bundle_pixel_size_um=bundle_pixel,
        bundle_diameter_px=30.0,
    )


@pytest.mark.parametrize("rescale", [0.5, 1, 2.5])
def test_a_given_factor_wins(rescale: float) -> None:
    assert scale_of(rescale, [300.0], 0.1, 0.2) == rescale


def test_none_leaves_the_scale() -> None:
    assert scale_of("none", [300.0], 0.1, 0.2) == 1.0


def test_pixel_sizes_decide_where_both_are_known() -> None:
    assert scale_of("auto", [300.0], 0.1, 0.2) == 0.5
    assert scale_of("auto", [300.0], 0.1, None) == 0.1
    assert scale_of("auto", [300.0], None, 0.2) == 0.1


@pytest.mark.parametrize(
    ("diameters", "expected"),
    [
        ([30.0], 1.0),
        ([20.0], 1.0),
        ([45.0], 1.0),
        ([19.9], 30 / 19.9),
        ([45.1], 30 / 45.1),
        ([60.0, 300.0, 10.0], 0.5),
        ([], 1.0),
    ],
)
def test_median_diameter_decides_where_it_differs_by_half(diameters: list[float], expected: float) -> None:
    assert scale_of("auto", diameters) == pytest.approx(expected)
