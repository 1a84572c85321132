from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import bex_from_rgb, rgb_from_bex

from all_detect_training.augment import augment, jitter_stain, random_transforms

SIZE = 40
STILL = {"rotation_degrees": 0.0, "zoom": 0.0, "shift": 0.0}


class Largest:
    """Draws the upper bound of every range, and the flips asked for (-1 flips)."""

    def __init__(self, flip_x: float = 1.0, flip_y: float = 1.0) -> None:
        self.flips = flip_x, flip_y

    def uniform(self, low: float, high: float, shape: Any) -> NDArray[np.float64]:
        return np.full(shape, high)

    def choice(self, options: list[float], shape: tuple[int, int]) -> NDArray[np.float64]:
        assert set(self.flips) <= set(options)
        return np.repeat(np.array(self.flips)[:, None], shape[1], axis=1)


def moved(crops: NDArray[np.uint8], rng: Any, **ranges: float) -> NDArray[np.float32]:
    transforms = random_transforms(len(crops), crops.shape[1], rng, **{**STILL, **ranges})
    return np.asarray(augment(crops, transforms))


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def dot() -> NDArray[np.uint8]:
    crops = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    crops[0, 15, 22] = 200
    return crops


def test_a_map_that_moves_nothing_returns_the_crop_exactly(crops: NDArray[np.uint8]) -> None:
    out = moved(crops, Largest())
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, crops)


@pytest.mark.parametrize(("flips", "axes"), [((-1, 1), (2,)), ((1, -1), (1,)), ((-1, -1), (1, 2))])
def test_a_pure_flip_is_numpys(crops: NDArray[np.uint8], flips: tuple[int, int], axes: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(moved(crops, Largest(*flips)), np.flip(crops, axes))


@pytest.mark.parametrize("size", [40, 41])
def test_a_quarter_turn_is_numpys(size: int) -> None:
    crops = np.random.default_rng(1).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    out = moved(crops, Largest(), rotation_degrees=90.0)
    np.testing.assert_allclose(out, np.rot90(crops, 1, axes=(1, 2)), atol=0.02)


def test_what_comes_from_outside_is_black() -> None:
    out = moved(np.full((1, SIZE, SIZE, 3), 255, np.uint8), Largest(), rotation_degrees=45.0)[0]
    # Turned by 45 degrees the crop is a diamond: 8 pixels from a corner of 40 lies outside it.
    for corner in (out[:5, :5], out[:5, -5:], out[-5:, :5], out[-5:, -5:]):
        assert (corner == 0).all()
    assert (out[12:28, 12:28] == 255).all()


def test_a_shift_moves_a_dot_by_as_many_pixels(dot: NDArray[np.uint8]) -> None:
    out = moved(dot, Largest(), shift=0.1)
    expected = np.zeros_like(dot)
    expected[0, 15 - 4, 22 - 4] = 200
    np.testing.assert_allclose(out, expected, atol=0.01)


def test_a_flipped_dot_is_shifted_after_the_flip(dot: NDArray[np.uint8]) -> None:
    out = moved(dot, Largest(flip_x=-1), shift=0.1)
    y, x = np.unravel_index(out[0, ..., 0].argmax(), (SIZE, SIZE))
    # x_in = (SIZE - 1 - x) + 4 = 22
    assert (int(y), int(x)) == (15 - 4, SIZE - 1 - 22 + 4)


def test_zoom_magnifies_about_the_centre() -> None:
    crops = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    crops[0, 10:30, 10:30] = 100
    out = moved(crops, Largest(), zoom=0.2)[0, ..., 0]
    assert out.sum() / crops[0, ..., 0].sum() == pytest.approx(1.2**2, rel=0.02)
    np.testing.assert_allclose(out, out[::-1, ::-1], atol=0.01)


def test_random_maps_stay_in_their_ranges_and_use_them() -> None:
    maps = random_transforms(2000, SIZE, np.random.default_rng(0), rotation_degrees=30.0, zoom=0.1, shift=0.05).astype(
        float
    )
    xx, xy, _, yx, yy, _, _, _ = maps.T
    scale = np.hypot(xx, yx)
    assert 1 / 1.1 <= scale.min() < 0.92
    assert 1.09 < scale.max() <= 1 / 0.9 + 1e-6
    flips = {(x, y) for x, y in zip(np.sign(xx), np.sign(yy), strict=True)}
    assert flips == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    angle = np.degrees(np.arctan2(yx * np.sign(xx), np.abs(xx)))
    for turned in (angle, -angle):
        assert 29 < turned.max() <= 30 + 1e-4
    centre = (SIZE - 1) / 2
    displaced = np.stack([maps[:, :3], maps[:, 3:6]], axis=1) @ [centre, centre, 1] - centre
    for shifted in (displaced, -displaced):
        assert (shifted.max(axis=0) > 1.9).all()
        assert (shifted.max(axis=0) <= 2 + 1e-4).all()
    assert abs(np.corrcoef(displaced.T)[0, 1]) < 0.1
    assert (maps[:, 6:] == 0).all()
    np.testing.assert_allclose(xx * xy + yx * yy, 0, atol=1e-6)


def test_the_same_generator_draws_the_same(crops: NDArray[np.uint8]) -> None:
    ranges = {"rotation_degrees": 180.0, "zoom": 0.1, "shift": 0.1}
    one, same, other = (moved(crops, np.random.default_rng(seed), **ranges) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_other_stains_keep_the_black_and_every_cell_its_own(crops: NDArray[np.uint8]) -> None:
    cells = np.maximum(crops, 1)
    cells[:, :10] = 0
    other = jitter_stain(cells, 0.3, np.random.default_rng(0))
    assert other.dtype == np.uint8
    np.testing.assert_array_equal(other.any(axis=-1), cells.any(axis=-1))
    change = np.abs(other.astype(float) - cells).mean(axis=(1, 2))
    assert change.min() > 0
    assert len({tuple(row) for row in change.round(3).tolist()}) == len(cells)


def test_no_jitter_draws_no_number_and_changes_nothing(crops: NDArray[np.uint8]) -> None:
    rng = np.random.default_rng(0)
    assert jitter_stain(crops, 0.0, rng) is crops
    assert rng.random() == np.random.default_rng(0).random()


def test_more_jitter_goes_further_and_never_beyond_what_is_said() -> None:
    cell = np.full((200, 4, 4, 3), (150, 110, 170), np.uint8)
    near, far = (jitter_stain(cell, strength, np.random.default_rng(1)) for strength in (0.05, 0.2))
    assert near.std(axis=0).mean() < far.std(axis=0).mean()
    # Largest offset and factor of each stain, seen through the stains' own colours.
    density = -np.log((cell[0, 0, 0] + 1.0) / 256)
    amounts = np.abs(density @ bex_from_rgb)
    bound = (0.2 * amounts + 0.2) @ np.abs(rgb_from_bex)
    found = np.abs(-np.log((far[:, 0, 0].astype(float) + 1) / 256) - density).max(axis=0)
    assert (found <= bound + 0.01).all()
    # Each stain for itself, by a factor and an offset.
    changed = -np.log((far[:, 0, 0].astype(float) + 1) / 256) @ bex_from_rgb - density @ bex_from_rgb
    assert (np.abs(changed).max(axis=0) > 0.7 * (0.2 * amounts + 0.2)).all()
    assert np.abs(np.corrcoef(changed.T)[np.triu_indices(3, 1)]).max() < 0.3
