"""The parts of segmentation, each on its own."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi

from napari_all_detect import segmentation
from napari_all_detect.bundle import Crop, load_segmenter
from napari_all_detect.bundle.places import builtin_root
from napari_all_detect.digest import file_digest
from napari_all_detect.engines import open_mapper
from napari_all_detect.errors import AllDetectError, BundleError, InputError, ParameterError
from napari_all_detect.params import ScoreParams, SegmentationParams
from napari_all_detect.pipeline.cutting import PlaneInput, cut_cells
from napari_all_detect.samples import STAINS, draw_smear
from napari_all_detect.segmentation import ON_BLACK, cell_finder, learned, methods, segment_cells
from napari_all_detect.segmentation import view as view_module
from napari_all_detect.segmentation.classical import segment_classical
from napari_all_detect.segmentation.depth import fill_holes
from napari_all_detect.segmentation.grid import as_ratio
from napari_all_detect.segmentation.instances import enlarge, in_one_piece, part
from napari_all_detect.segmentation.learned import segment_learned
from napari_all_detect.segmentation.light import CHROMATIN, chromatin, empty_field, least_chromatin, relative_light
from napari_all_detect.segmentation.methods import describe_method, method_names, open_method
from napari_all_detect.segmentation.necks import join_broad_necks, join_lobes
from napari_all_detect.segmentation.nuclei import find_dark_nuclei, find_nuclei
from napari_all_detect.segmentation.presegmented import _is_field, cells_on_black, is_on_black, on_white
from napari_all_detect.segmentation.scale import (
    WHOLE_TO_NUCLEUS,
    estimate_diameter,
    inscribed_radius,
    typical_diameter,
    wide_regions,
)
from napari_all_detect.segmentation.surround import without_surround
from napari_all_detect.segmentation.view import View
from napari_all_detect.sources import RgbPlane, TiledPlane
from napari_all_detect.tiling import find_tiled

Labels = NDArray[np.int32]
Maps = NDArray[np.uint8]
Pixels = NDArray[np.uint8]

SLIDE, VIOLET, RED = (245, 240, 235), (120, 60, 170), (225, 150, 150)
FIELD = np.array(SLIDE, np.float32)


def disc(shape: tuple[int, int], y: float, x: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.indices(shape)
    return np.asarray(np.hypot(rows - y, columns - x) <= radius)


def painted(shape: tuple[int, int], *discs: tuple[float, float, float], colour: Any = VIOLET) -> Pixels:
    """Paint discs (y, x, radius) on an empty slide."""
    rgb = np.full((*shape, 3), SLIDE, np.uint8)
    for y, x, radius in discs:
        top, left = max(0, int(y - radius)), max(0, int(x - radius))
        window = rgb[top : int(y + radius) + 2, left : int(x + radius) + 2]
        window[disc(window.shape[:2], y - top, x - left, radius)] = colour
    return rgb


def maps_of(shape: tuple[int, int], *discs: tuple[float, float, float], nuclei: float = 0.6) -> Maps:
    """Draw what a perfect network would give for round cells (y, x, radius), each with a round nucleus within."""
    maps = np.zeros((*shape, 3), np.uint8)
    rows, columns = np.indices(shape)
    for y, x, radius in discs:
        away = np.hypot(rows - y, columns - x) / radius
        maps[..., 0][away <= 1] = 255
        maps[..., 1][away <= nuclei] = 255
        maps[..., 2] = np.maximum(maps[..., 2], np.clip(255 * (1 - away), 0, 255).astype(np.uint8))
    return maps


# --- Light ----------------------------------------------------------------------------------------------------------


def test_the_empty_field_is_the_colour_of_the_brightest_pixels() -> None:
    rgb = np.full((60, 80, 3), RED, np.uint8)
    rgb[:12] = SLIDE  # a fifth
    assert_array_equal(empty_field(rgb), np.array(SLIDE, np.float32))
    assert empty_field(rgb).dtype == np.float32
    rgb[0, :20] = 255  # dust that shines is less than half of the brightest tenth
    assert_array_equal(empty_field(rgb), np.array(SLIDE, np.float32))


def test_the_empty_field_of_a_large_image_is_that_of_a_sample() -> None:
    rgb = np.full((1200, 1700, 3), RED, np.uint8)
    rgb[:, :300] = SLIDE
    assert_array_equal(empty_field(rgb), np.array(SLIDE, np.float32))


def test_no_field_is_darker_than_forty() -> None:
    assert_array_equal(empty_field(np.zeros((4, 4, 3), np.uint8)), np.full(3, 40, np.float32))


def test_relative_light_is_the_share_of_the_field() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    for field in (np.array(SLIDE, np.float32), np.array([205.5, 90, 40], np.float32)):
        expected = np.minimum(rgb / field.astype(np.float64) * 230, 255)
        light = relative_light(rgb, field, 230)
        assert light.dtype == np.uint8
        assert_allclose(light, expected, atol=0.501)
        assert_array_equal(rgb == 0, light == 0)


@pytest.mark.parametrize("exposure", [0.5, 0.8, 1.0])
def test_lamps_cancel_out(exposure: float) -> None:
    rgb = draw_smear((160, 160), n_cells=4, seed=1, noise=0.0).rgb
    dimmed = (rgb * np.array([exposure, exposure * 0.9, exposure * 0.95])).astype(np.uint8)
    lights = [relative_light(image, empty_field(image), 230).astype(int) for image in (rgb, dimmed)]
    assert np.abs(lights[0] - lights[1]).max() <= 4


def test_chromatin_is_a_projection_of_the_light_absorbed() -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    field = np.array(SLIDE, np.float32)
    stain = chromatin(rgb, field)
    assert stain.dtype == np.float32
    assert_allclose(stain, (1 - rgb / (field + 1)) @ CHROMATIN, atol=1e-5)


@pytest.mark.parametrize("stain", STAINS)
def test_chromatin_stands_out_from_red_cells_and_slide(stain: str) -> None:
    smear = draw_smear((320, 320), n_cells=14, stain=stain, seed=2, touching=0.0)
    value = chromatin(smear.rgb, empty_field(smear.rgb))
    assert np.median(value[smear.nuclei > 0]) > 0.25
    assert np.percentile(value[smear.labels == 0], 95) < 0.22


def test_a_nucleus_is_darker_than_nearly_all_red_cells() -> None:
    red = np.repeat(np.array([0.05, 0.15, 0.3], np.float32), (900, 80, 20))
    assert least_chromatin(red, 0.02) == pytest.approx(0.17)
    assert least_chromatin(red, 0.1) == 0.22
    assert least_chromatin(red[:100], 0.02) == -np.inf


# --- Scale ----------------------------------------------------------------------------------------------------------


def test_the_typical_diameter_is_that_at_the_middle_of_all_cells_area() -> None:
    labels = np.repeat(np.array([0, 1, 2, 3, 4], np.int32), (500, 100, 300, 100, 40))[None]
    assert typical_diameter(labels) == pytest.approx(2 * np.sqrt(300 / np.pi))
    assert typical_diameter(np.zeros((4, 5), np.int32)) is None


@pytest.mark.parametrize(("times", "believed"), [(0.3, False), (0.35, True), (1.0, True), (2.9, True), (3.1, False)])
def test_a_pixel_size_is_believed_within_a_factor_of_three(times: float, believed: bool) -> None:
    rgb = painted((100, 100), (50, 50, 12))
    seen = estimate_diameter(rgb)
    assert seen is not None
    found = segmentation._diameter_by_pixel_size(View.whole(rgb), 12 / (times * seen))
    assert found == (pytest.approx(times * seen) if believed else None)


def test_holes_are_filled_up_to_a_width() -> None:
    mask = np.ones((30, 30), bool)
    mask[2:7, 2:6] = mask[10:16, 10:14] = mask[28:, 20:22] = False
    expected = mask.copy()
    expected[2:7, 2:6] = True
    assert_array_equal(fill_holes(mask, 5), expected)
    assert_array_equal(fill_holes(mask, 4), mask)


def test_a_long_strip_is_searched_along_its_length() -> None:
    """One square in 48 holds something, and none of the first six."""

    class Strip:
        shape = 600, 120_000

        def __getitem__(self, window: tuple[slice, slice]) -> Pixels:
            rows, columns = window
            x = np.arange(columns.start, columns.stop)
            stained = (x > 1_000) & (x < 1_500) & (x % 2 == 0)
            row = np.where(stained[:, None], VIOLET, SLIDE).astype(np.uint8)
            return np.repeat(row[None], rows.stop - rows.start, axis=0)

    sampled = view_module.sample(Strip())
    assert sampled is not None
    assert (sampled == VIOLET).all(axis=-1).any()


@pytest.mark.parametrize("radius", [6, 10, 25, 60])
def test_the_diameter_is_estimated_from_the_nuclei(radius: int) -> None:
    side = 10 * radius
    rgb = painted((side, side), (3 * radius, 3 * radius, radius), (7 * radius, 6 * radius, radius))
    estimate = estimate_diameter(rgb)
    assert estimate is not None
    # Smoothing and halving cost up to a pixel of the radius.
    assert estimate == pytest.approx(2 * WHOLE_TO_NUCLEUS * radius, abs=2 * WHOLE_TO_NUCLEUS * 1.6)


@pytest.mark.parametrize("diameter", [24, 32, 64, 150])
@pytest.mark.parametrize("stain", STAINS)
def test_the_diameter_of_drawn_cells_is_about_right(diameter: int, stain: str) -> None:
    """Measured: 0.95 to 1.4 of it, for most of a blast is nucleus."""
    rgb = draw_smear((8 * diameter,) * 2, n_cells=10, cell_diameter_px=float(diameter), stain=stain, seed=3).rgb
    estimate = estimate_diameter(rgb)
    assert estimate is not None
    assert 0.85 < estimate / diameter < 1.5


@pytest.mark.parametrize(
    "rgb",
    [
        painted((90, 90)),
        painted((90, 90), (30, 30, 10), (60, 50, 12), colour=RED),
        painted((90, 90), *((9.0 * i, 7.0 * i, 2.0) for i in range(10))),
        np.full((1, 1, 3), 90, np.uint8),
        np.zeros((64, 64, 3), np.uint8),
    ],
    ids=["empty", "red cells", "platelets", "a pixel", "black"],
)
def test_without_chromatin_there_is_no_diameter(rgb: Pixels) -> None:
    assert estimate_diameter(rgb) is None


def test_the_inscribed_radius_is_the_median_by_area() -> None:
    one_large = disc((200, 200), 60, 60, 40)
    for i in range(6):
        one_large |= disc((200, 200), 150, 20 + 30 * i, 5)
    assert inscribed_radius(one_large) == pytest.approx(41, abs=1)
    many_small = disc((200, 400), 30, 30, 12)
    for i in range(12):
        many_small |= disc((200, 400), 150, 20 + 30 * i, 5)
    assert inscribed_radius(many_small) == pytest.approx(6, abs=1)


def test_wide_regions_are_those_in_which_the_circle_fits() -> None:
    mask = disc((60, 120), 30, 30, 10)
    mask[28:31, 60:110] = True
    assert_array_equal(wide_regions(mask, 5.0), disc((60, 120), 30, 30, 10))
    assert_array_equal(wide_regions(mask, 1.0), mask)
    assert not wide_regions(mask, 20.0).any()
    assert not wide_regions(np.zeros((5, 5), bool), 1.0).any()


# --- Necks ----------------------------------------------------------------------------------------------------------


def basins(*depths: list[float]) -> tuple[Labels, NDArray[np.float32]]:
    """Lay a row of basins side by side: the depths of each, left to right."""
    pieces = np.concatenate([np.full(len(depth), n, np.int32) for n, depth in enumerate(depths, start=1)])
    return pieces[None], np.concatenate(depths).astype(np.float32)[None]


def test_a_narrow_neck_parts_and_a_broad_one_joins() -> None:
    pieces, depth = basins([2, 10, 6], [5, 8, 2])
    assert_array_equal(join_broad_necks(pieces, depth, 0.7), pieces)
    assert_array_equal(join_broad_necks(pieces, depth, 0.6), np.ones((1, 6)))


def test_a_neck_is_measured_by_the_shallower_piece() -> None:
    pieces, depth = basins([3, 50, 3], [3, 4, 1])
    assert len(np.unique(join_broad_necks(pieces, depth, 0.75))) == 1
    assert len(np.unique(join_broad_necks(pieces, depth, 0.8))) == 2


def test_what_was_joined_counts_as_the_deeper_of_both() -> None:
    """Joined to the first, the middle piece is 10 deep, and its neck to the last, 5 deep, no longer broad."""
    pieces, depth = basins([2, 10, 5.5], [5.5, 6, 5], [5, 9, 2])
    joined = join_broad_necks(pieces, depth, 0.8)
    assert joined[0, 0] == joined[0, 3]
    assert joined[0, 6] != joined[0, 0]


def test_a_chain_of_broad_necks_is_one() -> None:
    pieces, depth = basins([4, 5, 5], [5, 5, 5], [5, 5, 4], [0.1, 5, 4])
    joined = join_broad_necks(pieces, depth, 0.8)
    assert len(np.unique(joined[0, :9])) == 1
    assert joined[0, 9] != joined[0, 0]


def test_the_broadest_place_of_a_border_counts() -> None:
    pieces = np.array([[1, 2]] * 5, np.int32)
    depth = np.array([[9, 9]] + [[1, 1]] * 4, np.float32)
    assert len(np.unique(join_broad_necks(pieces, depth, 0.9))) == 1
    assert len(np.unique(join_broad_necks(pieces.T.copy(), depth.T.copy(), 0.9))) == 1


def test_pieces_that_do_not_meet_stay_as_they_are() -> None:
    pieces = np.array([[1, 1, 0, 2, 2], [0, 0, 0, 0, 0], [3, 3, 0, 0, 0]], np.int32)
    joined = join_broad_necks(pieces, np.ones((3, 5), np.float32), 0.1)
    assert_array_equal(joined, pieces)
    assert joined.dtype == np.int32
    assert_array_equal(join_broad_necks(np.zeros((3, 4), np.int32), np.zeros((3, 4)), 0.5), np.zeros((3, 4)))


def test_a_lobe_that_is_no_cell_goes_to_the_cell_beside_it() -> None:
    pieces, depth = basins([2, 10, 6], [5, 8, 2])
    whole = np.array([False, True, False])
    assert_array_equal(join_lobes(pieces, depth, whole, 0.6), np.ones((1, 6)))
    assert_array_equal(join_lobes(pieces, depth, whole, 0.7), pieces)


def test_whole_cells_are_not_joined_however_broad_their_neck() -> None:
    pieces, depth = basins([2, 10, 9], [9, 10, 2])
    for both in (True, False):
        assert_array_equal(join_lobes(pieces, depth, np.array([False, both, both]), 0.1), pieces)


def test_a_lobe_between_two_cells_goes_where_its_neck_is_broader() -> None:
    """And does not make them one."""
    pieces, depth = basins([2, 10, 6], [6, 8, 7], [7, 10, 2])
    joined = join_lobes(pieces, depth, np.array([False, True, False, True]), 0.5)
    assert_array_equal(joined, [[1, 1, 1, 3, 3, 3, 3, 3, 3]])


# --- Maps to pieces -------------------------------------------------------------------------------------------------


def test_cells_that_touch_are_parted_between_their_cores() -> None:
    pieces = part(maps_of((60, 80), (30, 26, 12), (30, 48, 12)), 24.0)
    assert pieces.max() == 2
    assert pieces.dtype == np.int32
    assert len(set(np.unique(pieces[:, :36])) - {0}) == 1
    assert len(set(np.unique(pieces[:, 39:])) - {0}) == 1


def test_a_shallow_dent_does_not_part_a_cell() -> None:
    maps = maps_of((60, 80), (30, 30, 13), (30, 39, 13))
    maps[..., 2][disc((60, 80), 30, 34.5, 6)] = 230
    assert part(maps, 26.0).max() == 1


def test_pieces_are_numbered_without_a_gap() -> None:
    """A speck and a cell without a nucleus between three cells."""
    maps = maps_of((60, 200), (30, 20, 12), (30, 60, 2), (30, 140, 12), (30, 180, 12))
    maps = np.maximum(maps, maps_of((60, 200), (30, 100, 12), nuclei=0.0))
    pieces = part(maps, 24.0)
    assert sorted(np.unique(pieces)) == [0, 1, 2, 3]
    assert not pieces[:, 50:118].any()


@pytest.mark.parametrize("nucleus", [0.2, 0.45])
def test_what_has_too_little_nucleus_is_no_white_cell(nucleus: float) -> None:
    """A nucleus of 4 and of 20 per cent of the cell's area."""
    assert part(maps_of((60, 60), (30, 30, 14), nuclei=nucleus), 28.0).max() == (nucleus > 0.28)


