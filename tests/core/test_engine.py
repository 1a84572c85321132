import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_all_detect.bundle import load_bundle
from napari_all_detect.engines import Engine, open_engine
from napari_all_detect.errors import BundleError, MissingDependencyError
from napari_all_detect.networks import build_network
from napari_all_detect.params import ScoreParams

BATCH = 4
Crops = NDArray[np.uint8]


ENGINES = ("keras", "openvino")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tiny_bundle: Path) -> Engine:
    return open_engine(load_bundle(tiny_bundle), on(request.param, batch_size=BATCH))


def on(engine: str, **others: Any) -> ScoreParams:
    return ScoreParams(engine=engine, device="cpu", **others)


@pytest.fixture(scope="module")
def crops(smear: Callable[..., NDArray[np.uint8]]) -> Crops:
    """Nine: cells of a drawn smear, then noise, all black and all white."""
    rgb = smear(7)
    cells = [rgb[y : y + 40, x : x + 40] for y, x in ((0, 0), (50, 20), (100, 100), (30, 120), (80, 60), (20, 60))]
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    return np.stack([*cells, noise, np.zeros_like(noise), np.full_like(noise, 255)])


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def change_members(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    facts = json.loads((folder / "bundle.json").read_text())
    for member in facts["members"]:
        change(member)
        member["sha256"] = hashlib.sha256((folder / member["weights_file"]).read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(facts))


def alone(folder: Path, member: Any, crops: Crops) -> NDArray[np.float64]:
    """Evaluate one member without the engine: Keras's own preprocessing, and the softmax in NumPy."""
    import keras

    module = "densenet" if member.architecture == "densenet121" else member.architecture
    network = build_network(member.architecture, member.input_size, member.cut)
    network.load_weights(folder / member.weights_file)
    size = (member.input_size, member.input_size)
    pixels = np.array(keras.ops.image.resize(crops.astype(np.float32), size, interpolation="bilinear"))
    scaled = getattr(keras.applications, module).preprocess_input(pixels)
    logits = network.predict_on_batch(scaled).astype(np.float64) / member.temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_each_member_says_what_it_says_alone(engine: Engine, tiny_bundle: Path, crops: Crops) -> None:
    members = load_bundle(tiny_bundle).manifest.members
    together = engine.predict(crops)
    assert together.shape == (9, 3, 2)
    assert together.dtype == np.float32
    for k, member in enumerate(members):
        np.testing.assert_allclose(together[:, k], alone(tiny_bundle, member, crops), atol=1e-5)
    assert together[..., 1].std(axis=1).max() > 0.05, "the members agree, so that a mix-up would not show"


def test_probabilities_sum_to_one(engine: Engine, crops: Crops) -> None:
    probabilities = engine.predict(crops)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(probabilities.sum(axis=2), 1, atol=1e-6)


@pytest.mark.parametrize("engine", ["keras"], indirect=True)
def test_temperature_divides_the_log_odds(engine: Engine, copied: Path, crops: Crops) -> None:
    before = [member.temperature for member in load_bundle(copied).manifest.members]
    change_members(copied, lambda member: member.update(temperature=4.0))
    cooler = open_engine(load_bundle(copied), on("keras")).predict(crops[:6])
    log_odds, cooler_log_odds = (np.log(p[..., 1] / p[..., 0]) for p in (engine.predict(crops[:6]), cooler))
    np.testing.assert_allclose(cooler_log_odds, log_odds * np.array(before) / 4.0, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n", [0, 1, 2, 3, BATCH, BATCH + 1, 9])
def test_a_cell_scores_the_same_whatever_its_batch(engine: Engine, crops: Crops, n: int) -> None:
    probabilities = engine.predict(crops[:n])
    assert probabilities.shape == (n, 3, 2)
    assert probabilities.dtype == np.float32
    # To the last bit: so tables do not depend on how a run is parted into batches.
    np.testing.assert_array_equal(probabilities, engine.predict(crops)[:n])
    np.testing.assert_array_equal(engine.predict(crops[::-1][:n]), engine.predict(crops)[::-1][:n])


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_batch_size_does_not_change_results(duo_bundle: Path, crops: Crops, batch_size: int) -> None:
    bundle = load_bundle(duo_bundle)
    two, other = (open_engine(bundle, on("keras", batch_size=n)) for n in (2, batch_size))
    np.testing.assert_array_equal(other.predict(crops), two.predict(crops))


def test_the_same_cells_give_the_same_bits(engine: Engine, crops: Crops) -> None:
    np.testing.assert_array_equal(engine.predict(crops), engine.predict(crops.copy()))


@pytest.mark.parametrize("members", [[0], [2], [1, 2], [2, 0], [0, 1, 2], []])
def test_members_say_the_same_whoever_is_asked_with_them(engine: Engine, crops: Crops, members: list[int]) -> None:
    asked = engine.predict(crops[:5], members=members)
    assert asked.shape == (5, len(members), 2)
    np.testing.assert_array_equal(asked, engine.predict(crops)[:5, members])


def test_crops_are_left_alone(engine: Engine, crops: Crops) -> None:
    before = crops.copy()
    engine.predict(crops)
    np.testing.assert_array_equal(crops, before)


@pytest.mark.parametrize(("n", "told"), [(0, []), (3, [3]), (4, [4]), (9, [4, 4, 1])])
def test_progress_counts_cells(engine: Engine, crops: Crops, n: int, told: list[int]) -> None:
    counts: list[int] = []
    engine.predict(crops[:n], counts.append)
    assert counts == (told if engine.name.startswith("keras") else [1] * n)


def test_threads_get_what_one_gets(engine: Engine, crops: Crops) -> None:
    parts = [crops[:5], crops[5:], crops[2:3], crops]
    one_by_one = [engine.predict(part) for part in parts]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            for given, expected in zip(pool.map(engine.predict, parts), one_by_one, strict=True):
                np.testing.assert_array_equal(given, expected)


def test_it_says_what_it_is(engine: Engine) -> None:
    import keras

    names = {f"keras {keras.__version__} on {keras.backend.backend()}", f"openvino {version('openvino')}"}
    assert engine.name in names
    assert engine.device == "cpu"


def swap_weights(folder: Path) -> str:
    shutil.copy(folder / "members/vgg16.weights.h5", folder / "members/mobilenet.weights.h5")
    return "mobilenet cut at conv_pw_2_relu"


def not_hdf5(folder: Path) -> str:
    (folder / "members/mobilenet.weights.h5").write_bytes(b"no weights\n" * 40)
    return "member mobilenet"


def cut_short(folder: Path) -> str:
    file = folder / "members/mobilenet.weights.h5"
    file.write_bytes(file.read_bytes()[:20_000])
    return "member mobilenet"


def empty_hdf5(folder: Path) -> str:
    import h5py

    with h5py.File(folder / "members/mobilenet.weights.h5", "w"):
        pass
    return "member mobilenet"


def without_a_layer(folder: Path) -> str:
    import h5py

    with h5py.File(folder / "members/mobilenet.weights.h5", "a") as file:
        del file["layers/conv2d"]
    return "member mobilenet"


def without_an_array(folder: Path) -> str:
    import h5py

    with h5py.File(folder / "members/mobilenet.weights.h5", "a") as file:
        del file["layers/conv2d/vars/0"]
    return "member mobilenet"


def of_another_shape(folder: Path) -> str:
    import h5py

    with h5py.File(folder / "members/mobilenet.weights.h5", "a") as file:
        values = file["layers/conv2d/vars/0"][()]
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars/0"] = values[..., :-1]
    return "member mobilenet"


DAMAGE = (
    swap_weights,
    not_hdf5,
    cut_short,
    empty_hdf5,
    without_a_layer,
    without_an_array,
    of_another_shape,
)


@pytest.mark.parametrize(("engine_name", "damage"), [*product(["keras"], DAMAGE), ("openvino", swap_weights)])
def test_weights_that_do_not_fit_are_refused_in_one_line(
    copied: Path, engine_name: str, damage: Callable[[Path], str]
) -> None:
    expected = damage(copied)
    change_members(copied, lambda member: None)  # only their digests
    bundle = load_bundle(copied)
    with pytest.raises(BundleError, match=expected) as caught:
        open_engine(bundle, on(engine_name))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("bundle tiny-0.1, member mobilenet: ")
    assert message.endswith("get the bundle again")


def test_a_cut_that_the_architecture_lacks_is_refused_in_one_line(copied: Path) -> None:
    change_members(copied, lambda member: member.update(cut="block77_pool"))
    with pytest.raises(BundleError, match="vgg16 has no layer 'block77_pool'") as caught:
        open_engine(load_bundle(copied), on("keras"))
    assert "\n" not in str(caught.value)


def test_a_gpu_that_is_not_there_is_refused(duo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: [])
    with pytest.raises(MissingDependencyError, match=r"pip install 'napari-all-detect\[gpu\]'") as caught:
        open_engine(load_bundle(duo_bundle), ScoreParams(device="gpu"))
    assert "\n" not in str(caught.value)
    assert open_engine(load_bundle(duo_bundle), ScoreParams(engine="keras", device="auto")).device == "cpu"
