from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from napari_all_detect.bundle import load_bundle
from napari_all_detect.engines.keras import load_member
from napari_all_detect.errors import InputError
from napari_all_detect.explain import grad_cam
from napari_all_detect.networks import preprocess

SIZE = 40
WEIGHTS = [0.9, 0.2, 0.5]
Crops = NDArray[np.uint8]


@pytest.fixture(scope="module")
def crops() -> Crops:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


def by_gradient(bundle: Any, member: Any, crops: Crops) -> NDArray[np.float64]:
    """Grad-CAM as published: the mean of the gradient that TensorFlow computes weighs each channel."""
    import keras
    import tensorflow as tf

    network = load_member(bundle, member)
    features = keras.Model(network.input, network.get_layer("pool").input)(
        preprocess(crops, member.input_size, member.preprocessing)
    )
    with tf.GradientTape() as tape:
        tape.watch(features)
        logits = network.get_layer("logits")(network.get_layer("pool")(features))
        odds = tf.reduce_sum(tf.math.log(tf.nn.softmax(logits)) @ [[-1.0], [1.0]])
    alpha = tf.reduce_mean(tape.gradient(odds, features), axis=(1, 2))
    heat = tf.nn.relu(tf.einsum("nyxc,nc->nyx", features, alpha))[..., None]
    large = np.asarray(tf.image.resize(heat, (SIZE, SIZE)))[..., 0].astype(np.float64)
    return np.asarray(large / large.max(axis=(1, 2), keepdims=True).clip(1e-30))


def test_each_members_map_is_that_of_the_computed_gradient(tiny_bundle: Path, crops: Crops) -> None:
    bundle = load_bundle(tiny_bundle)
    maps = grad_cam(bundle, crops, WEIGHTS, device="cpu")
    assert maps.members.shape == (3, 3, SIZE, SIZE)
    assert maps.members.dtype == maps.ensemble.dtype == np.float32
    for k, member in enumerate(bundle.manifest.members):
        assert_allclose(maps.members[:, k], by_gradient(bundle, member, crops), atol=1e-4)


def test_the_ensembles_map_is_the_weighted_sum(tiny_bundle: Path, crops: Crops) -> None:
    bundle = load_bundle(tiny_bundle)
    maps = grad_cam(bundle, crops, WEIGHTS)
    total = sum(w * maps.members[:, k] for k, w in enumerate(WEIGHTS))
    assert_allclose(maps.ensemble, total / total.max(axis=(1, 2), keepdims=True), atol=1e-6)
    assert_array_equal(maps.ensemble.max(axis=(1, 2)), 1)
    scaled = grad_cam(bundle, crops, np.multiply(WEIGHTS, 40))
    assert_allclose(scaled.ensemble, maps.ensemble, atol=1e-6)
    alone = grad_cam(bundle, crops, [0, 1, 0])
    assert_allclose(alone.ensemble, maps.members[:, 1], atol=1e-6)


def test_a_cell_without_evidence_for_all_has_a_map_of_zeros(tmp_path: Path, make_bundle: Any) -> None:
    import hashlib
    import json

    import h5py

    folder = make_bundle(tmp_path / "none")
    facts = json.loads((folder / "bundle.json").read_text())
    for member in facts["members"]:
        path = folder / member["weights_file"]
        with h5py.File(path, "a") as file:
            file["layers/dense/vars/0"][:, 1] = file["layers/dense/vars/0"][:, 0]
        member["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(facts))
    maps = grad_cam(load_bundle(folder), np.full((1, SIZE, SIZE, 3), 128, np.uint8), WEIGHTS)
    assert not maps.members.any()
    assert not maps.ensemble.any()


def test_no_crops(tiny_bundle: Path) -> None:
    maps = grad_cam(load_bundle(tiny_bundle), np.zeros((0, SIZE, SIZE, 3), np.uint8), WEIGHTS)
    assert maps.members.shape == (0, 3, SIZE, SIZE)
    assert maps.ensemble.shape == (0, SIZE, SIZE)


def test_what_does_not_fit_the_bundle_is_refused(tiny_bundle: Path, crops: Crops) -> None:
    bundle = load_bundle(tiny_bundle)
    with pytest.raises(InputError, match=r"bundle tiny-0.1 takes \(40, 40, 3\)"):
        grad_cam(bundle, crops[:, :39], WEIGHTS)
    with pytest.raises(InputError, match="2 weights; expected one for each of 3 members"):
        grad_cam(bundle, crops, WEIGHTS[:2])
    with pytest.raises(InputError, match="crops are float64; expected uint8"):
        grad_cam(bundle, np.full(crops.shape, np.nan), WEIGHTS)  # type: ignore[arg-type]
    for odd in (np.nan, np.inf, -0.1):
        with pytest.raises(InputError, match=r"weights are \[0\.9, 0\.2, .*\]; expected numbers from 0 on"):
            grad_cam(bundle, crops, [*WEIGHTS[:2], odd])
