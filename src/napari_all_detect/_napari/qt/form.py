"""Forms made from `params.py`: a field's default, range, choices and help text become a widget."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import MISSING, Field, fields
from typing import Any, get_args

from magicgui.widgets import CheckBox, ComboBox, LineEdit, Widget

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
    widget = LineEdit(value="" if value is None else str(value), **common)
    widget.native.setPlaceholderText("automatic" if f.default is None else "")
    return widget


def values_of(params: type[Params], widgets: dict[str, Widget]) -> dict[str, Any]:
    """Return what the widgets of these parameters say, as they take it; the parameters themselves check the ranges."""
    types = {f.name: f.type for f in fields(params)}
    return {name: _typed(w.value, types[name]) if isinstance(w, LineEdit) else w.value for name, w in widgets.items()}


def _typed(text: str, kind: Any) -> str | float | None:
    """Return what a text says in a field of this type: a whole number, a number, or the text; None if it is empty."""
    text, kinds = text.strip(), get_args(kind) or (kind,)
    # Half a cell, where a whole number is expected, is told as such.
    for number in (int, float) if int in kinds else (float,) if float in kinds else ():
        with suppress(ValueError):
            return number(text)
    return text or None


def _label(f: "Field[Any]") -> str:
    """Return the name of the command line's option, with the unit."""
    unit = next((unit for suffix, unit in UNITS.items() if f.name.endswith(suffix)), "")
    name: str = f.metadata.get("flag", f.name)
    return name.replace("_", " ").replace("-", " ").capitalize() + unit
