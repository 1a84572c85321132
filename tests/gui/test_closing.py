"""A dock that is closed with its x leaves nothing behind."""

import gc
import time
import weakref

import numpy as np
import pytest
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QWidget

from napari_all_detect._napari.process import shared as shared_process
from napari_all_detect._napari.qt import bridge
from napari_all_detect.samples import draw_smear

PLUGIN = "napari-all-detect"


def close(dock):
    """Press the x of a dock, and let Qt delete what is to be deleted."""
    dock.destroyOnClose()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def listeners(viewer):
    """Count what would be called back."""
    layers = viewer.layers
    events = [layers.events.inserted, layers.events.removed, layers.events.reordered, layers.selection.events.active]
    events += [layer.events.name for layer in layers]
    return [len(event.callbacks) for event in events], len(viewer.mouse_drag_callbacks)


@pytest.mark.parametrize("name", ["Score cells", "Cell gallery", "Review"])
def test_a_closed_dock_is_freed_and_calls_nobody(make_napari_viewer, name):
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((64, 64, 3), np.uint8))
    before, borrowers = listeners(viewer), shared_process._borrowers
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    assert listeners(viewer) != before
    gone, deleted = weakref.ref(widget), []
    widget.destroyed.connect(lambda: deleted.append(True))
    del widget
    close(dock)
    # At once, not when Python collects cycles.
    assert deleted == [True]
    assert listeners(viewer) == before
    assert shared_process._borrowers == borrowers
    del dock  # PyQt's has a reference to what it held
    QCoreApplication.processEvents()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    assert gone() is None


def test_a_widget_without_a_dock_is_freed_too(make_napari_viewer):
    from napari_all_detect._napari.qt.cell_gallery import CellGallery

    viewer, borrowers = make_napari_viewer(), shared_process._borrowers
    widget = CellGallery(viewer)
    assert shared_process._borrowers == borrowers + 1
    del widget
    gc.collect()
    assert shared_process._borrowers == borrowers


def test_closing_the_dock_in_mid_run_ends_the_run(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    image = viewer.add_image(draw_smear((224, 288), n_cells=12, seed=3).rgb)
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Score cells")
    controller = widget.controller
    widget.score_button.click()
    del widget
    qtbot.waitUntil(lambda: shared_process._process.running)
    close(dock)
    assert not shared_process._process.running
    assert controller.wait(60)
    qtbot.wait(50)
    assert list(viewer.layers) == [image]


def test_a_closed_dock_opens_again(make_napari_viewer):
    viewer = make_napari_viewer()
    for _ in range(2):
        image = viewer.add_image(np.zeros((64, 64, 3), np.uint8))
        dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Score cells")
        assert widget.smear.image.layer is image
        del widget
        close(dock)


def test_what_is_being_written_is_finished_before_napari_ends(qtbot, tmp_path):
    """Qt waits for it: once Python ends, there are no pools of threads that stores are written by."""
    parent = QWidget()
    qtbot.addWidget(parent)

    def slow():
        time.sleep(0.3)
        (tmp_path / "done").touch()

    bridge.Bridge(parent).work(slow, lambda _: None, pytest.fail)
    assert QCoreApplication.instance() in bridge._waiting
    bridge._finish()
    assert (tmp_path / "done").exists()
