import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Image, Labels
from napari.layers._source import layer_source
from napari_builtins.io import napari_get_reader
from PIL import Image as Picture

from napari_all_detect import draw_smear
from napari_all_detect._napari.layers import planes as planes_module
from napari_all_detect._napari.layers.axes import (
    Layout,
    cells_shape,
    channel_axes,
    fitting,
    is_smear,
    layout_of,
    pixel_size_um,
    placed_like,
)
from napari_all_detect._napari.layers.metadata_keys import FILE_KEY, NAMED_KEY, NUCLEI_KEY, PLANES_KEY
from napari_all_detect._napari.layers.planes import layer_planes
from napari_all_detect.errors import InputError
from napari_all_detect.params import ReadParams
from napari_all_detect.sources import find_images, open_planes

RGB = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)


@pytest.fixture(scope="module")
def drawn():
    return draw_smear((48, 64), n_cells=2, seed=3)


def opened_by_napari(path):
    """Return the layer of an image file that is dropped into the window."""
    ((data, *_),) = napari_get_reader(str(path))(str(path))
    with layer_source(path=str(path)):
        return Image(data, name=path.stem)


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
        assert cells_shape(layer, layout_of(layer))[-2:] == (4, 6)


def test_planes_of_a_stack_have_names_and_their_own_labels():
    labels = Labels(np.arange(2 * 4 * 6).reshape(2, 4, 6))
    planes = layer_planes(Image(RGB, rgb=True), labels=labels)
    assert [plane.source.plane for plane in planes] == ["p0", "p1"]
    np.testing.assert_array_equal(planes[1].read().labels, labels.data[1])
    (one,) = layer_planes(Image(RGB, rgb=True), labels=labels, at=(1,))
    np.testing.assert_array_equal(one.read().pixels.rgb, RGB[1])
    assert one.source.plane == "p1"


def test_the_pixel_size_is_that_of_the_scale_if_it_is_believable():
    def size(scale, units):
        return pixel_size_um(Image(RGB[0], rgb=True, scale=scale, units=units))

    assert size((0.25, 0.25), ("um", "um")) == pytest.approx(0.25)
    assert size((250, 250), ("nm", "nm")) == pytest.approx(0.25)
    assert size((1, 1), ("pixel", "pixel")) is None
    assert size((0.25, 0.5), ("um", "um")) is None
    assert size((300, 300), ("um", "um")) is None


@pytest.mark.parametrize(
    ("placed", "size_um"),
    [
        ({"affine": np.diag([0.2, 0.2, 1])}, 0.2),
        ({"scale": (0.25, 0.25), "affine": np.diag([2, 2, 1])}, 0.5),
        ({"scale": (0.2, 0.4), "affine": np.diag([2, 1, 1])}, 0.4),
        ({"scale": (0.2, 0.2), "affine": np.diag([1, 2, 1])}, None),
        ({"scale": (0.2, 0.2), "rotate": 33}, 0.2),
        ({"scale": (0.2, 0.2), "shear": [0.3]}, None),
        # Sides of one length that are not perpendicular.
        ({"affine": [[0.2, 0.12, 0], [0, 0.16, 0], [0, 0, 1]]}, None),
        ({"scale": (250, 0.25), "units": ("nm", "um")}, 0.25),
        ({"scale": (0.37, -0.37), "translate": (100, 5)}, 0.37),
    ],
)
def test_the_pixel_size_is_that_in_the_world_however_the_layer_is_placed(placed, size_um):
    image = Image(RGB[0], rgb=True, **{"units": ("um", "um")} | placed)
    assert pixel_size_um(image) == pytest.approx(size_um)


def test_a_pixel_size_that_only_scales_make_up_is_theirs_to_the_last_digit():
    scales = np.random.default_rng(0).uniform(0.02, 5, 50).tolist()
    images = [Image(RGB[0], rgb=True, scale=(s, s), translate=(1e5, 3), units=("um", "um")) for s in scales]
    assert [pixel_size_um(image) for image in images] == scales


def test_an_axis_that_pixels_do_not_lie_along_needs_no_length():
    image = Image(RGB, rgb=True, scale=(3, 0.25, 0.25), rotate=20, units=("pixel", "um", "um"))
    assert pixel_size_um(image) == pytest.approx(0.25)


