"""Tuning, and what `auto` makes of it."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect.batch import tuning as batch_tuning
from napari_all_detect.batch.agreement import agreement_of
from napari_all_detect.batch.record import differences
from napari_all_detect.batch.tuning import tune_bundle
from napari_all_detect.bundle import Bundle, load_bundle
from napari_all_detect.bundle.manifest import Bf16, ClassBounds, Conformal, parse_manifest
from napari_all_detect.engines import choice, choose, keras, open_engine
from napari_all_detect.engines.keras import KerasEngine
from napari_all_detect.engines.openvino_cache import networks_of
from napari_all_detect.engines.openvino_runtime import computes_in_bf16, processor
from napari_all_detect.engines.precision import (
    Agreement,
    Measured,
    Tuning,
    fastest_that_agrees,
    read_tuning,
    write_tuning,
)
from napari_all_detect.errors import BundleError, InputError, MissingDependencyError, ParameterError
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import PlaneInput, cut_cells, open_scorer
from napari_all_detect.sources import as_rgb
from napari_all_detect.stain import normalise_stain

Crops = NDArray[np.uint8]
ON_CPU = ScoreParams(device="cpu")


@pytest.fixture
def duo(duo_bundle: Path) -> Iterator[Bundle]:
    """A bundle of two members that was not tuned, and isn't for other tests."""
    bundle = load_bundle(duo_bundle)
    yield bundle
    shutil.rmtree(networks_of(bundle.digest, "int8"), ignore_errors=True)
    for file in networks_of(bundle.digest).parent.glob("*-tuning.json"):
        file.unlink()


@pytest.fixture
def crops(smear: Callable[..., Crops]) -> Crops:
    rgb = smear(7)
    return np.stack([rgb[y : y + 40, x : x + 40] for y in range(0, 100, 20) for x in range(0, 120, 20)])


def measured(precision: str, ms: float, agreement: float, expected: float = 1.0) -> Measured:
    return Measured(precision, ms, Agreement(agreement, expected, kappa=0.99, largest_change=0.1, mean_change=0.01))


TUNED = Tuning(
    "a processor",
    1200,
    "c0ffee",
    (
        measured("fp32", 10.0, 1.0),
        measured("bf16", 5.0, 0.9989),
        measured("int8", 2.0, 0.98),
        measured("bf16,int8", 3.0, 1.0, expected=0.9989),
        measured("int8,fp32", 6.0, 0.999, expected=0.9991),
    ),
)


ROUNDED = {"same_calls": 0.9995, "expected": 0.9991, "kappa": 0.99, "largest_change": 0.03, "mean_change": 0.001}


def in_bf16(bundle: Bundle, precision: str) -> Bundle:
    """Let a bundle say of itself that it can compute in bf16."""
    rounded = Bf16(precision=precision, n=4268, **ROUNDED)
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"bf16": rounded}))


def test_the_fastest_that_agrees_is_taken() -> None:
    assert fastest_that_agrees(TUNED).precision == "int8,fp32"
    assert fastest_that_agrees(replace(TUNED, measured=TUNED.measured[:3])).precision == "fp32"