@pytest.mark.parametrize(("radius", "n"), [(3.4, 0), (5.5, 1)])
def test_small_pieces_are_debris(radius: float, n: int) -> None:
    """Of 8 and 21 per cent of a typical cell's area."""
    assert part(maps_of((60, 60), (30, 30, radius)), 24.0).max() == n


def test_at_the_border_half_a_piece_will_do() -> None:
    """A tenth of a typical cell is debris inside of the plane, and may be a cell that the border cuts."""
    inside, cut = maps_of((60, 60), (30, 30, 3.8)), maps_of((60, 60), (30, 2, 3.8))
    assert part(inside, 24.0).max() == 0
    assert part(cut, 24.0).max() == 1


def test_without_a_core_there_is_no_cell() -> None:
    maps = maps_of((60, 60), (30, 30, 14))
    maps[..., 2] //= 4
    assert not part(maps, 28.0).any()
    assert not part(np.zeros((1, 1, 3), np.uint8), 20.0).any()


# --- Pieces to labels -----------------------------------------------------------------------------------------------


def enlarged(shape: tuple[int, int], ratio: Fraction) -> tuple[int, int]:
    return int(shape[0] * ratio), int(shape[1] * ratio)


@pytest.mark.parametrize("scale", [0.45, 0.8, 1.0, 1.37, 2.0, 2.6, 7.3])
def test_a_disc_keeps_its_place_and_shape_at_any_scale(scale: float) -> None:
    maps = maps_of((64, 81), (29, 41, 15))
    ratio = as_ratio(scale)
    shape = enlarged((64, 81), ratio)
    cells = enlarge((maps[..., 0] > 0).astype(np.int32), maps[..., 0], shape, ratio)
    nuclei = find_nuclei(np.full((*shape, 3), SLIDE, np.uint8), cells, maps[..., 1], ratio, FIELD)
    assert cells.shape == nuclei.shape == shape
    assert cells.dtype == nuclei.dtype == np.int32
    for labels, radius in ((cells, 15), (nuclei, 9)):
        y, x = ndi.center_of_mass(labels == 1)
        assert y == pytest.approx(29.5 * ratio - 0.5, abs=0.3 + 0.05 * scale)
        assert x == pytest.approx(41.5 * ratio - 0.5, abs=0.3 + 0.05 * scale)
        assert np.sqrt(np.count_nonzero(labels) / np.pi) == pytest.approx(radius * scale, rel=0.06, abs=0.5)