@pytest.mark.parametrize("shape", [(4, 6), (5, 4, 6), (2, 2, 4, 6)])
def test_grey_layers_are_refused_with_a_way_out(shape):
    layer = Image(np.zeros(shape, np.uint8), name="grey")
    assert not is_smear(layer)
    with pytest.raises(InputError, match=r"'grey' is grey.*Merge to RGB"):
        layer_planes(layer)


def test_labels_of_another_image_are_refused():
    with pytest.raises(InputError, match=r"'others' have the shape \(4, 7\).*has \(4, 6\)"):
        layer_planes(Image(RGB[0], rgb=True), labels=Labels(np.zeros((4, 7), int), name="others"))
    with pytest.raises(InputError, match=r"'turned' have the shape \(6, 4\).*has \(4, 6\)"):
        layer_planes(Image(RGB[0], rgb=True), labels=Labels(np.zeros((6, 4), int), name="turned"))


@pytest.mark.parametrize(
    ("axis", "shape", "index"),
    [(0, (2, 4, 6), (1,)), (1, (2, 1, 4, 6), (1, 0))],
)
def test_grey_stacks_of_three_channels_are_read_wherever_the_channels_are(axis, shape, index):
    grey = Image(np.moveaxis(RGB, -1, axis), name="smear", rgb=False)
    layout = layout_of(grey)
    assert layout == Layout(channel_axis=axis)
    assert cells_shape(grey, layout) == shape
    planes = layer_planes(grey, layout)
    assert [(plane.source.plane, plane.index) for plane in planes] == [("p0", (0,) * len(index)), ("p1", index)]
    np.testing.assert_array_equal(planes[1].read().pixels.rgb, RGB[1])
    labels = Labels(np.arange(2 * 4 * 6).reshape(shape))
    np.testing.assert_array_equal(layer_planes(grey, layout, labels)[1].read().labels, labels.data[index])
    # Labels that were drawn on two axes fewer, or with one more of length 1, are the same.
    flat = Labels(labels.data.reshape(2, 4, 6))
    np.testing.assert_array_equal(layer_planes(grey, layout, flat)[1].read().labels, labels.data[index])


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 1, 4, 6)])
def test_labels_in_a_zarr_array_are_read(shape):
    numbers = np.arange(2 * 4 * 6).reshape(shape)
    labels = Labels(zarr.array(numbers))
    planes = layer_planes(Image(RGB, rgb=True), labels=labels)
    np.testing.assert_array_equal([plane.read().labels for plane in planes], numbers.reshape(2, 4, 6))


def test_labels_of_a_grey_stack_are_shown_on_every_channel(viewer):
    grey = viewer.add_image(np.moveaxis(RGB, -1, 1), rgb=False, scale=(1, 2, 0.5, 0.5), translate=(0, 4, 1, 1))
    labels = viewer.add_labels(np.full((2, 1, 4, 6), 7), **placed_like(grey, layout_of(grey)))
    for channel in range(3):
        place = grey.data_to_world((1, channel, 2, 3))
        viewer.dims.set_point(range(4), place)
        assert labels.get_value(place, world=True) == 7
    assert viewer.dims.nsteps == (2, 3, 4, 6)


def test_among_several_axes_of_three_the_named_one_counts_and_any_can_be_chosen():
    values = np.random.default_rng(0).integers(0, 255, (3, 3, 4, 6), dtype=np.uint8)
    assert channel_axes(Image(values, rgb=False)) == (1, 0)
    for name in ("c", "C", "Channel"):
        assert channel_axes(Image(values, rgb=False, axis_labels=(name, "t", "y", "x"))) == (0, 1)
    chosen = layout_of(Image(values, rgb=False), channel_axis=0)
    np.testing.assert_array_equal(layer_planes(Image(values), chosen)[2].read().pixels.rgb[..., 1], values[1, 2])
    with pytest.raises(InputError, match=r"has no channels \(0, 1, 2\) alone on axis 0; choose another"):
        layout_of(Image(values[:2], rgb=False), channel_axis=0)
    with pytest.raises(InputError, match=r"has no channels \(3, 1, 0\) alone on axis 0"):
        layout_of(Image(values, rgb=False), ReadParams(channels=(3, 1, 0)), channel_axis=0)


