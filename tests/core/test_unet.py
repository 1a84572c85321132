"""The network of the segmenter, as trained and as engines run it."""

import numpy as np
import pytest

from napari_all_detect.unet import EMPTY_FIELD, build_unet, multiple_of, split_unet

keras = pytest.importorskip("keras")


@pytest.mark.parametrize("shape", [(8, 8), (16, 40), (64, 24)])
@pytest.mark.parametrize("widths", [(4, 6, 8), (3, 5)])
def test_a_split_network_computes_the_same_to_the_border(widths: tuple[int, ...], shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    network = build_unet(widths)
    # Means and variances, too, as if it had been trained.
    network.set_weights([rng.uniform(0.2, 1.5, w.shape) * rng.choice([1, -1], w.shape) for w in network.get_weights()])
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta, mean, abs(variance)])
    light = rng.integers(0, 256, (2, *shape, 3), np.uint8)
    assert not any(n % multiple_of(widths) for n in shape)
    wanted = network.predict(light / np.float32(EMPTY_FIELD), verbose=0)
    found = split_unet(network, widths).predict(light, verbose=0)
    assert wanted.std() > 0
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_only_kernels_for_doubled_maps_grow() -> None:
    network = build_unet((4, 6))
    split = split_unet(network, (4, 6))
    # 4 feature maps rise, in kernels of 4 x 4 instead of 3 x 3.
    assert split.count_params() - network.count_params() == (4 * 4 - 3 * 3) * 4 * 4
