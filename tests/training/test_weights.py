import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from all_detect_training.weights import LARGEST_HALF, round_to_half, save_half_precision
from napari_all_detect.errors import InputError


def network(seed: int = 0) -> Any:
    import keras

    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(pixels)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(pixels, x)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.random(w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def test_what_is_saved_is_read_back_as_half_precision_holds_it(tmp_path: Path) -> None:
    saved, read = network(), network(seed=1)
    save_half_precision(saved, tmp_path / "m.weights.h5")
    read.load_weights(tmp_path / "m.weights.h5")
    for before, after in zip(saved.get_weights(), read.get_weights(), strict=True):
        assert after.dtype == np.float32
        np.testing.assert_array_equal(after, before.astype(np.float16).astype(np.float32))
        assert (after != before).any()
    assert [p.name for p in tmp_path.iterdir()] == ["m.weights.h5"]


def test_rounded_weights_lose_nothing_on_disk(tmp_path: Path) -> None:
    saved, read = network(), network(seed=1)
    round_to_half(saved)
    save_half_precision(saved, tmp_path / "m.weights.h5")
    read.load_weights(tmp_path / "m.weights.h5")
    for before, after in zip(saved.get_weights(), read.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)


def test_every_array_on_disk_is_half_precision(tmp_path: Path) -> None:
    save_half_precision(network(), tmp_path / "m.weights.h5")
    found: list[Any] = []
    with h5py.File(tmp_path / "m.weights.h5") as file:
        file.visititems(lambda _, item: found.append(item.dtype) if isinstance(item, h5py.Dataset) else None)
    assert len(found) == 8
    assert set(found) == {np.dtype(np.float16)}


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    one, same, other = tmp_path / "1.weights.h5", tmp_path / "2.weights.h5", tmp_path / "3.weights.h5"
    save_half_precision(network(), one)
    time.sleep(1.1)  # HDF5's time stamps count seconds
    save_half_precision(network(), same)
    save_half_precision(network(seed=1), other)
    assert one.read_bytes() == same.read_bytes()
    assert one.read_bytes() != other.read_bytes()


@pytest.mark.parametrize("value", [1e5, -1e5])
def test_a_weight_that_half_precision_cannot_hold_is_refused(tmp_path: Path, value: float) -> None:
    model = network()
    weights = model.get_weights()
    weights[0][0, 0, 0, 0] = value
    model.set_weights(weights)
    with pytest.raises(InputError, match="100000 does not fit half precision"):
        round_to_half(model)
    with pytest.raises(InputError, match="does not fit"):
        save_half_precision(model, tmp_path / "m.weights.h5")


def test_the_largest_half_is_not_refused() -> None:
    model = network()
    model.set_weights([np.full_like(w, LARGEST_HALF) for w in model.get_weights()])
    round_to_half(model)
    assert model.get_weights()[0].max() == LARGEST_HALF
