"""What is OpenVINO's own; what it shares with Keras is in `test_engine.py`."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from napari_all_detect.bundle import Bundle, load_bundle, load_segmenter
from napari_all_detect.engines import (
    choice,
    choose,
    open_engine,
    open_mapper,
    openvino_cache,
    openvino_runtime,
    openvino_unet,
)
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
    process.join(60)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    (*own, maps, with_its_engine, maps_again, with_a_new_one) = done.stdout.splitlines()
    assert own == ["32 32 3", "2 2 2"]
    assert maps == maps_again == "32 32 3"
    assert with_its_engine == with_a_new_one
    assert "forked from one that had networks open in OpenVINO" in with_a_new_one
    assert "get_context('spawn')" in with_a_new_one


def test_networks_are_made_once(duo: Bundle, crops: Crops, no_export: None) -> None:
    open_engine(duo, OPENVINO).predict(crops[:1])


def one_bit_off(data: bytes) -> bytes:
    """Return the same with another sign of the last number."""
    return bytes([*data[:-1], data[-1] ^ 0x80])


@pytest.mark.parametrize("suffixes", [("xml",), ("bin",), ("xml", "bin")], ids="+".join)
@pytest.mark.parametrize("damage", ["nothing", "no network", "one bit", "another member's"])
def test_damaged_files_are_made_anew(
    duo: Bundle, crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffixes: tuple[str, ...], damage: str
) -> None:
    before, folder = open_engine(duo, OPENVINO).predict(crops[:2]), networks_of(duo.digest)
    sound = shutil.copytree(folder, tmp_path / "sound")
    monkeypatch.setattr(openvino_cache, "_export", lambda *to: shutil.copytree(sound, to[-1], dirs_exist_ok=True))
    for suffix in suffixes:
        file, other = (folder / f"{name}.{suffix}" for name in ("mobilenet", "vgg16"))
        instead = {"nothing": b"", "no network": b"<net>", "one bit": one_bit_off(file.read_bytes())}
        file.unlink()
        file.write_bytes(instead.get(damage, other.read_bytes()))
    assert_array_equal(open_engine(duo, OPENVINO).predict(crops[:2]), before)


@pytest.mark.parametrize("theirs", [{"floatx": "float16", "epsilon": 1e-3}, {"image_data_format": "channels_first"}])
def test_the_users_own_settings_of_keras_make_no_other_networks(
    duo: Bundle, crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: dict[str, object]
) -> None:
    before = open_engine(duo, OPENVINO).predict(crops[:2])
    (tmp_path / "keras.json").write_text(json.dumps(theirs), encoding="utf-8")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("ALL_DETECT_CACHE", str(tmp_path / "cache"))
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


def test_files_are_on_disk_before_they_have_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, synced = tmp_path / "networks", list[tuple[int, bool]]()
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((os.fstat(file).st_size, folder.exists())))
    made_once(folder, lambda out: (out / "network.xml").write_bytes(b"whole"))
    assert len(synced) == 2, "the network, and the digests"
    assert (5, False) in synced


def test_a_file_in_the_place_of_networks_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "networks").write_text("")
    with pytest.raises(BundleError, match=r"Not a directory.*set ALL_DETECT_CACHE") as caught:
        made_once(tmp_path / "networks", lambda out: None)
    assert "\n" not in str(caught.value)


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
    assert str(caught.value).endswith(
        "set ALL_DETECT_CACHE to a folder that you may read and write, or take engine keras"
    )


@pytest.mark.parametrize(("python", "reason"), [("/bin/false", "exit status 1"), ("/no/python", "can't be started")])
def test_an_export_that_fails_says_why_in_one_line(
    duo: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str, reason: str
) -> None:
    monkeypatch.setenv("ALL_DETECT_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(AllDetectError, match=f"{reason}.*disk of {tmp_path}/networks is full.*engine keras") as caught:
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


def test_a_keras_that_cannot_make_networks_over_runs_them(
    duo: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (demanded,) = (one for one in requires("napari-all-detect") or [] if "keras" in one and "openvino" in one)
    assert demanded.startswith("keras>={}.{};".format(*openvino_runtime.KERAS))
    monkeypatch.setattr(openvino_runtime, "version", lambda name: "3.9.2")
    assert choose(duo, ScoreParams(device="cpu")).engine == "keras"
    monkeypatch.setenv("ALL_DETECT_CACHE", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"Keras 3\.9\.2 .* pip install 'napari-all-detect\[openvino\]'"):
        open_engine(duo, OPENVINO)
    monkeypatch.setattr(openvino_runtime, "version", lambda name: "4.0.0.dev2027")
    assert choose(duo, ScoreParams(device="cpu")).engine == "openvino"


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