def test_at_scale_one_labels_stay_as_they_are() -> None:
    maps = maps_of((50, 90), (25, 25, 14), (25, 60, 12))
    pieces = ndi.label(maps[..., 0] > 0)[0].astype(np.int32)
    assert_array_equal(enlarge(pieces, maps[..., 0], (50, 90), Fraction(1)), pieces)


@pytest.mark.parametrize("scale", [1.7, 4.0, 5.3])
@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_touching_cells_meet_in_a_straight_line(scale: float, slope: float) -> None:
    """On average off by 0.3 to 0.8 px; nearest neighbours by 0.5 to 1.3 px."""
    rows, columns = np.indices((60, 60))
    maps = maps_of((60, 60), (30, 30, 26), nuclei=0.9)
    pieces = np.where(maps[..., 0] > 0, 1 + (columns > 30 + slope * (rows - 30)), 0).astype(np.int32)
    cells = enlarge(pieces, maps[..., 0], enlarged((60, 60), as_ratio(scale)), as_ratio(scale))
    assert sorted(np.unique(cells)) == [0, 1, 2]
    middle = range(round(20 * scale), round(40 * scale))
    # Between the pieces nothing is left free: each row is 0 ... 1 ... 2 ... 0.
    assert all(np.count_nonzero(np.diff(cells[y])) == 3 for y in middle)
    border = np.array([np.flatnonzero((cells[y, 1:] != cells[y, :-1]) & (cells[y, 1:] > 0)).max() for y in middle])
    line = np.polyfit(middle, border, 1)
    assert line[0] == pytest.approx(slope, abs=0.05)
    # Stairs as high as the scale would be off by a quarter of it.
    assert np.abs(border - np.polyval(line, middle)).mean() < max(0.5, 0.2 * scale)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_largest_part_is_kept(scale: float) -> None:
    """A cell that the map of cells cuts in two."""
    maps = maps_of((50, 60), (25, 30, 20), nuclei=0.9)
    pieces = (maps[..., 0] > 0).astype(np.int32)
    maps[:, 37:40, 0] = 0
    cells = enlarge(pieces, maps[..., 0], enlarged((50, 60), as_ratio(scale)), as_ratio(scale))
    assert ndi.label(cells)[1] == 1
    assert cells[round(25 * scale), round(20 * scale)] == 1
    assert not cells[:, round(40 * scale) :].any()


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_holes_are_filled(scale: float) -> None:
    maps = maps_of((50, 60), (25, 30, 20))
    pieces = (maps[..., 0] > 0).astype(np.int32)
    maps[20:24, 28:33, 0] = 0
    cells = enlarge(pieces, maps[..., 0], enlarged((50, 60), as_ratio(scale)), as_ratio(scale))
    assert_array_equal(ndi.binary_fill_holes(cells > 0), cells > 0)
    assert cells[round(22 * scale), round(30 * scale)] == 1


def test_labels_are_numbered_from_top_to_bottom() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[30:35, 2:9] = 1
    labels[3:9, 20:30] = 7
    labels[12:20, 5:11] = 4
    ordered = in_one_piece(labels)
    assert [ordered[32, 4], ordered[5, 25], ordered[15, 7]] == [3, 1, 2]
    assert_array_equal(ordered > 0, labels > 0)


def test_a_part_that_is_dropped_does_not_change_the_order() -> None:
    labels = np.zeros((12, 12), np.int32)
    labels[0, 0] = 1
    labels[8:12] = 1
    labels[3:6, 3:9] = 2
    ordered = in_one_piece(labels)
    assert not ordered[:3].any()
    assert (ordered[4, 5], ordered[10, 5]) == (1, 2)


