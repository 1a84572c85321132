import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_all_detect._napari.planes import is_smear, layer_planes, pixel_size_um, spatial_shape
from napari_all_detect.errors import InputError

RGB = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)


def test_rgb_stack_multiscale_and_channels_first_give_the_same_pixels():
    flat = Image(RGB[0], rgb=True, name="smear")
    layers = [
        (flat, 0),
        (Image(RGB, rgb=True, name="smear"), 0),
        (Image([RGB[0], RGB[0, ::2, ::2]], multiscale=True, rgb=True, name="smear"), 0),
        (Image(np.moveaxis(RGB[0], -1, 0), name="smear"), 0),
    ]
    for layer, k in layers:
        given = layer_planes(layer)[k].read()
        np.testing.assert_array_equal(given.pixels.rgb, RGB[0])
        assert (given.image, given.pixel_size_um) == ("smear", None)
        assert spatial_shape(layer)[-2:] == (4, 6)


def test_planes_of_a_stack_have_names_and_their_own_labels():
    labels = Labels(np.arange(2 * 4 * 6).reshape(2, 4, 6))
    planes = layer_planes(Image(RGB, rgb=True), labels)
    assert [plane.plane for plane in planes] == ["p0", "p1"]
    np.testing.assert_array_equal(planes[1].read().labels, labels.data[1])
    (one,) = layer_planes(Image(RGB, rgb=True), labels, at=(1,))
    np.testing.assert_array_equal(one.read().pixels.rgb, RGB[1])
    assert one.plane == "p1"


def test_the_pixel_size_is_that_of_the_scale_if_it_is_believable():
    def size(scale, units):
        return pixel_size_um(Image(RGB[0], rgb=True, scale=scale, units=units))

    assert size((0.25, 0.25), ("um", "um")) == pytest.approx(0.25)
    assert size((250, 250), ("nm", "nm")) == pytest.approx(0.25)
    assert size((1, 1), ("pixel", "pixel")) is None
    assert size((0.25, 0.5), ("um", "um")) is None
    assert size((300, 300), ("um", "um")) is None


@pytest.mark.parametrize("shape", [(4, 6), (5, 4, 6), (2, 3, 4, 6)])
def test_grey_layers_are_refused_with_a_way_out(shape):
    layer = Image(np.zeros(shape, np.uint8), name="grey")
    assert not is_smear(layer)
    with pytest.raises(InputError, match=r"'grey' is grey.*Merge to RGB"):
        layer_planes(layer)


def test_labels_of_another_image_are_refused():
    with pytest.raises(InputError, match=r"'others' have the shape \(4, 7\).*has \(4, 6\)"):
        layer_planes(Image(RGB[0], rgb=True), Labels(np.zeros((4, 7), int), name="others"))