def test_red_green_and_blue_are_chosen_among_more_channels():
    values = np.random.default_rng(0).integers(0, 255, (2, 5, 4, 6), dtype=np.uint8)
    image = Image(values, rgb=False)
    with pytest.raises(InputError, match="which channels are red, green and blue"):
        layout_of(image)
    layout = layout_of(image, ReadParams(channels=(4, 2, 0)))
    (_, second) = layer_planes(image, layout)
    np.testing.assert_array_equal(second.read().pixels.rgb, np.moveaxis(values[1, [4, 2, 0]], 0, -1))


@pytest.mark.parametrize("channels", [(2, 1, 0), (1,), (0, 1, 2), None])
@pytest.mark.parametrize("depth", [3, 4])
def test_channels_of_an_rgb_layer_are_those_of_the_command_line(tmp_path, channels, depth):
    values = np.random.default_rng(0).integers(0, 255, (24, 32, depth), dtype=np.uint8)
    Picture.fromarray(values).save(tmp_path / "smear.png")
    reading = ReadParams(channels=channels)
    (theirs,) = open_planes(find_images([tmp_path / "smear.png"])[0], reading)
    for pixels in (values, zarr.array(values)):
        image = Image(pixels, rgb=True)
        layout = layout_of(image, reading)
        (mine,) = layer_planes(image, layout)
        np.testing.assert_array_equal(mine.read().pixels.rgb, theirs.read().rgb)
        # So that what is exported has the same pixels.
        assert fitting(image, (24, 32), layout) == layout
    with pytest.raises(InputError, match=rf"layer 'smear': no channel 5; it has 0 to {depth - 1}"):
        layout_of(Image(values, rgb=True, name="smear"), ReadParams(channels=(5, 1, 0)))
    # Of an image with fewer channels they can't be.
    assert fitting(Image(values, rgb=True), (24, 32), Layout(channels=(depth, 1, 0))) == Layout()


@pytest.mark.parametrize("multiscale", [False, True])
def test_labels_of_channels_first_lie_on_their_image_however_it_lies(multiscale):
    values = np.zeros((3, 8, 12), np.uint8)
    affine = np.eye(4)
    affine[1:3, 1:] = [[0.9, 0.2, 5], [-0.1, 1.2, 3]]
    place = {"rotate": 30, "shear": (0, 0, 0.25), "scale": (1, 0.5, 2), "translate": (0, 7, 9), "affine": affine}
    data = [values, values[:, ::2, ::2]] if multiscale else values
    image = Image(data, rgb=False, multiscale=multiscale, **place)
    layout = layout_of(image, ReadParams(level=1 if multiscale else 0))
    labels = Labels(np.zeros(cells_shape(image, layout), int), **placed_like(image, layout))
    assert labels.ndim == 2
    for corner in np.ndindex(2, 2):
        on_labels = np.array(corner) * labels.data.shape - 0.5
        on_image = np.array(corner) * values.shape[1:] - 0.5
        np.testing.assert_allclose(labels.data_to_world(on_labels), image.data_to_world((0, *on_image))[1:])


def test_a_level_of_a_pyramid_has_its_own_pixels_size_and_place():
    levels = [RGB[0], np.ascontiguousarray(RGB[0, ::2, ::2])]
    image = Image(levels, rgb=True, multiscale=True, scale=(0.25, 0.25), units=("um", "um"))
    layout = layout_of(image, ReadParams(level=1))
    (plane,) = layer_planes(image, layout)
    np.testing.assert_array_equal(plane.read().pixels.rgb, levels[1])
    assert plane.source.pixel_size_um == pytest.approx(0.5)
    assert layout_of(image, ReadParams(level="auto"), wanted_um=0.5).level == 1
    assert layout_of(image, ReadParams(level="auto"), wanted_um=0.3).level == 0
    with pytest.raises(InputError, match="no resolution level 2"):
        layout_of(image, ReadParams(level=2))
    # The first of its pixels covers the first two by two of the finest level.
    placed = Labels(np.ones((2, 3), int), **placed_like(image, layout))
    assert placed.scale.tolist() == [0.5, 0.5]
    np.testing.assert_allclose(placed.data_to_world((0, 0)), image.data_to_world((0.5, 0.5)))
    assert fitting(image, (2, 3)) == layout
    assert fitting(image, (5, 3)) is None


