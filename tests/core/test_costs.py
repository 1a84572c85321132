from collections.abc import Callable

import pytest

from napari_all_detect import costs
from napari_all_detect.bundle import load_bundle
from napari_all_detect.costs import GFLOP, REFERENCE_PX, count_gflop, member_gflop
from napari_all_detect.networks import ARCHITECTURES, build_network


@pytest.mark.parametrize(("architecture", "cut"), [key for key in GFLOP if key[0] != "inception_resnet_v2"])
def test_the_table_says_what_is_counted(architecture: str, cut: str | None) -> None:
    counted = count_gflop(build_network(architecture, REFERENCE_PX, cut))
    assert member_gflop(architecture, cut, REFERENCE_PX) == pytest.approx(counted, rel=1e-3)


def test_a_layer_by_hand() -> None:
    """VGG-16's first convolution: 3 x 3 pixels of 3 channels, 64 times, for each of 32 x 32 pixels; then two logits."""
    network = build_network("vgg16", 32, "block1_conv1")
    assert count_gflop(network) == pytest.approx(2 * (3 * 3 * 3 * 64 * 32 * 32 + 64 * 2) / 1e9)


def test_other_cuts_are_counted_and_sizes_scaled() -> None:
    assert ("mobilenet", "conv_pw_2_relu") not in GFLOP
    whole, cut = member_gflop("mobilenet", None, 150), member_gflop("mobilenet", "conv_pw_2_relu", 150)
    assert 0 < cut < whole
    counted = count_gflop(build_network("mobilenet", 150, "conv_pw_2_relu"))
    assert cut == pytest.approx(counted, rel=0.05)


def test_the_users_keras_settings_change_no_count(
    users_keras: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "_counted", costs._counted.__wrapped__)
    before = member_gflop("mobilenet", "conv_pw_2_relu", REFERENCE_PX)
    users_keras()
    assert member_gflop("mobilenet", "conv_pw_2_relu", REFERENCE_PX) == before


def test_what_everybody_scores_with_is_known_without_building_it() -> None:
    assert {name for name, cut in GFLOP if cut is None} == set(ARCHITECTURES)
    assert {(m.architecture, m.cut) for m in load_bundle("lite").manifest.members} <= set(GFLOP)
