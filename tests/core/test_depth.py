import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_all_detect.segmentation.depth import depth_within, region_radii

Mask = NDArray[np.bool_]


@st.composite
def blobs(draw: st.DrawFn) -> Mask:
    """Random blobs, some of which touch the border."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    smooth = ndi.gaussian_filter(rng.standard_normal((draw(st.integers(3, 50)), draw(st.integers(3, 50)))), 2)
    return np.asarray(smooth > np.quantile(smooth, draw(st.floats(0.3, 0.9))))


@given(mask=blobs())
def test_depth_is_the_distance_to_what_is_outside(mask: Mask) -> None:
    # Regions that touch at corners alone are measured apart: half a pixel at most.
    assert_allclose(depth_within(mask), ndi.distance_transform_edt(mask), atol=0.5)
    assert depth_within(mask).dtype == np.float32


@given(mask=blobs())
def test_a_regions_radius_is_its_greatest_depth(mask: Mask) -> None:
    regions, radii = region_radii(mask)
    depth = depth_within(mask)
    assert radii[0] == 0
    assert_allclose(radii[1:], [depth[regions == number].max() for number in range(1, regions.max() + 1)], rtol=1e-6)


@given(mask=blobs(), least=st.floats(1, 8))
def test_regions_that_can_hold_the_least_circle_are_measured(mask: Mask, least: float) -> None:
    radii = region_radii(mask, least)[1]
    every = region_radii(mask)[1]
    assert_allclose(radii[every >= least], every[every >= least])
    assert (radii[every < least] < least).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 7)])
def test_nothing_is_deep_in_an_empty_mask(shape: tuple[int, int]) -> None:
    assert not depth_within(np.zeros(shape, bool)).any()
    regions, radii = region_radii(np.zeros(shape, bool))
    assert regions.shape == shape
    assert radii.tolist() == [0]
