"""What is the Keras engine's own: batches that fit, and JAX, which has a process of its own here."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from napari_all_detect import explain
from napari_all_detect.bundle import Bundle, load_bundle, load_segmenter
from napari_all_detect.engines.keras import KerasEngine, cells_at_once
from napari_all_detect.engines.keras_program import ran_out_of_memory
from napari_all_detect.engines.keras_unet import KerasMapper
from napari_all_detect.errors import AllDetectError

Crops = NDArray[np.uint8]


@pytest.fixture(scope="module")
def duo(duo_bundle: Path) -> Bundle:
    return load_bundle(duo_bundle)


@pytest.fixture(scope="module")
def engine(duo: Bundle) -> KerasEngine:
    return KerasEngine(duo, "cpu")


@pytest.fixture
def crops() -> Crops:
    return np.random.default_rng(0).integers(0, 256, (21, 40, 40, 3), np.uint8)


def test_the_users_own_settings_of_keras_change_no_bit(
    duo: Bundle, crops: Crops, users_keras: Callable[[], None]
) -> None:
    light = crops[:1, :32, :32].repeat(2, axis=1)[0]
    cells = load_segmenter("cells")

    def predicted() -> list[NDArray[Any]]:
        explain._graph.cache_clear()
        votes, maps = KerasEngine(duo, "cpu").predict(crops), KerasMapper(cells, "cpu").predict(light)
        return [votes, maps, explain._maps(duo, crops[:2], "cpu")]

    expected = predicted()
    users_keras()
    for now, before in zip(predicted(), expected, strict=True):
        assert_array_equal(now, before)


class Small:
    """A device that holds so many cells: as a backend does, it fails while it runs, or not until it is waited for."""

    def __init__(self, program: Any, most: int, late: bool, message: str) -> None:
        self.program, self.most, self.late, self.message = program, most, late, message

    def __call__(self, crops: Any, asked: Sequence[int]) -> Any:
        if len(crops) <= self.most:
            return self.program(crops, asked)
        if self.late:
            return [self for _ in asked]
        raise RuntimeError(self.message)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError(self.message)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("message", ["RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes", "CUDA out of memory."])
def test_less_memory_makes_smaller_batches_of_the_same_results(
    engine: KerasEngine, crops: Crops, monkeypatch: pytest.MonkeyPatch, late: bool, message: str
) -> None:
    expected = engine.predict(crops)
    monkeypatch.setattr(engine, "_program", Small(engine._program, 5, late, message))
    monkeypatch.setattr(engine, "batch_size", 16)
    told: list[int] = []
    assert_array_equal(engine.predict(crops, told.append), expected)
    assert engine.batch_size == 4
    assert sum(told) == len(crops)


def test_no_memory_at_all_is_one_line(engine: KerasEngine, crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_program", Small(None, 0, False, "RESOURCE_EXHAUSTED"))
    monkeypatch.setattr(engine, "batch_size", 16)
    with pytest.raises(AllDetectError, match="the cpu has no memory for 2 cells at once; take --device cpu") as caught:
        engine.predict(crops)
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    engine: KerasEngine, crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_program", Small(None, 0, False, "INVALID_ARGUMENT: what is that?"))
    with pytest.raises(RuntimeError, match="what is that"):
        engine.predict(crops)


def test_a_real_lack_of_memory_is_known() -> None:
    import keras

    with pytest.raises(Exception, match=r"OOM|memory") as caught:
        keras.ops.ones((10**7, 10**7))
    assert ran_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("Compute received an exception:Status:1, message: could not create a memory object."), True),
        (RuntimeError("Operation received an exception:Status: 1, message: could not create a primitive"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("Compute received an exception:Status:3, message: could not create a primitive"), False),
    ],
)
def test_what_backends_say_of_a_lack_of_memory(error: Exception, expected: bool) -> None:
    assert ran_out_of_memory(error) == expected


def test_a_batch_is_as_large_as_its_maps_allow(duo: Bundle) -> None:
    def with_input(size: int) -> Bundle:
        members = tuple(member.model_copy(update={"input_size": size}) for member in duo.manifest.members)
        return Bundle(duo.manifest.model_copy(update={"members": members}), duo.folder, duo.digest)

    assert [cells_at_once(with_input(size), "cpu") for size in (32, 96, 300, 1024)] == [32, 32, 8, 2]
    assert [cells_at_once(with_input(size), "gpu") for size in (32, 96, 300, 1024)] == [512, 512, 128, 16]


def test_bf16_is_near_fp32_and_leaves_no_trace(engine: KerasEngine, duo: Bundle, crops: Crops) -> None:
    import keras

    before = keras.config.dtype_policy().name
    lesser = KerasEngine(duo, "cpu", precision="bf16")
    assert keras.config.dtype_policy().name == before
    change = np.abs(lesser.predict(crops) - engine.predict(crops))
    assert 0 < change.max() < 0.05
    assert_array_equal(lesser.predict(crops[3:4]), lesser.predict(crops)[3:4])
    mixed = KerasEngine(duo, "cpu", precision="bf16,fp32").predict(crops)
    assert_array_equal(mixed, np.stack([lesser.predict(crops)[:, 0], engine.predict(crops)[:, 1]], axis=1))


def test_jax_scores_as_tensorflow_does(engine: KerasEngine, duo: Bundle, crops: Crops, tmp_path: Path) -> None:
    code = f"""