def test_channels_first_have_no_part_in_the_pixel_size_of_a_level():
    levels = [np.moveaxis(RGB[0], -1, 0), np.moveaxis(RGB[0, ::2, ::2], -1, 0)]
    place = {"scale": (1, 0.25, 0.25), "units": ("pixel", "um", "um")}
    image = Image(levels, rgb=False, multiscale=True, **place)
    layout = layout_of(image, ReadParams(level="auto"), wanted_um=0.5)
    assert layout == Layout(level=1, channel_axis=0)
    assert layer_planes(image, layout)[0].source.pixel_size_um == pytest.approx(0.5)
    labels = Labels(np.ones((2, 3), int), **placed_like(image, layout))
    assert pixel_size_um(labels) == pytest.approx(0.5)


def test_a_file_is_looked_into_once_until_it_is_another(tmp_path, monkeypatch):
    path, opened = tmp_path / "stack.tif", []

    def note(file, reading):
        opened.append(reading.channels)
        return open_planes(file, reading)

    monkeypatch.setattr(planes_module, "open_planes", note)

    def names(*channels):
        image = Image(RGB, rgb=True, metadata={FILE_KEY: path})
        return [plane.source.plane for plane in layer_planes(image, Layout(channels=channels or None))]

    for n in (2, 3):
        tifffile.imwrite(path, np.zeros((n, 4, 6, 3), np.uint8), photometric="rgb")
        # The file of three has one plane more than the layer by now, which so has names of its own.
        assert names() == names() == ["p0", "p1"]
        assert opened == [None]
        names(2, 1, 0)
        assert opened == [None, (2, 1, 0)]
        opened.clear()
    path.unlink()
    assert names() == ["p0", "p1"]


@pytest.mark.parametrize("name", ["deep.png", "inks.jpg"])
def test_what_napari_shows_in_part_is_read_anew(drawn, tmp_path, name):
    path = tmp_path / name
    if name == "deep.png":  # 12 of 16 bits
        path.write_bytes(imagecodecs.png_encode(drawn.rgb.astype(np.uint16) * 16 + 7))
    else:
        Picture.fromarray(drawn.rgb).convert("CMYK").save(path)
    image = opened_by_napari(path)
    (plane,), (theirs,) = layer_planes(image), open_planes(find_images([path])[0])
    mine, whole = plane.read(), theirs.read()
    assert (mine.image, plane.source) == (name, theirs)
    assert not np.array_equal(image.data[..., :3], whole.rgb)
    np.testing.assert_array_equal(mine.pixels.rgb, whole.rgb)
    assert mine.pixels.notes == (*whole.notes, "read anew with all that its file holds: napari shows less of it")
    # Who has all of it needs no more, and who has worked on a part of it means that.
    image.data = whole.rgb
    assert layer_planes(image)[0].read().pixels.notes == whole.notes
    image.data = 255 - whole.rgb
    with pytest.raises(InputError, match=f"layer of '{name}' was edited, .*; .* open it again, or save the edited one"):
        layer_planes(image)[0].read()


def test_a_copy_is_read_anew_and_what_our_reader_opened_is_taken_as_it_is(drawn, tmp_path):
    path = tmp_path / "inks.jpg"
    Picture.fromarray(drawn.rgb).convert("CMYK").save(path)
    image, (theirs,) = opened_by_napari(path), open_planes(find_images([path])[0])
    with layer_source(parent=image):
        copy, part = Image(image.data.copy(), name="copy"), Image(image.data[:32].copy(), name="part")
    given = layer_planes(copy)[0].read()
    assert given.image == "inks.jpg"
    np.testing.assert_array_equal(given.pixels.rgb, theirs.read().rgb)
    assert layer_planes(part)[0].source.image == "part"
    own = Image(255 - theirs.read().rgb, metadata={FILE_KEY: str(path), PLANES_KEY: ["0"]})
    np.testing.assert_array_equal(layer_planes(own)[0].read().pixels.rgb, own.data)


