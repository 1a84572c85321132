"""What is OpenVINO's own; what it shares with Keras is in `test_engine.py`."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from napari_all_detect.bundle import Bundle, load_bundle, load_segmenter
from napari_all_detect.engines import choice, open_engine, open_mapper, openvino_cache, openvino_unet
from napari_all_detect.engines.openvino_cache import made_once, networks_of, read_networks
from napari_all_detect.errors import AllDetectError, BundleError, MissingDependencyError, ParameterError
from napari_all_detect.params import ScoreParams

Crops = NDArray[np.uint8]
OPENVINO = ScoreParams(engine="openvino")


@pytest.fixture(scope="module")
def duo(duo_bundle: Path) -> Bundle:
    return load_bundle(duo_bundle)


@pytest.fixture(scope="module")
def crops(smear: Callable[..., NDArray[np.uint8]]) -> Crops:
    rgb = smear(7)
    return np.stack([rgb[y : y + 40, x : x + 40] for y in range(0, 100, 20) for x in range(0, 120, 20)])


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_cache, "_export", lambda *_: pytest.fail("networks were made over again"))


def test_a_cell_gets_the_same_bits_whatever_the_number_of_threads(
    duo: Bundle, crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("ALL_DETECT_THREADS", threads)
        found.append(open_engine(duo, OPENVINO).predict(crops))
    assert_array_equal(found[1], found[0])
    assert_array_equal(found[2], found[0])


def test_more_cells_than_are_queued_at_once_come_back_in_order(duo: Bundle, crops: Crops) -> None:
    engine = open_engine(duo, OPENVINO)
    many = np.concatenate([crops] * 7)
    told: list[int] = []
    assert_array_equal(engine.predict(many, told.append), np.concatenate([engine.predict(crops)] * 7))
    assert sum(told) == len(many)


def test_lite_calls_cells_as_keras_does(smear: Callable[..., NDArray[np.uint8]]) -> None:
    lite, rgb = load_bundle("lite"), smear(3)
    crops = np.stack([rgb[y : y + 56, x : x + 56] for y in range(0, 80, 16) for x in range(0, 112, 16)])
    params = [ScoreParams(engine=name, device="cpu", precision="fp32") for name in ("keras", "openvino")]
    keras, openvino = (open_engine(lite, one) for one in params)
    np.testing.assert_allclose(openvino.predict(crops), keras.predict(crops), atol=1e-5)


def test_maps_of_cells_are_keras_bytes(smear: Callable[..., NDArray[np.uint8]]) -> None:
    bundle = load_segmenter("cells")
    keras, openvino = (open_mapper(bundle, "cpu", name) for name in ("keras", "openvino"))
    assert (openvino.multiple, openvino.cell_diameter_px) == (keras.multiple, keras.cell_diameter_px)
    for height, width in ((64, 64), (144, 176), (16, 96)):
        light = smear(5)[:height, :width]
        theirs, ours = keras.predict(light), openvino.predict(light)
        assert ours.dtype == np.uint8
        # A sum may round to the other side of a half.
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        assert (ours != theirs).mean() < 1e-3
    assert openvino.predict(smear(5)[:, ::-1]).std() > 5, "the maps are flat, so that a mix-up would not show"


def test_maps_do_not_hang_on_the_number_of_threads(
    smear: Callable[..., NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_DETECT_THREADS", "2")
    light, mapper = smear(5)[:144, :176], open_mapper(load_segmenter("cells"), "cpu", "openvino")
    on_one = mapper.predict(light)
    monkeypatch.setattr(openvino_unet, "SMALL_PX", 0)
    assert_array_equal(mapper.predict(light), on_one)
    assert set(mapper._requests) == {1, 2}, "both were computed by as many threads"


def test_the_second_start_needs_no_keras_and_no_tensorflow(tmp_path: Path, duo_bundle: Path) -> None:
    code = f"""
import sys
import numpy as np
import napari_all_detect as ad
scored = ad.score_image(ad.draw_smear((224, 224), n_cells=4, seed=3).rgb, bundle={str(duo_bundle)!r}, device="cpu")
assert len(scored.table) == 4, scored.table
loaded = {{name for name, module in sys.modules.items() if module is not None}}
print(*sorted({{"keras", "tensorflow", "jax", "openvino", "openvino_telemetry"}} & loaded))
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["openvino"]


