from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_all_detect import ScoreParams, draw_smear
from napari_all_detect._napari.cells.heatmap import overlaid, placed_crop
from napari_all_detect._napari.cells.layer_link import results_of
from napari_all_detect._napari.run.task import Task
from napari_all_detect.errors import AllDetectError


def test_the_heat_of_a_scored_cell_comes_from_the_process(viewer, controller, process, loop):
    drawn = draw_smear((160, 160), n_cells=4, seed=3)
    controller.score(Task(viewer.add_image(drawn.rgb), None, ScoreParams(batch_size=2)))
    loop.run_until(lambda: not controller.state.busy)
    results = results_of(viewer.layers[-1])
    size = results.run.crop_size
    maps = process.call("explain", results.run.source, results.rows.crops[:1], results.run.weights)
    assert maps.members.shape == (1, len(results.run.members), size, size)
    assert maps.ensemble.max() == pytest.approx(1)
    with pytest.raises(AllDetectError, match="no_such_bundle"):
        process.call("explain", "no_such_bundle", results.rows.crops[:1], results.run.weights)


@pytest.mark.parametrize(("rescale", "at"), [(1.0, (13, 15)), (0.5, (18, 10))])
def test_a_crop_lies_where_its_pixels_were(results, rescale, at):
    from napari_all_detect.crops import center_crop

    labels = np.zeros((60, 60), int)
    labels[at[0] : at[0] + 8, at[1] : at[1] + 8] = 1
    ramp = np.stack(np.mgrid[:60, :60], axis=-1).astype(np.uint8)
    crop = center_crop(np.dstack([ramp, ramp[..., :1]]), labels, 8, rescale)[0]
    box = {"bbox_y0": at[0], "bbox_y1": at[0] + 8, "bbox_x0": at[1], "bbox_x1": at[1] + 8}
    found = results([[0.9, 0.9, 0.9]], **box)
    # The other planes were rescaled in their own way.
    row = found.rows.summary
    rows = [row.assign(plane="1", rescale=np.float32(3)), row.assign(rescale=np.float32(rescale))]
    found.rows = replace(found.rows, summary=pd.concat(rows))
    y_px, x_px, pixel_px = placed_crop(found, 0)
    inside = crop.any(axis=-1)
    for k, m in zip(*np.nonzero(inside), strict=True):
        y, x = y_px + k * pixel_px, x_px + m * pixel_px
        # The ramp's value is its place; resampling rounds it.
        assert crop[k, m, 0] == pytest.approx(y, abs=0.6)
        assert crop[k, m, 1] == pytest.approx(x, abs=0.6)


def test_heat_turns_a_crop_vermilion_where_it_is():
    crop = np.full((2, 2, 3), 100, np.uint8)
    shown = overlaid(crop, np.array([[0, 0.5], [0, 1]]))
    np.testing.assert_array_equal(shown[:, 0], 100)
    assert shown[1, 1].tolist() == [168, 96, 40]
