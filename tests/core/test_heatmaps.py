from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_all_detect.errors import OutputError
from napari_all_detect.export.heatmaps import GAP_PX, TILE_PX, TITLE_PX, draw_heatmaps, write_heatmaps


def test_heat_is_laid_over_the_cell(tmp_path: Path) -> None:
    crop = np.full((56, 56, 3), 60, np.uint8)
    maps = np.zeros((2, 56, 56))
    maps[0, 30:40, 20:28] = 1.0
    path = tmp_path / "new" / "heat.png"
    write_heatmaps(path, crop, "cell 1", maps, ["hot", "cold"])
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    tiles = [pixels[28 : 28 + 224, 6 + 230 * i : 6 + 230 * i + 224] for i in range(3)]
    assert pixels.shape == (258, 3 * 230 + 6, 3)
    assert (tiles[0] == 60).all()
    assert (tiles[2] == 60).all()
    y, x = np.nonzero(tiles[1].sum(axis=2) > 180)
    assert (y.min() // 4, y.max() // 4, x.min() // 4, x.max() // 4) == pytest.approx((30, 39, 20, 27), abs=1)


def test_titles_are_over_what_they_name() -> None:
    drawn = np.asarray(draw_heatmaps(np.zeros((8, 8, 3), np.uint8), "", np.zeros((2, 8, 8)), ["x", ""]))
    strips = np.split(drawn[: TITLE_PX + GAP_PX, GAP_PX:], 3, axis=1)
    assert [bool((strip[:, :TILE_PX] < 255).any()) for strip in strips] == [False, True, False]


def test_heat_glows_red_then_yellow_then_white() -> None:
    maps = np.stack([np.full((8, 8), heat) for heat in (0.3, 0.6, 1.0)])
    drawn = np.asarray(draw_heatmaps(np.zeros((8, 8, 3), np.uint8), "", maps, [""] * 3))
    centres = drawn[150, GAP_PX + TILE_PX // 2 :: TILE_PX + GAP_PX]
    assert (centres > 0).tolist() == [[False] * 3, [True, False, False], [True, True, False], [True] * 3]


def test_a_place_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="can't be written") as caught:
        write_heatmaps(tmp_path / "file" / "x.png", np.zeros((8, 8, 3), np.uint8), "", np.zeros((1, 8, 8)), [""])
    assert "\n" not in str(caught.value)
