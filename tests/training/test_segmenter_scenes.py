from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import ndimage as ndi

from all_detect_training.segmenter import scenes
from all_detect_training.segmenter.masks import DrawnImage
from all_detect_training.segmenter.pasting import Cutout, cut_out, paste, paste_beside
from all_detect_training.segmenter.scenes import SCENE_PX, Scenes, compose, core_depth
from all_detect_training.segmenter.stains import as_seen, restain
from napari_all_detect import draw_smear
from napari_all_detect.samples import STAINS

Mask = NDArray[np.bool_]
ARRAYS = ("rgb", "cells", "nuclei", "known")
SLIDE = np.array([240, 230, 220], np.uint8)


def disc(centre: tuple[float, float], radius: float, shape: tuple[int, int]) -> Mask:
    rows, columns = np.indices(shape)
    return np.hypot(rows - centre[0], columns - centre[1]) <= radius


def drawn(
    discs: list[tuple[float, float, float]],
    shape: tuple[int, int] = (120, 140),
    slide: NDArray[np.uint8] = SLIDE,
    known: bool = True,
) -> DrawnImage:
    """Draw cells (y, x, radius) with nuclei half as wide: cells let half the light pass, nuclei a quarter."""
    cells, nuclei = np.zeros(shape, np.int32), np.zeros(shape, bool)
    for number, (y, x, radius) in enumerate(discs, start=1):
        cells[disc((y, x), radius, shape)] = number
        nuclei |= disc((y, x), radius / 2, shape)
    light = np.where(nuclei, 0.25, np.where(cells > 0, 0.5, 1))
    rgb = (light[..., None] * slide).astype(np.uint8)
    return DrawnImage("", rgb, cells, nuclei, np.full(shape, known), 2 * max((r for *_, r in discs), default=20.0))


def copied(image: DrawnImage) -> DrawnImage:
    return replace(image, **{name: getattr(image, name).copy() for name in ARRAYS})


def round_cutout(radius: int = 12) -> Cutout:
    """Return a cell that lets half the light pass, its nucleus a fifth."""
    shape = (2 * radius + 7, 2 * radius + 7)
    centre = (radius + 3.0, radius + 3.0)
    cell, nucleus = disc(centre, radius, shape), disc(centre, radius / 2, shape)
    light = np.where(nucleus, 0.2, np.where(cell, 0.5, 1.0))[..., None].repeat(3, axis=2).astype(np.float32)
    return Cutout(light, cell, nucleus)


def from_smear(seed: int, **settings: object) -> DrawnImage:
    smear = draw_smear((96, 96), n_cells=1, seed=seed, touching=0, border=0, cell_diameter_px=50, **settings)
    return DrawnImage(f"{seed}", smear.rgb, smear.labels, smear.nuclei > 0, np.ones((96, 96), bool), 50.0)


def boxed_field(seed: int) -> DrawnImage:
    """Return red cells alone, with a box in which anything may be."""
    rgb = draw_smear((200, 220), n_cells=0, seed=seed, cell_diameter_px=50).rgb
    known = np.ones(rgb.shape[:2], bool)
    known[60:130, 70:140] = False
    nothing = np.zeros(known.shape, np.int32)
    return DrawnImage(f"{seed}", rgb, nothing, nothing > 0, known, 50.0)


