import numpy as np
import pytest

from napari_all_detect._napari.origins import FOUND_IN_KEY, SCORED_ON_KEY, Origin
from napari_all_detect._napari.uncovering import uncover


@pytest.fixture
def stacked(viewer):
    """Open smears on each other and one beside them, the cells of two, labels that were drawn, and a grey image."""
    for k, x in enumerate((0, 0, 0, 100)):
        viewer.add_image(np.full((40, 40, 3), 200, np.uint8), name=f"smear {k}", translate=(0, x))
    for k, key in ((0, FOUND_IN_KEY), (1, SCORED_ON_KEY)):
        viewer.add_labels(np.ones((40, 40), int), name=f"cells {k}", metadata={key: Origin.of(viewer.layers[k])})
    viewer.add_labels(np.ones((40, 40), int), name="drawn")
    viewer.add_image(np.zeros((40, 40), np.uint8), name="grey")
    return viewer


def hidden(viewer):
    return [layer.name for layer in viewer.layers if not layer.visible]


@pytest.mark.parametrize(
    ("cells", "names"),
    [("cells 0", ["smear 1", "smear 2", "cells 1"]), ("cells 1", ["smear 2", "cells 0"]), ("drawn", [])],
)
def test_cells_are_seen_on_their_own_image(stacked, cells, names):
    uncover(stacked, stacked.layers[cells])
    assert hidden(stacked) == names


def test_what_was_hidden_for_another_image_comes_back_with_its_own(stacked):
    uncover(stacked, stacked.layers["cells 0"])
    uncover(stacked, stacked.layers["cells 1"])
    assert hidden(stacked) == ["smear 2", "cells 0"]


def test_side_by_side_or_without_their_image_nothing_is_hidden(stacked):
    stacked.canvas.grid.enabled = True
    uncover(stacked, stacked.layers["cells 0"])
    stacked.canvas.grid.enabled = False
    stacked.layers.remove("smear 0")
    uncover(stacked, stacked.layers["cells 0"])
    assert hidden(stacked) == []
