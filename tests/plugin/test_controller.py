import numpy as np
import pytest

from napari_all_detect import ScoreParams, draw_smear, score_image
from napari_all_detect._napari.controller import Task
from napari_all_detect._napari.layer_link import results_of
from napari_all_detect.export.csv import csv_text


@pytest.fixture(scope="module")
def drawn():
    return draw_smear((224, 288), n_cells=8, seed=3)


@pytest.fixture
def done(loop, controller):
    return lambda: loop.run_until(lambda: not controller.state.busy)


def test_scores_are_those_of_the_command_line(viewer, controller, done, drawn, tmp_path):
    image = viewer.add_image(drawn.rgb, name="smear.png")
    assert controller.score(Task(image, None, ScoreParams()))
    done()
    results = results_of(viewer.layers[-1])
    expected = score_image(drawn.rgb)
    assert csv_text(results.table.assign(image="image")) == csv_text(expected.table)
    np.testing.assert_array_equal(viewer.layers[-1].data, expected.labels)
    np.testing.assert_array_equal(results.rows.crops, expected.crops)