def test_a_part_that_is_dropped_leaves_no_hole_in_another_label() -> None:
    labels = np.zeros((12, 12), np.int32)
    labels[1:8, 1:8] = 1
    labels[3:5, 3:5] = 2
    labels[9:12, 2:11] = 2
    ordered = in_one_piece(labels)
    assert (ordered[1:8, 1:8] == 1).all()
    assert (ordered[9:12, 2:11] == 2).all()


def test_cells_far_smaller_than_a_pixel_of_the_plane_are_no_error() -> None:
    """As in a sliver 97 x 2 px that was looked at five times as large."""
    pieces = np.zeros((485, 10), np.int32)
    pieces[189:204, 9] = 1
    cells = enlarge(pieces, np.where(pieces > 0, 255, 0).astype(np.uint8), (97, 2), Fraction(1, 5))
    assert cells.shape == (97, 2)


@settings(max_examples=40)
@given(
    small=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    ratio=st.fractions(1, 8, max_denominator=9),
    n=st.integers(0, 12),
    seed=st.integers(0, 10_000),
)
def test_any_pieces_and_maps_give_whole_labels(small: tuple[int, int], ratio: Fraction, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = np.zeros(small, np.int32)
    for number in range(1, n + 1):
        places[rng.integers(small[0]), rng.integers(small[1])] = number
    near = ndi.distance_transform_edt(places == 0, return_indices=True)[1]
    maps = rng.integers(0, 256, (*small, 2), dtype=np.uint8)
    pieces = np.where(rng.random(small) < 0.8, places[tuple(near)], 0).astype(np.int32)
    large = enlarged(small, ratio)
    cells = enlarge(pieces, maps[..., 0], large, ratio)
    nuclei = find_nuclei(rng.integers(0, 256, (*large, 3), dtype=np.uint8), cells, maps[..., 1], ratio, FIELD)
    assert cells.shape == nuclei.shape == large
    boxes = ndi.find_objects(cells)
    assert None not in boxes
    assert [rows.start for rows, _ in boxes] == sorted(rows.start for rows, _ in boxes)
    for number, box in enumerate(boxes, start=1):
        assert ndi.label(cells[box] == number)[1] == 1
    assert_array_equal(nuclei[nuclei > 0], cells[nuclei > 0])


# --- Cells on black -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("radius", "expected"), [(50, False), (47, True), (0, True)])
def test_a_quarter_of_black_makes_a_background(radius: float, expected: bool) -> None:
    """Here 0.21 and 0.31 of all."""
    cell = disc((100, 100), 49.5, 49.5, radius)
    rgb = np.where(cell[..., None], np.uint8(VIOLET), np.uint8(0))
    assert is_on_black(View.whole(rgb)) == expected
    if expected:
        assert_array_equal(cells_on_black(View.whole(rgb), None).cells > 0, rgb.any(axis=-1))


def test_nearly_black_is_black() -> None:
    cell = disc((60, 60), 30, 30, 11)
    cell[:24] = False
    rgb = np.where(cell[..., None], np.uint8([9, 5, 9]), np.uint8(8))
    assert is_on_black(View.whole(rgb))
    assert_array_equal(cells_on_black(View.whole(rgb), None).cells, cell)


def test_clumps_on_black_are_cut_at_their_waists_and_specks_dropped() -> None:
    shape = 120, 220
    mask = disc(shape, 60, 50, 32) | disc(shape, 60, 110, 32) | disc(shape, 60, 190, 5)
    labels = cells_on_black(View.whole(np.where(mask[..., None], np.uint8(VIOLET), np.uint8(0))), None).cells
    assert labels is not None
    assert labels.max() == 2
    assert len(set(np.unique(labels[:, :78])) - {0}) == len(set(np.unique(labels[:, 83:])) - {0}) == 1
    assert not labels[:, 180:].any()


def test_the_diameter_given_says_what_a_speck_is() -> None:
    shape = 120, 220
    mask = disc(shape, 60, 60, 40) | disc(shape, 60, 180, 16)
    rgb = np.where(mask[..., None], np.uint8(VIOLET), np.uint8(0))
    for given_px, n in ((None, 1), (36.0, 2)):
        labels = cells_on_black(View.whole(rgb), given_px).cells
        assert labels is not None
        assert labels.max() == n


def test_a_cell_on_black_that_the_border_cuts_is_whole() -> None:
    mask = disc((100, 100), 0, 50, 40)
    labels = cells_on_black(View.whole(np.where(mask[..., None], np.uint8(VIOLET), np.uint8(0))), None).cells
    assert labels is not None
    assert_array_equal(labels, mask.astype(np.int32))


def test_on_white_only_black_changes() -> None:
    rgb = np.random.default_rng(4).integers(9, 256, (20, 30, 3), dtype=np.uint8)
    rgb[:7] = np.random.default_rng(5).integers(0, 9, (7, 30, 3))
    white = on_white(rgb)
    assert white.dtype == np.uint8
    assert (white[:7] == 255).all()
    assert_array_equal(white[7:], rgb[7:])


# --- What surrounds a smear -----------------------------------------------------------------------------------------


def in_a_circle(rgb: Pixels, radius: float, soft_px: float = 1.0, black: int = 2) -> Pixels:
    """Show a smear as through an eyepiece."""
    height, width = rgb.shape[:2]
    rows, columns = np.indices((height, width))
    lit = np.clip((radius - np.hypot(rows - height / 2, columns - width / 2)) / soft_px, 0, 1)[..., None]
    return np.rint(rgb * lit + black * (1 - lit)).astype(np.uint8)


LAMPS = [(1.0, 1.0, 1.0), (1.0, 0.95, 0.5), (0.7, 1.0, 1.0), (0.5, 0.42, 0.28)]
"""White, yellow, blue, and dim and yellow."""


@pytest.mark.parametrize("lamp", LAMPS)
@pytest.mark.parametrize("stain", STAINS)
def test_a_field_in_a_black_surround_is_no_cell_on_black(stain: str, lamp: tuple[float, ...]) -> None:
    smear = draw_smear((400, 500), n_cells=8, seed=2, cell_diameter_px=40, stain=stain)
    rgb = (smear.rgb * np.array(lamp)).astype(np.uint8)
    for seen in (in_a_circle(rgb, 190), in_a_circle(rgb, 190, soft_px=40), np.pad(rgb, ((90, 90), (90, 90), (0, 0)))):
        assert not is_on_black(View.whole(seen))


@pytest.mark.parametrize("lamp", LAMPS)
@pytest.mark.parametrize("stain", STAINS)
def test_cells_cut_out_on_black_are_no_field(stain: str, lamp: tuple[float, ...]) -> None:
    smear = draw_smear((400, 500), n_cells=8, seed=2, cell_diameter_px=60, stain=stain, border=0.0)
    rgb = (smear.rgb * np.array(lamp) * (smear.labels[..., None] > 0)).astype(np.uint8)
    assert is_on_black(View.whole(rgb))


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("colourless", [False, True])
def test_two_signs_of_three_make_a_field(narrow: bool, even: bool, colourless: bool) -> None:
    """Each close to its bound: cells 0.18 or 0.42 of the circle's width, 0.12 of it like bare slide or nearly all."""
    shape = 200, 200
    shown = disc(shape, 100, 100, 80)
    rgb = np.full((*shape, 3), SLIDE if colourless else (245, 240, 190), np.float32)
    if not even:
        rgb *= 0.4 + 0.6 * np.random.default_rng(6).random((*shape, 1)) ** 3
    rgb[disc(shape, 100, 100, 10 if narrow else 24)] = VIOLET
    rgb[~shown] = 0
    assert _is_field(rgb.astype(np.uint8), shown) == (narrow + even + colourless >= 2)


@pytest.mark.parametrize(
    ("radii", "slide", "expected"),
    [((80, 80), SLIDE, True), ((80, 72), SLIDE, False), ((80, 80), (245, 240, 190), False)],
)
def test_without_a_nucleus_a_circle_of_no_colour_is_a_field(
    radii: tuple[int, int], slide: tuple[int, int, int], expected: bool
) -> None:
    rows, columns = np.indices((200, 200)) - 100
    shown = (rows / radii[0]) ** 2 + (columns / radii[1]) ** 2 < 1
    assert _is_field(np.where(shown[..., None], np.uint8(slide), np.uint8(0)), shown) == expected


@pytest.mark.parametrize(("n", "painted"), [(3, False), (26, False), (60, True)])
def test_a_dead_pixel_or_a_scale_bar_in_a_corner_surrounds_nothing(n: int, painted: bool) -> None:
    """Here 0.0001, 0.008 and 0.04 of the picture; ink elsewhere, as dark, reaches no border."""
    rgb = crowded((300, 300))
    rgb[:n, :n] = 0
    rgb[120:180, 120:180] = 30
    view = without_surround(View.whole(rgb))
    assert ((view.rgb[:n, :n] > 0).all(), (view.rgb[150, 150] != 30).all()) == (painted, painted)


@pytest.mark.filterwarnings("error")
def test_a_picture_darker_than_any_field_is_painted_in_its_own_light() -> None:
    rgb = in_a_circle((crowded((300, 300)) * 0.1).astype(np.uint8), 140, black=0)
    painted = without_surround(View.whole(rgb)).rgb
    assert painted[0, 0].min() > 20


def test_a_part_looks_the_same_as_in_the_whole() -> None:
    rgb = np.pad(in_a_circle(crowded((300, 400)), 140), ((30, 20), (40, 10), (0, 0)), constant_values=255)
    whole = View.whole(rgb)
    seen = without_surround(whole)
    assert_array_equal(seen.rgb[0, 0], np.rint(np.median(seen.rgb[:30], axis=(0, 1))))
    assert seen.rgb.min() > 20
    for window in ((slice(0, 20), slice(0, 30)), (slice(10, 200), slice(30, 100)), (slice(310, 350), slice(420, 450))):
        assert_array_equal(without_surround(View(rgb, window, whole.survey)).rgb, seen.rgb[window])


def test_the_margins_of_a_page_do_not_tell_the_field() -> None:
    """Beside the picture JPEG leaves marks."""
    smear = (crowded((200, 300)) * 0.8).astype(np.uint8)
    page = np.pad(smear, ((40, 90), (60, 30), (0, 0)), constant_values=255)
    page[39, 60:62] = 235
    view = without_surround(View.whole(page))
    assert_array_equal(view.empty_field, empty_field(smear))
    assert_array_equal(view.rgb[40:240, 60:360], smear)
    assert view.rgb[:40].max() < 210


def test_a_black_frame_on_a_page_is_margin_too() -> None:
    smear = crowded((200, 300))
    smear[90:110, 140:160] = 30  # ink, as dark as a surround
    framed = np.pad(smear, ((12, 12), (12, 12), (0, 0)))
    view = without_surround(View.whole(np.pad(framed, ((40, 50), (60, 30), (0, 0)), constant_values=255)))
    assert_array_equal(view.rgb[52:252, 72:372], smear)
    view.rgb[52:252, 72:372] = SLIDE
    assert (view.rgb == SLIDE).all()


@pytest.mark.parametrize(("corner", "painted"), [(22, True), (36, True), (38, False)])
def test_a_surround_may_be_lit_a_little(corner: int, painted: bool) -> None:
    """Here by 0.09, 0.147 and 0.155 of the field's light."""
    rgb = in_a_circle(crowded((300, 300)), 140, black=corner)
    view = without_surround(View.whole(rgb))
    outside = (rgb == corner).all(axis=-1)
    assert (view.rgb[outside] == (SLIDE if painted else corner)).all()
    assert_array_equal(view.rgb[70:230, 70:230], rgb[70:230, 70:230])


def test_black_margins_of_an_overexposed_smear_are_painted() -> None:
    smear = np.clip(crowded((200, 300)) * 1.3, 0, 255).astype(np.uint8)
    smear[:9] = 255
    assert without_surround(View.whole(np.pad(smear, ((60, 60), (60, 60), (0, 0))))).rgb[0].min() == 255


@pytest.mark.parametrize("name", ["as it is", "overexposed", "a black bar", "white throughout"])
def test_what_nothing_surrounds_stays_as_it_is(name: str) -> None:
    rgb = crowded((200, 300))
    if name == "overexposed":
        rgb = np.clip(rgb * 1.3, 0, 255).astype(np.uint8)
        rgb[:9] = 255
    elif name == "a black bar":
        rgb[180:186, 200:280] = 0
    elif name == "white throughout":
        rgb[:] = 255
    view = View.whole(rgb)
    assert without_surround(view) is view


@pytest.mark.parametrize("soft_px", [1.0, 60.0])
def test_a_large_plane_in_an_eyepiece_is_known_by_its_corners(soft_px: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample of it leaves out squares that are all black."""
    monkeypatch.setattr(view_module, "SAMPLE_EDGE_PX", 64)
    smear = draw_smear((800, 800), n_cells=40, seed=3, cell_diameter_px=32)
    rgb = in_a_circle(smear.rgb, 390, soft_px)
    assert view_module.sample(rgb) is not None
    for method in ("learned", "classical"):
        plane = TiledPlane((800, 800), 256, rgb.__getitem__)
        found = find_tiled(plane, cell_finder(SegmentationParams(method=method), None, "auto", "auto"))
        labels = np.asarray(found.labels)
        inside = in_a_circle(np.full_like(rgb, 255), 330)[..., 0] > 128
        drawn, seen = (smear.labels > 0) & inside, (labels > 0) & inside
        assert 2 * (drawn & seen).sum() / (drawn.sum() + seen.sum()) > 0.85
        assert np.bincount(labels.ravel())[1:].max() < 6000
        assert found.notes == ()
    wide = in_a_circle(smear.rgb, 540, soft_px)  # its corners alone are black, and the sample has none of them
    find = cell_finder(SegmentationParams(method="classical"), None, "auto", "auto")
    assert segmentation.surveyed(wide, find)("surround", lambda: None) is not None


def test_a_plane_taken_for_cells_on_black_says_so() -> None:
    crop = Crop(size=40, pixel_size_um=None, cell_diameter_px=30.0)
    smear = draw_smear((200, 240), n_cells=4, seed=1, border=0.0)
    for rgb, notes in ((smear.rgb * (smear.labels[..., None] > 0).astype(np.uint8), ON_BLACK), (smear.rgb, "")):
        tiled = TiledPlane((200, 240), 128, rgb.__getitem__)
        for pixels in (RgbPlane(rgb), tiled):
            assert cut_cells(PlaneInput(pixels), ScoreParams(), crop).notes == notes
        given = PlaneInput(RgbPlane(rgb), labels=smear.labels)
        assert cut_cells(given, ScoreParams(), crop).notes == ""


def test_what_a_sample_of_a_plane_says_is_not_asked_again_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of this plane is black, and far less of its sample, which leaves out squares that are all black."""
    monkeypatch.setattr(view_module, "SAMPLE_EDGE_PX", 64)
    smear = draw_smear((600, 600), n_cells=20, seed=2, cell_diameter_px=50)
    noise = np.random.default_rng(0).normal(0, 30, (600, 600, 1))
    tinted = (smear.rgb * np.array([0.9, 0.4, 0.8]) + noise).clip(10, 255).astype(np.uint8)
    rgb = np.where(np.tri(600, dtype=bool)[..., None], np.uint8(2), tinted)
    assert is_on_black(View.whole(rgb))
    params = ScoreParams(segmentation=SegmentationParams(method="classical"))
    crop = Crop(size=40, pixel_size_um=None, cell_diameter_px=30.0)
    for pixels in (RgbPlane(rgb), TiledPlane((600, 600), 256, rgb.__getitem__)):
        cut = cut_cells(PlaneInput(pixels), params, crop)
        assert len(cut.crops) > 3
        assert cut.notes == ""


# --- Colour and shape -----------------------------------------------------------------------------------------------


def test_an_image_full_of_chromatin_gives_no_warning() -> None:
    """What surrounds a bright hole and reaches all borders leaves nothing to compare with."""
    rgb = np.full((40, 40, 3), VIOLET, np.uint8)
    rgb[11:29, 11:29] = 245
    for labels in segment_classical(View.whole(rgb), 24.0)[:2]:
        assert labels is not None
        assert labels.shape == (40, 40)


# --- Nuclei ---------------------------------------------------------------------------------------------------------


def stained(shape: tuple[int, int], cell: NDArray[np.bool_], nucleus: NDArray[np.bool_], pale: int = 0) -> Pixels:
    """Paint one cell: pale cytoplasm, and a nucleus of chromatin's colour, paler by so much."""
    rgb = np.full((*shape, 3), SLIDE, np.uint8)
    rgb[cell] = (215, 200, 225)
    rgb[nucleus] = np.array(VIOLET) + pale
    return rgb


@pytest.mark.parametrize("pale", [0, 60])
def test_chromatin_says_where_a_nucleus_ends(pale: int) -> None:
    """A map of a sixth of the size leaves six pixels open; the nucleus is three pixels off its place in the map."""
    shape = (240, 240)
    cell, nucleus = disc(shape, 120, 120, 90), disc(shape, 123, 117, 48)
    smooth = ndi.gaussian_filter(disc((40, 40), 19.5, 19.5, 8).astype(float), 1.5)
    rgb, likely = stained(shape, cell, nucleus, pale), (255 * smooth).astype(np.uint8)
    found = find_nuclei(rgb, cell.astype(np.int32), likely, Fraction(6), FIELD)
    assert np.count_nonzero((found > 0) != nucleus) < 0.01 * np.count_nonzero(nucleus)


def test_what_is_dark_far_from_the_maps_nucleus_is_none() -> None:
    """Granules and a platelet that lies on the cell."""
    shape = (120, 120)
    cell, nucleus, platelet = disc(shape, 60, 60, 50), disc(shape, 50, 60, 20), disc(shape, 98, 60, 7)
    map_ = (255 * ndi.gaussian_filter(nucleus.astype(float), 2)).astype(np.uint8)
    rgb = stained(shape, cell, nucleus | platelet)
    found = find_nuclei(rgb, cell.astype(np.int32), map_, Fraction(1), FIELD)
    assert not found[platelet].any()
    assert np.count_nonzero((found > 0) != nucleus) < 0.02 * np.count_nonzero(nucleus)


def test_a_cell_that_is_all_nucleus_is_outlined_by_its_map() -> None:
    shape = (60, 60)
    cell = disc(shape, 30, 30, 20)
    rgb = stained(shape, cell, cell)
    likely = np.where(cell, 255, 0).astype(np.uint8)
    found = find_nuclei(rgb, cell.astype(np.int32), likely, Fraction(1), FIELD)
    assert_array_equal(found, ndi.binary_opening(cell))
    assert not find_nuclei(rgb, cell.astype(np.int32), np.zeros_like(likely), Fraction(1), FIELD).any()


def test_each_cell_has_its_own_level_of_dark() -> None:
    shape = (100, 200)
    cells = disc(shape, 50, 50, 36) * np.int32(1) + disc(shape, 50, 150, 36) * np.int32(2)
    nuclei = disc(shape, 50, 50, 22), disc(shape, 50, 150, 22)
    rgb = stained(shape, cells > 0, nuclei[0])
    rgb[nuclei[1]] = np.array(VIOLET) + 60
    found = find_dark_nuclei(rgb, cells, FIELD)
    for number, nucleus in enumerate(nuclei, start=1):
        assert np.count_nonzero((found == number) != nucleus) < 0.03 * np.count_nonzero(nucleus)


# --- The network's way ----------------------------------------------------------------------------------------------


class FakeMapper:
    """Calls dark what a cell is, darker its nucleus, darkest its core; each within some pixels around."""

    name, device = "fake", "cpu"

    def __init__(self, multiple: int = 16, reach_px: int = 0, cell_diameter_px: float = 40.0) -> None:
        self.multiple, self.reach_px, self.cell_diameter_px = multiple, reach_px, cell_diameter_px
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, light: NDArray[np.uint8]) -> NDArray[np.uint8]:
        assert light.dtype == np.uint8
        assert light.shape[0] % self.multiple == light.shape[1] % self.multiple == 0
        self.shapes.append(light.shape[:2])
        grey = light.mean(axis=-1)
        if self.reach_px:
            grey = 0.7 * grey + 0.3 * ndi.uniform_filter(grey, 2 * self.reach_px + 1, mode="nearest")
        halved = grey.reshape(grey.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3))
        return np.stack([np.clip((230 - halved) * gain, 0, 255) for gain in (3, 2, 1.7)], axis=-1).astype(np.uint8)


