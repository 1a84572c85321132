from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_all_detect.errors import OutputError
from napari_all_detect.export.heatmaps import write_heatmaps


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


def test_a_place_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="can't be written") as caught:
        write_heatmaps(tmp_path / "file" / "x.png", np.zeros((8, 8, 3), np.uint8), "", np.zeros((1, 8, 8)), [""])
    assert "\n" not in str(caught.value)
