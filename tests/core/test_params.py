import json
import math
import re
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_all_detect.errors import AllDetectError, ParameterError
from napari_all_detect.params import (
    FORMATS,
    LARGEST_LABEL,
    WEIGHTINGS,
    ClusterParams,
    ExplainParams,
    OutputParams,
    Params,
    ReadParams,
    ScoreParams,
    SegmentationParams,
)

ALL_PARAMS = (SegmentationParams, ReadParams, ScoreParams, OutputParams, ClusterParams, ExplainParams)
RANGES = [
    (SegmentationParams, "cell_diameter_px", 8, 2000),
    (ScoreParams, "threshold", 0.0, 1.0),
    (ScoreParams, "error_rate", 0.001, 0.5),
    (ScoreParams, "pixel_size_um", 0.001, 100.0),
    (ScoreParams, "rescale", 0.01, 100.0),
    (ScoreParams, "batch_size", 1, 4096),
    (ExplainParams, "label", 1, LARGEST_LABEL),
    (ReadParams, "level", 0, 64),
    (ReadParams, "tile_size_px", 256, 65536),
    (ClusterParams, "workers", 0, 1024),
    (ClusterParams, "segmentation_processes", 0, 256),
]
CHOICES = [("weighting", WEIGHTINGS), ("engine", ("auto", "keras", "openvino")), ("device", ("auto", "cpu", "gpu"))]


@pytest.mark.parametrize("kind", ALL_PARAMS)
def test_defaults_are_valid_and_every_field_explains_itself(kind: type[Params]) -> None:
    kind()
    for f in fields(kind):
        assert f.default is not MISSING or f.default_factory is not MISSING
        if f.name not in ("segmentation", "reading"):
            assert f.metadata["tooltip"]


def test_every_range_is_listed_here() -> None:
    ranged = {(kind, f.name) for kind in ALL_PARAMS for f in fields(kind) if "min" in f.metadata}
    assert ranged == {(kind, name) for kind, name, _, _ in RANGES}


@pytest.mark.parametrize(("kind", "name", "low", "high"), RANGES)
def test_ranges_hold_their_ends(kind: type[Params], name: str, low: float, high: float) -> None:
    for value in (low, (low + high) // 2 or 0.5, high):
        assert getattr(kind(**{name: value}), name) == value


@pytest.mark.parametrize(("kind", "name", "low", "high"), RANGES)
@pytest.mark.parametrize("beyond", ["below", "above", "nan", "-inf", "inf"])
def test_outside_a_range_is_refused(kind: type[Params], name: str, low: float, high: float, beyond: str) -> None:
    value = {"below": math.nextafter(low, -math.inf), "above": math.nextafter(high, math.inf)}.get(beyond)
    with pytest.raises(ParameterError, match=rf"^{name} is .*; expected (none, )?(auto, )?{low:.10g} to {high:.10g}$"):
        kind(**{name: float(beyond) if value is None else value})


@pytest.mark.parametrize("name", ["weighting", "threshold", "error_rate", "pixel_size_um"])
def test_none_leaves_it_to_the_bundle_or_the_file(name: str) -> None:
    assert getattr(ScoreParams(**{name: None}), name) is None
    assert SegmentationParams(cell_diameter_px=None).cell_diameter_px is None


@pytest.mark.parametrize(("name", "choices"), CHOICES)
def test_choices(name: str, choices: tuple[str, ...]) -> None:
    for choice in choices:
        assert getattr(ScoreParams(**{name: choice}), name) == choice
    with pytest.raises(ParameterError, match=f"{name} is 'Kappa'; expected one of: {', '.join(choices)}"):
        ScoreParams(**{name: "Kappa"})


@pytest.mark.parametrize("value", ["auto", "none", 0.5, 1, 100.0])
def test_rescale_takes_words_and_factors(value: Any) -> None:
    assert ScoreParams(rescale=value).rescale == value


@pytest.mark.parametrize(("name", "value"), [("threshold", "0.5"), ("batch_size", 2.5), ("batch_size", "8")])
def test_values_of_the_wrong_kind_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=f"^{name} is {value!r}; expected"):
        ScoreParams(**{name: value})