def crowded(shape: tuple[int, int], seed: int = 0) -> Pixels:
    """Paint cells 36 px wide all over, also where tiles meet."""
    rng = np.random.default_rng(seed)
    places = [
        (float(y), float(x), 18.0)
        for y in range(25, shape[0], 55)
        for x in range(25, shape[1], 55)
        if rng.random() < 0.5
    ]
    shift = rng.integers(-8, 9, (len(places), 2))
    return painted(shape, *((y + dy, x + dx, r) for (y, x, r), (dy, dx) in zip(places, shift.tolist(), strict=True)))


@pytest.mark.parametrize("shape", [(1100, 500), (300, 2070), (1060, 1958)])
@pytest.mark.parametrize("reach_px", [0, 50])
def test_tiles_give_what_the_whole_gives(
    shape: tuple[int, int], reach_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the network sees within the margin of 64 px."""
    rgb = crowded(shape)
    tiled, whole = FakeMapper(reach_px=reach_px), FakeMapper(reach_px=reach_px)
    in_tiles = segment_learned(View.whole(rgb), 40.0, tiled)
    monkeypatch.setattr(learned, "TILE_PX", 100_000)
    at_once = segment_learned(View.whole(rgb), 40.0, whole)
    assert len(whole.shapes) == 1
    assert len(tiled.shapes) == np.prod([-(-n // 896) if n > 1024 else 1 for n in shape])
    assert max(max(shape) for shape in tiled.shapes) <= 1024
    assert in_tiles[0].max() > 50
    for one, other in zip(in_tiles[:3], at_once[:3], strict=True):
        assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(1024, 64), (1025, 64), (2688, 64), (1, 3000)])
def test_every_pixel_is_in_one_tile(shape: tuple[int, int]) -> None:
    for length in shape:
        seen = np.zeros(length, int)
        for (first, last), (start, stop) in learned._tiles(length, slice(0, length)):
            assert 0 <= first <= start < stop <= last <= length
            assert first == 0 or start - first >= 64
            assert last == length or last - stop >= 64
            assert first % 64 == start % 64 == 0
            seen[start:stop] += 1
        assert (seen == 1).all()


def test_real_tiles_give_nearly_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped network sees a little further than the margin, and pads what it sees with nothing."""
    view, ratio = View.whole(draw_smear((512, 512), n_cells=40, seed=3).rgb), Fraction(1)
    mapper = open_mapper(load_segmenter("cells"))
    whole = learned._maps(view, ratio, mapper).astype(int)
    monkeypatch.setattr(learned, "TILE_PX", 256)
    apart = np.abs(learned._maps(view, ratio, mapper).astype(int) - whole)
    assert apart.mean() < 0.5
    assert ((whole >= 128) != (whole + apart >= 128)).mean() < 0.002


def test_cells_have_the_size_that_the_network_wants() -> None:
    for diameter, side in ((20.0, 600), (40.0, 300), (80.0, 150)):
        mapper = FakeMapper(cell_diameter_px=40.0)
        segment_learned(View.whole(crowded((300, 300))), diameter, mapper)
        assert len(mapper.shapes) == 1
        assert all(side <= n < side + mapper.multiple for n in mapper.shapes[0])


def test_an_image_without_chromatin_is_not_looked_at() -> None:
    mapper = FakeMapper()
    for labels in segment_learned(View.whole(painted((90, 90))), None, mapper)[:2]:
        assert labels is not None
        assert labels.shape == (90, 90)
        assert not labels.any()
    assert mapper.shapes == []


def test_where_nothing_is_clear_cells_are_looked_at_from_afar() -> None:
    class Blind(FakeMapper):
        def predict(self, light: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return super().predict(light) * np.uint8(0)

    mapper = Blind(multiple=2)
    segment_learned(View.whole(painted((256, 256), (120, 120, 40))), None, mapper)
    near, far = mapper.shapes
    assert far[0] == pytest.approx(near[0] / 2, abs=2)


@pytest.mark.parametrize(
    ("found", "depth", "looks"),
    [
        (114.0, 0.85, [100.0]),
        (86.0, 0.85, [100.0]),
        (116.0, 0.85, [100.0, 116.0]),
        (84.0, 0.85, [100.0, 84.0]),
        (114.0, 0.78, [100.0, 200.0, 114.0]),
        (111.0, 0.78, [100.0, 200.0]),
    ],
)
def test_cells_of_another_size_are_looked_at_again_sooner_where_they_are_not_clear(
    found: float, depth: float, looks: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    def look(_: View, diameter: float, __: FakeMapper) -> SimpleNamespace:
        looked.append(diameter)
        return SimpleNamespace(assumed=diameter, found=found, depth=depth if diameter < 150 else 0.0)

    monkeypatch.setattr(learned, "_look", look)
    learned._best_look(View.whole(painted((8, 8))), 100.0, FakeMapper())
    assert looked == looks


def test_how_sure_the_network_is_counts_by_area() -> None:
    pieces = np.repeat(np.array([0, 1, 2], np.int32), (60, 30, 10))[None]
    core = np.zeros(pieces.shape, np.uint8)
    core[0, [5, 70, 95]] = 200, 255, 51
    look = learned._Look(40.0, np.stack([core] * 3, axis=-1), pieces, 20.0, Fraction(2))
    assert look.depth == pytest.approx((30 * 1.0 + 10 * 0.2) / 40)
    assert look.found == pytest.approx(2 * 2 * np.sqrt(30 / np.pi))
    assert learned._Look(40.0, look.maps, pieces * 0, 20.0, Fraction(2)).depth == 0


def test_looks_are_limited_however_cells_are_taken() -> None:
    """A network that finds cells a third as wide as whatever it is told."""

    class Shrinking(FakeMapper):
        def predict(self, light: NDArray[np.uint8]) -> NDArray[np.uint8]:
            self.shapes.append(light.shape[:2])
            shape = light.shape[0] // 2, light.shape[1] // 2
            return maps_of(shape, *((y, x, 4.0) for y in range(8, shape[0], 16) for x in range(8, shape[1], 16)))

    mapper = Shrinking()
    segment_learned(View.whole(painted((128, 128), (60, 60, 20))), None, mapper)
    assert 2 <= len(mapper.shapes) <= 5


def test_the_shipped_network_gives_bytes_at_half_the_resolution() -> None:
    mapper = open_mapper(load_segmenter("cells"), "cpu", "keras")
    assert mapper.device == "cpu"
    assert mapper.name.startswith("keras ")
    light = np.random.default_rng(6).integers(0, 256, (4 * mapper.multiple, 6 * mapper.multiple, 3), dtype=np.uint8)
    maps = mapper.predict(light)
    assert maps.dtype == np.uint8
    assert maps.shape == (2 * mapper.multiple, 3 * mapper.multiple, 3)
    assert_array_equal(mapper.predict(light), maps)


# --- Methods by name ------------------------------------------------------------------------------------------------


class FakeEntryPoint:
    """An entry point of another package, which loads what it was given."""

    def __init__(self, name: str, find: Any) -> None:
        self.name, self.value, self.find = name, "other_package:find", find
        self.dist = SimpleNamespace(name="other-package", version="2.5")

    def load(self) -> Any:
        if isinstance(self.find, Exception):
            raise self.find
        return self.find


Register = Callable[[str, Any], None]
RGB = np.full((20, 30, 3), 200, np.uint8)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Register a method as another package would: `register(name, find)`."""
    entries: list[FakeEntryPoint] = []

    def entry_points(group: str) -> list[FakeEntryPoint]:
        assert group == "napari_all_detect.segmentation"
        return entries

    monkeypatch.setattr(methods, "entry_points", entry_points)
    return lambda name, find: entries.append(FakeEntryPoint(name, find))


def squares(rgb: Pixels, diameter: float | None) -> Labels:
    labels = np.zeros(rgb.shape[:2], np.int64)
    labels[2:8, 3:9] = 30
    labels[10:16, 12:20] = 7
    return labels


def segment_with(name: str, rgb: Pixels = RGB, **options: Any) -> Any:
    return segment_cells(rgb, SegmentationParams(method=name), nuclei=True, **options)


def test_the_names_are_ours_and_those_registered(register: Register) -> None:
    assert method_names() == ("learned", "classical")
    register("zeta", squares)
    register("alpha", squares)
    register("alpha", squares)
    assert method_names() == ("learned", "classical", "alpha", "zeta")


def test_a_registered_method_finds_cells(register: Register) -> None:
    register("squares", squares)
    cells, nuclei = segment_with("squares")
    assert cells.dtype == np.int32
    assert_array_equal(cells > 0, squares(RGB, None) > 0)
    assert sorted(np.unique(cells)) == [0, 1, 2]
    assert nuclei is None


def test_a_registered_method_finds_nuclei_too(register: Register) -> None:
    """They get their cells' numbers, and what lies outside of cells is dropped."""

    def find(rgb: Pixels, diameter: float | None) -> tuple[Labels, NDArray[np.bool_]]:
        cells = squares(rgb, diameter)
        nuclei = np.zeros(cells.shape, bool)
        nuclei[4:18, 5:18] = True
        return cells, nuclei

    register("both", find)
    cells, nuclei = segment_with("both")
    inside = np.zeros(cells.shape, bool)
    inside[4:18, 5:18] = True
    assert_array_equal(nuclei, np.where(inside, cells, 0))


def test_a_registered_method_is_told_the_diameter_if_it_is_known(register: Register) -> None:
    told: list[float | None] = []

    def find(rgb: Pixels, diameter: float | None) -> Labels:
        told.append(diameter)
        return squares(rgb, diameter)

    register("told", find)
    segment_with("told")
    segment_with("told", pixel_size_um=0.5)
    segment_cells(RGB, SegmentationParams(method="told", cell_diameter_px=40.0))
    assert told == [None, 24.0, 40.0]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (np.zeros((20, 30), np.float32), r"float32 of shape \(20, 30\)"),
        (np.zeros((20, 31), int), r"int64 of shape \(20, 31\)"),
        (np.zeros((20, 30, 1), int), r"shape \(20, 30, 1\)"),
        (None, "object"),
        ("labels", "<U6"),
        ([np.zeros((20, 30), int)] * 2, r"shape \(2, 20, 30\)"),
        ((np.zeros((20, 30), int), np.zeros((2, 2), int)), r"shape \(2, 2\)"),
        ((np.zeros((20, 30), int), np.zeros((20, 30))), "float64"),
    ],
    ids=["floats", "another shape", "three axes", "None", "text", "a list", "nuclei's shape", "nuclei's type"],
)
def test_what_is_no_label_image_is_refused(register: Register, returned: Any, said: str) -> None:
    register("odd", lambda rgb, diameter: returned)
    with pytest.raises(InputError, match=f"segmentation 'odd' returned .*{said}.*; expected whole numbers of shape"):
        segment_with("odd")


@pytest.mark.parametrize(
    "returned",
    [
        np.full((20, 30), -1),
        np.full((20, 30), 2**33 + 5),
        (np.zeros((20, 30), int),),
        (np.zeros((20, 30), int),) * 3,
    ],
    ids=["below 0", "beyond int32", "one in a tuple", "three in a tuple"],
)
def test_labels_that_cannot_be_used_are_refused(register: Register, returned: Any) -> None:
    register("odd", lambda rgb, diameter: returned)
    with pytest.raises(AllDetectError, match="segmentation 'odd'"):
        segment_with("odd")


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyError("weights"), ValueError("two\nlines")])
def test_a_method_that_fails_is_named(register: Register, error: Exception) -> None:
    def find(rgb: Pixels, diameter: float | None) -> Labels:
        raise error

    register("weak", find)
    with pytest.raises(AllDetectError, match=f"segmentation 'weak' failed: {type(error).__name__}: ") as caught:
        segment_with("weak")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ImportError("No module named 'torch'"), AttributeError("no find")])
