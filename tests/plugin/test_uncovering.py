import numpy as np
import pytest

from napari_all_detect._napari.layers.metadata_keys import FOUND_IN_KEY, SCORED_ON_KEY
from napari_all_detect._napari.layers.origins import Origin
from napari_all_detect._napari.layers.uncovering import uncover


@pytest.fixture
def stacked(viewer):
    """Open smears on each other and one beside them, the cells of two, labels that were drawn, and grey images."""
    for k, x in enumerate((0, 0, 0, 100)):
        viewer.add_image(np.full((40, 40, 3), 200, np.uint8), name=f"smear {k}", translate=(0, x))
    for k, key in ((0, FOUND_IN_KEY), (1, SCORED_ON_KEY)):
        viewer.add_labels(np.ones((40, 40), int), name=f"cells {k}", metadata={key: Origin.of(viewer.layers[k])})
    viewer.add_labels(np.ones((40, 40), int), name="drawn")
    viewer.add_image(np.zeros((40, 40), np.uint8), name="grey")
    viewer.add_image(np.zeros((3, 40, 40), np.uint8), name="grey stack of three")
    return viewer


def hidden(viewer):
    return [layer.name for layer in viewer.layers if not layer.visible]


@pytest.mark.parametrize(
    ("image", "cells", "names"),
    [
        ("smear 0", "cells 0", ["smear 1", "smear 2", "cells 1"]),
        ("smear 1", "cells 1", ["smear 2", "cells 0"]),
        ("smear 2", "drawn", ["cells 0", "cells 1"]),
    ],
)
def test_cells_are_seen_on_their_own_image(stacked, image, cells, names):
    uncover(stacked, stacked.layers[image], stacked.layers[cells])
    assert hidden(stacked) == names


def test_a_copy_that_was_hidden_stays_so(stacked):
    smear = stacked.layers["smear 0"]
    stacked.add_image(smear.data, name="copy", metadata=dict(smear.metadata), visible=False)
    uncover(stacked, stacked.layers["smear 0"], stacked.layers["cells 0"])
    assert hidden(stacked) == ["smear 1", "smear 2", "cells 1", "copy"]


def test_what_was_hidden_for_another_image_comes_back_with_its_own(stacked):
    for k in range(2):
        uncover(stacked, stacked.layers[f"smear {k}"], stacked.layers[f"cells {k}"])
    assert hidden(stacked) == ["smear 2", "cells 0"]


def test_side_by_side_or_without_their_image_nothing_is_hidden(stacked):
    smear, cells = stacked.layers["smear 0"], stacked.layers["cells 0"]
    stacked.canvas.grid.enabled = True
    uncover(stacked, smear, cells)
    stacked.canvas.grid.enabled = False
    stacked.layers.remove("smear 0")
    uncover(stacked, smear, cells)
    assert hidden(stacked) == []