@pytest.mark.parametrize("value", ["Auto", "", "0.5", "half"])
def test_rescale_refuses_other_words(value: str) -> None:
    with pytest.raises(ParameterError, match=r"expected none, auto, 0\.01 to 100"):
        ScoreParams(rescale=value)


@pytest.mark.parametrize("formats", [(), ("csv",), FORMATS])
def test_formats(formats: tuple[str, ...]) -> None:
    assert OutputParams(formats=formats).formats == formats


@pytest.mark.parametrize("formats", [("csv", "xlsx"), ("CSV",), ("",)])
def test_unknown_formats_are_refused(formats: tuple[str, ...]) -> None:
    with pytest.raises(ParameterError, match="expected one of: csv, parquet"):
        OutputParams(formats=formats)


def test_equal_params_are_one_key() -> None:
    """The widget and the Python API keep loaded networks by their parameters."""
    assert len({ScoreParams(), ScoreParams(), ScoreParams(threshold=0.4)}) == 2


def test_parameter_errors_are_ours_and_value_errors() -> None:
    assert issubclass(ParameterError, AllDetectError)
    assert issubclass(ParameterError, ValueError)


@pytest.mark.parametrize("channels", [(0, 1), (), (0, 1, 2, 3), (0, 1, -1)])
def test_channels_are_one_or_three(channels: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="expected one or three numbers from 0: 0,1,2"):
        ReadParams(channels=channels)
    assert ReadParams(channels=(3,)).channels == (3,)


@pytest.mark.parametrize(
    ("kind", "name", "value", "expected"),
    [
        (ScoreParams, "bundle", [], "expected str"),
        (ScoreParams, "precision", None, "expected str"),
        (ScoreParams, "fast_calls", "no", "expected bool"),
        (ScoreParams, "threshold", True, "expected float | None"),
        (ScoreParams, "segmentation", {"method": "learned"}, "expected SegmentationParams"),
        (ReadParams, "channels", ("0", "1", "2"), "expected tuple[int, ...] | None"),
        (OutputParams, "formats", "csv", "expected tuple[str, ...]"),
        (OutputParams, "labels", 3, "expected str | None"),
    ],
)
def test_another_type_is_refused_with_what_was_expected(
    kind: type[Params], name: str, value: object, expected: str
) -> None:
    """So that an edited run.json, or a caller without a type checker, is told."""
    with pytest.raises(ParameterError, match=re.escape(f"{name} is {value!r}; {expected}")):
        kind(**{name: value})


def test_values_like_those_expected_are_taken_for_them() -> None:
    """As NumPy and pathlib give them; a record of a run can hold what becomes of them."""
    params = ScoreParams(
        bundle=Path("mine"),  # type: ignore[arg-type]
        threshold=np.float32(0.25),  # type: ignore[arg-type]
        batch_size=np.int64(4),  # type: ignore[arg-type]
        fast_calls=np.bool_(True),  # type: ignore[arg-type]
        reading=ReadParams(level=np.int64(1), channels=[2, np.int8(1), 0]),  # type: ignore[arg-type]
    )
    assert json.loads(json.dumps(asdict(params)))["reading"]["channels"] == [2, 1, 0]
    assert params.reading.channels == (2, 1, 0)
    assert (params.bundle, params.threshold, params.batch_size, params.fast_calls) == (
        str(Path("mine").absolute()),
        0.25,
        4,
        True,
    )
    output = OutputParams(labels=Path("a") / "b", formats=["csv", "geojson"])  # type: ignore[arg-type]
    assert (output.labels, output.formats) == (str(Path("a/b").absolute()), ("csv", "geojson"))
