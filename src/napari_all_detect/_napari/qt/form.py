"""Forms made from `params.py`: a field's default, range, choices and help text become a widget."""

from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, LineEdit, SpinBox, Widget

from napari_all_detect.params import Params, SegmentationParams
from napari_all_detect.segmentation import method_names

__all__ = ["field_widget", "params_widgets", "values_of"]

UNITS = {"_px": " (px)", "_um": " (µm)"}


def params_widgets(
    params: type[Params], names: Iterable[str], values: dict[str, Any] | None = None
) -> dict[str, Widget]:
    """Return a widget for each of these fields.

    Parameters
    ----------
    params : type
    names : iterable of str
    values : dict, optional
        What they show instead of the defaults.
    """
    by_name = {f.name: f for f in fields(params)}
    return {name: field_widget(by_name[name], (values or {}).get(name, MISSING)) for name in names}


def field_widget(f: "Field[Any]", value: Any = MISSING) -> Widget:
    """Return the widget of one field."""
    value = f.default if value is MISSING else value
    form = dict(f.metadata)
    common = {"name": f.name, "label": _label(f), "tooltip": form["tooltip"]}
    choices = list(form.get("choices", ()))
    if f.name == "method" and f in fields(SegmentationParams):
        choices = list(dict.fromkeys([value, *method_names()]))
    if choices:
        named = [(str(choice), choice) for choice in choices]
        if f.default is None:
            named = [("the bundle's own", None), *named]
        return ComboBox(choices=named, value=value, **common)
    if f.type is bool:
        return CheckBox(value=value, text="", **common)
    if f.type is int:
        return SpinBox(min=form["min"], max=form["max"], step=form["step"], value=value, **common)
    widget = LineEdit(value="" if value is None else str(value), **common)
    widget.native.setPlaceholderText("automatic" if f.default is None else "")
    return widget


def values_of(widgets: dict[str, Widget]) -> dict[str, Any]:
    """Return what the widgets say, as the parameters take it; the parameters themselves check the ranges."""
    return {name: _typed(w.value) if isinstance(w, LineEdit) else w.value for name, w in widgets.items()}


def _typed(text: str) -> str | float | None:
    text = text.strip()
    try:
        return float(text) if text else None
    except ValueError:
        return text


def _label(f: "Field[Any]") -> str:
    """Return the name of the command line's option, with the unit."""
    unit = next((unit for suffix, unit in UNITS.items() if f.name.endswith(suffix)), "")
    name: str = f.metadata.get("flag", f.name)
    return name.replace("_", " ").replace("-", " ").capitalize() + unit
