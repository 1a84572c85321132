"""The widget *Score cells*."""

from dataclasses import fields, replace
from typing import Any

from magicgui.widgets import Container
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QFormLayout,
    QLabel,
    QProgressBar,
    QSlider,
    QTabWidget,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible
from superqt.utils import signals_blocked

from napari_all_detect import trust
from napari_all_detect._napari.cells.colours import COLOURINGS
from napari_all_detect._napari.cells.followed import Followed
from napari_all_detect._napari.cells.layer_link import results_of
from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect._napari.layers.viewers import unwrapped
from napari_all_detect._napari.process.shared import borrow, give_back
from napari_all_detect._napari.qt.bridge import Bridge
from napari_all_detect._napari.qt.bundle_box import BundleBox
from napari_all_detect._napari.qt.cell_clicks import CellClicks
from napari_all_detect._napari.qt.cell_table import CellTable
from napari_all_detect._napari.qt.colour_bar import ColourBar
from napari_all_detect._napari.qt.docked import Docked
from napari_all_detect._napari.qt.form import params_widgets, values_of
from napari_all_detect._napari.qt.image_form import ImageForm
from napari_all_detect._napari.qt.layer_choices import CellsChoice
from napari_all_detect._napari.qt.layer_name import LayerName
from napari_all_detect._napari.qt.layout import Caution, Scrolled, button, column, note, row, wrapped
from napari_all_detect._napari.qt.summary_plot import SummaryPlot
from napari_all_detect._napari.run.bundles import card_text
from napari_all_detect._napari.run.controller import Controller
from napari_all_detect._napari.run.progress import RunState
from napari_all_detect._napari.run.task import Task
from napari_all_detect._napari.settings import plugin_settings
from napari_all_detect.errors import AllDetectError
from napari_all_detect.params import ScoreParams, SegmentationParams
from napari_all_detect.research_use import RESEARCH_USE

__all__ = ["ScoreCells"]

BASIC = ("weighting", "pixel_size_um")
ELSEWHERE = ("bundle", "threshold")
"""Parameters that have a place of their own; all others are advanced."""
ADVANCED = tuple(f.name for f in fields(ScoreParams) if "tooltip" in f.metadata and f.name not in (*BASIC, *ELSEWHERE))


