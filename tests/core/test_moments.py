"""Sums over pixels beside scikit-image's measures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from skimage.measure import regionprops_table

from napari_all_detect.moments import moments


def boxes_of(labels: NDArray[np.integer]) -> dict[int, tuple[slice, ...]]:
    return {number: box for number, box in enumerate(find_objects(labels), start=1) if box is not None}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
@given(st.data())
def test_as_scikit_image_measures(dtype: type, data: st.DataObject) -> None:
    # Scattered pixels of a few numbers, some of which are missing.
    labels = data.draw(arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 0, 0, 2, 3, 7]))).astype(dtype)
    wanted = regionprops_table(labels, properties=("area", "centroid_local", "eccentricity"))
    found = moments(labels, boxes_of(labels))
    for name, theirs in {"area": "area", "y": "centroid_local-0", "x": "centroid_local-1"}.items():
        np.testing.assert_allclose(found[name], wanted[theirs], rtol=1e-12, atol=1e-12)
    # The root of a difference: where the ellipse is a circle, its last bits are all there is.
    np.testing.assert_allclose(found["eccentricity"], wanted["eccentricity"], rtol=1e-6, atol=1e-6)


def test_a_large_cell_far_from_the_origin_is_measured_as_if_it_lay_there() -> None:
    y, x = np.mgrid[:400, :300]
    cell = ((y - 200) / 190) ** 2 + ((x - 150) / 120) ** 2 <= 1
    far = np.zeros((4000, 3000), np.int32)
    far[3500:3900, 2600:2900][cell] = 5
    near = cell.astype(np.int32) * 5
    there, here = (moments(labels, boxes_of(labels)) for labels in (far, near))
    for name, value in here.items():
        np.testing.assert_array_equal(value, there[name])
    assert here["eccentricity"][0] == pytest.approx(np.sqrt(1 - (120 / 190) ** 2), abs=1e-3)


def test_a_pixel_is_round_and_a_line_is_not() -> None:
    labels = np.zeros((6, 9), np.int32)
    labels[0, 0], labels[2, 1:8] = 1, 2
    labels[3:6, 3:6][np.eye(3, dtype=bool)] = 3
    np.testing.assert_array_equal(moments(labels, boxes_of(labels))["eccentricity"], [0, 1, 1])


def test_no_cells() -> None:
    assert all(values.shape == (0,) for values in moments(np.zeros((3, 4), np.int32), {}).values())
