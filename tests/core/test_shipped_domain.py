"""What the shipped bundle says of real images of other laboratories."""

from pathlib import Path

import numpy as np
import pytest

from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import PlaneInput, Scorer, open_scorer, score_plane
from napari_all_detect.sources import find_images, open_planes


@pytest.fixture(scope="module")
def scorer(data_folder: Path) -> Scorer:
    scorer = open_scorer(ScoreParams())
    if scorer.bundle.manifest.domain is None:
        pytest.skip(f"{scorer.bundle.label} was exported without a domain")
    return scorer


@pytest.mark.parametrize("pattern", ["cnmc/C-NMC_Leukemia/**/*.bmp", "bccd/*[05]0.jpg"])
def test_cells_of_other_laboratories_are_out_of_its_domain(scorer: Scorer, data_folder: Path, pattern: str) -> None:
    paths = sorted(data_folder.glob(pattern))
    inside = []
    for path in paths:
        plane = open_planes(find_images([path])[0])[0]
        table = score_plane(scorer, PlaneInput(plane.read(), plane.image)).table
        inside += table["in_domain"].tolist()
        assert table["flags"].str.contains("out_of_domain").tolist() == [not value for value in table["in_domain"]]
    assert len(inside) >= len(paths) - 2
    assert np.mean(inside) == 0
