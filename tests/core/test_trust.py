import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial.distance import mahalanobis

from napari_all_detect.trust import (
    FLAGS,
    Bounds,
    calibrate,
    calls,
    colour_features,
    domain_distance,
    flag_cells,
    join_flags,
    log_odds,
    sharpness,
    spread,
    votes_all,
)

P_ALL = np.array([[0.1, 0.9], [0.5, 0.5], [1.0, 0.0]], np.float32)
VOTES = np.stack([1 - P_ALL, P_ALL], axis=-1)
SIDE = 50
Crops = NDArray[np.uint8]


def disc(value: tuple[int, int, int] = (150, 90, 180), radius: int = 12) -> Crops:
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    return np.where((y**2 + x**2 < radius**2)[..., None], np.array(value), 0).astype(np.uint8)


def flags(
    box: tuple[int, int, int, int] = (20, 20, 40, 40),
    diameter: float = 20.0,
    scale: float = 1.0,
    solidity: float = 0.97,
    crop: Crops | None = None,
) -> list[str]:
    found = flag_cells(
        np.array([box]),
        np.array([diameter]),
        np.array([solidity]),
        np.stack([disc() if crop is None else crop]),
        (100, 200),
        scale=scale,
        bundle_diameter_px=20.0,
    )
    return [name for name, values in found.items() if values[0]]


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7])
def test_a_call_reaches_the_threshold_in_float32(threshold: float) -> None:
    at = np.float32(threshold)
    p_all = np.array([np.nextafter(at, np.float32(0)), at, np.nextafter(at, np.float32(1))])
    assert calls(p_all, threshold).tolist() == ["Hem", "ALL", "ALL"]


def test_between_bounds_that_overlap_is_uncertain_ends_included() -> None:
    called = calls(np.array([0.29, 0.3, 0.5, 0.6, 0.61]), 0.5, Bounds(least_all=0.3, most_hem=0.6))
    assert called.tolist() == ["Hem", "uncertain", "uncertain", "uncertain", "ALL"]


def test_where_bounds_leave_a_gap_the_threshold_decides_in_it_only() -> None:
    bounds = Bounds(least_all=0.6, most_hem=0.3)
    assert calls(np.array([0.3, 0.4, 0.45, 0.6]), 0.45, bounds).tolist() == ["Hem", "Hem", "ALL", "ALL"]
    assert calls(np.array([0.3, 0.59, 0.6]), 0.95, bounds).tolist() == ["Hem", "Hem", "ALL"]


def test_bounds_that_exclude_nothing_leave_every_cell_uncertain() -> None:
    assert set(calls(np.array([0.0, 0.5, 1.0]), 0.5, Bounds(0.0, 1.0))) == {"uncertain"}


@pytest.mark.parametrize(
    ("rate", "least", "most"),
    [(0.004, 0.0, 1.0), (0.01, 0.2, 0.9), (0.049, 0.2, 0.9), (0.05, 0.4, 0.7), (0.5, 0.4, 0.7)],
)
def test_a_rate_that_is_not_tabled_takes_the_next_lower_one(rate: float, least: float, most: float) -> None:
    table = [0.01, 0.05], [0.2, 0.4], [0.9, 0.7]
    assert Bounds.at_rates(*table, rate, 0.5) == Bounds(least, 0.7)
    assert Bounds.at_rates(*table, 0.5, rate) == Bounds(0.4, most)


def test_calibrating_divides_the_log_odds() -> None:
    p_all = np.linspace(0.05, 0.95, 37).astype(np.float32)
    for temperature in (0.3, 1.7, 6.0):
        after = calibrate(p_all, temperature)
        assert after.dtype == np.float32
        assert_allclose(log_odds(after), log_odds(p_all) / temperature, rtol=1e-3, atol=1e-5)
        assert (np.diff(after) > 0).all()
        assert_array_equal(after >= 0.5, p_all >= 0.5)
    assert calibrate(p_all, 1.0) is p_all


def test_certainty_stays_a_probability() -> None:
    for temperature in (0.1, 1.0, 10.0):
        after = calibrate(np.array([0.0, 1.0], np.float32), temperature)
        assert ((after >= 0) & (after <= 1)).all()
        assert after[0] < after[1]


def test_spread_is_the_standard_deviation_of_the_members() -> None:
    values = spread(VOTES)
    assert values.dtype == np.float32
    assert_allclose(values, [0.4, 0.0, 0.5], atol=1e-7)


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, [1, 2, 1]), (0.0, [2, 2, 2]), (0.95, [0, 0, 1])])
def test_votes(threshold: float, expected: list[int]) -> None:
    assert votes_all(VOTES, threshold).tolist() == expected