def votes(p_all: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make the votes of two members of one opinion."""
    p = np.clip(p_all, 0, 1)
    return np.stack([np.stack([1 - p, p], axis=1)] * 2, axis=1)


def test_luck_near_a_threshold_does_not_pass_for_agreement(duo: Bundle) -> None:
    scorer = open_scorer(replace(ON_CPU, bundle=str(duo.folder)))
    full = np.linspace(0, 1, 2001, dtype=np.float32)
    rng = np.random.default_rng(0)
    small, large = (full + rng.normal(0, sigma, 2001).astype(np.float32) for sigma in (0.0005, 0.05))
    # By luck the same calls: those that changed are put back.
    lucky = np.where((large >= scorer.threshold) == (full >= scorer.threshold), large, full)

    found = [
        agreement_of(scorer, {"fp32": votes(full), "bf16": votes(p)}, ("bf16", "bf16"))
        for p in (full, small, large, lucky)
    ]
    expected = [one.expected for one in found]
    assert found[2].same_calls < found[3].same_calls == 1
    assert [one.is_enough for one in found][2:] == [False, False]
    assert expected[0] == 1
    assert expected[1] > 0.999
    assert expected[2] == pytest.approx(((large >= 0.5) == (full >= 0.5)).mean(), abs=0.01)
    assert expected[3] < 0.995


def test_calls_that_agree_are_calibrated_and_may_be_uncertain(duo: Bundle) -> None:
    bounds = {"kappa": ClassBounds(least_all=(0.3,), most_hem=(0.7,))}
    conformal = Conformal(error_rate_all=0.05, error_rate_hem=0.05, n_all=9, n_hem=9, rates=(0.05,), bounds=bounds)
    changes = {"temperatures": {"kappa": 0.5}, "conformal": conformal}
    ensemble = duo.manifest.ensemble.model_copy(update=changes)
    bundle = replace(duo, manifest=duo.manifest.model_copy(update={"ensemble": ensemble}))
    scorer = replace(open_scorer(replace(ON_CPU, bundle=str(duo.folder))), bundle=bundle)
    full, other = np.array([[0.45, 0.45, 0.9], [0.55, 0.45, 0.8]], np.float32)
    found = agreement_of(scorer, {"fp32": votes(full), "bf16": votes(other)}, ("bf16", "bf16"))
    assert (found.same_calls, found.expected) == (1, 1)
    # At half the temperature odds are squared.
    assert found.largest_change == pytest.approx((55**2 - 45**2) / (55**2 + 45**2), abs=1e-6)


def test_what_was_measured_is_read_back(duo: Bundle) -> None:
    assert read_tuning(duo) is None
    write_tuning(duo, TUNED)
    assert read_tuning(duo) == TUNED
    write_tuning(duo, replace(TUNED, cells=2000))
    assert read_tuning(duo) == replace(TUNED, cells=2000)


def test_auto_is_fp32_unless_tuned_here_and_for_these_calls(duo: Bundle) -> None:
    assert choose(duo, ON_CPU).precision == "fp32"
    assert "bundles tune" in choose(duo, ON_CPU).why
    write_tuning(duo, TUNED)
    assert choose(duo, ON_CPU).precision == "fp32"
    assert "another processor: a processor" in choose(duo, ON_CPU).why
    write_tuning(duo, replace(TUNED, processor=processor()))
    chosen = choose(duo, ON_CPU)
    assert (chosen.engine, chosen.precision, chosen.calibration) == ("openvino", "int8,fp32", "c0ffee")
    assert "99.90% of 1200" in chosen.why
    assert choose(duo, replace(ON_CPU, weighting="equal")).precision == "fp32"
    for same in ({"threshold": 0.3}, {"weighting": "kappa"}, {"error_rate": "none"}):
        assert choose(duo, replace(ON_CPU, **same)).precision == "int8,fp32"
    assert choose(duo, replace(ON_CPU, engine="keras")).precision == "fp32"
    assert choose(duo, replace(ON_CPU, precision="fp32")).why == "asked for"


def test_auto_takes_what_the_bundle_says_of_bf16_where_the_processor_can(
    duo_bundle: Path, duo: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((duo_bundle / "bundle.json").read_text())
    bundle = in_bf16(duo, "fp32,bf16")
    monkeypatch.setattr(choice, "computes_in_bf16", lambda: True)
    chosen = choose(bundle, ON_CPU)
    assert (chosen.precision, chosen.calibration) == ("fp32,bf16", "")
    assert "99.95% of 4268" in chosen.why
    assert choose(bundle, replace(ON_CPU, threshold=0.3)).precision == "fp32,bf16"
    assert choose(bundle, replace(ON_CPU, weighting="f1")).precision == "fp32"
    assert choose(bundle, replace(ON_CPU, engine="keras")).precision == "fp32"
    write_tuning(bundle, TUNED)
    assert choose(bundle, ON_CPU).precision == "fp32,bf16"  # that was another processor
    write_tuning(bundle, replace(TUNED, processor=processor()))
    assert choose(bundle, ON_CPU).precision == "int8,fp32"
    monkeypatch.setattr(choice, "computes_in_bf16", lambda: False)
    write_tuning(bundle, TUNED)
    assert choose(bundle, ON_CPU).precision == "fp32"

    for precision, message in (("int8", "precision: String should match"), ("bf16,bf16,bf16", "one for each member")):
        given = json.dumps(manifest | {"bf16": {"precision": precision, "n": 9, **ROUNDED}})
        with pytest.raises(BundleError, match=message):
            parse_manifest(given.encode(), "duo")


def test_auto_takes_on_a_gpu_what_was_tuned_there(duo: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    by_keras = ScoreParams(engine="keras")
    assert choose(duo, by_keras).precision == "fp32"
    assert "bundles tune` on a GPU" in choose(duo, by_keras).why
    assert choose(duo, replace(by_keras, device="cpu")).why.startswith("Keras computes in fp32 on a processor unless")
    tuned = replace(TUNED, processor="a GPU", measured=(TUNED.measured[0], measured("fp32,bf16", 4.0, 1.0)))
    write_tuning(duo, tuned, "gpu")
    assert read_tuning(duo) is None
    assert choose(duo, ON_CPU).precision == "fp32"
    assert choose(duo, by_keras).why == "tuned on another device: a GPU"
    monkeypatch.setattr(keras, "choose_device", lambda device: {"auto": "gpu"}.get(device, device))
    monkeypatch.setattr(keras, "gpu_name", lambda: "a GPU")
    chosen = choose(duo, by_keras)
    assert (chosen.engine, chosen.precision, chosen.calibration) == ("keras", "fp32,bf16", "")
    assert "100.00% of 1200" in chosen.why
    on_processor = choose(duo, replace(by_keras, device="cpu"))
    assert on_processor.precision == "fp32"
    assert on_processor.why.startswith("Keras computes in fp32 on a processor")
    assert choose(duo, replace(by_keras, weighting="equal")).precision == "fp32"


def test_what_cannot_be_had_is_refused_in_one_line(duo: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = {
        "int8": (BundleError, "all-detect bundles tune duo IMAGES"),
        "fp32,fp32,fp32": (ParameterError, "one for each of 2 members"),
        "bf16": (ParameterError, "does not compute in bf16"),
    }
    monkeypatch.setattr(choice, "computes_in_bf16", lambda: False)
    for precision, (kind, message) in refused.items():
        with pytest.raises(kind, match=message) as caught:
            open_engine(duo, replace(ON_CPU, precision=precision))
        assert "\n" not in str(caught.value)
    with pytest.raises(ParameterError, match="the engine Keras"):
        open_engine(duo, replace(ON_CPU, precision="int8", engine="keras"))
    with pytest.raises(ParameterError, match="expected one of: auto, fp32, bf16, int8"):
        ScoreParams(precision="fp16")


def test_a_tuning_that_was_interrupted_leaves_none(duo: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier one found does not hold for int8 networks that are made anew."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    write_tuning(duo, TUNED)
    monkeypatch.setattr(batch_tuning, "_cells", lambda *_: np.zeros((4, 48, 48, 3), np.uint8))
    monkeypatch.setattr(batch_tuning, "quantise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune_bundle(str(duo.folder), [])
    assert read_tuning(duo) is None


def test_two_that_tune_at_once_do_not_mix(duo: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one found must not stand beside the int8 networks of the other."""
    done: list[str] = []

    def quantise(_: Bundle, crops: Crops) -> None:
        done.append(hashlib.sha256(crops.tobytes()).hexdigest())
        time.sleep(0.3)

    monkeypatch.setattr(batch_tuning, "PRECISIONS", ("fp32",))
    monkeypatch.setattr(batch_tuning, "_cells", lambda _, inputs, tell: np.full((4, 40, 40, 3), inputs[0], np.uint8))
    monkeypatch.setattr(batch_tuning, "quantise", quantise)
    monkeypatch.setattr(batch_tuning, "write_tuning", lambda _, tuning, device: done.append(tuning.calibration))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda k: tune_bundle(str(duo.folder), [k]), range(2)))
    assert done[0] == done[1] != done[2] == done[3]


