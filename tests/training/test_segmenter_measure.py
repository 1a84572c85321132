import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from all_detect_training.segmenter import measure
from all_detect_training.segmenter.boxes import box_iou
from all_detect_training.segmenter.masks import Box, DrawnImage, read_masked
from all_detect_training.segmenter.measure import box_figures, dice, mask_figures
from napari_all_detect import SegmentationParams, draw_smear

SHAPE = (40, 50)
CLASSICAL = SegmentationParams(method="classical")
Labels = NDArray[np.int32]
Find = Callable[..., Any]

mask_pairs = st.tuples(hnp.arrays(bool, (5, 6)), hnp.arrays(bool, (5, 6)))
boxes = st.builds(
    lambda y, x, height, width: (y, x, y + height, x + width),
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(1, 12),
    st.integers(1, 12),
)


def squares(*corners: tuple[int, int], side: int = 10) -> Labels:
    """Return a label image of squares."""
    labels = np.zeros(SHAPE, np.int32)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return labels


def an_image(cells: Labels, nuclei: NDArray[np.bool_] | None = None) -> DrawnImage:
    nuclei = cells > 0 if nuclei is None else nuclei
    return DrawnImage("", np.full((*SHAPE, 3), 200, np.uint8), cells, nuclei, np.ones(SHAPE, bool), 10.0)


