import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from skimage.morphology import convex_hull_image

from napari_all_detect.hull import hull_areas

MASKS = hnp.array_shapes(min_dims=2, max_dims=2, max_side=14).flatmap(lambda shape: hnp.arrays(bool, shape))


@given(st.lists(MASKS.filter(lambda mask: bool(mask.any())), max_size=6))
def test_as_many_pixels_as_scikit_image_fills(masks: list[NDArray[np.bool_]]) -> None:
    assert hull_areas(masks).tolist() == [convex_hull_image(mask).sum() for mask in masks]


@given(st.integers(3, 60), st.integers(3, 60), st.integers(0, 2**32 - 1))
def test_blobs_too(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    cy, cx, ry, rx = rng.uniform(0.2, 0.8, 4) * [height, width, height, width]
    mask = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < rng.uniform(0.3, 1.2, (height, width))
    mask[int(cy), int(cx)] = True
    assert hull_areas([mask])[0] == convex_hull_image(mask).sum()


@pytest.mark.parametrize(
    ("mask", "area"),
    [
        ([[1]], 1),
        ([[1, 0, 0, 0, 1]], 5),
        ([[1], [0], [1]], 3),
        ([[0, 1, 0], [1, 1, 1], [0, 1, 0]], 5),
        ([[1, 0, 1], [0, 0, 0], [1, 0, 1]], 9),
        ([[1, 0, 0], [0, 0, 0], [0, 0, 1]], 3),
    ],
)
def test_by_hand(mask: list[list[int]], area: int) -> None:
    assert hull_areas([np.array(mask, bool)]) == area
