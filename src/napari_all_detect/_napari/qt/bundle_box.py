"""The combo box of bundles."""

from pathlib import Path

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QMenu, QPushButton

from napari_all_detect._napari.run.bundles import scoring_bundles
from napari_all_detect.bundle import load_bundle
from napari_all_detect.errors import AllDetectError

__all__ = ["BundleBox"]


class BundleBox(QComboBox):
    """Lets the user choose among the installed bundles, or open another.

    Parameters
    ----------
    chosen : str
        The name or path of the one that is chosen at first.
    """

    def __init__(self, chosen: str) -> None:
        super().__init__()
        self.setToolTip("The trained networks that score")
        for listed in scoring_bundles():
            text = listed.label if listed.error is None else f"{listed.name} (broken)"
            self._add(listed.name, text, listed.error)
        if self.findData(chosen) < 0:
            self._add(chosen, chosen)
        self.setCurrentIndex(self.findData(chosen))

    def open_bundle(self, path: Path) -> None:
        """Choose the bundle of a folder or zip; if it can't be used, say so at once and leave the choice as it is."""
        path = path.resolve()
        try:
            bundle = load_bundle(path)
        except AllDetectError as error:
            show_error(str(error))
            return
        text, place = f"{bundle.label} ({path.name})", self.findData(str(path))
        if place < 0:
            self._add(str(path), text, str(path))
        else:
            self.setItemText(place, text)  # it may have been made anew
        self.setCurrentIndex(self.findData(str(path)))

    def open_button(self) -> QPushButton:
        """Return a button that asks for a bundle: no dialog takes both folders and files."""
        button, menu = QPushButton("Open…"), QMenu(self)
        button.setToolTip("A bundle that is not installed: its folder or its zip")
        menu.addAction("Folder…", self._open_folder)
        menu.addAction("Zip…", self._open_zip)
        button.setMenu(menu)
        return button

    def _add(self, name: str, text: str, tooltip: str | None = None) -> None:
        self.addItem(text, name)
        self.setItemData(self.count() - 1, tooltip, Qt.ItemDataRole.ToolTipRole)

    def _open_folder(self) -> None:
        if name := QFileDialog.getExistingDirectory(self, "A bundle's folder"):
            self.open_bundle(Path(name))

    def _open_zip(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "A bundle's zip", "", "Zip (*.zip)")
        if name:
            self.open_bundle(Path(name))
