"""Which image cells are of, whatever becomes of its layer."""

from copy import deepcopy

import dask.array
import numpy as np
import pytest
from napari.layers import Image, Points
from napari.layers._layer_actions import _duplicate_layer

from napari_all_detect._napari.layers.origins import Origin, identified

RGB = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
BRIGHT = RGB // 2 + 120


@pytest.fixture
def duplicated(viewer):
    """Return an image of which cells are known, its origin, and its duplicate."""
    image = viewer.add_image(RGB.copy())
    origin = Origin.of(image)
    viewer.layers.selection = {image}
    _duplicate_layer(viewer.layers)
    (copy,) = (layer for layer in viewer.layers if layer is not image)
    return image, origin, copy


def test_a_duplicate_is_the_same_image_even_after_the_first_is_gone(viewer, duplicated):
    image, origin, copy = duplicated
    assert origin.is_of(image)
    assert origin.is_of(copy)
    assert Origin.of(copy).identity == origin.identity
    viewer.layers.remove(image)  # the copy was compared before
    image.data = BRIGHT
    assert origin.is_of(copy)


@pytest.mark.parametrize("seen", [False, True])
def test_a_duplicate_that_got_other_pixels_is_another_image(duplicated, seen):
    image, origin, copy = duplicated
    assert not seen or origin.is_of(copy)
    copy.data = BRIGHT
    assert not origin.is_of(copy)
    other = Origin.of(copy)
    assert other.is_of(copy)
    assert not other.is_of(image)
    assert origin.is_of(image)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_layer_that_got_other_pixels_is_another_image_until_it_gets_its_own_back(levels):
    def smear(rgb):
        return [rgb, rgb[::2, ::2]] if levels == 2 else rgb

    image = Image(smear(RGB), rgb=True, multiscale=levels == 2)
    origin = Origin.of(image)
    image.data = smear(BRIGHT)
    assert not origin.is_of(image)
    image.data = smear(RGB)
    assert origin.is_of(image)
    image.data = smear(BRIGHT)
    assert Origin.of(image).identity != origin.identity


def test_an_image_that_a_reader_has_made_is_known_by_its_pixels():
    image = Image(RGB, metadata=identified("read", RGB))
    origin = Origin("read", "smear")
    assert origin.is_of(image)
    image.data = BRIGHT
    assert not origin.is_of(image)


def test_of_lazy_pixels_nothing_is_computed(monkeypatch):
    lazy = dask.array.from_array(RGB, chunks=-1)
    image = Image(lazy, rgb=True)
    origin = Origin.of(image)
    copies = [Image(deepcopy(pixels), rgb=True, metadata=image.metadata) for pixels in (lazy, lazy + 1, RGB)]
    monkeypatch.setattr(dask.array.Array, "compute", None)
    assert [origin.is_of(one) for one in (image, *copies)] == [True, True, False, False]


def test_an_image_is_told_from_what_its_layer_holds_now():
    image = Image(RGB, name="smear")
    origin = Origin.of(image)
    assert origin.name_beside(Image(BRIGHT, name="other")) == "'smear'"
    image.data = BRIGHT
    assert origin.name_beside(image) == "'smear' as it was before"


def test_layers_that_hold_no_pixels_are_no_image():
    assert not Origin.of(Image(RGB)).is_of(Points([[1, 2]]))
