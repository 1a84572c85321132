from functools import partial

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from napari_all_detect import table
from napari_all_detect._napari.cells.results import CellResults, Rows
from napari_all_detect._napari.process.messages import Opened

MEMBERS = ("one", "two", "three")


@pytest.fixture
def qtbot(qtbot, monkeypatch):
    """The usual one, more patient: machines that are shared can be slow."""
    for name in ("waitUntil", "waitSignal"):
        monkeypatch.setattr(qtbot, name, partial(getattr(qtbot, name), timeout=60_000))
    return qtbot


@pytest.fixture
def score_cells(make_napari_viewer):
    """Open a viewer with the widget, and return both."""

    def open_widget(**options):
        viewer = make_napari_viewer(**options)
        _, widget = viewer.window.add_plugin_dock_widget("napari-all-detect", "Score cells")
        return viewer, widget

    return open_widget


@pytest.fixture
def notices():
    """Messages of the notifications that are shown."""
    messages = []

    def note(notification):
        messages.append(notification.message)

    notification_manager.notification_ready.connect(note)
    yield messages
    notification_manager.notification_ready.disconnect(note)


@pytest.fixture
def scored_rows():
    """Make results for a label image; the probabilities are drawn at random."""

    def make(labels):
        numbers = np.unique(labels)[1:]
        n = len(numbers)
        votes = np.random.default_rng(1).random((n, 3)).astype(np.float32)
        votes[:2] = [[0.9] * 3, [0.1] * 3]
        geometry = table.geometry(labels, None)
        p_all = votes.mean(axis=1)
        values = geometry | {
            "image": "drawn.png",
            "plane": "0",
            "p_all": p_all,
            "p_hem": 1 - p_all,
            "call": np.where(p_all >= np.float32(0.5), "ALL", "Hem"),
            "spread": votes.std(axis=1),
            "votes_all": (votes >= 0.5).sum(axis=1),
            "flags": ["touches_border", *[""] * (n - 1)],
            "bundle": "tiny-1",
            **{f"p_all_{name}": votes[:, k] for k, name in enumerate(MEMBERS)},
        }
        cells = table.typed(table.cell_columns(MEMBERS), values, n)
        facts = {"image": "drawn.png", "plane": "0", "rescale": 1.0, "notes": ""}
        crops = np.random.default_rng(0).integers(0, 255, (n, 8, 8, 3), dtype=np.uint8)
        summary = table.image_row(cells, facts)
        rows = Rows(cells, numbers.astype(np.int64), np.zeros((n, 0), np.int64), crops, summary)
        return CellResults(rows, Opened("lite", "tiny-1", 8, MEMBERS, (1.0, 1.0, 1.0), 0.5, "none", "cpu"))

    return make
