"""What napari learns of us, and that it works in a real viewer."""

import subprocess
import sys

import npe2
import numpy as np
import pytest

from napari_all_detect._napari.cells.colours import COLOURINGS
from napari_all_detect._napari.cells.layer_link import attach, results_of
from napari_all_detect._napari.layers.metadata_keys import FOUND_IN_KEY
from napari_all_detect._napari.layers.origins import Origin
from napari_all_detect._napari.settings import plugin_settings
from napari_all_detect.params import ScoreParams

PLUGIN = "napari-all-detect"


@pytest.fixture(scope="module")
def manifest():
    return npe2.PluginManifest.from_distribution(PLUGIN)


def test_manifest_is_valid_and_found(manifest):
    assert manifest.display_name == "ALL Detect"
    manifest.validate_imports()
    widgets = [widget.display_name for widget in manifest.contributions.widgets]
    assert widgets == ["Score cells", "Cell gallery", "Review"]


def test_sample_opens_as_one_rgb_layer(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    smear, truth = viewer.open_sample(PLUGIN, "smear")
    assert smear.rgb
    assert smear.data.shape == (512, 512, 3)
    assert len(np.unique(truth.data)) - 1 >= 25
    shown = viewer.screenshot(canvas_only=True, flash=False)
    # Violet nuclei on a pale field: the picture is really drawn.
    assert np.ptp(shown[..., 1].astype(int)) > 100


@pytest.mark.parametrize("link", ["napari.yaml"])
def test_root_manifest_is_the_packaged_one(link, pytestconfig):
    packaged = pytestconfig.rootpath / "src/napari_all_detect/napari.yaml"
    assert (pytestconfig.rootpath / link).read_text() == packaged.read_text()


def test_settings_offer_what_the_parameters_and_colours_are(manifest):
    properties = manifest.contributions.configurations["scoring"].properties
    choices = ScoreParams.__dataclass_fields__["engine"].metadata["choices"]
    assert tuple(properties["engine"].enum) == choices
    assert tuple(properties["colours"].enum) == COLOURINGS
    assert properties["bundle"].default == ScoreParams().bundle
    assert properties["engine"].default == ScoreParams().engine
    assert plugin_settings().colours == COLOURINGS[0]


def test_a_scored_smear_is_saved_and_opened_through_napari(make_napari_viewer, scored_rows, tmp_path):
    viewer = make_napari_viewer()
    smear, truth = viewer.open_sample(PLUGIN, "smear")
    attach(truth, scored_rows(truth.data))
    for name in ("cells.csv", "smear.zarr"):
        layers = [truth] if name == "cells.csv" else [smear, truth]
        for layer in viewer.layers:
            viewer.layers.selection.discard(layer)
        viewer.layers.selection.update(layers)
        assert viewer.layers.save(str(tmp_path / name), selected=True, plugin=PLUGIN)
    assert (tmp_path / "cells.csv").read_text().startswith("image,plane,label,")
    again = viewer.open(tmp_path / "smear.zarr", plugin=PLUGIN)
    assert [layer.name for layer in again] == ["smear", "smear all_detect"]
    assert again[0].multiscale
    np.testing.assert_array_equal(again[0].data[0], smear.data)
    opened, saved = results_of(again[1]), results_of(truth)
    np.testing.assert_array_equal(opened.table["p_all"], saved.table["p_all"])
    numbers = saved.rows.numbers
    np.testing.assert_array_equal(again[1].colormap.map(numbers), truth.colormap.map(numbers))


def test_the_layers_menu_finds_the_cells_of_the_active_image(make_napari_viewer, monkeypatch):
    from napari._app_model import get_app_model

    from napari_all_detect._napari.qt.score_cells import ScoreCells

    viewer = make_napari_viewer()
    first, second = (viewer.add_image(np.zeros((64, 64, 3), np.uint8)) for _ in range(2))
    pressed = []
    for name in ("segment", "score"):
        monkeypatch.setattr(
            ScoreCells, name, lambda form, name=name: pressed.append((name, form.smear.layer, form.cells.layer))
        )
    viewer.layers.selection.active = first
    get_app_model().commands.execute_command(f"{PLUGIN}.find_white_cells").result()
    viewer.layers.selection.active = second
    get_app_model().commands.execute_command(f"{PLUGIN}.score_white_cells").result()
    assert pressed == [("segment", first, None), ("score", second, None)]
    # Cells are of an image; if nobody knows which, or it is gone, it is the one that the user was at.
    own, drawn, of_none = (viewer.add_labels(np.zeros((64, 64), int)) for _ in range(3))
    own.metadata[FOUND_IN_KEY] = Origin.of(first)
    of_none.metadata[FOUND_IN_KEY] = Origin("removed", "third")
    for active, image, cells in (
        (own, first, own),
        (drawn, first, drawn),
        (of_none, first, drawn),
        (second, second, None),
    ):
        viewer.layers.selection.active = active
        get_app_model().commands.execute_command(f"{PLUGIN}.score_white_cells").result()
        assert pressed[-1] == ("score", image, cells)
    # What is hidden, as the truth of the sample is, or has another size was not meant.
    hidden = viewer.add_labels(np.zeros((64, 64), int), visible=False)
    for active in (hidden, viewer.add_labels(np.zeros((64, 65), int))):
        viewer.layers.selection.active = active
        get_app_model().commands.execute_command(f"{PLUGIN}.score_white_cells").result()
        assert pressed[-1] == ("score", second, None)


def test_opening_the_widgets_loads_no_network_library():
    code = (
        "import sys, napari_all_detect._napari.qt.score_cells, napari_all_detect._napari.qt.cell_gallery, "
        "napari_all_detect._napari.qt.review_cells, napari_all_detect._napari.files.reading; "
        "sys.exit(bool({'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