class ScoreCells(Docked):
    """Choose an image, find its cells, score them, look at them, export.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = unwrapped(napari_viewer)
        settings = plugin_settings()
        self.controller = Controller(self.viewer, borrow(), Bridge(self).call_soon)
        self.followed = Followed(self.viewer)

        self._form = QFormLayout()
        self.smear = ImageForm(self.viewer, self._form)
        self.cells = CellsChoice(self.viewer, self.smear.image)
        self.cells.setToolTip("Find them in the image, or take a labels layer as it is, from anywhere")
        self.bundle = BundleBox(settings.bundle)
        self.card_button = button("Card", "What the bundle was trained on and must not be used for", self._card)
        preset = {"engine": settings.engine}
        self.score_fields = params_widgets(ScoreParams, (*BASIC, *ADVANCED), preset)
        self.segmentation_fields = params_widgets(SegmentationParams, ("method", "cell_diameter_px"))

        self.segment_button = button("Segment", "Only find the cells, to look at or correct them first", self.segment)
        self.score_button = button("Score", "Score every cell of the image", self.score)
        self.cancel_button = button("Cancel", "Stop at once, and keep the cells that are done", self.controller.cancel)
        self.progress = QProgressBar()
        self.status, self.running_on = wrapped(), wrapped()

        self.colouring = QComboBox()
        self.colouring.addItems(COLOURINGS)
        self.colouring.setCurrentText(settings.colours)
        self._colours = self.colouring.currentText()
        self.colouring.setToolTip("What the colours of the cells mean")
        self.colour_bar = ColourBar()
        self.threshold = QSlider(Qt.Orientation.Horizontal)
        self.threshold.setRange(0, 100)
        self.threshold.setToolTip(
            "Called ALL from this probability on, unless an error rate decides; calls follow at once"
        )
        self.threshold_text = QLabel()
        self.domain, self.notes = Caution(), Caution()
        self.called_by = wrapped()
        self.restore_button = button(
            "Reset", "The calls that scoring gave, at the bundle's threshold", self.restore_calls
        )
        self.shown = LayerName(self.followed)
        self.table = CellTable(self.followed)
        self.summary = SummaryPlot(self.followed)
        self.tabs = QTabWidget()
        self._lay_out()
        self._connect()
        self._show_state(self.controller.state)
        self._show_image()
        self._show_results()

    def _lay_out(self) -> None:
        form = self._form
        form.addRow("Cells", self.cells)
        form.addRow("Bundle", row(self.bundle, self.card_button, self.bundle.open_button()))
        for name in BASIC:
            field = self.score_fields[name]
            field.native.setToolTip(field.tooltip)
            form.addRow(field.label, field.native)
        advanced = QCollapsible("Advanced")
        fields = [*self.segmentation_fields.values(), *(self.score_fields[name] for name in ADVANCED)]
        fields.append(self.smear.channels)
        self._advanced = Container(widgets=fields, labels=True)
        advanced.addWidget(self._advanced.native)
        buttons = row(self.segment_button, self.score_button, self.cancel_button)
        setting = column(form, advanced, buttons, self.progress, self.status, self.running_on)
        setting.layout().addStretch()
        self._colour_box = QWidget()
        colours = QFormLayout(self._colour_box)
        colours.setContentsMargins(0, 0, 0, 0)
        colours.addRow("Colours", self.colouring)
        colours.addRow(self.colour_bar)
        colours.addRow("Threshold", row(self.threshold, self.threshold_text, self.restore_button))
        colours.addRow(self.called_by)
        colours.addRow(self.domain)
        colours.addRow(self.notes)
        cells = column(self.shown, self._colour_box, self.table)
        cells.layout().setStretchFactor(self.table, 1)
        for title, page in (("Score", setting), ("Cells", cells), ("Summary", self.summary)):
            self.tabs.addTab(Scrolled(page), title)
        layout = QVBoxLayout(self)
        layout.addWidget(self.tabs)
        layout.addWidget(note(RESEARCH_USE))

    def _connect(self) -> None:
        self.smear.refreshed.connect(self._show_image)
        self.colouring.currentTextChanged.connect(self._colour)
        self.threshold.valueChanged.connect(self._call)
        self.controller.state_changed.connect(self._show_state)
        self.controller.segmented.connect(self.cells.propose)
        self.controller.scored.connect(self._show_scored)
        # Once, so that cells can be found anew all the same.
        self.table.edits.edited.connect(self.cells.propose_edited)
        self.followed.layer_changed.connect(self._show_results)
        self.followed.changed.connect(self._show_results)
        self.followed.colours_changed.connect(self._show_results)
        clicks = CellClicks(self.followed)
        closing = (self.followed.close, clicks.close, self.smear.close, self.cells.close_choices)
        self.in_the_end(self.controller.close, *closing, give_back)

    def task(self) -> Task | None:
        """Return what the form asks for; None, with a notification, if that can't be done."""
        image = self.smear.layer
        if image is None:
            self.controller.refuse(
                "There is no image layer: open a stained smear first (File > Open, or File > Open Sample)"
            )
            return None
        try:
            return Task(image, self.cells.layer, self.params(), self.smear.at(), self.smear.channel_axis)
        except AllDetectError as error:
            self.controller.refuse(str(error))
            return None

    def params(self) -> ScoreParams:
        """Return the form's parameters.

        Raises
        ------
        ParameterError
            If one lies outside its range.
        """
        return ScoreParams(
            bundle=self.bundle.currentData(),
            segmentation=SegmentationParams(**values_of(SegmentationParams, self.segmentation_fields)),
            reading=self.smear.reading(),
            **values_of(ScoreParams, self.score_fields),
        )

    def segment(self) -> None:
        """Find the cells, whatever labels are chosen: those are only scored."""
        task = self.task()
        if task is not None:
            self.controller.segment(replace(task, labels=None))

    def score(self) -> None:
        """Score the cells."""
        task = self.task()
        if task is not None:
            self.controller.score(task)

    def restore_calls(self) -> None:
        """Take the calls back that scoring gave."""
        if self.followed.results is not None:
            self.followed.results.restore_calls()

    def _card(self) -> None:
        self._card_dialog = QDialog(self)
        self._card_dialog.setWindowTitle(self.bundle.currentText())
        self._card_dialog.resize(700, 700)
        browser = QTextBrowser()
        browser.setObjectName("card")
        browser.setMarkdown(card_text(self.bundle.currentData()))
        QVBoxLayout(self._card_dialog).addWidget(browser)
        self._card_dialog.show()

    def _show_image(self) -> None:
        size = self.smear.pixel_size_um()
        self.score_fields["pixel_size_um"].native.setPlaceholderText(f"{size:g} (of the image)" if size else "unknown")

    def _show_state(self, state: RunState) -> None:
        self.segment_button.setEnabled(not state.busy)
        self.score_button.setEnabled(not state.busy)
        self.cancel_button.setEnabled(state.busy)
        self.progress.setVisible(state.busy)
        self.progress.setRange(0, state.total)
        self.progress.setValue(state.done)
        self.progress.setTextVisible(state.total > 0)
        self.status.setText(state.text)
        opened = self.controller.opened
        self.running_on.setVisible(opened is not None)
        if opened is not None:
            self.running_on.setText(f"{opened.bundle} runs on the {opened.device} with {opened.engine}")

    def _show_scored(self, layer: Any) -> None:
        results = results_of(layer)
        if results is not None:
            results.colouring = self._colours
        self.viewer.layers.selection.active = layer
        self.tabs.setCurrentIndex(1)

    def _show_results(self) -> None:
        results = self.followed.results
        self._colour_box.setVisible(results is not None)
        if results is None:
            return
        self.domain.say(trust.domain_note(trust.n_out_of_domain(results.table["flags"]), len(results.table)))
        self.notes.say("; ".join(trust.count_joined(results.rows.summary["notes"])))
        with signals_blocked(self.colouring, self.threshold):
            self.colouring.setCurrentText(results.colouring)
            self.threshold.setValue(round(100 * results.threshold))
        self.colour_bar.show_colouring(results.colouring)
        self.threshold_text.setText(f"{results.threshold:.2f}")
        rule = _rule(results)
        self.called_by.setVisible(bool(rule))
        self.called_by.setText(rule)

    def _colour(self, colouring: str) -> None:
        self._colours = colouring
        if self.followed.results is not None:
            self.followed.results.colouring = colouring

    def _call(self, hundredths: int) -> None:
        if self.followed.results is not None:
            self.followed.results.threshold = hundredths / 100


def _rule(results: CellResults) -> str:
    """Say what calls the cells, where it is not the threshold alone."""
    said = []
    if results.called_by is not None:
        said.append(f"By the error rate: {results.called_by.in_words()}.")
    if results.n_left_open:
        said.append(f"Cells that fast calls leave open at this threshold, now uncertain: {results.n_left_open}.")
    return " ".join(said)