@pytest.fixture(scope="module")
def masked() -> list[DrawnImage]:
    return [from_smear(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def boxed() -> list[DrawnImage]:
    return [boxed_field(seed) for seed in range(2)]


@pytest.fixture(scope="module")
def composed(masked: list[DrawnImage], boxed: list[DrawnImage]) -> Scenes:
    return compose(60, masked, boxed, cell_diameter_px=40, n_smears=6, seed=4)


def test_the_largest_cell_is_cut_out_and_its_area_scaled() -> None:
    image = drawn([(30, 30, 12), (70, 80, 20), (100, 20, 8)])
    for factor in (0.6, 1.0, 1.5):
        cut = cut_out(image, factor, np.random.default_rng(0))
        assert cut.cell.shape == cut.nucleus.shape == cut.light.shape[:2]
        assert cut.cell.sum() == pytest.approx(factor**2 * (image.cells == 2).sum(), rel=0.04)
        assert cut.nucleus.sum() == pytest.approx(factor**2 * (image.nuclei & (image.cells == 2)).sum(), rel=0.08)
        assert (cut.cell | ~cut.nucleus).all()
        assert ndi.label(cut.cell)[1] == 1


@pytest.mark.parametrize("slide", [(240, 230, 220), (250, 250, 150), (120, 110, 130)])
def test_what_is_cut_out_is_light_relative_to_its_own_slide(slide: tuple[int, int, int]) -> None:
    image = drawn([(60, 70, 24)], slide=np.array(slide, np.uint8))
    cut = cut_out(image, 1.0, np.random.default_rng(1))
    assert cut.light.dtype == np.float32
    inner = ndi.binary_erosion(cut.nucleus, iterations=3)
    body = ndi.binary_erosion(cut.cell, iterations=3) & ~ndi.binary_dilation(cut.nucleus, iterations=3)
    assert_allclose(cut.light[inner], 0.25, atol=0.03)
    assert_allclose(cut.light[body], 0.5, atol=0.03)


def test_cells_are_cut_out_at_different_angles_and_mirrored() -> None:
    shape = (100, 100)
    cells = disc((50, 50), 30, shape).astype(np.int32)
    # From the centre the small lobe is a quarter turn from the large one: to the right, or in a mirror to the left.
    lobes = disc((35, 50), 9, shape) | disc((50, 67), 5, shape)
    image = DrawnImage("", np.full((*shape, 3), 200, np.uint8), cells, lobes, cells >= 0, 60.0)
    rng = np.random.default_rng(0)
    angles, sides = [], set()
    for _ in range(16):
        cut = cut_out(image, 1.0, rng)
        parts, n = ndi.label(cut.nucleus)
        assert n == 2
        order = 1 + np.argsort(-np.bincount(parts.ravel())[1:])
        (y0, x0), (y1, x1) = np.array(ndi.center_of_mass(parts > 0, parts, order)) - ndi.center_of_mass(cut.cell)
        angles.append(np.degrees(np.arctan2(y0, x0)) % 360)
        sides.add(bool(y0 * x1 - x0 * y1 > 0))
        assert (np.hypot(y0, x0), np.hypot(y1, x1)) == pytest.approx((15, 17), abs=1)
    assert sides == {True, False}
    assert np.diff(np.sort([*angles, min(angles) + 360])).max() < 120


def test_the_same_generator_cuts_out_the_same() -> None:
    image = drawn([(60, 70, 24)])
    one, same = (cut_out(image, 0.8, np.random.default_rng(5)) for _ in range(2))
    assert_array_equal(one.light, same.light)
    assert_array_equal(one.cell, same.cell)
    assert_array_equal(one.nucleus, same.nucleus)


@given(y=st.floats(-30, 150), x=st.floats(-30, 170), radius=st.integers(3, 18), known=st.booleans())
def test_a_pasted_cell_gets_a_new_number_under_those_that_are_there(
    y: float, x: float, radius: int, known: bool
) -> None:
    before = drawn([(40, 50, 20), (90, 100, 16)], known=known)
    scene, cut = copied(before), round_cutout(radius)
    paste(scene, cut, y, x)
    there = before.cells > 0
    new = scene.cells == 3
    assert_array_equal(scene.cells[there], before.cells[there])
    assert set(np.unique(scene.cells)) - {3} == {0, 1, 2}
    assert new.sum() <= cut.cell.sum()
    assert (scene.nuclei <= (scene.cells > 0)).all()
    assert_array_equal(scene.nuclei[~new], before.nuclei[~new])
    assert scene.known[new].all()
    assert_array_equal(scene.known[~new], before.known[~new])
    far = ndi.distance_transform_edt(~new) > 4 if new.any() else np.ones_like(new)
    assert_array_equal(scene.rgb[far], before.rgb[far])


def test_a_cell_pasted_on_bare_slide_is_all_there_in_the_light_of_this_slide() -> None:
    slide = np.array([120, 180, 100], np.uint8)
    scene, cut = drawn([], slide=slide), round_cutout(14)
    paste(scene, cut, 60, 70)
    new = scene.cells == 1
    assert new.sum() == cut.cell.sum()
    assert scene.nuclei.sum() == cut.nucleus.sum()
    assert ndi.center_of_mass(new) == pytest.approx((60, 70), abs=1)
    inner = ndi.binary_erosion(scene.nuclei, iterations=2)
    body = ndi.binary_erosion(new, iterations=2) & ~ndi.binary_dilation(scene.nuclei, iterations=2)
    assert_allclose(scene.rgb[inner], np.broadcast_to(0.2 * slide, (inner.sum(), 3)), atol=2)
    assert_allclose(scene.rgb[body], np.broadcast_to(0.5 * slide, (body.sum(), 3)), atol=2)


def test_a_cell_under_another_does_not_show_through() -> None:
    before = drawn([(60, 70, 25)])
    scene = copied(before)
    paste(scene, round_cutout(14), 60, 100)
    deep = ndi.binary_erosion(before.cells > 0, iterations=4)
    assert_array_equal(scene.rgb[deep], before.rgb[deep])
    assert 0 < (scene.cells == 2).sum() < round_cutout(14).cell.sum()


def test_a_cell_that_is_wholly_under_another_changes_nothing() -> None:
    before = drawn([(60, 70, 30)])
    scene = copied(before)
    paste(scene, round_cutout(10), 60, 70)
    for name in ARRAYS:
        assert_array_equal(getattr(scene, name), getattr(before, name))


@pytest.mark.parametrize(("y", "x"), [(-40, 70), (60, -40), (170, 70), (60, 190), (-500, -500), (900, 900)])
def test_a_cell_pasted_off_the_picture_changes_nothing(y: float, x: float) -> None:
    before = drawn([(60, 70, 20)])
    scene = copied(before)
    paste(scene, round_cutout(12), y, x)
    for name in ARRAYS:
        assert_array_equal(getattr(scene, name), getattr(before, name))


@pytest.mark.parametrize(("y", "x"), [(0, 70), (119, 70), (60, 0), (60, 139)])
def test_the_border_cuts_a_pasted_cell_in_half(y: float, x: float) -> None:
    scene, cut = drawn([]), round_cutout(14)
    paste(scene, cut, y, x)
    assert (scene.cells == 1).sum() == pytest.approx(cut.cell.sum() / 2, rel=0.15)


def test_cells_that_are_pasted_one_after_the_other_get_numbers_of_their_own() -> None:
    scene = drawn([(60, 70, 10)])
    for y, x in ((30, 30), (30, 110), (95, 70)):
        paste(scene, round_cutout(8), y, x)
    assert sorted(np.unique(scene.cells)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(25))
def test_a_cell_pasted_beside_another_touches_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = drawn([(100, 100, 20)], (200, 200))
    cut = cut_out(drawn([(60, 70, 22)]), float(rng.uniform(0.6, 1.2)), rng)
    paste_beside(scene, cut, rng)
    new, old = scene.cells == 2, scene.cells == 1
    assert (new & ndi.binary_dilation(old, np.ones((3, 3)), iterations=3)).any()
    assert 0.5 < new.sum() / cut.cell.sum() <= 1


def test_beside_means_beside_any_of_the_cells() -> None:
    image = drawn([(50, 50, 14), (50, 150, 14), (150, 100, 14)], (200, 200))
    touched = set()
    for seed in range(20):
        scene = copied(image)
        paste_beside(scene, round_cutout(12), np.random.default_rng(seed))
        near = ndi.binary_dilation(scene.cells == 4, np.ones((3, 3)), iterations=3)
        touched |= set(np.unique(image.cells[near])) - {0}
    assert touched == {1, 2, 3}


def test_a_cell_is_pasted_somewhere_if_none_is_there() -> None:
    places = set()
    for seed in range(10):
        scene = drawn([])
        paste_beside(scene, round_cutout(8), np.random.default_rng(seed))
        assert set(np.unique(scene.cells)) == {0, 1}
        places.add(tuple(np.round(ndi.center_of_mass(scene.cells))))
    assert len(places) > 5


@pytest.mark.parametrize("radius", [6, 15, 40])
def test_the_depth_of_a_disc_rises_evenly_from_its_outline_to_its_centre(radius: int) -> None:
    cells = disc((50, 50), radius, (100, 100)).astype(np.int32)
    depth = core_depth(cells)
    rows, columns = np.indices(cells.shape)
    expected = 1 - np.hypot(rows - 50, columns - 50) / radius
    assert (depth.dtype, depth.shape) == (np.float32, cells.shape)
    assert depth[50, 50] == 1
    assert_allclose(depth[cells > 0], expected[cells > 0], atol=1.5 / radius)


@given(
    discs=st.lists(st.tuples(st.integers(-5, 75), st.integers(-5, 85), st.integers(1, 25)), max_size=6),
)
def test_the_depth_is_0_outside_and_between_0_and_1_inside(discs: list[tuple[int, int, int]]) -> None:
    cells = np.zeros((70, 80), np.int32)
    for number, (y, x, radius) in enumerate(discs, start=1):
        cells[disc((y, x), radius, cells.shape)] = number
    depth = core_depth(cells)
    assert_array_equal(depth > 0, cells > 0)
    assert depth.max() <= 1


def test_every_round_cell_is_as_deep_as_1_whatever_its_size() -> None:
    cells = drawn([(20, 20, 15), (20, 60, 4), (80, 40, 30), (30, 110, 1)]).cells
    assert [core_depth(cells)[cells == number].max() for number in (1, 2, 3, 4)] == [1, 1, 1, 1]


def test_the_line_between_cells_that_touch_is_an_outline() -> None:
    cells = np.zeros((60, 80), np.int32)
    cells[10:50, 10:40], cells[10:50, 40:70] = 1, 2
    depth = core_depth(cells)
    assert depth[30, 39] == depth[30, 40] == pytest.approx(1 / 15, abs=0.01)
    assert depth[30, 24] == 1
    assert depth[30, 55] == 1


@pytest.mark.parametrize("turns", range(4))
def test_the_border_of_the_picture_is_no_outline(turns: int) -> None:
    cells = np.zeros((60, 80), np.int32)
    cells[20:40, :40] = 1
    cells = np.rot90(cells, turns).copy()
    depth = np.rot90(core_depth(cells), -turns)
    assert_allclose(depth[:, :30], depth[:, [20]].repeat(30, axis=1), atol=1e-6)
    assert depth[29, 0] == 1


def test_a_cell_that_is_the_whole_picture_is_deep_everywhere() -> None:
    assert core_depth(np.ones((20, 30), np.int32)).min() > 0.7


def test_a_cell_cut_in_half_is_as_deep_at_the_border_as_a_whole_one_in_the_middle() -> None:
    whole = core_depth(disc((50, 50), 30, (100, 100)).astype(np.int32))
    half = core_depth(disc((0, 50), 30, (60, 100)).astype(np.int32))
    assert half[0, 50] > 0.95
    assert_allclose(half[0], whole[50], atol=0.05)


def test_numbers_that_no_cell_has_do_no_harm() -> None:
    cells = drawn([(40, 50, 20)]).cells
    assert_array_equal(core_depth(7 * cells), core_depth(cells))
    assert not core_depth(np.zeros((5, 6), np.int32)).any()


def sound(made: Scenes, n: int) -> None:
    """Check what holds for all scenes."""
    assert (made.rgb.shape, made.rgb.dtype) == ((n, SCENE_PX, SCENE_PX, 3), np.uint8)
    assert (made.truth.shape, made.truth.dtype) == ((n, SCENE_PX, SCENE_PX, 4), np.uint8)
    cell, nucleus, depth, known = np.moveaxis(made.truth, -1, 0)
    for plane in (cell, nucleus, known):
        assert set(np.unique(plane)) <= {0, 255}
    assert (nucleus <= cell).all()
    assert_array_equal(depth > 0, cell > 0)
    assert (known >= cell).all()


def test_scenes_hold_cells_with_nuclei_and_depth(composed: Scenes) -> None:
    sound(composed, 60)
    assert composed.truth[..., :3].any(axis=(1, 2)).mean(axis=0) == pytest.approx([0.9, 0.9, 0.9], abs=0.1)
    assert composed.truth[..., 2].max() == 255


def test_the_composed_scenes_are_varied(composed: Scenes) -> None:
    fields = np.percentile(composed.rgb, 95, axis=(1, 2))
    assert (fields.std(axis=0) > 10).all()
    assert composed.truth[..., 0].mean(axis=(1, 2)).std() > 10


def test_the_same_seed_composes_the_same_scenes(
    masked: list[DrawnImage], boxed: list[DrawnImage], composed: Scenes
) -> None:
    same = compose(60, masked, boxed, cell_diameter_px=40, n_smears=6, seed=4)
    other = compose(60, masked, boxed, cell_diameter_px=40, n_smears=6, seed=5)
    assert_array_equal(same.rgb, composed.rgb)
    assert_array_equal(same.truth, composed.truth)
    assert (other.rgb != composed.rgb).any(axis=(1, 2, 3)).all()


def test_composing_leaves_the_images_as_they_were(masked: list[DrawnImage], boxed: list[DrawnImage]) -> None:
    images = [*masked, *boxed]
    before = [copied(image) for image in images]
    compose(30, masked, boxed, cell_diameter_px=40, n_smears=2)
    for image, kept in zip(images, before, strict=True):
        for name in ARRAYS:
            assert_array_equal(getattr(image, name), getattr(kept, name))


def test_drawn_smears_are_enough_for_scenes() -> None:
    made = compose(20, [], [], cell_diameter_px=40, n_smears=3)
    sound(made, 20)
    assert (made.truth[..., 3] == 255).all()
    assert made.truth[..., 0].any()


def test_masks_are_enough_for_scenes(masked: list[DrawnImage]) -> None:
    sound(compose(20, masked, [], cell_diameter_px=40, n_smears=3), 20)


def test_boxes_are_enough_for_scenes_and_what_they_hold_is_unknown(boxed: list[DrawnImage]) -> None:
    made = compose(40, [], boxed, cell_diameter_px=40, n_smears=3)
    sound(made, 40)
    partly = (made.truth[..., 3] == 0).any(axis=(1, 2))
    assert 5 < partly.sum() < 40
    assert not made.truth[partly, ..., 0].any()


def test_cells_are_pasted_into_boxed_images(masked: list[DrawnImage], boxed: list[DrawnImage]) -> None:
    made = compose(60, masked, boxed, cell_diameter_px=40, n_smears=3)
    partly = (made.truth[..., 3] == 0).any(axis=(1, 2))
    assert made.truth[partly, ..., 0].any(axis=(1, 2)).mean() > 0.7


def test_cells_of_scenes_are_about_as_wide_as_asked_for() -> None:
    image = drawn([(60, 60, 30)], (120, 120))
    for diameter in (20.0, 60.0):
        made = compose(60, [image], [], cell_diameter_px=diameter, n_smears=2, seed=1)
        # The distance to the outline is greatest at a disc's centre: its radius.
        radii = [ndi.distance_transform_edt(np.pad(cell, 1)).max() for cell in made.truth[..., 0] if cell.any()]
        assert np.median(radii) == pytest.approx(diameter / 2, rel=0.3)


@pytest.fixture
def from_masks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start every scene from an image with masks, and write nothing into it."""
    monkeypatch.setattr(scenes, "MASKED", 1.0)
    monkeypatch.setattr(scenes, "BURNT_IN", 0.0)


@pytest.mark.usefixtures("from_masks_alone")
def test_an_image_smaller_than_a_scene_goes_on_mirrored_with_its_truth() -> None:
    image = drawn([(20, 24, 14)], (40, 48))
    made = compose(30, [image], [], cell_diameter_px=28, n_smears=1, seed=3)
    sound(made, 30)
    light = as_seen(made.rgb).mean(axis=-1)
    cell, nucleus = made.truth[..., 0] > 0, made.truth[..., 1] > 0
    near = np.ones((1, 5, 5))
    for expected, mask in ((0.25, nucleus), (0.5, cell & ~nucleus), (1.0, ~cell)):
        inner = ndi.binary_erosion(mask, near, border_value=1)
        assert inner.mean() > 0.02
        assert np.mean(np.abs(light[inner] - expected) < 0.08) > 0.97


@pytest.mark.usefixtures("from_masks_alone")
def test_every_whole_cell_is_as_deep_as_1_in_its_mirror_images_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("paste", "paste_beside"):
        monkeypatch.setattr(scenes, name, lambda *_: None)
    image = drawn([(60, 60, 40)], (120, 120))
    deepest = []
    for truth in compose(30, [image], [], cell_diameter_px=40, n_smears=1, seed=1).truth:
        parts, _ = ndi.label(truth[..., 0])
        for number, (rows, columns) in enumerate(ndi.find_objects(parts), start=1):
            if min(rows.start, columns.start) > 0 and max(rows.stop, columns.stop) < SCENE_PX:
                deepest.append(truth[..., 2][parts == number].max())
    assert len(deepest) > 30
    assert min(deepest) == 255


@pytest.mark.usefixtures("from_masks_alone")
def test_cells_are_pasted_beside_mirror_images_too(monkeypatch: pytest.MonkeyPatch) -> None:
    touching = []

    def watched(scene: DrawnImage, cutout: Cutout, rng: np.random.Generator) -> None:
        before = scene.cells > 0
        last = scene.cells.max()
        paste_beside(scene, cutout, rng)
        new = scene.cells > last
        if before.any() and new.any():
            touching.append(bool((new & ndi.binary_dilation(before, np.ones((3, 3)), iterations=3)).any()))

    monkeypatch.setattr(scenes, "paste_beside", watched)
    image = drawn([(45, 50, 16)], (120, 120))
    compose(150, [image], [], cell_diameter_px=24, n_smears=1, seed=1)
    assert len(touching) > 40
    assert np.mean(touching) > 0.97


@pytest.fixture
def smears() -> NDArray[np.uint8]:
    return np.stack([draw_smear((64, 64), n_cells=2, seed=seed, stain=stain).rgb for seed, stain in enumerate(STAINS)])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [1, 4])
def test_restained_pictures_are_pictures_again(smears: NDArray[np.uint8], n: int, seed: int) -> None:
    rgb = smears[:n]
    before = rgb.copy()
    restained = restain(rgb, np.random.default_rng(seed))
    assert (restained.shape, restained.dtype) == (rgb.shape, np.uint8)
    assert (restained != rgb).any(axis=(1, 2, 3)).all()
    assert_array_equal(rgb, before)


def test_the_same_generator_restains_the_same(smears: NDArray[np.uint8]) -> None:
    one, same, other = (restain(smears, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert_array_equal(one, same)
    assert (one != other).any(axis=(1, 2, 3)).all()


def test_a_white_field_stays_colourless_and_bright() -> None:
    white = np.full((200, 16, 16, 3), 255, np.uint8)
    means = restain(white, np.random.default_rng(0)).mean(axis=(1, 2))
    assert_allclose(means, means.mean(axis=1, keepdims=True).repeat(3, axis=1), atol=2)
    assert means.min() > 160
    assert means.mean() > 235


def test_shapes_stay_where_they_were() -> None:
    shape = (48, 48)
    cell = disc((24, 20), 12, shape)
    rgb = np.where(cell[..., None], np.array([130, 80, 180]), 240).astype(np.uint8)[None].repeat(100, axis=0)
    restained = restain(rgb, np.random.default_rng(1)).mean(axis=-1)
    inner, outside = ndi.binary_erosion(cell, iterations=3), ~ndi.binary_dilation(cell, iterations=3)
    levels = (restained[:, inner].mean(axis=1) + restained[:, outside].mean(axis=1)) / 2
    assert (restained[:, inner].mean(axis=1) < restained[:, outside].mean(axis=1) - 15).all()
    agreeing = ((restained < levels[:, None, None]) == cell).mean(axis=(1, 2))
    assert np.median(agreeing) > 0.98


def test_colours_come_out_differently_in_each_picture() -> None:
    rgb = np.full((50, 8, 8, 3), (130, 80, 180), np.uint8)
    means = restain(rgb, np.random.default_rng(2)).mean(axis=(1, 2))
    assert (means.std(axis=0) > 10).all()
    assert len(np.unique(means.round(1), axis=0)) == 50


@pytest.mark.parametrize("stain", STAINS)
@pytest.mark.parametrize("exposure", [0.7, 1.0])
def test_the_empty_field_is_seen_as_1_on_every_slide(stain: str, exposure: float) -> None:
    smear = draw_smear((96, 96), n_cells=2, seed=1, stain=stain, exposure=exposure, red_cells=False, platelets=False)
    seen = as_seen(smear.rgb[None])[0]
    empty = ~ndi.binary_dilation(smear.labels > 0, iterations=4)
    assert seen.dtype == np.float32
    assert_allclose(np.median(seen[empty], axis=0), 1, atol=0.03)
    assert seen[smear.nuclei > 0].mean() < 0.8
    assert 0 <= seen.min() < seen.max() <= 255 / 230 + 1e-6


def test_each_picture_is_seen_relative_to_its_own_slide() -> None:
    rgb = np.stack([np.full((16, 16, 3), level, np.uint8) for level in ((240, 240, 240), (200, 150, 90))])
    assert_allclose(as_seen(rgb), 1, atol=1e-6)


def test_what_is_seen_does_not_depend_on_the_lamp() -> None:
    one, dim = (draw_smear((64, 64), n_cells=2, seed=2, exposure=e, noise=0).rgb for e in (0.95, 0.6))
    assert_allclose(as_seen(one[None]), as_seen(dim[None]), atol=0.03)
