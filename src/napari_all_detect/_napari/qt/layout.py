"""Rows, columns and buttons: what all widgets are put together from."""

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

__all__ = ["Caution", "Scrolled", "as_room_allows", "button", "column", "note", "row", "wrapped"]

LEAST_SHARE = 1 / 5
"""Of the screen's height: three docks below each other fit, with their titles."""


class Caution(QLabel):
    """A line in bold that wraps, and is there only while it has something to say."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.say("")

    def say(self, text: str) -> None:
        """Show a text; nothing if it is empty."""
        self.setText(f"<b>{text}</b>" if text else "")
        self.setVisible(bool(text))


class Scrolled(QScrollArea):
    """Gives a widget the room that there is, and scrolls where that is too little: no window outgrows its screen.

    Parameters
    ----------
    content : QWidget
    """

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # Tab goes straight to what is in it
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Return the content's width with the scroll bar's, and its height or a share of the screen's."""
        least = self.widget().minimumSizeHint()
        share = round(LEAST_SHARE * self.screen().availableGeometry().height())
        return QSize(least.width() + self.verticalScrollBar().sizeHint().width(), min(least.height(), share))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Ask for another width when the content needs one."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


def as_room_allows(widget: QWidget, least_px: int) -> None:
    """Let a widget be as high as there is room, and ask for no more than this."""
    widget.setMinimumHeight(least_px)
    widget.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)


def button(text: str, tooltip: str, pressed: Callable[[], Any]) -> QPushButton:
    """Return a button that calls a function without arguments."""
    made = QPushButton(text)
    made.setToolTip(tooltip)
    made.clicked.connect(lambda: pressed())
    return made


def note(text: str) -> QLabel:
    """Return a line in italics that wraps."""
    return wrapped(f"<i>{text}</i>")


def wrapped(text: str = "") -> QLabel:
    """Return a line that wraps."""
    label = QLabel(text)
    label.setWordWrap(True)
    return label


def row(*parts: Any) -> QHBoxLayout:
    """Return widgets side by side."""
    return _filled(QHBoxLayout(), parts)


def column(*parts: Any) -> QWidget:
    """Return a widget with widgets and layouts below each other."""
    widget = QWidget()
    layout = _filled(QVBoxLayout(widget), parts)
    layout.setContentsMargins(0, 6, 0, 0)
    return widget


def _filled(layout: Any, parts: tuple[Any, ...]) -> Any:
    for part in parts:
        if isinstance(part, QWidget):
            layout.addWidget(part)
        else:
            layout.addLayout(part)
    return layout