def test_a_method_that_cannot_be_loaded_is_named(register: Register, error: Exception) -> None:
    register("gone", error)
    with pytest.raises(AllDetectError, match=r"segmentation 'gone' \(other_package:find\) can't be loaded: ") as caught:
        open_method("gone")
    assert str(error) in str(caught.value)


def test_a_method_is_loaded_once(register: Register) -> None:
    class Once(FakeEntryPoint):
        n = 0

        def load(self) -> Any:
            self.n += 1
            return squares

    entry = Once("once", squares)
    register("other", squares)
    methods.entry_points(group=methods.GROUP)[0] = entry
    for _ in range(3):
        segment_with("once")
    assert entry.n == 1


def test_our_own_methods_can_not_be_replaced(register: Register) -> None:
    def find(rgb: Pixels, diameter: float | None) -> Labels:
        raise AssertionError("the other package's was taken")

    for name in ("learned", "classical"):
        register(name, find)
        segment_with(name)


def test_an_unknown_name_lists_what_there_is(register: Register) -> None:
    register("cellpose", squares)
    for name in ("best", "", "Learned"):
        with pytest.raises(ParameterError, match=f"segmentation is '{name}'; expected one of: learned, classical, cel"):
            open_method(name)


def test_a_path_without_a_bundle_is_refused() -> None:
    with pytest.raises(BundleError, match="no such file"):
        open_method("no/such/bundle")


