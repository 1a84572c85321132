"""The widget *Review*."""

from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.utils.notifications import show_error, show_info
from qtpy.QtWidgets import QCheckBox, QFileDialog, QLabel, QVBoxLayout

from napari_all_detect._napari.cells.followed import Followed
from napari_all_detect._napari.cells.layer_link import show_cell
from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.cells.review import Agreement, Reviewer, agreement
from napari_all_detect._napari.files.verdicts import save_crops
from napari_all_detect._napari.layers.viewers import unwrapped
from napari_all_detect._napari.qt.docked import Docked
from napari_all_detect._napari.qt.layer_name import LayerName
from napari_all_detect._napari.qt.layout import Scrolled, button, column, row, wrapped
from napari_all_detect._napari.qt.pictures import Picture
from napari_all_detect._napari.qt.window_keys import WindowKeys
from napari_all_detect.errors import AllDetectError, InputError

__all__ = ["ReviewCells"]

CROP_PX = 300
LEAST_ZOOM = 2.0
KEYS = {"A": "ALL", "H": "Hem", "U": "unsure"}
BACK_KEY = "K"
"""Not Backspace, with which napari's list of layers deletes them."""


class ReviewCells(Docked):
    """An expert judges cell by cell; the verdicts become training data.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = unwrapped(napari_viewer)
        self.followed = Followed(self.viewer)
        self.reviewer: Reviewer | None = None
        self._in_sight = self._begun = True
        # By layer, so that they go with it.
        self._walks: WeakKeyDictionary[Any, Reviewer] = WeakKeyDictionary()
        self.progress = QLabel()
        self.picture = Picture(CROP_PX)
        self.show_call = QCheckBox("Show the call before I judge")
        self.show_call.setToolTip("Off, the verdict can't lean on the networks' answer")
        self.call = wrapped()
        self.buttons = {
            verdict: button(f"{verdict} ({key})", f"Key {key}", partial(self.judge, verdict))
            for key, verdict in KEYS.items()
        }
        self.back_button = button(f"Back ({BACK_KEY})", f"Take the last verdict back; key {BACK_KEY}", self.back)
        self.agreement = QLabel()
        self.save_button = button(
            "Save crops…", "As folders all/ and hem/, for all-detect-train fit --cells", self._save
        )

        shown = (LayerName(self.followed), self.progress, self.picture, self.call, self.show_call)
        content = column(*shown, row(*self.buttons.values(), self.back_button), self.agreement, self.save_button)
        content.layout().setStretchFactor(self.picture, 1)
        content.layout().addStretch()
        QVBoxLayout(self).addWidget(Scrolled(content))
        self._keys = WindowKeys(self.viewer, self, (*KEYS, BACK_KEY))
        self._keys.pressed.connect(self._press)
        self.show_call.toggled.connect(self._show_cell)
        self.followed.layer_changed.connect(self._start)
        self.followed.changed.connect(self._show)
        self.followed.verdicts_changed.connect(self._show)
        self.followed.selection_changed.connect(self._show_cell)
        self.seen.connect(self._see)
        self.in_the_end(self.followed.close, self._keys.close)
        self._start()

    def judge(self, verdict: str) -> None:
        """Note a verdict on the cell that is shown, and go on to the next."""
        if self.reviewer is not None:
            self.reviewer.judge(verdict)
            self._go_there()

    def back(self) -> None:
        """Take the last verdict back."""
        if self.reviewer is not None:
            self.reviewer.back()
            self._go_there()

    def save(self, folder: Path) -> None:
        """Save the crops by verdict."""
        if self.followed.results is None:
            return
        try:
            counts = save_crops(self.followed.results, folder)
        except AllDetectError as error:
            show_error(str(error))
        else:
            cells = " and ".join(f"{n} {verdict}" for verdict, n in counts.items())
            show_info(f"{folder} holds {cells}; train on them: all-detect-train fit --cells {folder} ...")

    def _press(self, key: str) -> None:
        if key == BACK_KEY:
            self.back()
        else:
            self.judge(KEYS[key])

    def _save(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder for the crops")
        if name:
            self.save(Path(name))

    def _start(self) -> None:
        layer, results = self.followed.layer, self.followed.results
        self.reviewer = None if results is None else self._walk(layer, results)
        self._show()
        self._begun = False
        self._begin()

    def _see(self, seen: bool) -> None:
        self._in_sight = seen
        self._begin()

    def _begin(self) -> None:
        """Go to the cell to judge, once for each layer; out of sight it has to wait, or the view would jump unasked."""
        if self._begun or not self._in_sight:
            return
        self._begun = True
        if self.reviewer is not None and len(self.reviewer.results.selected) == 0:
            self.reviewer.go_on()
        self._go_there()

    def _walk(self, layer: Any, results: CellResults) -> Reviewer:
        """Return the walk through a layer's cells; whoever looks at another layer meanwhile comes back to it."""
        walk = self._walks.get(layer)
        if walk is None or walk.results is not results:
            walk = self._walks[layer] = Reviewer(results)
        return walk

    def _go_there(self) -> None:
        """Move the viewer to the cell to judge."""
        current = None if self.reviewer is None else self.reviewer.current
        if current is not None:
            show_cell(self.viewer, self.followed.layer, current, LEAST_ZOOM)

    def _show(self, *_: object) -> None:
        reviewer = self.reviewer
        self.save_button.setEnabled(reviewer is not None)
        self.back_button.setEnabled(reviewer is not None and reviewer.can_go_back)
        if reviewer is None:
            self.progress.setText("No scores yet: open Score cells")
            self.agreement.clear()
        else:
            self.progress.setText(f"{reviewer.n_judged} of {len(reviewer.results)} cells judged")
            self.agreement.setText(_agreement_text(agreement(reviewer.results)))
        self._show_cell()

    def _show_cell(self, *_: object) -> None:
        """Show the cell to judge."""
        reviewer = self.reviewer
        current = None if reviewer is None else reviewer.current
        for widget in self.buttons.values():
            widget.setEnabled(current is not None)
        if reviewer is None or current is None:
            self.picture.show_crop(None)
            self.call.setText("" if reviewer is None else "All cells are judged; select one to judge it again")
            return
        results = reviewer.results
        cell, crops, verdict = results.table.iloc[current], results.rows.crops, results.verdicts[current]
        crop, unread = None, ""
        if crops is not None:
            try:
                crop = crops[current]
            except InputError as error:
                unread = f": {error}"
        self.picture.show_crop(crop)
        said = f": {cell['call']}, P(ALL) {cell['p_all']:.2f}" if self.show_call.isChecked() else ""
        self.call.setText(f"Cell {results.name_of(current)}{said}{f', judged {verdict}' if verdict else ''}{unread}")


def _agreement_text(found: Agreement) -> str:
    """Return the confusion as a small table."""
    if found.n == 0:
        return "Agreement with the calls appears here."
    (hem_hem, hem_all), (all_hem, all_all) = found.confusion.tolist()
    kappa = "not defined yet" if np.isnan(found.kappa) else f"{found.kappa:.2f}"
    return (
        f"Agreement with the calls on {found.n} cells: kappa {kappa}"
        "<table cellpadding=3><tr><td></td><td>called Hem</td><td>called ALL</td></tr>"
        f"<tr><td>you: Hem</td><td align=right>{hem_hem}</td><td align=right>{hem_all}</td></tr>"
        f"<tr><td>you: ALL</td><td align=right>{all_hem}</td><td align=right>{all_all}</td></tr></table>"
    )
