"""Clicks on cells in the canvas."""

from typing import Any

from napari_all_detect._napari.cells.followed import Followed

__all__ = ["CellClicks"]


class CellClicks:
    """Selects the cell that is clicked on; with Ctrl or Shift, beside those that are selected.

    napari holds its mouse callbacks strongly: this one knows no widget, so that none is kept alive.

    Parameters
    ----------
    followed : Followed
        Whose results they select in.
    """

    def __init__(self, followed: Followed) -> None:
        self._followed = followed
        followed.viewer.mouse_drag_callbacks.append(self)

    def close(self) -> None:
        """Listen no more."""
        self._followed.viewer.mouse_drag_callbacks.remove(self)

    def __call__(self, viewer: Any, event: Any) -> None:
        """Take a press of the mouse."""
        layer, results = self._followed.layer, self._followed.results
        active = viewer.layers.selection.active
        if results is None or layer not in viewer.layers or getattr(active, "mode", "pan_zoom") != "pan_zoom":
            return
        seen = {"view_direction": event.view_direction, "dims_displayed": event.dims_displayed}
        number = layer.get_value(event.position, **seen, world=True)
        if layer.multiscale and number is not None:
            _, number = number  # the level, and there, too, None outside of the labels
        clicked = None if number is None else results.row_of(int(number))
        if clicked is not None:
            beside = {"Control", "Shift"} & set(event.modifiers)
            kept = [int(k) for k in results.selected if k != clicked] if beside else []
            results.select([*kept, clicked])