def test_a_segmenter_is_opened_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    copy_of_cells(path)
    rgb = draw_smear((160, 160), n_cells=5, stain="giemsa", seed=2).rgb
    for one, other in zip(segment_with(str(path), rgb), segment_with("learned", rgb), strict=True):
        assert one.max() > 2
        assert_array_equal(one, other)


def test_a_segmenter_that_changes_at_its_path_is_opened_anew(tmp_path: Path) -> None:
    copy_of_cells(tmp_path / "mine")
    rgb, path = draw_smear((160, 160), n_cells=5, stain="giemsa", seed=2).rgb, str(tmp_path / "mine")
    assert segment_with(path, rgb)[0].max() > 2
    blind(tmp_path / "mine")
    assert segment_with(path, rgb)[0].max() == 0


def test_a_relative_path_is_one_from_where_the_program_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = draw_smear((160, 160), n_cells=5, stain="giemsa", seed=2).rgb
    for name in ("seeing", "blind"):
        copy_of_cells(tmp_path / name / "mine")
    blind(tmp_path / "blind/mine")
    found = []
    for name in ("seeing", "blind", "seeing"):
        monkeypatch.chdir(tmp_path / name)
        found.append(segment_with("./mine", rgb)[0].any())
    assert found == [True, False, True]


def test_a_network_is_opened_once_and_looked_up_once_for_all_views(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, looked_up = open_method("learned"), []

    def counted(name: str | Path) -> Any:
        looked_up.append(name)
        return load_segmenter(name)

    monkeypatch.setattr(methods, "load_segmenter", counted)
    find = segmentation.cell_finder(SegmentationParams(), None, "auto", "auto")
    rgb = draw_smear((160, 160), n_cells=5, seed=2).rgb
    for _ in range(3):
        find(View.whole(rgb), False)
    assert looked_up == ["cells"]
    assert open_method("learned").keywords == opened.keywords  # type: ignore[attr-defined]


def copy_of_cells(folder: Path) -> None:
    folder.mkdir(parents=True)
    for file in (builtin_root() / "cells").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())


