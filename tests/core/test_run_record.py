"""A `run.json` that somebody edited is refused in one line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from napari_all_detect.batch.record import absolute_arguments, differences
from napari_all_detect.cli import main
from napari_all_detect.errors import OutputError
from napari_all_detect.params import OutputParams, ScoreParams, SegmentationParams
from napari_all_detect.results import read_run

RUN: dict[str, Any] = {
    "inputs": ["a.png"],
    "parameters": {},
    "status": "complete",
    "bundle": {"digest": "12ab"},
    "images": [{"image": "a.png", "planes": 1}],
}


@pytest.mark.parametrize(
    ("edited", "said"),
    [
        ({"parameters": []}, "parameters is not valid (Input should be a valid dictionary)"),
        ({"parameters": None}, "parameters is not valid (Input should be a valid dictionary)"),
        ({"parameters": {"segmentation": []}}, "parameters.segmentation is not valid (Input should be a valid dict"),
        ({"parameters": {"reading": None}}, "parameters.reading is not valid (Input should be a valid dictionary)"),
        ({"inputs": "a.png"}, "inputs is not valid (Input should be a valid list)"),
        ({"inputs": [1]}, "inputs.0 is not valid (Input should be an instance of str)"),
        ({"unopened": [None]}, "unopened.0 is not valid (Input should be an instance of str)"),
        ({"images": {}}, "images is not valid (Input should be a valid list)"),
        ({"images": ["a.png"]}, "images.0 is not valid (Input should be a valid dictionary)"),
        ({"images": [{}]}, "images.0.image is not valid (Field required)"),
        ({"images": [{"image": "a.png"}]}, "images.0.planes is not valid (Field required)"),
        ({"images": [{"image": "a.png", "planes": 1, "path": 2}]}, "images.0.path is not valid (Input should be an"),
        ({"bundle": ["lite"]}, "bundle is not valid (Input should be a valid dictionary)"),
        ({"bundle": {}}, "bundle.digest is not valid (Field required)"),
        ({"segmentation": "learned"}, "segmentation is not valid (Input should be a valid dictionary)"),
    ],
)
def test_parts_of_another_type(
    edited: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(RUN | edited))
    with pytest.raises(OutputError, match=re.escape(f"run.json is no record of a run: {said}")) as raised:
        read_run(path)
    assert str(raised.value).endswith("; name a run.json as it was written")
    assert main(["score", "--from-run", str(path), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_parts_that_a_run_leaves_empty_or_names_with_what_is_no_unicode(tmp_path: Path) -> None:
    for run in (RUN | {"segmentation": None, "images": []}, RUN | {"inputs": ["\udcff"], "unopened": ["\udcff"]}):
        (tmp_path / "run.json").write_text(json.dumps(run))
        assert read_run(tmp_path / "run.json") == run


def test_names_stay_and_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in the working directory that is called as a bundle or a method is not meant."""
    for name in ("lite", "learned", "mine"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    inputs, params, output = absolute_arguments(["a.png", "s3://b/c.zarr"], ScoreParams(), OutputParams(labels="mine"))
    assert inputs == [str(tmp_path / "a.png"), "s3://b/c.zarr"]
    assert (params.bundle, params.segmentation.method, output.labels) == ("lite", "learned", str(tmp_path / "mine"))
    given = ScoreParams(bundle="mine", segmentation=SegmentationParams(method="./mine"))
    _, params, _ = absolute_arguments([], given, OutputParams())
    assert params.bundle == params.segmentation.method == str(tmp_path / "mine")
    assert absolute_arguments([], ScoreParams(bundle="nowhere"), OutputParams())[1].bundle == "nowhere"


@pytest.mark.parametrize(
    ("part", "was", "is_", "said"),
    [
        ("parameters", {"threshold": 0.5}, {"threshold": 0.6}, "parameters.threshold was 0.5, now 0.6"),
        ("samples_sha256", "12ab", None, "samples_sha256 was '12ab', now None"),
        ("bundle", {"digest": "12ab"}, {"digest": "34cd"}, "bundle.digest was '12ab', now '34cd'"),
        ("segmentation", {"digest": "12ab"}, {"digest": "34cd"}, "segmentation.digest was '12ab', now '34cd'"),
        ("segmentation", None, {"method": "learned"}, "segmentation was None, now {'method': 'learned'}"),
        ("engine", "openvino 2026.1", "keras 3.15", "engine was 'openvino 2026.1', now 'keras 3.15'"),
        ("device", "cpu", "gpu", "device was 'cpu', now 'gpu'"),
        ("precision", {"members": {"vgg16": "fp32"}}, {}, "precision.members was {'vgg16': 'fp32'}, now None"),
        ("versions", {"numpy": "2.3"}, {"numpy": "2.4"}, "versions.numpy was '2.3', now '2.4'"),
    ],
)
def test_what_keeps_a_run_from_going_on(part: str, was: Any, is_: Any, said: str) -> None:
    assert differences({part: was, "images": []}, {part: is_, "images": []}) == [said]
    assert differences({part: was, "images": []}, {part: was, "images": []}) == []


def test_records_of_earlier_versions_tell_a_folder_that_was_not_opened_by_its_name_alone() -> None:
    row = {"image": "a.png", "path": "/data/day1/a.png", "planes": 1}
    before, now = {"images": []}, {"images": [row], "unopened": []}
    assert differences(before, now, {"day1"}) == []
    assert differences(before, now, {"day"}) == ["a.png was no input"]
    assert differences(before | {"unopened": []}, now, {"day1"}) == ["a.png was no input"]
