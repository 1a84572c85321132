"""Which image, and what of it: planes, channels, resolution level."""

from contextlib import suppress
from dataclasses import fields
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
from magicgui.widgets import LineEdit
from napari.layers import Image
from psygnal import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QWidget

from napari_all_detect._napari.layers.axes import Layout, cells_shape, channel_axes, is_smear, layout_of, pixel_size_um
from napari_all_detect._napari.layers.planes import layer_planes
from napari_all_detect._napari.qt.form import params_widgets
from napari_all_detect._napari.qt.layer_choices import LayerChoice
from napari_all_detect.errors import AllDetectError, ParameterError
from napari_all_detect.params import ReadParams

__all__ = ["ImageForm"]

THIS_PLANE, ALL_PLANES = "This plane", "All planes"


class ImageForm:
    """The form's part on the image; of its rows only those are shown that the image gives a choice of.

    Parameters
    ----------
    viewer : ViewerModel
    form : QFormLayout
        Gets the rows.
    """

    refreshed = Signal()
    """Another image, or the same with another pixel size."""

    def __init__(self, viewer: Any, form: QFormLayout) -> None:
        self._viewer = viewer
        self.image = LayerChoice(viewer, lambda layer: isinstance(layer, Image))
        self.image.setToolTip("The stained smear: in RGB, or a grey image with an axis of three channels")
        self.planes, self.axis, self.levels = QComboBox(), QComboBox(), QComboBox()
        for text in (THIS_PLANE, ALL_PLANES):
            self.planes.addItem(text, text)
        self.planes.setToolTip("Of a stack: the plane that is shown, or all")
        self.axis.setToolTip("Which axis of this grey image holds red, green and blue")
        self.levels.setToolTip(next(f.metadata["tooltip"] for f in fields(ReadParams) if f.name == "level"))
        self.channels: LineEdit = params_widgets(ReadParams, ["channels"])["channels"]
        form.addRow("Image", self.image)
        self._labels = {box: _add(form, text, box) for text, box in self._choices()}
        self._shown: ReferenceType[Any] | None = None
        self._chosen: WeakKeyDictionary[Any, dict[QComboBox, Any]] = WeakKeyDictionary()
        self.image.currentIndexChanged.connect(self.refresh)
        self.channels.changed.connect(self.refresh)
        viewer.layers.selection.events.active.connect(self._choose_active)
        self.refresh()

    def close(self) -> None:
        """Follow the viewer no more."""
        self._viewer.layers.selection.events.active.disconnect(self._choose_active)
        for event in self._sizing_events():
            event.disconnect(self.refresh)
        self.image.close_choices()

    @property
    def layer(self) -> Any:
        """The chosen image layer, or None."""
        return self.image.layer

    @property
    def channel_axis(self) -> int | None:
        """The chosen axis of a grey image."""
        axis: int | None = self.axis.currentData()
        return axis

    def reading(self) -> ReadParams:
        """Return the level and the channels.

        Raises
        ------
        ParameterError
            If the channels are no numbers.
        """
        text, level = self.channels.value.strip(), self.levels.currentData()
        try:
            channels = tuple(int(part) for part in text.split(",")) if text else None
        except ValueError:
            raise ParameterError(f"channels is {text!r}; expected numbers from 0: 0,1,2") from None
        return ReadParams(ReadParams().level if level is None else level, channels)

    def at(self) -> tuple[int, ...] | None:
        """Return the plane that is shown, as `Task` has it; None for all planes, or if there is one.

        Raises
        ------
        InputError
            If the image is grey, or has no such channels.
        """
        image, layout = self.layer, self._finest()
        shape = cells_shape(image, layout)[:-2]
        if not shape or self.planes.currentText() == ALL_PLANES:
            return None
        place = np.round(image.world_to_data(self._viewer.dims.point[-image.ndim :])).astype(int)
        if layout.channel_axis == 0:
            place = place[1:]
        return tuple(int(i) for i in np.clip(place[: len(shape)], 0, np.array(shape) - 1))

    def pixel_size_um(self) -> float | None:
        """Return the image's pixel size at its finest level, if it is known."""
        if self.layer is None or not is_smear(self.layer):
            return None
        return pixel_size_um(self.layer) or layer_planes(self.layer)[0].source.pixel_size_um

    def refresh(self, *_: object) -> None:
        """Offer what the image that is chosen now has; it comes back with what was chosen of it before."""
        image, before = self.layer, self._image_shown()
        if before is not None:
            self._chosen[before] = {box: box.currentData() for _, box in self._choices()}
        axes = () if image is None else channel_axes(image, self._typed_channels())
        if image is not before:
            for event in self._sizing_events():
                event.disconnect(self.refresh)
            self._shown = None if image is None else ref(image)
            for event in self._sizing_events():
                event.connect(self.refresh)
        self.axis.clear()
        for axis in axes:
            self.axis.addItem(f"{image.axis_labels[axis]} (axis {axis} of shape {Layout().array(image).shape})", axis)
        self.levels.clear()
        for level, text in _levels(image):
            self.levels.addItem(text, level)
        chosen = {} if image is None else self._chosen.get(image, {})
        for box, value in chosen.items():
            box.setCurrentIndex(max(0, box.findData(value)))
        self._show(self.axis, len(axes) > 1)
        self._show(self.levels, self.levels.count() > 0)
        self._show(self.planes, self._is_stack())
        if not self._is_stack():
            self.planes.setCurrentText(THIS_PLANE)
        self.refreshed.emit()

    def _image_shown(self) -> Any:
        return None if self._shown is None else self._shown()

    def _sizing_events(self) -> list[Any]:
        """Return what the image emits when its pixels get another size."""
        image = self._image_shown()
        return [] if image is None else [image.events[name] for name in ("scale", "rotate", "shear", "affine", "units")]

    def _choose_active(self, event: Any) -> None:
        """Choose the smear that the user goes to."""
        if isinstance(event.value, Image) and is_smear(event.value):
            self.image.choose(event.value)

    def _finest(self) -> Layout:
        """Return how the image is read at its finest level: which one a level is may depend on the bundle."""
        return layout_of(self.layer, ReadParams(channels=self.reading().channels), self.channel_axis)

    def _typed_channels(self) -> tuple[int, ...] | None:
        """Return the channels; None while those that are being typed are no numbers yet."""
        with suppress(ParameterError):
            return self.reading().channels
        return None

    def _is_stack(self) -> bool:
        try:
            return self.layer is not None and int(np.prod(cells_shape(self.layer, self._finest())[:-2])) > 1
        except AllDetectError:
            return False

    def _choices(self) -> list[tuple[str, QComboBox]]:
        return [("Channels along", self.axis), ("Planes", self.planes), ("Resolution", self.levels)]

    def _show(self, box: QWidget, shown: bool) -> None:
        box.setVisible(shown)
        self._labels[box].setVisible(shown)


def _add(form: QFormLayout, text: str, box: QWidget) -> QWidget:
    form.addRow(text, box)
    return form.labelForField(box)


def _levels(image: Any) -> list[tuple[int | str, str]]:
    """Return the resolution levels of a multiscale image, as `ReadParams.level` has them, with texts."""
    if image is None or not image.multiscale:
        return []
    size, found = pixel_size_um(image), list[tuple[int | str, str]]()
    for level, factor in enumerate(image.downsample_factors):
        height, width = Layout(level).array(image).shape[-3:-1] if image.rgb else Layout(level).array(image).shape[-2:]
        pixel = f", {size * float(factor[image.ndim - 1]):.3g} µm a pixel" if size else ""
        found.append((level, f"{level}: {width} × {height}{pixel}"))
    return [*found, ("auto", "auto: as fine as the bundle's training images")]