def blind(folder: Path) -> None:
    """Put a network into a bundle that sees nothing: all of its weights are 0."""
    import h5py

    (weights,), manifest = folder.glob("*.weights.h5"), folder / "bundle.json"
    before = file_digest(weights)
    with h5py.File(weights, "r+") as file:
        file.visititems(lambda _, item: item.write_direct(np.zeros_like(item)) if hasattr(item, "dtype") else None)
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(before, file_digest(weights)), encoding="utf-8")


def test_a_segmenter_whose_weights_do_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    copy_of_cells(path)
    facts = json.loads((path / "bundle.json").read_text(encoding="utf-8"))
    facts["network"]["widths"][0] += 1
    (path / "bundle.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(BundleError, match=r"bundle cells-.*; get the bundle again"):
        open_method(str(path))


def test_a_damaged_segmenter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    copy_of_cells(path)
    with next(path.glob("*.weights.h5")).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="has SHA-256"):
        open_method(str(path))


def test_a_method_is_described_so_that_it_can_be_found_again(register: Register, tmp_path: Path) -> None:
    register("cellpose", squares)
    shipped = load_segmenter("cells")
    copy_of_cells(tmp_path / "mine")
    of_bundle = {"bundle": shipped.label, "digest": shipped.digest}
    assert describe_method("learned") == {"method": "learned"} | of_bundle
    assert describe_method("classical") == {"method": "classical"}
    assert describe_method("cellpose") == {"method": "cellpose", "package": "other-package-2.5"}
    path = str(tmp_path / "mine")
    assert describe_method(path) == {"method": path} | of_bundle


def test_a_written_smear_is_found_as_it_is_read(tmp_path: Path) -> None:
    """PNG loses nothing: what is found in a file is what is found in its pixels."""
    rgb = draw_smear((160, 160), n_cells=5, stain="giemsa", seed=2).rgb
    Image.fromarray(rgb).save(tmp_path / "smear.png")
    read = np.asarray(Image.open(tmp_path / "smear.png"))
    assert_array_equal(segment_cells(read), segment_cells(rgb))
