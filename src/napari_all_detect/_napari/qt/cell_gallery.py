"""The widget *Cell gallery*."""

from functools import partial
from typing import Any
from weakref import ReferenceType, ref

import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap
from napari.utils.notifications import show_error
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QLabel,
    QListView,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
)
from superqt.utils import signals_blocked

from napari_all_detect._napari.cells.colours import palette, share_levels, shares
from napari_all_detect._napari.cells.crops_again import CropsOnDemand
from napari_all_detect._napari.cells.followed import Followed
from napari_all_detect._napari.cells.gallery import ORDERS, gallery_order, page_of
from napari_all_detect._napari.cells.heatmap import HEAT_COLOURS, STRENGTH, overlaid, placed_heat
from napari_all_detect._napari.cells.layer_link import show_cell
from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.cells.row_order import ANY, RowFilter
from napari_all_detect._napari.layers.viewers import unwrapped
from napari_all_detect._napari.process.shared import borrow, give_back
from napari_all_detect._napari.qt.bridge import Bridge
from napari_all_detect._napari.qt.docked import Docked
from napari_all_detect._napari.qt.layer_name import LayerName
from napari_all_detect._napari.qt.layout import Scrolled, as_room_allows, button, column, row, wrapped
from napari_all_detect._napari.qt.pictures import Picture, framed, pixmap
from napari_all_detect.errors import InputError
from napari_all_detect.explain import GradCam
from napari_all_detect.table import CALLS

__all__ = ["CellGallery"]

CROP_PX = 84
LARGE_PX = 224
LEAST_ROW_PX = 120
"""A row of crops with their texts."""
ENSEMBLE = "ensemble"
ROW = Qt.ItemDataRole.UserRole

Crops = NDArray[np.uint8] | CropsOnDemand


