from dataclasses import fields

import pytest
from magicgui.widgets import LineEdit

from napari_all_detect._napari.qt.form import params_widgets, values_of
from napari_all_detect.errors import ParameterError
from napari_all_detect.params import ReadParams, ScoreParams, SegmentationParams

TYPED = {
    "batch_size": ("32", 32),
    "cell_diameter_px": ("40", 40.0),
    "channels": ("0,1,2", "0,1,2"),  # taken apart by the form of the image
    "error_rate": (" 0.05 ", 0.05),
    "level": ("1", 1),
    "pixel_size_um": ("0.25", 0.25),
    "precision": ("bf16", "bf16"),
    "rescale": ("none", "none"),
    "threshold": ("0.6", 0.6),
    "tile_size_px": ("512", 512),
}
CLASSES = (ScoreParams, SegmentationParams, ReadParams)


def named(params):
    return [f.name for f in fields(params) if "tooltip" in f.metadata]


@pytest.mark.parametrize("params", CLASSES)
def test_whatever_field_is_typed_in_is_taken_with_its_type(params, qtbot):
    widgets = params_widgets(params, named(params))
    lines = [name for name, widget in widgets.items() if isinstance(widget, LineEdit) and name != "bundle"]
    assert lines
    for name in lines:
        text, expected = TYPED[name]
        widgets[name].value = text
        value = values_of(params, widgets)[name]
        assert (value, type(value)) == (expected, type(expected))
        if name != "channels":
            assert getattr(params(**{name: value}), name) == expected


@pytest.mark.parametrize("params", CLASSES)
def test_what_is_not_typed_is_the_default(params, qtbot):
    assert params(**values_of(params, params_widgets(params, named(params)))) == params()


@pytest.mark.parametrize(
    ("text", "said"), [("2.5", "batch_size is 2.5; expected a whole number"), ("many", "batch_size is 'many'")]
)
def test_half_a_cell_and_no_number_are_told(text, said, qtbot):
    widgets = params_widgets(ScoreParams, ["batch_size"])
    widgets["batch_size"].value = text
    with pytest.raises(ParameterError, match=said):
        ScoreParams(**values_of(ScoreParams, widgets))
