from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi

from all_detect_training.segmenter.boxes import Box
from all_detect_training.segmenter.masks import DrawnImage
from all_detect_training.segmenter.measure import dice
from all_detect_training.segmenter.sure import OUTLINE, read_smears, with_sure_cells
from napari_all_detect import draw_smear
from napari_all_detect.samples import Smear

DIAMETER = 40


@pytest.fixture(scope="module")
def smear() -> Smear:
    return draw_smear((240, 240), n_cells=6, seed=4, touching=0, border=0, cell_diameter_px=DIAMETER)


def boxed(rgb: NDArray[np.uint8], boxes: list[Box]) -> DrawnImage:
    """Return an image as boxes leave it: unknown in them, nothing elsewhere."""
    known = np.ones(rgb.shape[:2], bool)
    for y0, x0, y1, x1 in boxes:
        known[y0:y1, x0:x1] = False
    nothing = np.zeros(known.shape, np.int32)
    return DrawnImage("a", rgb, nothing, nothing > 0, known, float(DIAMETER), tuple(boxes))


def boxes_of(labels: NDArray[np.int32]) -> list[Box]:
    return [(r.start, c.start, r.stop, c.stop) for r, c in ndi.find_objects(labels)]


def test_cells_that_fill_their_boxes_are_taught_but_for_their_outlines(smear: Smear) -> None:
    before = boxed(smear.rgb, boxes_of(smear.labels))
    (image,) = with_sure_cells([before])
    drawn = smear.labels > 0
    taught = len(np.unique(image.cells)) - 1
    assert taught >= 4
    assert dice(image.cells > 0, np.isin(smear.labels, np.unique(smear.labels[image.cells > 0])) & drawn) > 0.85
    assert_array_equal(image.nuclei & (image.cells == 0), False)
    assert (image.known & (image.cells > 0)).sum() > 0.5 * (image.cells > 0).sum()
    outline = (image.cells > 0) & (ndi.distance_transform_edt(image.cells > 0) <= OUTLINE * DIAMETER)
    assert not image.known[outline].any()
    # What is taught as cell and as slide agrees with what was drawn.
    assert drawn[image.known & (image.cells > 0)].mean() > 0.98
    assert (~drawn)[image.known & (image.cells == 0)].mean() > 0.98
    assert not before.cells.any()


@pytest.mark.parametrize("grown", [-12, 15], ids=["half the cell", "twice the cell"])
def test_cells_that_do_not_fill_their_boxes_stay_unknown(smear: Smear, grown: int) -> None:
    boxes = [
        (y0 - grown, x0 - grown, y1 + grown, x1 + grown)
        for y0, x0, y1, x1 in boxes_of(smear.labels)
        if min(y0, x0) > 15 and max(y1, x1) < 225
    ]
    before = boxed(smear.rgb, boxes)
    (image,) = with_sure_cells([before])
    assert_array_equal(image.cells, 0)
    assert_array_equal(image.known, before.known)


def test_an_image_without_boxes_stays_as_it_was(smear: Smear) -> None:
    before = boxed(smear.rgb, [])
    (image,) = with_sure_cells([before])
    assert_array_equal(image.cells, 0)
    assert image.known.all()


def test_a_cell_at_the_border_is_not_sure() -> None:
    cut = draw_smear((120, 120), n_cells=2, seed=1, touching=0, border=1, cell_diameter_px=DIAMETER)
    at_border = [b for b in boxes_of(cut.labels) if min(b[:2]) == 0 or max(b[2:]) == 120]
    assert at_border
    (image,) = with_sure_cells([boxed(cut.rgb, at_border)])
    assert_array_equal(image.cells, 0)


def test_smears_teach_whole_cells_and_what_is_far_from_any(smear: Smear, tmp_path: Path) -> None:
    Image.fromarray(smear.rgb).save(tmp_path / "1.png")
    Image.fromarray(np.full((64, 64, 3), 230, np.uint8)).save(tmp_path / "2.png")
    (image,) = read_smears(tmp_path)
    assert image.name == "1"
    assert len(np.unique(image.cells)) - 1 >= 3
    assert image.diameter_px == pytest.approx(DIAMETER, rel=0.25)
    assert image.known[image.cells > 0].all()
    near = (image.cells == 0) & (ndi.distance_transform_edt(image.cells == 0) < 0.25 * image.diameter_px)
    assert not image.known[near].any()
    assert (~(smear.labels > 0))[image.known & (image.cells == 0)].mean() > 0.98


def test_of_many_smears_some_are_read(smear: Smear, tmp_path: Path) -> None:
    for i in range(6):
        Image.fromarray(smear.rgb).save(tmp_path / f"{i}.png")
    assert [image.name for image in read_smears(tmp_path, at_least=3)] == ["0", "2", "4"]
    assert len(read_smears(tmp_path, at_least=4)) == 6


def test_the_images_given_are_not_changed(smear: Smear) -> None:
    before = boxed(smear.rgb, boxes_of(smear.labels))
    copy = replace(before, known=before.known.copy())
    with_sure_cells([before])
    assert_array_equal(before.known, copy.known)
