import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from napari_all_detect.trust import FLAGS, calls, flag_cells, join_flags, spread, votes_all

P_ALL = np.array([[0.1, 0.9], [0.5, 0.5], [1.0, 0.0]], np.float32)
VOTES = np.stack([1 - P_ALL, P_ALL], axis=-1)


def flags(box: tuple[int, int, int, int], diameter: float = 20.0, scale: float = 1.0) -> list[str]:
    found = flag_cells(
        np.array([box]), np.array([diameter]), (100, 200), scale=scale, crop_size=50, bundle_diameter_px=20.0
    )
    return [name for name, values in found.items() if values[0]]


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7])
def test_a_call_reaches_the_threshold_in_float32(threshold: float) -> None:
    at = np.float32(threshold)
    p_all = np.array([np.nextafter(at, np.float32(0)), at, np.nextafter(at, np.float32(1))])
    assert calls(p_all, threshold).tolist() == ["Hem", "ALL", "ALL"]


def test_spread_is_the_standard_deviation_of_the_members() -> None:
    values = spread(VOTES)
    assert values.dtype == np.float32
    assert_allclose(values, [0.4, 0.0, 0.5], atol=1e-7)


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, [1, 2, 1]), (0.0, [2, 2, 2]), (0.95, [0, 0, 1])])
def test_votes(threshold: float, expected: list[int]) -> None:
    assert votes_all(VOTES, threshold).tolist() == expected


@pytest.mark.parametrize("box", [(0, 5, 20, 25), (5, 0, 25, 20), (80, 5, 100, 25), (5, 180, 25, 200)])
def test_touching_any_border_is_flagged(box: tuple[int, int, int, int]) -> None:
    assert flags(box) == ["touches_border"]


def test_a_pixel_from_the_border_is_not_flagged() -> None:
    assert flags((1, 1, 21, 21)) == []
    assert flags((79, 179, 99, 199)) == []


@pytest.mark.parametrize(("side", "scale", "larger"), [(50, 1.0, False), (51, 1.0, True), (60, 0.5, False)])
def test_larger_than_crop_counts_after_rescaling(side: int, scale: float, larger: bool) -> None:
    tall, wide = (10, 10, 10 + side, 20), (10, 10, 20, 10 + side)
    assert ("larger_than_crop" in flags(tall, scale=scale)) == larger
    assert ("larger_than_crop" in flags(wide, scale=scale)) == larger


@pytest.mark.parametrize(
    ("diameter", "scale", "mismatch"),
    [
        (10.0, 1.0, False),
        (9.9, 1.0, True),
        (40.0, 1.0, False),
        (40.1, 1.0, True),
        (60.0, 0.5, False),
        (9.9, 2.0, False),
    ],
)
def test_scale_mismatch_is_a_factor_of_two_after_rescaling(diameter: float, scale: float, mismatch: bool) -> None:
    assert ("scale_mismatch" in flags((10, 10, 30, 30), diameter, scale)) == mismatch


def test_flags_are_joined_in_their_own_order() -> None:
    found = {name: np.array([True, i == 2, False]) for i, name in enumerate(reversed(FLAGS))}
    assert join_flags(found, 3) == [";".join(FLAGS), FLAGS[-3], ""]


def test_no_cells() -> None:
    assert calls(np.zeros(0, np.float32), 0.5).shape == (0,)
    assert spread(np.zeros((0, 5, 2))).shape == (0,)
    assert votes_all(np.zeros((0, 5, 2)), 0.5).shape == (0,)
    empty = flag_cells(np.zeros((0, 4), int), np.zeros(0), (9, 9), scale=1.0, crop_size=5, bundle_diameter_px=5.0)
    assert_array_equal([len(values) for values in empty.values()], 0)
    assert join_flags(empty, 0) == []