import sys
import numpy as np
from napari_all_detect.bundle import load_bundle
from napari_all_detect.engines.keras import KerasEngine
crops = np.random.default_rng(0).integers(0, 256, (21, 40, 40, 3), np.uint8)
for precision in ("fp32", "bf16"):
    engine = KerasEngine(load_bundle({str(duo.folder)!r}), "cpu", 8, precision)
    assert "jax" in engine.name
    told, runs, program = [], [], engine._program
    engine._program = lambda cells, asked: runs.append((cells.shape, len(asked))) or program(cells, asked)
    votes = engine.predict(crops, told.append)
    # Both members in one program.
    assert runs == 3 * [((8, 40, 40, 3), 2)], runs
    assert told == [8, 8, 5], told
    np.save(rf"{tmp_path}/{{precision}}.npy", votes)
    # A cell's bits depend neither on its batch nor on who else is asked.
    assert (engine.predict(crops[5:7]) == votes[5:7]).all()
    assert (engine.predict(crops[20:]) == votes[20:]).all()
    assert (engine.predict(crops, members=[1])[:, 0] == votes[:, 1]).all()
    assert {{shape for shape, _ in runs}} == {{(8, 40, 40, 3)}}, runs
mixed = KerasEngine(load_bundle({str(duo.folder)!r}), "cpu", 8, "fp32,bf16").predict(crops)
assert (mixed[:, 1] == votes[:, 1]).all()
assert (mixed[:, 0] == np.load(r"{tmp_path}/fp32.npy")[:, 0]).all()
"""
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    expected = engine.predict(crops)
    np.testing.assert_allclose(np.load(tmp_path / "fp32.npy"), expected, atol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "bf16.npy"), expected, atol=0.05)
    assert (np.load(tmp_path / "bf16.npy") != np.load(tmp_path / "fp32.npy")).any()


@pytest.mark.parametrize(("backend", "reason"), [("bogus", "bogus"), ("tensorflow", "No module named 'tensorflow'")])
def test_a_backend_that_can_not_start_is_told_in_one_line(backend: str, reason: str, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from napari_all_detect.cli import main\n"
        f"sys.exit(main(['score', 'none.png', '--engine', 'keras', '--out', {str(tmp_path / 'out')!r}]))"
    )
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith(f"all-detect: Keras can't start on {backend} (")
    assert "KERAS_BACKEND to tensorflow, jax or torch, or take --engine openvino" in said
    assert "Traceback" not in done.stderr