def test_a_damaged_file_of_tuning_is_one_line(duo: Bundle) -> None:
    write_tuning(duo, TUNED)
    (file,) = networks_of(duo.digest).parent.glob("*-tuning.json")
    whole = json.loads(file.read_text())
    nothing, words = [], [whole["measured"][0] | {"ms_per_cell": "fast"}]
    other = [json.dumps(whole | {"measured": measured}) for measured in (nothing, words)]
    for text in ("", "[]", '{"cells": 3}', '{"measured": 3}', *other):
        file.write_text(text)
        with pytest.raises(BundleError, match=r"tune duo-0\.1 again") as caught:
            open_engine(duo, replace(ON_CPU, precision="int8"))
        assert "\n" not in str(caught.value)


def test_auto_goes_on_without_a_file_of_tuning_that_cannot_be_read(
    duo: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tuning(duo, TUNED)
    (file,) = networks_of(duo.digest).parent.glob("*-tuning.json")
    file.write_text("[]")
    chosen = choose(duo, ON_CPU)
    assert (chosen.engine, chosen.precision) == ("openvino", "fp32")
    assert f"{file}: can't be read" in chosen.why
    monkeypatch.setattr(choice, "computes_in_bf16", lambda: True)
    chosen = choose(in_bf16(duo, "fp32,bf16"), ON_CPU)
    assert chosen.precision == "fp32,bf16"
    assert "99.95% of 4268 cells" in chosen.why
    assert "tune duo-0.1 again" in chosen.why


def test_a_file_of_tuning_that_may_not_be_read_says_where_to_have_another(
    duo: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(BundleError, match=r"Permission denied.*set ALL_DETECT_CACHE to a folder that you may read"):
        read_tuning(duo)


@pytest.fixture
def images(tmp_path: Path, smear: Callable[..., Crops]) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(8):
        Image.fromarray(smear(seed)).save(folder / f"{seed}.png")
    return folder


def test_tuning_measures_and_later_runs_take_it(
    duo: Bundle, images: Path, crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_tuning, "CELLS", 30)
    told: list[str] = []
    tuning = tune_bundle(str(duo.folder), [images], told.append)
    assert read_tuning(duo) == tuning
    assert (tuning.processor, tuning.cells >= 30) == (processor(), True)
    assert any(text.endswith("of 30") for text in told)
    rows = {row.precision: row for row in tuning.measured}
    assert set(rows) >= ({"fp32", "bf16", "int8"} if computes_in_bf16() else {"fp32", "int8"})
    assert rows["fp32"].agreement == Agreement(1, 1, 1, 0, 0)
    assert 0 < rows["int8"].agreement.mean_change <= rows["int8"].agreement.largest_change < 0.5
    best = fastest_that_agrees(tuning)
    assert best.ms_per_cell == min(row.ms_per_cell for row in tuning.measured if row.agreement.is_enough)

    scorer = open_scorer(replace(ON_CPU, bundle=str(duo.folder)))
    assert scorer.choice is not None
    assert (scorer.params.precision, scorer.params.engine) == (best.precision, "openvino")
    assert scorer.choice.calibration == (tuning.calibration if "int8" in best.precision else "")

    # Each member computes in its own precision, and a cell's bits depend on nothing else.
    fp32, int8, mixed = (open_engine(duo, replace(ON_CPU, precision=p)) for p in ("fp32", "int8", "fp32,int8"))
    found = mixed.predict(crops)
    assert_array_equal(found[:, 0], fp32.predict(crops)[:, 0])
    assert_array_equal(found[:, 1], int8.predict(crops, members=[1])[:, 0])
    assert (found[:, 1] != fp32.predict(crops)[:, 1]).any()
    assert_array_equal(np.concatenate([int8.predict(crop[None]) for crop in crops]), int8.predict(crops))

    for name in ("mobilenet.bin", "mobilenet.xml"):
        file = networks_of(duo.digest, "int8") / name
        whole = file.read_bytes()
        for damaged in (bytes([*whole[:-1], whole[-1] ^ 0x80]), b"<net>"):
            file.unlink()
            file.write_bytes(damaged)
            with pytest.raises(BundleError, match="bundles tune makes them anew") as caught:
                open_engine(duo, replace(ON_CPU, precision="int8"))
            assert "\n" not in str(caught.value)
        file.write_bytes(whole)


def test_a_gpu_is_tuned_without_int8(duo: Bundle, crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras on a processor stands for a GPU here."""

    def engine(bundle: Bundle, precision: str, tuned_for: str) -> KerasEngine:
        assert tuned_for == "gpu"
        return KerasEngine(bundle, "cpu", precision=precision)

    with pytest.raises(MissingDependencyError, match="nothing to tune; leave --engine out"):
        tune_bundle(str(duo.folder), [], engine="keras", device="cpu")
    monkeypatch.setattr(batch_tuning, "choose_device", lambda device: "gpu")
    monkeypatch.setattr(batch_tuning, "gpu_name", lambda: "a GPU")
    monkeypatch.setattr(batch_tuning, "_engine", engine)
    monkeypatch.setattr(batch_tuning, "_cells", lambda *_: crops)
    write_tuning(duo, TUNED)
    tuning = tune_bundle(str(duo.folder), [], device="gpu")
    assert (tuning.processor, tuning.cells) == ("a GPU", len(crops))
    assert read_tuning(duo, "gpu") == tuning
    assert read_tuning(duo) == TUNED
    rows = {row.precision: row.agreement for row in tuning.measured}
    assert rows.keys() >= {"fp32", "bf16"}
    assert not any("int8" in precision for precision in rows)
    assert rows["fp32"] == Agreement(1, 1, 1, 0, 0)
    assert 0 < rows["bf16"].mean_change <= rows["bf16"].largest_change < 0.05


def test_a_run_goes_on_only_with_the_networks_it_began_with() -> None:
    def record(why: str, calibration: str) -> dict[str, Any]:
        return {"precision": {"members": {"vgg16": "int8"}, "why": why, "calibration": calibration}, "images": []}

    assert differences(record("asked for", "c0ffee"), record("the fastest", "c0ffee")) == []
    (told,) = differences(record("asked for", "c0ffee"), record("asked for", "decaf"))
    assert told == "precision.calibration was 'c0ffee', now 'decaf'"


def test_networks_are_tuned_on_cells_as_they_see_them(
    duo: Bundle, tmp_path: Path, smear: Callable[..., Crops], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of images in a random order, at each one's own scale, their stain normalised."""
    of_half_um = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    for seed in range(4):
        tifffile.imwrite(tmp_path / f"{seed}.tif", smear(seed), photometric="rgb", **of_half_um)
    crop = duo.manifest.crop.model_copy(update={"stain_normalisation": "reinhard"})
    bundle = replace(duo, manifest=duo.manifest.model_copy(update={"crop": crop}))
    scorer = replace(open_scorer(replace(ON_CPU, bundle=str(duo.folder))), bundle=bundle)
    given = [PlaneInput(as_rgb(smear(seed)), pixel_size_um=0.5) for seed in range(4)]
    seen = [normalise_stain(cut_cells(one, scorer.params, crop).crops, "reinhard") for one in given]
    monkeypatch.setattr(batch_tuning, "CELLS", 1)
    first, again = (batch_tuning._cells(scorer, [tmp_path], lambda _: None) for _ in range(2))
    assert [np.array_equal(first, crops) for crops in seen].index(True) > 0
    assert_array_equal(again, first)


def test_too_few_cells_are_refused(duo: Bundle, images: Path) -> None:
    with pytest.raises(InputError, match=r"cells in 8 images; expected 1000 at least: give more images"):
        tune_bundle(str(duo.folder), [images])
    assert read_tuning(duo) is None