def test_colours_are_those_of_the_cell_alone() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, (300, 3))
    crops = np.zeros((2, 40, 40, 3), np.uint8)
    crops[0].reshape(-1, 3)[rng.permutation(1600)[:300]] = pixels
    features = colour_features(crops)
    covariance = np.cov(pixels.T, bias=True)
    variance = np.diag(covariance) + 1
    r = [covariance[i, j] / np.sqrt(variance[i] * variance[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert_allclose(features[0], [*pixels.mean(axis=0), *pixels.std(axis=0), *np.arctanh(r)])
    assert_array_equal(features[1], 0)


@pytest.mark.parametrize("brighter", [1.0, 0.5])
def test_correlations_say_how_colours_go_together_however_bright(brighter: float) -> None:
    rng = np.random.default_rng(3)
    violet = rng.integers(60, 200, (2, SIDE, SIDE, 1)) * [[[[1.0, 0.8, 0.9]]], [[[1.0, -0.8, 0.9]]]] * [1, 1, 1]
    crops = (brighter * np.where(violet < 0, 220 + violet, violet)).astype(np.uint8)
    together = colour_features(crops)[:, 6:]
    assert (np.abs(together) > 2).all()
    assert_array_equal(np.sign(together), [[1, 1, 1], [-1, 1, -1]])
    assert_array_equal(colour_features(crops[:1])[0], colour_features(crops)[0])  # the same bits, whatever lies beside


def test_the_distance_is_mahalanobis_per_feature_over_the_threshold() -> None:
    rng = np.random.default_rng(1)
    features, mean, root = rng.normal(0, 30, (7, 9)), rng.normal(0, 30, 9), rng.normal(0, 5, (9, 9))
    covariance = root @ root.T + np.eye(9)
    distance = domain_distance(features, mean, covariance, 2.5)
    inverse = np.linalg.inv(covariance)
    expected = [mahalanobis(x, mean, inverse) / np.sqrt(9) / 2.5 for x in features]
    assert distance.dtype == np.float32
    assert_allclose(distance, expected, rtol=1e-5)
    for i in range(7):  # the same bits, whatever else is measured beside
        assert domain_distance(features[i : i + 1], mean, covariance, 2.5)[0] == distance[i]


def test_a_bundle_that_knows_no_correlations_is_asked_for_none() -> None:
    features = np.random.default_rng(4).normal(0, 30, (5, 9))
    assert_array_equal(
        domain_distance(features, np.zeros(6), np.eye(6), 2.0),
        domain_distance(features[:, :6], np.zeros(6), np.eye(6), 2.0),
    )


def test_blurring_lowers_sharpness_and_contrast_does_not_raise_it() -> None:
    rng = np.random.default_rng(2)
    texture = ndi.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), 0.7)
    texture = 25 * texture / texture.std()

    def cell(sigma: float, contrast: float = 1.0) -> Crops:
        grey = (130 + contrast * ndi.gaussian_filter(texture, sigma)).clip(1, 255)
        return np.where(disc().any(axis=-1), grey, 0).astype(np.uint8)[..., None].repeat(3, axis=-1)

    values = sharpness(np.stack([cell(0), cell(1), cell(2), cell(0, 0.6)]))
    assert values[0] > 1.5 * values[1] > 2 * values[2]
    assert values[3] == pytest.approx(values[0], rel=0.1)


def test_what_has_no_inside_has_no_sharpness() -> None:
    assert np.isnan(sharpness(np.stack([disc(radius=3), np.zeros_like(disc())]))).all()
    assert sharpness(np.stack([disc()])).tolist() == [0.0]


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


@pytest.mark.parametrize(("diameter", "scale", "piece"), [(12.1, 1.0, False), (11.9, 1.0, True), (11.9, 2.0, False)])
def test_a_piece_of_a_cell_is_small_after_rescaling(diameter: float, scale: float, piece: bool) -> None:
    assert ("fragment" in flags(diameter=diameter, scale=scale)) == piece


@pytest.mark.parametrize(
    ("diameter", "solidity", "several"),
    [(27.0, 0.95, False), (27.0, 0.91, True), (25.9, 0.7, False), (34.9, 0.95, False), (35.1, 0.99, True)],
)
def test_merged_cells_are_wide_and_hollow_or_very_wide(diameter: float, solidity: float, several: bool) -> None:
    assert ("merged" in flags(diameter=diameter, solidity=solidity)) == several


def test_two_touching_discs_are_merged() -> None:
    from napari_all_detect.table import geometry

    y, x = np.mgrid[:60, :80]
    pair = ((y - 30) ** 2 + (x - 25) ** 2 < 14**2) | ((y - 30) ** 2 + (x - 52) ** 2 < 14**2)
    measured = geometry(pair.astype(int), None)
    found = flag_cells(
        np.array([[16, 11, 45, 67]]),
        measured["diameter_px"],
        measured["solidity"],
        np.zeros((1, 80, 80, 3), np.uint8),
        (100, 100),
        scale=1.0,
        bundle_diameter_px=28.0,
    )
    assert [name for name, values in found.items() if values[0]] == ["merged"]


@pytest.mark.parametrize(
    ("share", "level", "over"),
    [
        (0.09, 255, False),
        (0.12, 250, True),
        (0.12, 249, False),
        (0.5, (249, 255, 255), False),
        (0.5, (255, 249, 255), False),
        (0.5, (255, 255, 249), False),
    ],
)
def test_a_cell_that_lost_its_colour_is_overexposed(
    share: float, level: int | tuple[int, int, int], over: bool
) -> None:
    crop = disc()
    inside = np.argwhere(crop.any(axis=-1))
    for y, x in inside[: round(share * len(inside))]:
        crop[y, x] = level
    assert ("overexposed" in flags(crop=crop)) == over


def test_flags_are_joined_in_their_own_order() -> None:
    found = {name: np.array([True, i == 2, False]) for i, name in enumerate(reversed(FLAGS))}
    assert join_flags(found, 3) == [";".join(FLAGS), FLAGS[-3], ""]


def test_no_cells() -> None:
    nothing = np.zeros((0, 5, 5, 3), np.uint8)
    assert calls(np.zeros(0, np.float32), 0.5, Bounds(0.2, 0.4)).shape == (0,)
    assert spread(np.zeros((0, 5, 2))).shape == (0,)
    assert votes_all(np.zeros((0, 5, 2)), 0.5).shape == (0,)
    assert sharpness(nothing).shape == (0,)
    assert domain_distance(colour_features(nothing), np.zeros(9), np.eye(9), 1.0).shape == (0,)
    empty = flag_cells(
        np.zeros((0, 4), int), np.zeros(0), np.zeros(0), nothing, (9, 9), scale=1.0, bundle_diameter_px=5.0
    )
    assert_array_equal([len(values) for values in empty.values()], 0)
    assert join_flags(empty, 0) == []