@pytest.fixture
def finding(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a method find these cells, and nuclei, one pair for each image."""

    def find(*answers: tuple[Labels, Labels | None]) -> None:
        rest: Iterator[tuple[Labels, Labels | None]] = iter(answers)

        def segment(rgb: NDArray[np.uint8], params: SegmentationParams, *, nuclei: bool = False) -> Any:
            assert params == CLASSICAL
            cells, found = next(rest)
            return (cells, found) if nuclei else cells

        monkeypatch.setattr(measure, "segment_cells", segment)

    return find


def test_dice_of_half_an_overlap_is_known() -> None:
    one, other = squares((0, 0)) > 0, squares((0, 5)) > 0
    assert dice(one, other) == pytest.approx(0.5)
    assert dice(one, np.zeros_like(one)) == 0
    assert dice(one & False, other & False) == 1


@given(mask_pairs)
def test_dice_is_symmetric_and_1_for_the_same_masks_alone(pair: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> None:
    one, other = pair
    value = dice(one, other)
    assert value == dice(other, one)
    assert 0 <= value <= 1
    assert (value == 1) == bool((one == other).all())
    assert (value == 0) == (not (one & other).any() and bool((one | other).any()))


@given(boxes, boxes)
def test_the_iou_of_boxes_is_that_of_their_pixels(one: Box, other: Box) -> None:
    planes = []
    for y0, x0, y1, x1 in (one, other):
        planes.append(np.zeros((24, 24), bool))
        planes[-1][y0:y1, x0:x1] = True
    expected = np.count_nonzero(planes[0] & planes[1]) / np.count_nonzero(planes[0] | planes[1])
    assert box_iou(one, other) == pytest.approx(expected)
    assert box_iou(other, one) == box_iou(one, other)


def test_what_is_found_as_it_was_drawn_scores_1(finding: Callable[..., None]) -> None:
    one, other = squares((5, 5)), squares((20, 30))
    finding((one, one), (other, other))
    perfect = {"dice": 1.0, "worst_tenth": 1.0}
    figures = mask_figures([an_image(one), an_image(other)], CLASSICAL)
    assert figures == {
        "images": 2,
        "cell": perfect,
        "drawn_cell": perfect,
        "nucleus": perfect,
        "drawn_nucleus": perfect,
    }


def test_several_drawn_cells_count_together(finding: Callable[..., None]) -> None:
    cells = squares((5, 5), (20, 30))
    finding((cells, cells), (np.where(cells == 1, 1, 0), np.where(cells == 1, 1, 0)))
    figures = mask_figures([an_image(cells)] * 2, CLASSICAL)
    assert figures["cell"]["dice"] == figures["nucleus"]["dice"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-3)


def test_a_neighbour_that_nobody_drew_spoils_the_cells_but_not_the_drawn_cell(finding: Callable[..., None]) -> None:
    drawn, found = squares((5, 5)), squares((20, 30), (5, 5))
    finding((found, found))
    figures = mask_figures([an_image(drawn)], CLASSICAL)
    assert figures["cell"]["dice"] == figures["nucleus"]["dice"] == pytest.approx(2 * 100 / 300, abs=1e-3)
    assert figures["drawn_cell"]["dice"] == figures["drawn_nucleus"]["dice"] == 1


def test_the_drawn_cell_is_measured_on_the_label_that_covers_most_of_it(finding: Callable[..., None]) -> None:
    drawn, found = squares((5, 5)), squares((5, 5))
    found[5:8, 5:15], found[8:15, 5:15] = 1, 2
    finding((found, found))
    figures = mask_figures([an_image(drawn)], CLASSICAL)
    assert figures["cell"]["dice"] == 1
    assert figures["drawn_cell"]["dice"] == pytest.approx(2 * 70 / 170, abs=1e-3)


def test_nuclei_are_measured_by_themselves(finding: Callable[..., None]) -> None:
    cells = squares((5, 5))
    inner = squares((5, 5), side=5)
    finding((cells, inner), (cells, cells))
    images = [an_image(cells, inner > 0)] * 2
    figures = mask_figures(images, CLASSICAL)
    assert figures["cell"]["dice"] == 1
    assert figures["nucleus"]["dice"] == pytest.approx((1 + 2 * 25 / 125) / 2, abs=1e-3)


def test_a_method_that_finds_nothing_scores_0(finding: Callable[..., None]) -> None:
    nothing = np.zeros(SHAPE, np.int32)
    finding((nothing, nothing))
    figures = mask_figures([an_image(squares((5, 5)))], CLASSICAL)
    assert [figures[name]["dice"] for name in ("cell", "drawn_cell", "nucleus")] == [0, 0, 0]


def test_a_method_without_nuclei_scores_0_on_these_alone(finding: Callable[..., None]) -> None:
    cells = squares((5, 5))
    finding((cells, None))
    figures = mask_figures([an_image(cells)], CLASSICAL)
    assert (figures["cell"]["dice"], figures["nucleus"]["dice"]) == (1, 0)


def test_the_worst_tenth_is_the_10th_percentile(finding: Callable[..., None]) -> None:
    cells, nothing = squares((5, 5)), np.zeros(SHAPE, np.int32)
    finding(*[(cells, cells)] * 8, *[(nothing, nothing)] * 3)
    figures = mask_figures([an_image(cells)] * 11, CLASSICAL)
    assert figures["cell"] == {"dice": pytest.approx(8 / 11, abs=1e-3), "worst_tenth": 0}
    finding(*[(cells, cells)] * 10, (nothing, nothing))
    assert mask_figures([an_image(cells)] * 11, CLASSICAL)["cell"]["worst_tenth"] == 1


def test_a_box_is_found_from_half_an_overlap_on(finding: Callable[..., None]) -> None:
    image = replace(an_image(np.zeros(SHAPE, np.int32)), boxes=((5, 5, 15, 15),))
    for shift, found in ((0, 1.0), (3, 1.0), (4, 0.0)):
        finding((squares((5, 5 + shift)), None))
        figures = box_figures([image], CLASSICAL)
        assert figures == {"images": 1, "boxes": 1, "found": found, "false_per_image": 0.0}


def test_labels_far_from_every_box_are_false(finding: Callable[..., None]) -> None:
    image = an_image(np.zeros(SHAPE, np.int32))
    finding((squares((5, 5), (25, 5), (25, 30)), None), (squares(), None))
    one = replace(image, boxes=((5, 5, 15, 15),))
    two = replace(image, boxes=((5, 5, 15, 15), (0, 0, 5, 5)))
    figures = box_figures([one, two], CLASSICAL)
    assert figures == {"images": 2, "boxes": 3, "found": 0.333, "false_per_image": 1.0}


def test_images_without_boxes_have_no_share_found_but_false_cells(finding: Callable[..., None]) -> None:
    finding((squares((5, 5), (20, 20)), None))
    figures = box_figures([an_image(np.zeros(SHAPE, np.int32))], CLASSICAL)
    assert figures == {"images": 1, "boxes": 0, "found": None, "false_per_image": 2.0}


def test_a_real_method_finds_drawn_smears_well() -> None:
    images = []
    for seed in range(2):
        smear = draw_smear((160, 160), n_cells=5, seed=seed, touching=0, border=0)
        found = [np.nonzero(smear.labels == number) for number in range(1, smear.labels.max() + 1)]
        boxes = tuple((int(y.min()), int(x.min()), int(y.max()) + 1, int(x.max()) + 1) for y, x in found)
        images.append(DrawnImage("", smear.rgb, smear.labels, smear.nuclei > 0, smear.labels >= 0, 32.0, boxes))
    figures = mask_figures(images, CLASSICAL)
    assert figures["cell"]["dice"] > 0.85
    assert figures["nucleus"]["dice"] > 0.8
    in_boxes = box_figures(images, CLASSICAL)
    assert in_boxes["boxes"] == 10
    assert in_boxes["found"] > 0.85
    assert in_boxes["false_per_image"] < 1


def test_a_real_method_finds_real_cells(data_folder: Path, tmp_path: Path) -> None:
    for path in sorted((data_folder / "wbc_masks" / "set2_300px").glob("00*_*.png"))[:8]:
        shutil.copyfile(path, tmp_path / path.name)
    figures = mask_figures(read_masked(tmp_path), CLASSICAL)
    assert figures["images"] == 4
    assert figures["nucleus"]["dice"] > 0.75
    assert figures["drawn_cell"]["dice"] > 0.7
