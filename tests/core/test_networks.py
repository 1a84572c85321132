from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from all_detect_training.weights import save_half_precision
from napari_all_detect.networks import ARCHITECTURES, build_network, preprocess

# architecture, cut, width of the features that are pooled there
BUILT = [
    ("vgg16", "block1_pool", 64),
    ("vgg16", None, 512),
    ("xception", "block4_sepconv2_bn", 728),
    ("mobilenet", "conv_pw_6_relu", 512),
    ("mobilenet", None, 1024),
    ("inception_resnet_v2", "mixed_5b", 320),
    ("densenet121", "pool3_pool", 256),
]
MODULES = {
    "vgg16": "vgg16",
    "xception": "xception",
    "mobilenet": "mobilenet",
    "inception_resnet_v2": "inception_resnet_v2",
    "densenet121": "densenet",
}


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (2, 32, 32, 3), np.uint8)


def test_every_architecture_is_built_here() -> None:
    assert {name for name, _, _ in BUILT} == set(ARCHITECTURES) == set(MODULES)


@pytest.mark.parametrize(("architecture", "cut", "width"), BUILT)
def test_pixels_to_two_logits_from_the_layer_named(architecture: str, cut: str | None, width: int) -> None:
    size = ARCHITECTURES[architecture].least_size
    network = build_network(architecture, size, cut)
    assert network.name == architecture
    assert network.input_shape == (None, size, size, 3)
    assert network.output_shape == (None, 2)
    assert network.get_layer("pool").output.shape == (None, width)
    named = {layer.name for layer in network.layers}
    assert cut is None or cut in named
    logits = network.get_layer("logits")
    logits.set_weights([np.zeros((width, 2)), np.array([3.0, -5.0])])
    out = network.predict_on_batch(np.zeros((1, size, size, 3), np.float32))
    np.testing.assert_array_equal(out, np.float32([[3, -5]]))


def test_a_cut_leaves_out_what_comes_after() -> None:
    cut = build_network("vgg16", 32, "block2_pool")
    assert [layer.name for layer in cut.layers][-4:] == ["block2_pool", "pool", "dropout", "logits"]


def test_the_pooled_features_are_those_of_the_layer(pixels: NDArray[np.uint8]) -> None:
    import keras

    network = build_network("vgg16", 32, "block1_pool")
    features = keras.Model(network.input, network.get_layer("block1_pool").output).predict_on_batch(pixels)
    kernel, bias = network.get_layer("logits").get_weights()
    expected = features.mean(axis=(1, 2)) @ kernel + bias
    np.testing.assert_allclose(network.predict_on_batch(pixels), expected, rtol=1e-4, atol=1e-4)


def test_dropout_acts_in_training_only(pixels: NDArray[np.uint8]) -> None:
    network = build_network("vgg16", 32, "block1_pool", dropout=0.9)
    assert network.get_layer("dropout").rate == 0.9
    images = pixels.astype(np.float32)
    one, same = (np.asarray(network(images, training=False)) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, np.asarray(network(images, training=True)))


def test_a_layer_that_it_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="vgg16 has no layer 'block9_pool' to cut at"):
        build_network("vgg16", 32, "block9_pool")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_input_that_it_cannot_take_is_refused(architecture: str) -> None:
    least = ARCHITECTURES[architecture].least_size
    with pytest.raises(ValueError, match=rf"{architecture} takes inputs of at least {least} px; got {least - 1}"):
        build_network(architecture, least - 1)


def test_the_trunk_takes_weights_from_a_file(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    import keras

    trunk = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3))
    trunk.save_weights(tmp_path / "trunk.weights.h5")
    network = build_network("mobilenet", 32, "conv_pw_2_relu", weights=tmp_path / "trunk.weights.h5")
    other = build_network("mobilenet", 32, "conv_pw_2_relu")
    kernel = trunk.get_layer("conv_pw_1").get_weights()[0]
    np.testing.assert_array_equal(network.get_layer("conv_pw_1").get_weights()[0], kernel)
    assert (other.get_layer("conv_pw_1").get_weights()[0] != kernel).any()


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weights"):
        build_network("vgg16", 32, weights=tmp_path / "none.weights.h5")


@pytest.mark.parametrize("architecture", MODULES)
def test_pixels_are_scaled_as_the_imagenet_weights_expect(architecture: str, pixels: NDArray[np.uint8]) -> None:
    import keras

    module = getattr(keras.applications, MODULES[architecture])
    expected = module.preprocess_input(pixels.astype(np.float32))
    given = preprocess(pixels, 32, ARCHITECTURES[architecture].preprocessing)
    np.testing.assert_allclose(np.asarray(given), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("tf", [10 / 127.5 - 1, 20 / 127.5 - 1, 250 / 127.5 - 1]),
        ("caffe", [250 - 103.939, 20 - 116.779, 10 - 123.68]),
        ("torch", [(10 / 255 - 0.485) / 0.229, (20 / 255 - 0.456) / 0.224, (250 / 255 - 0.406) / 0.225]),
    ],
)
def test_one_pixel_by_hand(mode: Any, expected: list[float]) -> None:
    pixel = np.full((1, 4, 4, 3), (10, 20, 250), np.uint8)
    out = np.asarray(preprocess(pixel, 8, mode))
    assert out.shape == (1, 8, 8, 3)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, np.broadcast_to(np.float32(expected), out.shape), atol=1e-4)


def test_halving_takes_the_mean_of_four_pixels(pixels: NDArray[np.uint8]) -> None:
    out = np.asarray(preprocess(pixels, 16, "tf"))
    means = pixels.reshape(2, 16, 2, 16, 2, 3).astype(np.float64).mean(axis=(2, 4))
    np.testing.assert_allclose(out, means / 127.5 - 1, atol=1e-5)


def test_preprocessing_leaves_its_input_alone(pixels: NDArray[np.uint8]) -> None:
    before = pixels.astype(np.float32)
    given = before.copy()
    preprocess(given, 32, "caffe")
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize(("architecture", "cut"), [("vgg16", "block2_pool"), ("mobilenet", "conv_pw_2_relu")])
def test_half_precision_on_disk_is_read_back(architecture: str, cut: str, tmp_path: Path) -> None:
    saved, read = (build_network(architecture, 32, cut) for _ in range(2))
    save_half_precision(saved, tmp_path / "m.weights.h5")
    read.load_weights(tmp_path / "m.weights.h5")
    assert len(saved.get_weights()) == len(read.get_weights()) > 4
    for before, after in zip(saved.get_weights(), read.get_weights(), strict=True):
        assert after.dtype == np.float32
        np.testing.assert_array_equal(after, before.astype(np.float16).astype(np.float32))
    n_bytes = 2 * saved.count_params()
    assert n_bytes < (tmp_path / "m.weights.h5").stat().st_size < n_bytes + 200_000