class CellGallery(Docked):
    """The crops as the networks saw them, and where the networks see signs of ALL.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = unwrapped(napari_viewer)
        self.followed = Followed(self.viewer)
        self._process, self._bridge = borrow(), Bridge(self)
        self._page = page_of(np.zeros(0, np.int64), 0)
        self._explained: tuple[ReferenceType[CellResults], int, GradCam] | None = None
        self._busy = False
        self.order = QComboBox()
        self.order.addItems(ORDERS)
        self.order.setToolTip("Which cells come first")
        self.calls = QComboBox()
        self.calls.addItems([ANY, *CALLS])
        self.calls.setToolTip("Show cells of this call")
        self.pictures = QListWidget()
        self.pictures.setViewMode(QListView.ViewMode.IconMode)
        self.pictures.setResizeMode(QListView.ResizeMode.Adjust)
        self.pictures.setMovement(QListView.Movement.Static)
        self.pictures.setUniformItemSizes(True)
        self.pictures.setIconSize(QSize(CROP_PX, CROP_PX))
        as_room_allows(self.pictures, LEAST_ROW_PX)
        self.pictures.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.before = button("◀", "The page before", lambda: self.turn(-1))
        self.after = button("▶", "The next page", lambda: self.turn(1))
        self.place = wrapped()
        self.large = Picture(LARGE_PX)
        self.facts = wrapped()
        self.facts.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.explain_button = button("Grad-CAM", "Where in this cell the networks see signs of ALL", self.explain)
        self.member = QComboBox()
        self.member.setToolTip("Whose heat map is shown: the ensemble's or one network's; Grad-CAM computes them all")
        self.in_place_button = button(
            "Show on the image", "The heat map as an image layer in place", self.show_in_place
        )

        large = row(self.large, self.facts)
        content = column(
            LayerName(self.followed),
            row(self.order, QLabel("Call"), self.calls),
            self.pictures,
            row(self.before, self.place, self.after),
            large,
            row(self.explain_button, self.member, self.in_place_button),
        )
        for part in (self.pictures, large):
            content.layout().setStretchFactor(part, 1)
        QVBoxLayout(self).addWidget(Scrolled(content))
        self.order.currentTextChanged.connect(self._show_first)
        self.calls.currentTextChanged.connect(self._show_first)
        self.pictures.itemSelectionChanged.connect(self._select)
        self.member.currentTextChanged.connect(self._show_cell)
        self.followed.layer_changed.connect(self._show_layer)
        self.followed.changed.connect(self._show_page)
        self.followed.colours_changed.connect(self._show_page)
        self.followed.selection_changed.connect(self._show_selection)
        self.in_the_end(self.followed.close, give_back)
        self._show_layer()

    def turn(self, pages: int) -> None:
        """Turn pages."""
        self._show(self._page.number + pages)

    def explain(self) -> None:
        """Have the heat maps of the cell that was chosen last computed."""
        results, chosen = self.followed.results, self._chosen()
        if results is None or chosen is None or results.rows.crops is None or self._busy:
            return
        crop = self._crop(results.rows.crops, chosen)
        if crop is None:
            return
        self._busy = True
        self.explain_button.setEnabled(False)
        self.explain_button.setText("Computing…")

        def done(maps: GradCam) -> None:
            self._explained = (ref(results), chosen, maps)
            self._end_explaining()

        def failed(message: str) -> None:
            self._end_explaining()
            show_error(message)

        ask = partial(self._process.call, "explain", results.run.source, crop[None], results.run.weights)
        self._bridge.work(ask, done, failed, finish=False)

    def show_in_place(self) -> None:
        """Add the heat map as an image layer that covers the cell."""
        heat, chosen, layer, results = self._heat(), self._chosen(), self.followed.layer, self.followed.results
        if heat is None or chosen is None or results is None:
            return
        self.viewer.add_layer(
            Image(
                heat.reshape(*[1] * (layer.ndim - 2), *heat.shape),
                name=f"Grad-CAM {self.member.currentText()}, cell {results.name_of(chosen)}",
                colormap=Colormap(HEAT_COLOURS, name="heat"),
                blending="translucent",
                opacity=STRENGTH,
                contrast_limits=(0, 1),
                **placed_heat(layer, results, chosen),
            )
        )
        self.viewer.layers.selection.active = layer

    def _end_explaining(self) -> None:
        self._busy = False
        self.explain_button.setText("Grad-CAM")
        self._show_cell()

    def _chosen(self) -> int | None:
        results = self.followed.results
        return int(results.selected[-1]) if results is not None and len(results.selected) else None

    def _heat(self) -> Any:
        """Return the chosen cell's map of the chosen member, if it was computed."""
        results, name = self.followed.results, self.member.currentText()
        if results is None or self._explained is None:
            return None
        explained, row, maps = self._explained
        if explained() is not results or row != self._chosen():
            return None
        return maps.ensemble[0] if name == ENSEMBLE else maps.members[0, results.run.members.index(name)]

    def _show_first(self, *_: object) -> None:
        self._show(0)

    def _show_layer(self) -> None:
        results, before = self.followed.results, self.member.currentText()
        with signals_blocked(self.member):
            self.member.clear()
            self.member.addItems([] if results is None else [ENSEMBLE, *results.run.members])
            self.member.setCurrentText(before)
        self._show_first()

    def _show_page(self) -> None:
        self._show(self._page.number)

    def _show(self, number: int) -> None:
        results = self.followed.results
        with signals_blocked(self.pictures):
            self.pictures.clear()
        for widget in (self.before, self.after):
            widget.setEnabled(False)
        if results is None:
            self.place.setText("No scores yet: open Score cells")
        elif results.rows.crops is None:
            self.place.setText(_why_without_crops(results))
        else:
            self._page = page_of(
                gallery_order(results, self.order.currentText(), RowFilter(self.calls.currentText())), number
            )
            self._fill(results, results.rows.crops)
        self._show_selection()

    def _fill(self, results: CellResults, crops: Crops) -> None:
        self.before.setEnabled(self._page.number > 0)
        self.after.setEnabled(self._page.number < self._page.count - 1)
        self.place.setText(f"page {self._page.number + 1} of {self._page.count}")
        colours = palette(results.colouring)[:, :3]
        levels = share_levels(shares(results.table, results.colouring))
        for k in map(int, self._page.rows):
            cell, crop = results.table.iloc[k], self._crop(crops, k)
            if crop is None:
                return
            picture = framed(pixmap(crop, CROP_PX), tuple(colours[levels[k]]), bool(cell["flags"]))
            icon = QIcon(picture)
            icon.addPixmap(picture, QIcon.Mode.Selected)  # or Qt would tint it
            item = QListWidgetItem(icon, f"{cell['p_all']:.2f}{' ⚑' if cell['flags'] else ''}")
            item.setData(ROW, k)
            facts = f"{cell['call']}, spread {_digits(cell['spread'])} {cell['flags']}"
            item.setToolTip(f"cell {results.name_of(k)}: {facts}")
            self.pictures.addItem(item)

    def _select(self) -> None:
        results = self.followed.results
        if results is None:
            return
        rows = [item.data(ROW) for item in self.pictures.selectedItems()]
        current = self.pictures.currentItem()
        if current is not None and current.data(ROW) in rows:
            rows = [k for k in rows if k != current.data(ROW)] + [current.data(ROW)]
        results.select(rows)
        if rows:
            show_cell(self.viewer, self.followed.layer, rows[-1])

    def _show_selection(self) -> None:
        """Mark what is selected elsewhere."""
        results = self.followed.results
        selected = set() if results is None else set(map(int, results.selected))
        with signals_blocked(self.pictures):
            for k in range(self.pictures.count()):
                item = self.pictures.item(k)
                item.setSelected(item.data(ROW) in selected)
        self._show_cell()

    def _show_cell(self, *_: object) -> None:
        """Show the cell that was chosen last, large, under its heat map if there is one."""
        results, chosen = self.followed.results, self._chosen()
        self.large.show_crop(None)
        self.facts.clear()
        heat = self._heat()
        self.in_place_button.setEnabled(heat is not None)
        shown = results is not None and results.rows.crops is not None
        self.explain_button.setEnabled(shown and chosen is not None and not self._busy)
        if results is None or chosen is None or results.rows.crops is None:
            return
        crop = self._crop(results.rows.crops, chosen)
        self.large.show_crop(crop if crop is None or heat is None else overlaid(crop, heat))
        self.facts.setText(_facts(results, chosen))

    def _crop(self, crops: Crops, k: int) -> NDArray[np.uint8] | None:
        """Return a cell's crop; None, and say why, if its image can't be read any more."""
        try:
            return np.asarray(crops[k])
        except InputError as error:
            self.place.setText(str(error))
            return None


def _why_without_crops(results: CellResults) -> str:
    """Say what is missing: the bundle tells how large crops are, the image has their pixels."""
    if results.run.crop_size:
        return (
            "The crops are not known: when the cells were opened, their image was not there, or not how they were "
            "rescaled. Open the image and score it again"
        )
    return f"The crops are not known: {results.run.bundle} is not installed, or was changed. Score the image again"


def _facts(results: CellResults, k: int) -> str:
    cell = results.table.iloc[k]
    members = "".join(
        f"<tr><td>{name}&nbsp;</td><td>{_digits(cell[f'p_all_{name}'])}</td></tr>" for name in results.run.members
    )
    flags = f"<br>⚑ {cell['flags'].replace(';', ', ')}" if cell["flags"] else ""
    return (
        f"<b>Cell {results.name_of(k)}: {cell['call']}</b><br>"
        f"P(ALL) {cell['p_all']:.2f}, spread {_digits(cell['spread'])}"
        f"<table>{members}</table>{flags}"
    )


def _digits(value: float) -> str:
    """Return two digits, or a dash for what was not needed and so not worked out."""
    return "–" if np.isnan(value) else f"{value:.2f}"
