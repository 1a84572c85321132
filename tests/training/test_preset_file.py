import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from all_detect_training.cli import main
from all_detect_training.preset_file import checked_params, read_preset
from all_detect_training.presets import PRESETS, departures
from napari_all_detect.errors import InputError

MOBILENET = {"architecture": "mobilenet", "input_size": 64}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_is_printed_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str) -> None:
    """In the encodings too that PowerShell's `>` writes."""
    assert main(["preset", "paper"]) == 0
    (tmp_path / "mine.json").write_text(capsys.readouterr().out, encoding=encoding)
    assert read_preset(tmp_path / "mine.json") == ("mine.json", PRESETS["paper"])


def test_runs_and_bundles_hold_their_preset(tmp_path: Path) -> None:
    changed = replace(PRESETS["lite"], highest_rate=5e-4, mixed_precision=False, patience=3)
    record = {"created": "2026-01-31", "preset": "lite", "params": asdict(changed)}
    for content in (record, {"name": "mine", "training": record}):
        (tmp_path / "held.json").write_text(json.dumps(content))
        assert read_preset(tmp_path / "held.json") == ("lite", changed)
    assert departures("lite", changed) == ["highest_rate", "mixed_precision", "patience"]
    assert departures("mine.json", changed) == departures("lite", PRESETS["lite"]) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 0.1}, "learning_rate is unknown; expected members, crop_size, epochs, "),
        ({"members": [MOBILENET | {"cutt": "x"}]}, "cutt is unknown; expected architecture, input_size, cut, stretch"),
        ({"highest_rate": -1}, "highest_rate is -1; expected greater than 0"),
        ({"highest_rate": float("inf")}, "highest_rate is inf; expected a finite number"),
        ({"epochs": "6"}, "epochs is '6'; expected a valid integer"),
        ({"mixed_precision": 1}, "mixed_precision is 1; expected a valid boolean"),
        ({"patience": 0}, "patience is 0; expected greater than or equal to 1"),
        ({"seed": 2**32}, "seed is 4294967296; expected less than or equal to 4294967295"),
        ({"lowest_rate": 0.5}, "lowest_rate is 0.5; expected highest_rate, 0.001, at most"),
        ({"train_share": 0.9}, "leave no cell to test; expected a sum below 1"),
        ({"stain_normalisation": "vahadane"}, "stain_normalisation is 'vahadane'; expected null, reinhard, macenko"),
        ({"members": []}, "there is no member; expected one at least"),
        ({"members": [MOBILENET, MOBILENET]}, "2 members are mobilenet; expected each architecture once"),
        ({"members": [MOBILENET | {"architecture": "resnet"}]}, "architecture is 'resnet'; expected one of vgg16, "),
        ({"members": [MOBILENET | {"input_size": 24}]}, "input_size is 24; expected greater than or equal to 32"),
        ({"members": [MOBILENET | {"input_size": 1200}]}, "input_size is 1200; expected less than or equal to 1024"),
        ({"members": [MOBILENET | {"stretch": 0.01}]}, "stretch of mobilenet is 0.01, which leaves it no epoch"),
        ({"members": [MOBILENET | {"stretch": 1e308}]}, "stretch is 1e+308; expected less than or equal to 1000"),
        ({"epochs": 10**30}, "; expected less than or equal to 1000000"),
    ],
)
def test_values_that_nothing_can_be_trained_with_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(asdict(PRESETS["lite"]) | change))
    with pytest.raises(InputError) as caught:
        read_preset(tmp_path / "mine.json")
    assert str(caught.value).startswith(str(tmp_path / "mine.json"))
    assert said in str(caught.value)
    assert str(caught.value).endswith("or start anew from what `all-detect-train preset lite` prints")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "can't be read as JSON"),
        (b"\xff\xff\xff", "can't be read as JSON"),
        (b"[" * 100_000, "can't be read as JSON"),
        (b"[]", r"the whole is \[\]; expected an object"),
        (b'{"epochs": 3}', "members is missing; crop_size is missing"),
        (b'{"training": 3}', "members is missing"),
    ],
)
def test_what_is_no_preset_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "mine.json").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_preset(tmp_path / "mine.json")


def test_options_beside_a_preset_are_held_to_its_ranges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = {"members": [MOBILENET | {"stretch": 0.4}], "epochs": 10}
    (tmp_path / "mine.json").write_text(json.dumps(asdict(PRESETS["lite"]) | changed))
    command = ["fit", "--preset", str(tmp_path / "mine.json"), "--cells", str(tmp_path), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main([*command, "--epochs", "1"])
    assert "mine.json: stretch of mobilenet is 0.4, which leaves it no epoch" in capsys.readouterr().err


def test_what_a_value_is_not_given_is_the_usual_one() -> None:
    values = {"members": [MOBILENET], "crop_size": 64, "epochs": 3}
    assert checked_params(values).batch_size == 32


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (MOBILENET | {"cut": "conv_pw_99"}, "mobilenet has no layer 'conv_pw_99' to cut at; correct input_size or cut"),
        ({"architecture": "xception", "input_size": 64}, "xception takes inputs of at least 71 px; got 64"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_before_images_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], member: dict[str, Any], said: str
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"members": [member], "crop_size": 64, "epochs": 3}))
    words = ["fit", "--preset", str(path), "--cells", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")]
    assert main(words) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
