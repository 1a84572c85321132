import pytest


@pytest.fixture
def score_cells(make_napari_viewer):
    """Open a viewer with the widget, and return both."""

    def open_widget(**options):
        viewer = make_napari_viewer(**options)
        _, widget = viewer.window.add_plugin_dock_widget("napari-all-detect", "Score cells")
        return viewer, widget

    return open_widget