def test_threads_make_the_first_inferences_of_a_process_at_once(duo_bundle: Path) -> None:
    code = f"""
import threading, time
import numpy as np
from napari_all_detect.bundle import load_bundle
from napari_all_detect.engines.openvino import OpenVinoEngine
threading.setprofile(lambda *_: time.sleep(0.001))  # lets another thread go on at each call of a function
print(*OpenVinoEngine(load_bundle({str(duo_bundle)!r})).predict(np.zeros((8, 40, 40, 3), np.uint8)).shape)
"""
    env = os.environ | {"ALL_DETECT_THREADS": "4"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["8", "2", "2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are never forked here")
def test_a_fork_of_a_process_that_computes_refuses_to(duo_bundle: Path) -> None:
    """It can find cells: that network runs on the thread that asks."""
    code = f"""
import multiprocessing
import numpy as np
from napari_all_detect.bundle import load_bundle, load_segmenter
from napari_all_detect.engines import open_mapper
from napari_all_detect.engines.openvino import OpenVinoEngine
from napari_all_detect.errors import AllDetectError

def compute(engine):
    print(*mapper.predict(np.zeros((64, 64, 3), np.uint8)).shape, flush=True)
    try:
        engine = engine or OpenVinoEngine(bundle)
        print(*engine.predict(np.zeros((2, 40, 40, 3), np.uint8)).shape, flush=True)
    except AllDetectError as error:
        print(error, flush=True)

bundle, mapper = load_bundle({str(duo_bundle)!r}), open_mapper(load_segmenter("cells"), "cpu", "openvino")
engine = OpenVinoEngine(bundle)
compute(engine)
for given in (engine, None):
    process = multiprocessing.get_context("fork").Process(target=compute, args=(given,), daemon=True)
    process.start()
    process.join(20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=True)
    (*own, maps, with_its_engine, maps_again, with_a_new_one) = done.stdout.splitlines()
    assert own == ["32 32 3", "2 2 2"]
    assert maps == maps_again == "32 32 3"
    assert with_its_engine == with_a_new_one
    assert "forked from one that had networks open in OpenVINO" in with_a_new_one
    assert "get_context('spawn')" in with_a_new_one


def test_networks_are_made_once(duo: Bundle, crops: Crops, no_export: None) -> None:
    open_engine(duo, OPENVINO).predict(crops[:1])


@pytest.mark.parametrize("damage", [b"", b"<net>"])
def test_damaged_files_are_made_anew(duo: Bundle, crops: Crops, damage: bytes) -> None:
    before = open_engine(duo, OPENVINO).predict(crops[:2])
    for suffix in ("xml", "bin"):
        file = networks_of(duo.digest) / f"mobilenet.{suffix}"
        file.unlink()
        file.write_bytes(damage)
        assert_array_equal(open_engine(duo, OPENVINO).predict(crops[:2]), before)


def test_one_process_makes_a_folder_and_the_others_wait(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(out: Path) -> None:
        made.append(out)
        (out / "network.xml").write_text("whole")

    folder = tmp_path / "deep/er/networks"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: made_once(folder, make), range(8)))
    assert len(made) == 1
    assert (folder / "network.xml").read_text() == "whole"
    assert not made[0].exists()


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def breaks_off(out: Path) -> None:
        (out / "network.xml").write_text("ha")
        raise AllDetectError("no more")

    folder = tmp_path / "networks"
    with pytest.raises(AllDetectError, match="no more"):
        made_once(folder, breaks_off)
    assert not folder.exists()
    made_once(folder, lambda out: None)
    assert folder.exists()


def test_a_cache_that_cannot_be_written_is_one_line(
    duo: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALL_DETECT_CACHE", str(tmp_path / "file"))
    with pytest.raises(BundleError, match="can't be written") as caught:
        open_engine(duo, OPENVINO)
    assert "\n" not in str(caught.value)
    assert "ALL_DETECT_CACHE" in str(caught.value)


@pytest.mark.parametrize(("python", "reason"), [("/bin/false", "exit status 1"), ("/no/python", "can't be started")])
def test_an_export_that_fails_says_why_in_one_line(
    duo: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str, reason: str
) -> None:
    monkeypatch.setenv("ALL_DETECT_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(AllDetectError, match=f"{reason}.*take --engine keras") as caught:
        read_networks("members", duo, ["vgg16"])
    assert "\n" not in str(caught.value)


def test_openvino_takes_no_gpu(duo: Bundle) -> None:
    with pytest.raises(ParameterError, match="engine keras for a GPU"):
        open_engine(duo, ScoreParams(engine="openvino", device="gpu"))


def test_without_openvino_keras_runs(duo: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_openvino", lambda: False)
    assert open_engine(duo, ScoreParams(device="cpu")).name.startswith("keras ")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'napari-all-detect\[openvino\]'") as caught:
        open_engine(duo, OPENVINO)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("gpu", "expected"), [(True, "keras"), (False, "openvino")])
def test_a_gpu_comes_first(duo: Bundle, monkeypatch: pytest.MonkeyPatch, gpu: bool, expected: str) -> None:
    monkeypatch.setattr(choice, "_has_gpu", lambda: gpu)
    assert open_engine(duo, ScoreParams()).name.startswith(expected)


def test_no_driver_means_no_gpu_and_no_keras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from napari_all_detect.engines import keras

    asked: list[Any] = []
    monkeypatch.setattr(keras, "choose_device", lambda device: asked.append(device) or "gpu")
    monkeypatch.setattr(choice, "DRIVERS", (str(tmp_path / "none"),))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not choice._has_gpu()
    assert not asked
    monkeypatch.setattr(choice, "DRIVERS", (str(tmp_path),))
    assert choice._has_gpu()