def test_an_image_is_called_as_in_the_run_that_it_was_read_from(tmp_path):
    store = zarr.create_array(tmp_path / "plate.zarr/A/1/0", data=RGB)
    named = {"image": "plate.zarr/A/1/0", "well": "A1", "field": "0"}
    known = {FILE_KEY: str(tmp_path / "plate.zarr/A/1/0"), PLANES_KEY: ["p1"]}
    image = Image(store[1], rgb=True, metadata={**known, NAMED_KEY: named})
    (given,) = (plane.read() for plane in layer_planes(image))
    assert (given.image, given.plane, given.well, given.field) == ("plate.zarr/A/1/0", "p1", "A1", "0")
    alone = Image(store[1], rgb=True, metadata=known)
    assert layer_planes(alone)[0].source.image == "0"


def test_a_store_that_is_gone_has_no_black_pixels(tmp_path):
    store = zarr.create_array(tmp_path / "smear.zarr", data=RGB[0])
    with layer_source(path=str(tmp_path / "smear.zarr")):
        image = Image(store, rgb=True)
    np.testing.assert_array_equal(layer_planes(image)[0].read().pixels.rgb, RGB[0])
    (tmp_path / "smear.zarr").rename(tmp_path / "moved.zarr")
    with pytest.raises(InputError, match=r"smear\.zarr is gone, where .* is read from; bring it back"):
        layer_planes(image)[0].read()


@pytest.mark.parametrize(("sizes", "names"), [((64, 48), ["p0"]), ((64, 48, 64), ["p0", "p2"])])
def test_of_pages_that_differ_in_size_napari_shows_the_first(tmp_path, sizes, names):
    path = tmp_path / "pages.tif"
    tag = {"photometric": "rgb", "metadata": None, "resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as file:
        for k, n in enumerate(sizes):
            file.write(np.full((n, 64, 3), k, np.uint8), **tag)
    image = opened_by_napari(path)
    planes = layer_planes(image)
    assert [(p.source.image, p.source.plane) for p in planes] == [("pages.tif", name) for name in names]
    for plane in planes:
        given = plane.read()
        assert given.pixel_size_um == pytest.approx(0.25)
        assert set(given.pixels.rgb.ravel().tolist()) == {int(given.plane[1:])}
        assert given.pixels.notes == (
            f"{len(names)} of {len(sizes)} planes of pages.tif: napari shows these, the command line scores all",
        )


def test_pages_that_napari_shows_as_the_first_are_told(tmp_path):
    """Of eight or more pages tifffile compares four."""
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        for k in range(10):
            pixels, photometric = (
                (np.full((64, 64), 9, np.uint8), "minisblack") if k == 2 else (np.full((64, 64, 3), k, np.uint8), "rgb")
            )
            file.write(pixels, photometric=photometric, metadata=None)
    image = opened_by_napari(tmp_path / "pages.tif")
    assert image.data.shape == (10, 64, 64, 3)
    told = "the pages of pages.tif are of several kinds, all shown as the first: score the file itself"
    assert [plane.read().pixels.notes for plane in layer_planes(image)] == [(told,)] * 10


def test_a_thumbnail_that_napari_shows_first_has_no_name_of_the_smear(tmp_path):
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        file.write(np.full((32, 32, 3), 1, np.uint8), photometric="rgb", subfiletype=1, metadata=None)
        file.write(np.full((64, 64, 3), 2, np.uint8), photometric="rgb", metadata=None)
    image = opened_by_napari(tmp_path / "slide.tif")
    assert image.data.shape == (32, 32, 3)
    assert layer_planes(image)[0].source.image == "slide"


def test_nuclei_come_with_the_labels_that_they_were_found_with():
    nuclei = np.zeros((2, 4, 6), bool)
    nuclei[1, 1] = True
    labels = Labels(np.ones((2, 4, 6), int), metadata={NUCLEI_KEY: nuclei})
    planes = layer_planes(Image(RGB, rgb=True), labels=labels)
    np.testing.assert_array_equal(planes[1].read().nuclei, nuclei[1])
    labels = Labels(np.ones((4, 6), int), metadata={NUCLEI_KEY: nuclei})
    assert layer_planes(Image(RGB[0], rgb=True), labels=labels)[0].nuclei is None
