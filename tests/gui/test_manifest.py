"""What napari learns of us, and that it works in a real viewer."""

import npe2
import numpy as np
import pytest


def test_manifest_is_valid_and_found():
    manifest = npe2.PluginManifest.from_distribution("napari-all-detect")
    assert manifest.display_name == "ALL Detect"
    manifest.validate_imports()


def test_sample_opens_as_one_rgb_layer(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    smear, truth = viewer.open_sample("napari-all-detect", "smear")
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
