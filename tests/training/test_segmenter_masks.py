import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi

from all_detect_training.segmenter import masks
from all_detect_training.segmenter.boxes import read_boxes
from all_detect_training.segmenter.masks import DrawnImage, hold_out, read_boxed, read_masked
from napari_all_detect import draw_smear
from napari_all_detect.errors import InputError
from napari_all_detect.samples import Smear

SHAPE = (96, 112)
MARGIN = masks.BOX_MARGIN_PX


def disc(centre: tuple[float, float], radius: float, shape: tuple[int, int] = SHAPE) -> NDArray[np.bool_]:
    rows, columns = np.indices(shape)
    return np.hypot(rows - centre[0], columns - centre[1]) <= radius


def painted(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paint nuclei violet and cytoplasm pale on a bare slide."""
    rgb = np.full((*mask.shape, 3), 240, np.uint8)
    rgb[mask > 64] = 190, 180, 230
    rgb[mask > 191] = 120, 60, 170
    return rgb


def one_cell() -> NDArray[np.uint8]:
    """Return the mask of a cell 40 px wide whose nucleus is 24 px wide."""
    return np.where(disc((48, 50), 12), 255, np.where(disc((48, 50), 20), 128, 0)).astype(np.uint8)


def save_pair(folder: Path, name: str, mask: NDArray[np.uint8], rgb: NDArray[np.uint8] | None = None) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(painted(mask) if rgb is None else rgb).save(folder / f"{name}_image.png")
    Image.fromarray(mask).save(folder / f"{name}_mask.png")


def save_boxed(
    folder: Path, name: str, boxes: list[tuple[str, Any, Any, Any, Any]], shape: tuple[int, int] = SHAPE
) -> Path:
    """Write an image of a bare slide and its boxes: (kind, ymin, xmin, ymax, xmax)."""
    folder.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.full((*shape, 3), 230, np.uint8)).save(folder / f"{name}.png")
    sides = ("ymin", "xmin", "ymax", "xmax")
    objects = [
        f"<object><name>{kind}</name><bndbox>"
        + "".join(f"<{side}>{value}</{side}>" for side, value in zip(sides, box, strict=True))
        + "</bndbox></object>"
        for kind, *box in boxes
    ]
    (folder / f"{name}.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    return folder / f"{name}.png"


def smear_mask(smear: Smear, numbers: list[int]) -> NDArray[np.uint8]:
    """Return the mask of somebody who drew these cells only."""
    drawn = np.isin(smear.labels, numbers)
    return np.where(drawn & (smear.nuclei > 0), 255, np.where(drawn, 128, 0)).astype(np.uint8)


def test_a_mask_gives_the_cell_its_nucleus_and_its_diameter(tmp_path: Path) -> None:
    mask = one_cell()
    save_pair(tmp_path, "a", mask)
    (image,) = read_masked(tmp_path)
    assert image.name == "a"
    assert_array_equal(image.rgb, painted(mask))
    assert_array_equal(image.cells, mask >= 128)
    assert_array_equal(image.nuclei, mask == 255)
    assert (image.rgb.dtype, image.cells.dtype, image.nuclei.dtype, image.known.dtype) == (
        np.uint8,
        np.int32,
        bool,
        bool,
    )
    assert image.known.all()
    assert image.diameter_px == pytest.approx(40, rel=0.03)


@pytest.mark.parametrize(("level", "cell", "nucleus"), [(60, False, False), (70, True, False), (200, True, True)])
def test_levels_between_count_as_the_nearest_one(tmp_path: Path, level: int, cell: bool, nucleus: bool) -> None:
    mask = one_cell()
    spot = disc((48, 66), 3)
    mask[spot] = level
    save_pair(tmp_path, "a", mask)
    (image,) = read_masked(tmp_path)
    assert ((image.cells > 0)[spot] == cell).all()
    assert (image.nuclei[spot] == nucleus).all()


def test_a_mask_in_colours_is_read_like_a_grey_one(tmp_path: Path) -> None:
    save_pair(tmp_path, "a", one_cell())
    grey = read_masked(tmp_path)[0]
    Image.fromarray(np.repeat(one_cell()[..., None], 3, axis=2)).save(tmp_path / "a_mask.png")
    coloured = read_masked(tmp_path)[0]
    assert_array_equal(coloured.cells, grey.cells)
    assert_array_equal(coloured.nuclei, grey.nuclei)


def test_slips_of_the_pen_are_dropped_and_a_second_cell_is_not(tmp_path: Path) -> None:
    mask = one_cell()
    slip, second = disc((10, 100), 2), disc((84, 96), 9)
    mask[slip], mask[second] = 255, 255
    save_pair(tmp_path, "a", mask)
    (image,) = read_masked(tmp_path)
    assert not image.cells[slip].any()
    assert not image.nuclei[slip].any()
    assert (image.cells[second] > 0).all()
    assert sorted(np.unique(image.cells)) == [0, 1, 2]
    assert len(np.unique(image.cells[second])) == 1
    assert image.diameter_px == pytest.approx(40, rel=0.03)


def test_images_come_in_the_order_of_their_names_and_one_without_a_cell_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("c", "a", "b"):
        save_pair(tmp_path, name, one_cell())
    save_pair(tmp_path, "aa", (one_cell() > 0).astype(np.uint8))
    assert [image.name for image in read_masked(tmp_path)] == ["a", "b", "c"]
    assert caplog.messages == [f"left out: {tmp_path / 'aa_mask.png'}: no cell; highest level 1, expected 128 or 255"]


def in_palette(mask: NDArray[np.uint8]) -> Image.Image:
    """Return the mask as numbers of the colours of Pascal VOC."""
    picture = Image.fromarray((mask // 127).astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    return picture


@pytest.mark.parametrize(
    ("changed", "levels"),
    [
        (lambda m: np.dstack([np.where(m == 255, 255, 0), np.where(m == 128, 255, 0), 0 * m]), "(0, 255, 0)"),
        (lambda m: np.dstack([m, m, 0 * m]), "(128, 128, 0)"),
        (in_palette, "(128, 0, 0)"),
        (lambda m: np.where(m == 128, 85, m), "85"),
        (lambda m: np.where(m == 255, 200, m), "200"),
    ],
    ids=["colours", "yellow", "palette", "cytoplasm at 85", "nucleus at 200"],
)
def test_a_mask_of_other_levels_is_refused_with_those_found(
    tmp_path: Path, changed: Callable[[NDArray[np.uint8]], Any], levels: str
) -> None:
    save_pair(tmp_path, "a", one_cell())
    other = changed(one_cell())
    other = other if isinstance(other, Image.Image) else Image.fromarray(other.astype(np.uint8))
    other.save(tmp_path / "a_mask.png")
    said = rf"a_mask\.png: .*% of what is drawn has other levels .*{re.escape(levels)}.*; expected 255 for nucleus, 128"
    with pytest.raises(InputError, match=said):
        read_masked(tmp_path)


def test_an_inverted_mask_is_refused_by_name(tmp_path: Path) -> None:
    save_pair(tmp_path, "a", (255 - one_cell()).astype(np.uint8), painted(one_cell()))
    with pytest.raises(InputError, match=r"a_mask\.png: nucleus along most of its border, as if inverted"):
        read_masked(tmp_path)


def test_a_mask_with_smooth_outlines_is_read(tmp_path: Path) -> None:
    smooth = ndi.gaussian_filter(one_cell().astype(float), 0.8).round().astype(np.uint8)
    save_pair(tmp_path, "a", smooth)
    (image,) = read_masked(tmp_path)
    assert image.diameter_px == pytest.approx(40, rel=0.03)


@pytest.mark.parametrize(("level", "part"), [(255, "cytoplasm"), (128, "nucleus")])
def test_masks_that_all_lack_a_part_of_the_cell_are_refused_and_single_ones_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, level: int, part: str
) -> None:
    for name in ("a", "b"):
        save_pair(tmp_path, name, np.where(one_cell() > 0, level, 0).astype(np.uint8))
    with pytest.raises(InputError, match=rf"{tmp_path.name}: no {part} in any mask, .* expected 255 for nucleus"):
        read_masked(tmp_path)
    save_pair(tmp_path, "c", one_cell())
    assert len(read_masked(tmp_path)) == 3
    assert caplog.messages == [f"{tmp_path}: no {part} in 2 of 3 masks: a, b"]


def test_mask_and_image_may_have_different_suffixes(tmp_path: Path) -> None:
    save_pair(tmp_path, "a", one_cell())
    (tmp_path / "a_image.png").unlink()
    Image.fromarray(painted(one_cell())).save(tmp_path / "a_image.bmp")
    (tmp_path / "notes.txt").write_text("no image")
    assert len(read_masked(tmp_path)) == 1


def test_a_name_may_hold_the_word_image_twice(tmp_path: Path) -> None:
    save_pair(tmp_path, "my_image_1", one_cell())
    assert [image.name for image in read_masked(tmp_path)] == ["my_image_1"]


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    save_pair(tmp_path, "a", one_cell())
    save_pair(tmp_path, "b", one_cell())
    (tmp_path / "b_mask.png").unlink()
    with pytest.raises(InputError, match=r"b_image\.png: no mask beside it; expected b_mask"):
        read_masked(tmp_path)


def test_a_mask_without_an_image_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "c"):
        save_pair(tmp_path, name, one_cell())
    (tmp_path / "a_image.png").unlink()
    (tmp_path / "c_image.png").unlink()
    assert [image.name for image in read_masked(tmp_path)] == ["b"]
    assert caplog.messages == [f"{tmp_path}: masks without an image, passed over: a_mask.png, c_mask.png"]


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    save_pair(tmp_path, "a", one_cell()[:-1], painted(one_cell()))
    with pytest.raises(InputError, match=r"a_mask\.png: its shape is \(95, 112\), the image's \(96, 112\)"):
        read_masked(tmp_path)


def test_a_damaged_image_is_refused_by_name(tmp_path: Path) -> None:
    save_pair(tmp_path, "a", one_cell())
    (tmp_path / "a_image.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a_image\.png"):
        read_masked(tmp_path)


@pytest.mark.parametrize("kept", [0, 60])
def test_a_damaged_mask_is_refused_by_name(tmp_path: Path, kept: int) -> None:
    save_pair(tmp_path, "a", one_cell())
    path = tmp_path / "a_mask.png"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"a_mask\.png"):
        read_masked(tmp_path)


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_a_folder_without_images_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=rf"{name}: no image; expected <name>_image\.png with <name>_mask\.png"):
        read_masked(tmp_path / name)


def test_a_neighbour_that_nobody_drew_is_unknown_and_the_rest_is_known(tmp_path: Path) -> None:
    smear = draw_smear((160, 160), n_cells=4, seed=2, touching=0, border=0, cell_diameter_px=40)
    drawn, undrawn = smear.labels == 1, smear.labels > 1
    save_pair(tmp_path, "a", smear_mask(smear, [1]), smear.rgb)
    (image,) = read_masked(tmp_path)
    assert_array_equal(image.cells > 0, drawn)
    assert image.known[drawn].all()
    assert np.mean(~image.known[undrawn]) > 0.9
    assert np.mean(~image.known[(smear.nuclei > 0) & undrawn]) == 1
    far = ndi.distance_transform_edt(~undrawn) > 0.35 * image.diameter_px
    assert image.known[far].all()


def test_nothing_is_unknown_where_every_cell_is_drawn(tmp_path: Path) -> None:
    smear = draw_smear((160, 160), n_cells=4, seed=2, touching=0, border=0, cell_diameter_px=40)
    save_pair(tmp_path, "a", smear_mask(smear, [1, 2, 3, 4]), smear.rgb)
    (image,) = read_masked(tmp_path)
    assert image.cells.max() == 4
    assert image.known.mean() > 0.99


def test_boxes_of_white_cells_alone_are_read(tmp_path: Path) -> None:
    boxes = [("WBC", 10, 20, 50, 60), ("RBC", 4, 3, 2, 1), (" wbc\n", 0, 70, 30, 111), ("Platelets", 5, 6, 7, 8)]
    path = save_boxed(tmp_path, "a", [*boxes, ("RBC", 1, 2, 3, 4)])
    found, others = read_boxes(path, SHAPE)
    assert found == ((10, 20, 50, 60), (0, 70, 30, 111))
    assert others == {"RBC": 2, "Platelets": 1}


def test_boxes_are_cut_at_the_border_and_a_repeated_one_counts_once(tmp_path: Path) -> None:
    boxes = [("WBC", -5, -9, 20, 20), ("WBC", 80, 90, 97, 130), ("WBC", 0, 0, 96, 112), ("WBC", 80, 90, 96, 112)]
    found, _ = read_boxes(save_boxed(tmp_path, "a", boxes), SHAPE)
    assert found == ((0, 0, 20, 20), (80, 90, 96, 112), (0, 0, 96, 112))


@pytest.mark.parametrize(
    "box",
    [(50, 60, 10, 20), (10, 60, 50, 20), (50, 20, 10, 60), (10, 20, 10, 20), (96, 20, 120, 60), (-9, -9, 0, 0)],
    ids=["swapped", "columns swapped", "rows swapped", "empty", "outside", "before"],
)
def test_a_box_without_a_pixel_of_its_image_is_refused_by_name(tmp_path: Path, box: tuple[int, ...]) -> None:
    y0, x0, y1, x1 = box
    path = save_boxed(tmp_path, "a", [("WBC", 20, 20, 60, 60), ("WBC", y0, x0, y1, x1)])
    said = rf"a\.xml: a box with xmin {x0}, xmax {x1}, ymin {y0}, ymax {y1} holds no pixel .* 112 x 96 px; expected"
    with pytest.raises(InputError, match=said):
        read_boxes(path, SHAPE)


def test_names_passed_over_and_images_without_white_cells_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    save_boxed(tmp_path, "a", [("WBC", 20, 20, 60, 60)])
    read_boxed(tmp_path)
    assert caplog.messages == []
    save_boxed(tmp_path, "b", [("RBC", 1, 2, 3, 4), ("Neutrophil", 20, 20, 60, 60)])
    save_boxed(tmp_path, "c", [("WBC", 20, 20, 60, 60), ("RBC", 1, 2, 3, 4)])
    read_boxed(tmp_path)
    assert caplog.messages == [
        f"{tmp_path}: 1 of 3 images have no WBC; objects of other names, passed over: 2 'RBC', 1 'Neutrophil'"
    ]


def test_all_is_known_but_boxes_and_their_margins(tmp_path: Path) -> None:
    save_boxed(tmp_path, "a", [("WBC", 30, 40, 60, 80), ("RBC", 5, 5, 20, 20), ("WBC", 0, 100, 12, 112)])
    (image,) = read_boxed(tmp_path)
    expected = np.ones(SHAPE, bool)
    expected[30 - MARGIN : 60 + MARGIN, 40 - MARGIN : 80 + MARGIN] = False
    expected[: 12 + MARGIN, 100 - MARGIN :] = False
    assert image.name == "a"
    assert_array_equal(image.known, expected)
    assert not image.cells.any()
    assert not image.nuclei.any()
    assert (image.cells.dtype, image.nuclei.dtype, image.rgb.shape) == (np.int32, bool, (*SHAPE, 3))


def test_the_diameter_is_that_of_boxes_of_whole_cells(tmp_path: Path) -> None:
    save_boxed(tmp_path, "a", [("WBC", 20, 20, 60, 60), ("WBC", 0, 80, 5, 90), ("WBC", 70, 110, 80, 112)])
    (image,) = read_boxed(tmp_path)
    assert image.diameter_px == pytest.approx(0.97 * 40)


@pytest.mark.parametrize("boxes", [[], [("RBC", 10, 10, 20, 20)], [("WBC", 0, 10, 9, 20)]])
def test_an_image_without_whole_cells_gets_the_diameter_of_the_others(
    tmp_path: Path, boxes: list[tuple[str, Any, Any, Any, Any]]
) -> None:
    save_boxed(tmp_path, "a", boxes)
    for name, side in (("b", 20), ("c", 30), ("d", 70)):
        save_boxed(tmp_path, name, [("WBC", 10, 10, 10 + side, 10 + side)])
    found = {image.name: image.diameter_px for image in read_boxed(tmp_path)}
    assert found == pytest.approx({"a": 0.97 * 30, "b": 0.97 * 20, "c": 0.97 * 30, "d": 0.97 * 70})


def test_a_folder_in_which_no_box_holds_a_whole_cell_is_refused(tmp_path: Path) -> None:
    save_boxed(tmp_path, "a", [("RBC", 10, 10, 20, 20)])
    with pytest.raises(InputError, match=tmp_path.name):
        read_boxed(tmp_path)


def test_an_image_without_boxes_beside_it_is_refused_by_name(tmp_path: Path) -> None:
    save_boxed(tmp_path, "a", [("WBC", 20, 20, 60, 60)])
    save_boxed(tmp_path, "b", [])
    (tmp_path / "b.xml").unlink()
    with pytest.raises(InputError, match=r"b\.xml: no boxes can be read .* expected Pascal VOC"):
        read_boxed(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no XML",
        "<annotation><object>",
        "<annotation><object><name>WBC</name></object></annotation>",
        "<annotation><object><name>WBC</name><bndbox><ymin>1</ymin><xmin>1</xmin><ymax>9</ymax></bndbox></object>"
        "</annotation>",
        "<annotation><object><name>WBC</name><bndbox><ymin>a</ymin><xmin>1</xmin><ymax>9</ymax><xmax>9</xmax></bndbox>"
        "</object></annotation>",
    ],
)
def test_boxes_that_make_no_sense_are_refused_by_name(tmp_path: Path, text: str) -> None:
    path = save_boxed(tmp_path, "a", [])
    path.with_suffix(".xml").write_text(text)
    with pytest.raises(InputError, match=r"a\.xml: no boxes can be read"):
        read_boxes(path, SHAPE)


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_a_folder_without_boxed_images_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        read_boxed(tmp_path / name)


@given(n=st.integers(0, 40), every=st.integers(0, 12))
def test_holding_out_parts_the_images_and_takes_every_nth(n: int, every: int) -> None:
    images: Any = list(range(n))
    train, held = hold_out(images, every)
    assert sorted(train + held) == images
    assert held == (images[every - 1 :: every] if every else [])
    assert train == sorted(train)


def drawn_image() -> DrawnImage:
    mask = np.where(disc((30, 40), 24), 128, 0) + np.where(disc((30, 40), 14), 127, 0)
    mask[disc((75, 85), 15)] = 128
    cells = ndi.label(mask > 0)[0].astype(np.int32)
    rgb = painted(mask.astype(np.uint8))
    known = ~disc((75, 20), 12)
    rgb[~known] = 20
    return DrawnImage("a", rgb, cells, mask == 255, known, 48.0)


@given(factor=st.floats(0.2, 3.0))
def test_resizing_keeps_the_arrays_aligned(factor: float) -> None:
    image = drawn_image()
    small = image.resized(factor)
    shape = tuple(max(1, round(n * factor)) for n in SHAPE)
    assert small.rgb.shape == (*shape, 3)
    assert small.cells.shape == small.nuclei.shape == small.known.shape == shape
    assert (small.rgb.dtype, small.cells.dtype, small.nuclei.dtype, small.known.dtype) == (
        np.uint8,
        np.int32,
        bool,
        bool,
    )
    assert small.diameter_px == pytest.approx(48 * factor)
    assert set(np.unique(small.cells)) == {0, 1, 2}
    assert not (small.nuclei & (small.cells == 0)).any()
    red, green, _ = np.moveaxis(small.rgb.astype(int), -1, 0)
    for seen, drawn in ((red < 80, ~small.known), (red - green > 35, small.nuclei)):
        inner, outer = ndi.binary_erosion(drawn, iterations=2), ndi.binary_dilation(drawn, iterations=2)
        assert seen[inner].all()
        assert not seen[~outer].any()


def test_resizing_scales_areas_and_leaves_the_original_as_it_was() -> None:
    image, before = drawn_image(), drawn_image()
    large = image.resized(2)
    assert np.bincount(large.cells.ravel()).tolist() == (4 * np.bincount(image.cells.ravel())).tolist()
    assert large.nuclei.sum() == 4 * image.nuclei.sum()
    for name in ("rgb", "cells", "nuclei", "known"):
        assert_array_equal(getattr(image, name), getattr(before, name))
    assert image.diameter_px == 48


def test_real_masks_hold_one_cell_with_a_nucleus_each(data_folder: Path, tmp_path: Path) -> None:
    for path in sorted((data_folder / "wbc_masks" / "set1_120px").glob("0*_*.png"))[:24]:
        shutil.copyfile(path, tmp_path / path.name)
    images = read_masked(tmp_path)
    assert len(images) == 12
    assert [image.cells.max() for image in images] == [1] * 12
    assert all(50 < image.diameter_px < 115 for image in images)
    for image in images:
        assert 0.1 < image.nuclei.sum() / (image.cells > 0).sum() < 0.95
        assert image.known[image.cells > 0].all()
        assert image.known.mean() > 0.7


def test_real_boxes_leave_most_of_an_image_known(data_folder: Path, tmp_path: Path) -> None:
    for path in sorted((data_folder / "bccd").glob("BloodImage_0000*")):
        shutil.copyfile(path, tmp_path / path.name)
    images = read_boxed(tmp_path)
    assert len(images) == 5
    for image in images:
        assert image.rgb.shape == (480, 640, 3)
        assert 100 < image.diameter_px < 300
        assert 0.5 < image.known.mean() < 1
        assert not image.cells.any()
