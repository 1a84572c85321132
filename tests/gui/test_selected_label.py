import numpy as np
import pytest

from napari_all_detect._napari.cells.colours import ScoreColormap


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_the_selected_label_alone_is_shown(make_napari_viewer, dtype):
    """napari's own way of telling 16-bit labels apart shows no label, or two, for some."""
    labels = np.array([[1, 250]] if dtype == np.uint8 else [[256, 259, 260], [297, 296, 32_767]], dtype)
    viewer = make_napari_viewer(show=True)
    layer = viewer.add_labels(labels, opacity=1)
    levels = np.zeros(int(labels.max()) + 1, np.uint8)
    levels[labels] = 2
    layer.colormap = ScoreColormap(levels, np.array([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]))
    whole = _shown(viewer)
    layer.show_selected_label = True
    for label in labels.ravel():
        layer.selected_label = int(label)
        assert _shown(viewer) == pytest.approx(whole / labels.size, rel=0.05)


def _shown(viewer):
    return int((viewer.screenshot(canvas_only=True, flash=False)[..., 0] > 128).sum())
