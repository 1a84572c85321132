from napari_all_detect._napari.layer_link import results_of


def test_the_sample_is_scored_for_real(score_cells, qtbot):
    viewer, widget = score_cells(show=True)
    viewer.open_sample("napari-all-detect", "smear")
    widget.image.choose(viewer.layers["smear (drawn)"])
    widget.score_button.click()
    assert not widget.score_button.isEnabled()
    assert "some 15 seconds the first time" in widget.status.text() or widget.status.text() == "Starting"
    qtbot.waitUntil(lambda: not widget.controller.state.busy, timeout=120_000)
    layer = viewer.layers["smear (drawn) cells"]
    assert len(results_of(layer)) >= 20
