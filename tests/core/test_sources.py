"""Every format is written to disk by a library of its own and read back through the public functions."""

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import tifffile
import zarr
from imagecodecs import png_encode
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from napari_all_detect.errors import InputError, ParameterError, StoreError
from napari_all_detect.params import ReadParams
from napari_all_detect.sources import ImageFile, Plane, as_inputs, as_rgb, find_images, folders, open_planes
from napari_all_detect.sources import plane as plane_module
from napari_all_detect.sources.identity import stamp
from napari_all_detect.sources.places import without_secrets
from napari_all_detect.sources.plane import readable

GREY = "grey image repeated to three channels: it carries no stain colour"
RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
STACK = RNG.integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)


def planes_in(path: Path) -> list[Plane]:
    (file,) = find_images([path])
    return open_planes(file)


def only_plane(path: Path) -> Plane:
    (plane,) = planes_in(path)
    assert plane.plane == "0"
    return plane


def pixels(path: Path) -> np.ndarray:
    return only_plane(path).read().rgb


def cut_short(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def overwrite(path: Path, start: int, junk: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[start : start + len(junk)] = junk
    path.write_bytes(data)


# Shapes that as_rgb takes and refuses


@pytest.mark.parametrize("array", [RGB[..., 0], RGB[..., :1]], ids=["H,W", "H,W,1"])
def test_grey_is_repeated_and_said(array):
    plane = as_rgb(array)
    assert_array_equal(plane.rgb, np.dstack([RGB[..., 0]] * 3))
    assert plane.notes == (GREY,)


def test_8_bit_rgb_is_taken_as_it_is():
    plane = as_rgb(RGB)
    assert_array_equal(plane.rgb, RGB)
    assert plane.notes == ()


def test_result_is_c_contiguous():
    channels_first = np.ascontiguousarray(RGB.transpose(2, 0, 1))
    plane = as_rgb(channels_first.transpose(1, 2, 0))
    assert plane.rgb.flags.c_contiguous
    assert_array_equal(plane.rgb, RGB)


def test_a_single_pixel_is_an_image():
    assert as_rgb(np.array([[[1, 2, 3]]], np.uint8)).rgb.tolist() == [[[1, 2, 3]]]


def test_opaque_alpha_is_dropped_silently():
    plane = as_rgb(np.dstack([RGB, np.full((20, 30), 255, np.uint8)]))
    assert_array_equal(plane.rgb, RGB)
    assert plane.notes == ()


def test_transparent_pixels_are_laid_over_white():
    rgba = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 100, 255, 128]]], np.uint8)
    plane = as_rgb(rgba)
    # 255 + (0 - 255) * 128 / 255 = 127; 255 + (100 - 255) * 128 / 255 = 177.2
    assert plane.rgb.tolist() == [[[255, 255, 255], [10, 20, 30], [127, 177, 255]]]
    assert plane.notes == ("transparent pixels laid over white",)


def test_alpha_has_a_depth_of_its_own():
    rgba = np.array([[[4095, 0, 0, 65535]]], np.uint16)
    plane = as_rgb(rgba)
    assert plane.rgb.tolist() == [[[255, 0, 0]]]
    assert plane.notes == ("16-bit values in 0-4095 scaled to 8 bits",)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((5, 5, 2), "2 channels"),
        ((5, 5, 5), "5 channels"),
        ((3, 20, 30), "30 channels on its last axis.*channels last"),
        ((20,), r"shape \(20,\)"),
        ((2, 20, 30, 3), r"shape \(2, 20, 30, 3\)"),
        ((0, 20, 3), "without pixels"),
        ((0, 0), "without pixels"),
    ],
)
def test_other_shapes_are_refused(shape, words):
    with pytest.raises(InputError, match=f"^smear.png: .*{words}"):
        as_rgb(np.zeros(shape, np.uint8), "smear.png")


def test_a_path_is_no_picture():
    with pytest.raises(InputError, match=r"^array: got the path smear.png; expected its pixels"):
        as_rgb("smear.png")


# Values that as_rgb takes and refuses


@pytest.mark.parametrize(("largest", "full"), [(256, 1023), (1023, 1023), (1024, 4095), (4096, 16383), (16384, 65535)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64, ">u2"])
def test_wide_integers_are_scaled_by_the_smallest_depth(largest, full, dtype):
    values = np.array([[0, largest // 2, largest]], dtype)
    plane = as_rgb(values)
    assert plane.rgb[0, :, 0].tolist() == [0, round(largest // 2 * 255 / full), round(largest * 255 / full)]
    bits = np.dtype(dtype).itemsize * 8
    assert plane.notes == (f"{bits}-bit values in 0-{full} scaled to 8 bits", GREY)


def test_8_bit_values_in_16_bits_are_not_scaled():
    plane = as_rgb(RGB.astype(np.uint16))
    assert_array_equal(plane.rgb, RGB)
    assert plane.notes == ("16-bit values in 0-255 taken as they are",)


def test_booleans_are_black_and_white():
    plane = as_rgb(np.array([[False, True]]))
    assert plane.rgb[..., 0].tolist() == [[0, 255]]
    assert plane.notes == ("two-valued image taken as 0 and 255", GREY)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_0_to_1_are_scaled(dtype):
    plane = as_rgb(np.array([[[0, 0.25, 1]]], dtype))
    assert plane.rgb.tolist() == [[[0, 64, 255]]]
    assert plane.notes == ("floating-point values in 0-1 scaled to 8 bits",)


def test_floats_in_0_to_255_are_rounded():
    plane = as_rgb(np.array([[[0.4, 99.6, 255]]]))
    assert plane.rgb.tolist() == [[[0, 100, 255]]]
    assert plane.notes == ("floating-point values in 0-255 rounded to 8 bits",)


def test_rounding_above_1_does_not_turn_a_float_image_black():
    white = np.nextafter(np.float32(1), np.float32(2))
    assert as_rgb(np.array([[[white, 0.5, 0]]], np.float32)).rgb.tolist() == [[[255, 128, 0]]]


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (-1, np.int16, "integers in -1 to 0; expected 0 to 65535"),
        (65536, np.int32, "integers in 0 to 65536"),
        (np.nan, np.float32, "NaN"),
        (np.inf, np.float32, "infinite"),
        (-0.5, np.float32, "floats in -0.5 to 0"),
        (256, np.float64, "floats in 0 to 256"),
        (1.001, np.float32, "floats in 0 to 1.001, a little more than 1 .* clip them to 1"),
        (1.99, np.float64, "floats in 0 to 1.99, a little"),
        (1j, np.complex64, "type complex64"),
        ("a", "U1", "type <U1"),
        (2**63, "u8", "integers in 0 to 9223372036854775808"),
    ],
)
def test_other_values_are_refused(value, dtype, words):
    with pytest.raises(InputError, match=words):
        as_rgb(np.array([[0, value]], dtype))


# PNG, JPEG, BMP


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_lossless_files_come_back_exactly(tmp_path, suffix):
    path = tmp_path / f"smear.{suffix}"
    Image.fromarray(RGB).save(path)
    plane = only_plane(path)
    assert_array_equal(plane.read().rgb, RGB)
    assert (plane.image, plane.plane, plane.path) == (path.name, "0", path)
    assert plane.read().notes == ()


def test_jpeg_comes_back_as_pillow_decodes_it(tmp_path):
    path = tmp_path / "smear.jpg"
    Image.fromarray(RGB).save(path, quality=95)
    with Image.open(path) as image:
        assert_array_equal(pixels(path), np.asarray(image))


def test_jpeg_orientation_tag_is_ignored(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(path, exif=exif)
    assert pixels(path).shape == (20, 30, 3)


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (8, 8), (0, 255, 0, 0)).save(path, quality=100)
    red, green, blue = pixels(path)[4, 4]
    assert (red, green, blue) == pytest.approx((255, 0, 255), abs=4)


def test_palette_png_becomes_rgb(tmp_path):
    path = tmp_path / "palette.png"
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 10, 20, 30, 0, 0, 255])
    image.save(path)
    assert pixels(path).tolist() == [[[255, 0, 0], [10, 20, 30]], [[0, 0, 255], [10, 20, 30]]]


def test_transparent_palette_entry_is_laid_over_white(tmp_path):
    path = tmp_path / "palette.png"
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([200, 0, 0, 10, 20, 30])
    image.save(path, transparency=0)
    plane = only_plane(path).read()
    assert plane.rgb.tolist() == [[[255, 255, 255], [10, 20, 30]]]
    assert plane.notes == ("transparent pixels laid over white",)


def test_rgba_png_keeps_its_alpha(tmp_path):
    path = tmp_path / "alpha.png"
    Image.fromarray(np.dstack([RGB, np.zeros((20, 30), np.uint8)])).save(path)
    assert (pixels(path) == 255).all()


def test_rgb_png_may_have_a_transparent_colour(tmp_path):
    path = tmp_path / "keyed.png"
    Image.fromarray(np.array([[[9, 8, 7], [10, 20, 30]]], np.uint8)).save(path, transparency=(9, 8, 7))
    plane = only_plane(path).read()
    assert plane.rgb.tolist() == [[[255, 255, 255], [10, 20, 30]]]
    assert plane.notes == ("transparent pixels laid over white",)


def test_a_png_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(RGB).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    plane = only_plane(path)
    with pytest.raises(InputError, match=r"cut\.png: can't be read as an image .*: export or copy it again"):
        plane.read()


def test_grey_png_with_alpha_is_still_grey(tmp_path):
    path = tmp_path / "la.png"
    Image.merge("LA", [Image.new("L", (2, 1), 90), Image.new("L", (2, 1), 255)]).save(path)
    plane = only_plane(path).read()
    assert (plane.rgb == 90).all()
    assert plane.notes == (GREY,)


def test_one_bit_png_is_black_and_white(tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(np.array([[False, True, True]])).save(path)
    assert pixels(path)[..., 1].tolist() == [[0, 255, 255]]


def test_16_bit_grey_png(tmp_path):
    path = tmp_path / "grey16.png"
    Image.fromarray(np.array([[0, 2048, 4095]], np.uint16)).save(path)
    plane = only_plane(path).read()
    assert plane.rgb[..., 2].tolist() == [[0, 128, 255]]
    assert plane.notes == ("16-bit values in 0-4095 scaled to 8 bits", GREY)


def test_16_bit_grey_png_with_alpha_keeps_the_lower_bits(tmp_path):
    grey = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 6
    (tmp_path / "a.png").write_bytes(png_encode(np.dstack([grey, np.full_like(grey, 65535)])))
    plane = planes_in(tmp_path / "a.png")[0].read()
    assert_array_equal(plane.rgb, as_rgb(grey).rgb)
    assert plane.notes == as_rgb(grey).notes


def test_16_bit_rgb_png_keeps_the_lower_bits(tmp_path):
    path = tmp_path / "rgb16.png"
    path.write_bytes(png_encode(np.array([[[0, 2048, 4095]]], np.uint16)))
    plane = only_plane(path).read()
    assert plane.rgb.tolist() == [[[0, 128, 255]]]
    assert plane.notes == ("16-bit values in 0-4095 scaled to 8 bits",)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("tile_size_px", [None, 256])
def test_channels_of_an_rgb_file_are_told(tmp_path, suffix, tile_size_px):
    path = tmp_path / f"bgr{suffix}"
    Image.fromarray(RGB).save(path)
    (file,) = find_images([path])

    def read(*channels: int):
        return open_planes(file, ReadParams(channels=channels, tile_size_px=tile_size_px))[0].open()

    assert_array_equal(read(2, 1, 0).rgb, RGB[..., ::-1])
    assert_array_equal(read(0, 1, 2).rgb, RGB)
    assert_array_equal(read(1).rgb, np.dstack([RGB[..., 1]] * 3))
    assert read(1).notes == (GREY,)
    with pytest.raises(InputError, match=rf"bgr{suffix}: no channel 3; it has 0 to 2"):
        read(3, 1, 0)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_grey_file_has_one_channel(tmp_path, suffix):
    path = tmp_path / f"grey{suffix}"
    Image.fromarray(RGB[..., 0]).save(path)
    (file,) = find_images([path])
    (plane,) = open_planes(file, ReadParams(channels=(0,)))
    assert_array_equal(plane.read().rgb, pixels(path))
    with pytest.raises(InputError, match=rf"grey{suffix}: no channel 2; it has 0 to 0"):
        open_planes(file, ReadParams(channels=(2, 1, 0)))


def test_channels_are_counted_once_a_png_is_decoded(tmp_path):
    rgba = np.dstack([RGB, RGB[..., 0]])
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    Image.fromarray(RGB).save(tmp_path / "key.png", transparency=(1, 2, 3))
    Image.fromarray(RGB).quantize(8).save(tmp_path / "palette.png")
    for file in find_images([tmp_path]):
        (plane,) = open_planes(file, ReadParams(channels=(2, 1, 0)))
        expected = RGB if file.image != "palette.png" else pixels(file.path)
        assert_array_equal(plane.read().rgb, expected[..., ::-1])
        assert plane.read().notes == ()


def test_images_beyond_pillows_limit_are_read(tmp_path, monkeypatch):
    path = tmp_path / "slide.png"
    Image.fromarray(RGB).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert_array_equal(pixels(path), RGB)


def test_format_is_told_from_the_content(tmp_path):
    path = tmp_path / "really_a_png.dat"
    Image.fromarray(RGB).save(path, format="png")
    assert_array_equal(pixels(path), RGB)


# TIFF


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"tile": (16, 16), "compression": "zlib"},
        {"bigtiff": True},
        {"byteorder": ">"},
    ],
    ids=str,
)
def test_tiff_layouts(tmp_path, options):
    path = tmp_path / "smear.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", **options)
    assert_array_equal(pixels(path), RGB)


def test_planar_tiff(tmp_path):
    path = tmp_path / "planar.tif"
    tifffile.imwrite(path, RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    assert_array_equal(pixels(path), RGB)


def test_16_bit_tiff_from_a_12_bit_camera(tmp_path):
    path = tmp_path / "camera.tif"
    values = RGB.astype(np.uint16) * 16
    tifffile.imwrite(path, values, photometric="rgb")
    plane = only_plane(path).read()
    assert_array_equal(plane.rgb, np.rint(values / 4095 * 255))
    assert plane.notes == ("16-bit values in 0-4095 scaled to 8 bits",)


def test_jpeg_tiff_is_rgb(tmp_path):
    path = tmp_path / "jpeg.tif"
    ycbcr = np.asarray(Image.new("RGB", (32, 32), (200, 30, 120)).convert("YCbCr"))
    tifffile.imwrite(path, ycbcr, photometric="ycbcr", compression="jpeg", compressionargs={"level": 95})
    assert pixels(path)[16, 16].tolist() == pytest.approx([200, 30, 120], abs=4)


def test_palette_and_inverted_tiff(tmp_path):
    palette = np.zeros((3, 256), np.uint16)
    palette[:, 1] = (255 * 257, 0, 100 * 257)
    tifffile.imwrite(tmp_path / "p.tif", np.array([[0, 1]], np.uint8), photometric="palette", colormap=palette)
    assert pixels(tmp_path / "p.tif").tolist() == [[[0, 0, 0], [255, 0, 100]]]
    tifffile.imwrite(tmp_path / "8.tif", np.array([[0, 1]], np.uint8), photometric="palette", colormap=palette // 257)
    assert pixels(tmp_path / "8.tif").tolist() == [[[0, 0, 0], [255, 0, 100]]]
    Image.fromarray(RGB).quantize(64).save(tmp_path / "pillow.tif")  # its palettes are 256 times 8 bits, not 257
    assert_array_equal(pixels(tmp_path / "pillow.tif"), Image.fromarray(RGB).quantize(64).convert("RGB"))
    tifffile.imwrite(tmp_path / "w.tif", np.array([[0, 55]], np.uint8), photometric="miniswhite")
    assert pixels(tmp_path / "w.tif")[..., 0].tolist() == [[255, 200]]


def test_inverted_tiff_from_a_12_bit_camera(tmp_path):
    values = (255 - RGB[..., 0].astype(np.uint16)) * 16
    tifffile.imwrite(tmp_path / "w.tif", values, photometric="miniswhite")
    plane = only_plane(tmp_path / "w.tif").read()
    assert_array_equal(plane.rgb[..., 0], 255 - np.rint(values / 4095 * 255))
    assert plane.notes == ("16-bit values in 0-4095 scaled to 8 bits", GREY)


def test_fourth_sample_that_is_no_alpha_is_left_out(tmp_path):
    path = tmp_path / "extra.tif"
    values = np.dstack([RGB, np.zeros((20, 30), np.uint8)])
    tifffile.imwrite(path, values, photometric="rgb", extrasamples=["unspecified"])
    assert_array_equal(pixels(path), RGB)


@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.uint8, 1), (np.uint16, 257), (np.uint16, 16), (np.float32, 1), (np.float32, 1 / 255)]
)
def test_colours_that_were_multiplied_by_alpha(tmp_path, dtype, scale):
    alpha = np.repeat(np.arange(0, 256, 51), 5)[:, None]
    values = np.dstack([RGB[:, :1] * alpha[:20, :, None] // 255, alpha[:20]]) * scale
    values = np.concatenate([values, np.full((1, 1, 4), 255 * scale)]).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["assocalpha"])
    plane = only_plane(tmp_path / "a.tif").read()
    over_white = (values[..., :3] + (values[-1, -1, -1] - values[..., 3:])) / values[-1, -1, -1] * 255
    assert_allclose(plane.rgb, over_white, atol=1.5)
    assert plane.notes[-1] == "transparent pixels laid over white"


@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("tif", {}), ("tif", {"compression": "tiff_lzw"})])
def test_grey_with_alpha(tmp_path, suffix, options):
    path = tmp_path / f"a.{suffix}"
    values = np.dstack([RGB[..., 0], np.repeat(np.arange(0, 240, 8, dtype=np.uint8)[None], 20, axis=0)])
    Image.fromarray(values).save(path, **options)
    expected = as_rgb(values[..., [0, 0, 0, 1]]).rgb
    check_planes(path, ["0"], [expected])
    assert only_plane(path).read().notes == ("transparent pixels laid over white", GREY)
    (file,) = find_images([path])
    assert_array_equal(open_planes(file, ReadParams(channels=(0,)))[0].read().rgb, GREY_RGB)


def test_grey_that_was_multiplied_by_alpha(tmp_path):
    values = np.array([[[0, 0], [50, 100], [200, 255]]], np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig", extrasamples=["assocalpha"]
    )
    # 50 * 255 / 100 = 127.5; 255 - 127 * 100 / 255 = 205.2
    assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == [255, 205, 200]


def write_sparse(path: Path, page: np.ndarray, missing: list[int], **options) -> None:
    """Write 6 tiles, and state of some that they are nowhere and have no bytes."""
    tifffile.imwrite(path, page, tile=(16, 16), metadata=None, bigtiff=True, **options)
    with tifffile.TiffFile(path) as tif:
        tags = [tif.pages[0].tags[name] for name in ("TileOffsets", "TileByteCounts")]
    for tag in tags:
        width = tag.valuebytecount // tag.count
        for number in missing:
            overwrite(path, tag.valueoffset + number * width, bytes(width))


@pytest.mark.parametrize("reading", [ReadParams(), ReadParams(tile_size_px=256)], ids=["whole", "tiles"])
def test_tiles_that_are_missing_in_a_tiff_are_noted(tmp_path, reading):
    page = np.pad(RGB, ((0, 12), (0, 10), (0, 0)))[:32, :40]
    write_sparse(tmp_path / "rgb.tif", page, [0, 4], photometric="rgb", compression="zlib")
    write_sparse(tmp_path / "w.tif", page[..., 0], [5], photometric="miniswhite")
    write_sparse(tmp_path / "full.tif", page, [], photometric="rgb")
    planes = {path.name: open_planes(ImageFile(path, path.name), reading)[0].open() for path in tmp_path.iterdir()}
    expected = page.copy()
    expected[:16, :16] = expected[16:, 16:32] = 0
    assert_array_equal(planes["rgb.tif"].rgb, expected)
    assert planes["rgb.tif"].notes == ("2 of 6 tiles missing in the file: black there",)
    assert planes["w.tif"].notes == (GREY, "1 of 6 tiles missing in the file: filled with 0 there")
    assert planes["full.tif"].notes == ()


def test_one_pixel_tiff(tmp_path):
    path = tmp_path / "dot.tif"
    tifffile.imwrite(path, np.array([[[1, 2, 3]]], np.uint8), photometric="rgb")
    assert pixels(path).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("metadata", [None, {}], ids=["plain", "tifffile"])
def test_pages_of_a_tiff_are_planes(tmp_path, metadata):
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in STACK:
            writer.write(page, photometric="rgb", contiguous=False, metadata=metadata)
    planes = planes_in(path)
    assert [plane.plane for plane in planes] == ["p0", "p1", "p2", "p3"]
    for plane, page in zip(planes, STACK, strict=True):
        assert_array_equal(plane.read().rgb, page)


def test_pages_of_different_sizes_keep_their_numbers(tmp_path):
    path = tmp_path / "mixed.tif"
    small = STACK[1, :10, :12]
    with tifffile.TiffWriter(path) as writer:
        for page in (STACK[0], small, STACK[2]):
            writer.write(page, photometric="rgb", metadata=None)
    planes = planes_in(path)
    assert [plane.plane for plane in planes] == ["p0", "p1", "p2"]
    for plane, page in zip(planes, (STACK[0], small, STACK[2]), strict=True):
        assert_array_equal(plane.read().rgb, page)


def write_pages(path: Path, pages: list[tuple[np.ndarray, dict]]) -> None:
    with tifffile.TiffWriter(path) as writer:
        for page, options in pages:
            writer.write(page, **{"photometric": "rgb", "metadata": None, "contiguous": False, **options})


def check_planes(path: Path, names: list[str], expected: list[np.ndarray]) -> None:
    (file,) = find_images([path])
    for reading in (ReadParams(), ReadParams(tile_size_px=256)):
        planes = open_planes(file, reading)
        assert [plane.plane for plane in planes] == names
        for plane, page in zip(planes, expected, strict=True):
            assert_array_equal(plane.open().rgb, page)


TEN = [np.roll(RGB, k, axis=0) for k in range(10)]
GREY_RGB = np.dstack([RGB[..., 0]] * 3)


@pytest.mark.parametrize(
    ("page", "options", "expected"),
    [
        (RGB, {}, RGB),
        (RGB[..., 0], {"photometric": "minisblack"}, GREY_RGB),
        (255 - RGB[..., 0], {"photometric": "miniswhite"}, GREY_RGB),
        (RGB.astype(np.uint16) * 257, {}, RGB),
        (RGB[:15], {}, RGB[:15]),
        (RGB[:15, :20], {}, RGB[:15, :20]),
        (RGB, {"compression": "lzw"}, RGB),
        (RGB, {"tile": (16, 16)}, RGB),
    ],
    ids=["like", "grey", "white-is-zero", "16-bit", "height", "size", "lzw", "tiles"],
)
def test_one_page_of_ten_may_be_unlike_the_others(tmp_path, page, options, expected):
    pages = [(one, {}) for one in TEN]
    write_pages(tmp_path / "ten.tif", [*pages[:2], (page, options), *pages[3:]])
    check_planes(tmp_path / "ten.tif", [f"p{k}" for k in range(10)], [*TEN[:2], expected, *TEN[3:]])


OME_STACK = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
    'DimensionOrder="XYCZT" SizeX="30" SizeY="20" SizeC="{samples}" SizeZ="3" SizeT="1" Type="uint8">'
    '<Channel ID="Channel:0:0" SamplesPerPixel="{samples}"/><TiffData/></Pixels></Image></OME>'
)


@pytest.mark.parametrize(
    ("description", "axis"), [(OME_STACK.format(samples=3), "z"), ("ImageJ=1.53t\nimages=3\nframes=3\n", "t")]
)
def test_a_page_is_read_by_its_own_header_whatever_metadata_say_of_the_stack(tmp_path, description, axis):
    path = tmp_path / "stack.tif"
    first = (TEN[0], {"description": description})
    write_pages(path, [first, (TEN[1], {"compression": "lzw"}), (TEN[2], {})])
    check_planes(path, [f"{axis}{k}" for k in range(3)], TEN[:3])
    write_pages(path, [first, (TEN[1].astype(np.uint16), {}), (TEN[2], {})])
    planes = planes_in(path)
    assert_array_equal(planes[2].read().rgb, TEN[2])
    with pytest.raises(InputError, match=r"page 1, uint16 of shape \(20, 30, 3\), is not like the first of its stack"):
        planes[1].read()


@pytest.mark.parametrize(("count", "is_ome"), [(3, False), (10, False), (3, True)])
def test_pages_may_have_palettes_of_their_own(tmp_path, count, is_ome):
    pages = [Image.fromarray(page).quantize(40) for page in (TEN[k] // (k + 1) for k in range(count))]
    palettes = [np.zeros((3, 256), np.uint16) for _ in pages]
    for palette, page in zip(palettes, pages, strict=True):
        colours = np.array(page.getpalette("RGB"), np.uint16).reshape(-1, 3)
        palette[:, : len(colours)] = colours.T * 257
    description = OME_STACK.format(samples=1) if is_ome else None
    options = [{"photometric": "palette", "colormap": palette, "description": description} for palette in palettes]
    path = tmp_path / "palettes.tif"
    write_pages(path, [(np.asarray(page), facts) for page, facts in zip(pages, options, strict=True)])
    names = [f"{'z' if is_ome else 'p'}{k}" for k in range(count)]
    check_planes(path, names, [np.asarray(page.convert("RGB")) for page in pages])


def test_stack_with_one_header_is_read_plane_by_plane(tmp_path):
    path = tmp_path / "truncated.tif"
    tifffile.imwrite(path, STACK, photometric="rgb", metadata={"truncate": True})
    planes = planes_in(path)
    assert [plane.plane for plane in planes] == ["p0", "p1", "p2", "p3"]
    assert_array_equal(planes[2].read().rgb, STACK[2])


def test_reduced_levels_are_no_planes(tmp_path):
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(RGB, photometric="rgb", metadata=None)
        writer.write(RGB[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    assert_array_equal(pixels(path), RGB)


@pytest.mark.parametrize("options", [{"ome": True}, {"imagej": True}], ids=["ome", "imagej"])
def test_named_axes_of_rgb_stacks(tmp_path, options):
    path = tmp_path / "stack.tif"
    hyperstack = STACK.reshape(2, 2, 20, 30, 3)
    tifffile.imwrite(path, hyperstack, photometric="rgb", metadata={"axes": "TZYXS"}, **options)
    planes = planes_in(path)
    assert [plane.plane for plane in planes] == ["t0_z0", "t0_z1", "t1_z0", "t1_z1"]
    for plane, page in zip(planes, STACK, strict=True):
        assert_array_equal(plane.read().rgb, page)


@pytest.mark.parametrize("options", [{"ome": True}, {"imagej": True}], ids=["ome", "imagej"])
def test_channel_pages_become_rgb(tmp_path, options):
    path = tmp_path / "channels.tif"
    tifffile.imwrite(
        path,
        STACK.transpose(0, 3, 1, 2).copy(),
        photometric="minisblack",
        metadata={"axes": "ZCYX"},
        **options,
    )
    planes = planes_in(path)
    assert [plane.plane for plane in planes] == ["z0", "z1", "z2", "z3"]
    assert_array_equal(planes[3].read().rgb, STACK[3])


SHOWN_IN = [np.eye(3, dtype=np.uint8)[:, [i]] * np.arange(256, dtype=np.uint8) for i in range(3)]
BLUE, GREEN, RED = 0x0000FFFF, 0x00FF00FF, 0xFF0000FF - 2**32


@pytest.mark.parametrize(
    ("options", "metadata"),
    [
        ({"ome": True}, {"Channel": {"Color": [BLUE, GREEN, RED]}}),
        ({"ome": True}, {"Channel": {"Name": ["Blue", "Green", "Red"]}}),
        ({"imagej": True}, {"LUTs": SHOWN_IN[::-1], "mode": "composite"}),
    ],
    ids=["colours", "names", "imagej"],
)
def test_channels_of_tiff_by_colours_and_names(tmp_path, options, metadata):
    blue_first = RGB[..., ::-1].transpose(2, 0, 1).copy()
    path = tmp_path / "channels.tif"
    tifffile.imwrite(path, blue_first, photometric="minisblack", metadata={"axes": "CYX", **metadata}, **options)
    assert_array_equal(pixels(path), RGB)
    (plane,) = open_planes(ImageFile(path, "a"), ReadParams(channels=(0, 1, 2)))
    assert_array_equal(plane.read().rgb, RGB[..., ::-1])


def test_rgb_pages_filed_as_channels_are_planes(tmp_path):
    path = tmp_path / "odd.tif"
    metadata = {"axes": "CYXS", "LUTs": SHOWN_IN[::-1]}
    tifffile.imwrite(path, STACK[:3], photometric="rgb", imagej=True, metadata=metadata)
    planes = planes_in(path)
    assert [plane.plane for plane in planes] == ["ch0", "ch1", "ch2"]
    assert_array_equal(planes[1].read().rgb, STACK[1])


def test_ome_tiff_with_two_images(tmp_path):
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(STACK[0], photometric="rgb", metadata={"axes": "YXS", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1})
        writer.write(STACK[1:3], photometric="rgb", metadata={"axes": "ZYXS", "Name": "Macro"})
    planes = planes_in(path)
    assert [(p.plane, p.pixel_size_um) for p in planes] == [("s0", 0.1), ("s1_z0", None), ("s1_z1", None)]
    assert_array_equal(planes[2].read().rgb, STACK[2])


@pytest.mark.parametrize(
    ("names", "left"),
    [(("", "label image", "Macro image"), [0]), (("label image",), [0]), (("label", "overview"), [0, 1])],
    ids=["beside", "alone", "no other"],
)
def test_pictures_of_the_slide_in_an_ome_tiff(tmp_path, names, left):
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name, page in zip(names, STACK, strict=False):
            writer.write(page, photometric="rgb", metadata={"axes": "YXS", "Name": name})
    assert_array_equal([plane.read().rgb for plane in planes_in(path)], STACK[left])


def write_ome_set(folder, images, axis="T", sizes_um=None, names=("", ""), **options):
    """Write one page into each file, and into each that all are one image, along an axis, or images of their own."""
    height, width, samples = np.atleast_3d(images[0]).shape
    lengths = {"C": samples, "Z": 1, "T": 1}

    def ome_image(pages, name="", size_um=1, **length):
        sizes = " ".join(f'Size{axis}="{n}"' for axis, n in {"X": width, "Y": height, **lengths, **length}.items())
        channel = f'<Channel SamplesPerPixel="{samples}"/>' * length.get("C", 1)
        scale = f'PhysicalSizeX="{size_um}" PhysicalSizeY="{size_um}"'
        data = "".join(
            f'<TiffData First{axis}="{i}" IFD="0"><UUID FileName="{page}.ome.tif">urn:uuid:{page}</UUID></TiffData>'
            for i, page in enumerate(pages)
        )
        order = 'DimensionOrder="XYCZT" Type="uint8"'
        return f'<Image Name="{name}"><Pixels {order} {sizes} {scale}>{channel}{data}</Pixels></Image>'

    if sizes_um:
        listed = "".join(ome_image([i], *facts) for i, facts in enumerate(zip(names, sizes_um, strict=True)))
    else:
        listed = ome_image(range(len(images)), **{axis: len(images)})
    for i, image in enumerate(images):
        xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{i}">{listed}</OME>'
        kind = "rgb" if samples == 3 else "minisblack"
        tifffile.imwrite(folder / f"{i}.ome.tif", image, photometric=kind, description=xml, metadata=None, **options)


def test_planes_of_a_set_of_ome_tiffs_count_with_their_files(tmp_path):
    write_ome_set(tmp_path, STACK[:3])
    for i in range(3):
        (plane,) = planes_in(tmp_path / f"{i}.ome.tif")
        assert plane.plane == f"t{i}"
        assert_array_equal(plane.read().rgb, STACK[i])
    (tmp_path / "0.ome.tif").unlink()
    (plane,) = planes_in(tmp_path / "2.ome.tif")
    assert_array_equal(plane.read().rgb, STACK[2])


@pytest.mark.parametrize("reading", [ReadParams(), ReadParams(tile_size_px=256)], ids=["whole", "tiles"])
def test_channels_in_several_ome_tiffs_count_with_the_first(tmp_path, reading):
    write_ome_set(tmp_path, RGB.transpose(2, 0, 1), axis="C", tile=(16, 16), compression="zlib")
    first, second, _ = find_images([tmp_path])
    (plane,) = open_planes(first, reading)
    assert_array_equal(plane.open().rgb, RGB)
    with pytest.raises(InputError, match=r"1\.ome\.tif: .*counts with the first of them"):
        open_planes(second, reading)


def test_an_ome_tiff_whose_metadata_are_in_a_companion(tmp_path):
    description = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><BinaryOnly MetadataFile="x.companion.ome" '
        'UUID="urn:uuid:2"/></OME>'
    )
    grey = {"photometric": "minisblack"}
    pages = [(RGB[..., 0], {**grey, "description": description}), (RGB[..., 1], grey), (RGB[..., 2], grey)]
    write_pages(tmp_path / "channels.ome.tif", pages)
    with pytest.raises(InputError, match=r"channels.ome.tif: .* in x.companion.ome, which is not read; .*: convert"):
        planes_in(tmp_path / "channels.ome.tif")
    write_pages(tmp_path / "rgb.ome.tif", [(RGB, {"description": description})])
    assert_array_equal(pixels(tmp_path / "rgb.ome.tif"), RGB)


def test_a_page_that_lacks_in_an_ome_tiff_is_told_of(tmp_path):
    write_ome_set(tmp_path, STACK[:1])
    path = tmp_path / "0.ome.tif"
    path.write_bytes(path.read_bytes().replace(b'SizeT="1"', b'SizeT="2"'))
    there, lacking = planes_in(path)
    assert_array_equal(there.read().rgb, STACK[0])
    with pytest.raises(InputError, match="the file that should hold this plane is missing"):
        lacking.read()


def test_an_ome_tiff_that_has_two_identifiers(tmp_path):
    write_ome_set(tmp_path, STACK[:1])
    path = tmp_path / "0.ome.tif"
    path.write_bytes(path.read_bytes().replace(b'UUID="urn:uuid:0"', b'UUID="urn:uuid:1"'))
    assert_array_equal(pixels(path), STACK[0])


def test_two_channel_tiff_is_refused_at_once(tmp_path):
    path = tmp_path / "fluorescence.ome.tif"
    tifffile.imwrite(path, STACK[:2, ..., 0], photometric="minisblack", ome=True, metadata={"axes": "CYX"})
    with pytest.raises(InputError, match=r"fluorescence.ome.tif: an image with 2 channels; expected 3 \(RGB\)"):
        planes_in(path)


def test_cmyk_tiff_is_refused(tmp_path):
    path = tmp_path / "print.tif"
    tifffile.imwrite(path, np.dstack([RGB, RGB[..., 0]]), photometric="separated")
    with pytest.raises(InputError, match=r"print.tif: .*SEPARATED colours; expected grey, RGB"):
        planes_in(path)


def test_tiff_pages_are_read_one_by_one(tmp_path):
    path = tmp_path / "lazy.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in STACK:
            writer.write(page, photometric="rgb", compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tif:
        overwrite(path, tif.pages[2].dataoffsets[0], b"\0" * 40)
    planes = planes_in(path)
    assert_array_equal(planes[1].read().rgb, STACK[1])
    assert_array_equal(planes[3].read().rgb, STACK[3])
    with pytest.raises(InputError, match=r"lazy.tif: can't be read as a TIFF .*copy it again"):
        planes[2].read()


# Zarr arrays


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RGB[..., 0], {"0": np.dstack([RGB[..., 0]] * 3)}),
        (RGB, {"0": RGB}),
        (np.dstack([RGB, np.full((20, 30), 255, np.uint8)]), {"0": RGB}),
        (RGB.transpose(2, 0, 1), {"0": RGB}),
        (STACK, {f"p{i}": page for i, page in enumerate(STACK)}),
        (STACK.transpose(0, 3, 1, 2), {f"p{i}": page for i, page in enumerate(STACK)}),
        (STACK[:1], {"0": STACK[0]}),
        (STACK[..., 0], {f"p{i}": np.dstack([page[..., 0]] * 3) for i, page in enumerate(STACK)}),
        (STACK[0, :3].transpose(0, 2, 1)[..., :3], {"0": STACK[0, :3].transpose(0, 2, 1)[..., :3]}),
        (STACK.transpose(0, 3, 1, 2)[:2, :, None], {f"t{i}": STACK[i] for i in range(2)}),
        (RGB[:, :12].transpose(2, 0, 1), {"0": RGB[:, :12]}),
    ],
    ids=["HW", "HW3", "HW4", "3HW", "nHW3", "n3HW", "1HW3", "nHW", "3H3", "t3zHW", "narrow"],
)
def test_zarr_array_shapes(tmp_path, array, expected, zarr_format):
    path = tmp_path / "smear.zarr"
    zarr.create_array(path, data=np.ascontiguousarray(array), zarr_format=zarr_format)
    planes = planes_in(path)
    assert [plane.plane for plane in planes] == list(expected)
    for plane in planes:
        assert_array_equal(plane.read().rgb, expected[plane.plane])
        assert plane.pixel_size_um is None


def test_names_of_a_zarr_arrays_axes_win_over_its_shape(tmp_path):
    path = tmp_path / "named.zarr"
    zarr.create_array(path, data=STACK[:3, ..., 0], dimension_names=["z", "y", "x"])
    planes = planes_in(path)
    assert [plane.plane for plane in planes] == ["z0", "z1", "z2"]
    assert_array_equal(planes[2].read().rgb[..., 0], STACK[2, ..., 0])


@pytest.mark.parametrize("of_version_2", [True, False])
@pytest.mark.parametrize(
    ("names", "array"),
    [
        (["channel", "y", "x"], RGB.transpose(2, 0, 1)),
        (["Y", "X", "C"], RGB),
        (["y", "x", "rgb"], RGB),
        (["x", "y", "channels"], RGB.transpose(1, 0, 2)),
    ],
)
def test_an_axis_of_colours_has_many_names(tmp_path, names, array, of_version_2):
    path, array = tmp_path / "named.zarr", np.ascontiguousarray(array)
    if of_version_2:
        zarr.create_array(path, data=array, zarr_format=2, attributes={"_ARRAY_DIMENSIONS": names})
    else:
        zarr.create_array(path, data=array, dimension_names=names)
    (plane,) = planes_in(path)
    assert_array_equal(plane.read().rgb, RGB)


@pytest.mark.parametrize("count", [2, 5, 16])
def test_channels_that_come_last_must_be_told(tmp_path, count):
    path, (file,) = tmp_path / "many.zarr", find_images([tmp_path / "many.zarr"])
    zarr.create_array(path, data=np.concatenate([RGB[..., ::-1], *[RGB] * 5], axis=2)[..., :count].copy())
    with pytest.raises(InputError, match=f"an image with {count} channels; expected 3.*--channels"):
        open_planes(file)
    if count > 2:
        assert_array_equal(open_planes(file, ReadParams(channels=(2, 1, 0)))[0].read().rgb, RGB)


@pytest.mark.parametrize("shape", [(7,), (1, 1, 1, 1, 5, 5)])
def test_zarr_arrays_that_are_no_image(tmp_path, shape):
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match=r"a.zarr: a zarr array of shape .*expected 2 to 5 axes"):
        planes_in(tmp_path / "a.zarr")


def test_zarr_chunks_are_read_one_by_one(tmp_path):
    path = tmp_path / "lazy.zarr"
    zarr.create_array(path, data=STACK, chunks=(1, 20, 30, 3))
    (path / "c/2/0/0/0").write_bytes(b"junk")
    planes = planes_in(path)
    assert_array_equal(planes[1].read().rgb, STACK[1])
    with pytest.raises(InputError, match=r"lazy.zarr: can't be read as zarr"):
        planes[2].read()


# OME-Zarr

MICROMETRES = {"type": "space", "unit": "micrometer"}
AXES = {
    "t": {"name": "t", "type": "time"},
    "c": {"name": "c", "type": "channel"},
    "z": {"name": "z", **MICROMETRES},
    "y": {"name": "y", **MICROMETRES},
    "x": {"name": "x", **MICROMETRES},
}


def write_ome_zarr(path, array, axes, version, scale=None, outer_scale=None, unit=None):
    """Write an OME-Zarr image with a half-size second level, by hand."""
    zarr_format = {"0.4": 2, "0.5": 3}[version]
    group = zarr.create_group(path, zarr_format=zarr_format)
    names = list(axes) if zarr_format == 3 else None
    group.create_array("full", data=array, dimension_names=names)
    group.create_array("half", data=np.ascontiguousarray(array[..., ::2, ::2]), dimension_names=names)
    scale = scale or [1.0] * len(axes)
    half = [*scale[:-2], scale[-2] * 2, scale[-1] * 2]
    multiscale = {
        "axes": [dict(AXES[axis]) for axis in axes],
        "datasets": [
            {"path": name, "coordinateTransformations": [{"type": "scale", "scale": values}]}
            for name, values in (("full", scale), ("half", half))
        ],
    }
    if outer_scale:
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": outer_scale}]
    if unit:
        for axis in multiscale["axes"]:
            if axis["type"] == "space":
                axis["unit"] = unit
    if version == "0.4":
        group.attrs["multiscales"] = [{"version": "0.4", **multiscale}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    return group


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_with_channels_first_is_rgb(tmp_path, version):
    path = tmp_path / "smear.ome.zarr"
    write_ome_zarr(path, RGB.transpose(2, 0, 1).copy(), "cyx", version, scale=[1, 0.25, 0.25])
    plane = only_plane(path)
    assert plane.read().rgb.shape == (20, 30, 3)
    assert_array_equal(plane.read().rgb, RGB)
    assert (plane.image, plane.pixel_size_um, plane.downsample) == ("smear.ome.zarr", 0.25, 1.0)
    (half,) = open_planes(*find_images([path]), ReadParams(level=1))
    assert_array_equal(half.read().rgb, RGB[::2, ::2])
    assert (half.pixel_size_um, half.downsample) == (0.5, 2.0)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_stack(tmp_path, version):
    path = tmp_path / "stack.zarr"
    array = np.ascontiguousarray(STACK.reshape(2, 2, 20, 30, 3).transpose(0, 4, 1, 2, 3))
    write_ome_zarr(path, array, "tczyx", version)
    planes = planes_in(path)
    assert [plane.plane for plane in planes] == ["t0_z0", "t0_z1", "t1_z0", "t1_z1"]
    for plane, page in zip(planes, STACK, strict=True):
        assert_array_equal(plane.read().rgb, page)


def test_ome_zarr_z_stack_of_three_is_not_rgb(tmp_path):
    write_ome_zarr(tmp_path / "z.zarr", STACK[:3, ..., 0].copy(), "zyx", "0.4")
    planes = planes_in(tmp_path / "z.zarr")
    assert [plane.plane for plane in planes] == ["z0", "z1", "z2"]
    assert planes[1].read().notes == (GREY,)


def test_ome_zarr_with_one_channel_is_grey(tmp_path):
    write_ome_zarr(tmp_path / "g.zarr", RGB[None, ..., 1].copy(), "cyx", "0.5")
    assert_array_equal(pixels(tmp_path / "g.zarr"), np.dstack([RGB[..., 1]] * 3))


@pytest.mark.parametrize("channels", [2, 4])
def test_ome_zarr_with_other_channels_is_refused(tmp_path, channels):
    write_ome_zarr(tmp_path / "f.zarr", np.zeros((channels, 8, 8), np.uint8), "cyx", "0.4")
    with pytest.raises(InputError, match=rf"f.zarr: an image with {channels} channels; expected 3 \(RGB\) or 1"):
        planes_in(tmp_path / "f.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_inside_of_a_zarr_store(tmp_path, version):
    zarr.create_group(tmp_path / "store.zarr", zarr_format={"0.4": 2, "0.5": 3}[version])
    channels_first = RGB.transpose(2, 0, 1).copy()
    write_ome_zarr(tmp_path / "store.zarr" / "7", channels_first, "cyx", version)
    files = find_images([tmp_path / "store.zarr" / "7", tmp_path / "store.zarr" / "7" / "full"])
    assert [file.image for file in files] == ["store.zarr/7", "store.zarr/7/full"]
    for file in files:
        assert_array_equal(open_planes(file)[0].read().rgb, RGB)


def test_zarr_group_without_an_image(tmp_path):
    zarr.create_group(tmp_path / "group.zarr")
    with pytest.raises(InputError, match=r"a zarr group without an OME-Zarr image; give the path of an array"):
        planes_in(tmp_path / "group.zarr")


@pytest.mark.parametrize(
    "omero",
    [
        None,
        {"channels": None},
        {"channels": ["red", 1, None]},
        {"channels": [{"label": name} for name in ("infrared", "red", "green", "blue")]},
        {"channels": [{"color": "FF0000"}]},
    ],
)
def test_ome_zarr_whose_colours_say_nothing(tmp_path, omero):
    group = write_ome_zarr(tmp_path / "smear.zarr", RGB.transpose(2, 0, 1).copy(), "cyx", "0.4")
    group.attrs["omero"] = omero
    assert_array_equal(pixels(tmp_path / "smear.zarr"), RGB)


def test_grey_ome_zarr_whose_colours_are_of_another_image(tmp_path):
    group = write_ome_zarr(tmp_path / "g.zarr", RGB[None, ..., 1].copy(), "cyx", "0.4")
    group.attrs["omero"] = {"channels": [{"color": color} for color in ("FF0000", "00FF00", "0000FF")]}
    assert_array_equal(pixels(tmp_path / "g.zarr"), np.dstack([RGB[..., 1]] * 3))


def test_colours_of_ome_zarr_as_html_writes_them(tmp_path):
    group = write_ome_zarr(tmp_path / "bgr.zarr", RGB[..., ::-1].transpose(2, 0, 1).copy(), "cyx", "0.4")
    group.attrs["omero"] = {"channels": [{"color": color} for color in ("#0000ff", "#00FF00", "FF0000")]}
    assert_array_equal(pixels(tmp_path / "bgr.zarr"), RGB)


def test_ome_zarr_of_another_version(tmp_path):
    group = zarr.create_group(tmp_path / "new.zarr")
    group.attrs["ome"] = {"version": "0.9", "multiscales": [{}]}
    with pytest.raises(InputError, match=r"OME-Zarr version 0.9; expected 0.4 or 0.5"):
        planes_in(tmp_path / "new.zarr")


def test_ome_zarr_metadata_are_validated(tmp_path):
    group = write_ome_zarr(tmp_path / "old.zarr", RGB.transpose(2, 0, 1).copy(), "cyx", "0.4")
    multiscale = group.attrs["multiscales"][0]
    del multiscale["axes"]
    group.attrs["multiscales"] = [multiscale]
    with pytest.raises(InputError, match=r"not valid at multiscales.0.axes \(Field required\); expected version 0.4"):
        planes_in(tmp_path / "old.zarr")


def test_ome_zarr_whose_array_has_other_axes(tmp_path):
    write_ome_zarr(tmp_path / "odd.zarr", RGB.transpose(2, 0, 1).copy(), "cyx", "0.4")
    zarr.create_array(tmp_path / "odd.zarr" / "full", data=RGB[..., 0].copy(), zarr_format=2, overwrite=True)
    with pytest.raises(InputError, match=r"odd.zarr: 3 axes are named but the array has 2"):
        planes_in(tmp_path / "odd.zarr")


def test_ome_zarr_whose_array_is_missing(tmp_path):
    group = write_ome_zarr(tmp_path / "hole.zarr", RGB.transpose(2, 0, 1).copy(), "cyx", "0.5")
    del group["full"]
    with pytest.raises(InputError, match=r"hole.zarr: .*missing"):
        planes_in(tmp_path / "hole.zarr")


# Pixel size

PER_CM = (40000, 40000)  # 0.25 um


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.png", {"dpi": (101600, 101600)}, 0.25),
        ("a.png", {"dpi": (72, 72)}, None),
        ("a.png", {}, None),
        ("a.bmp", {"dpi": (101600, 101600)}, 0.25),
        ("a.jpg", {"dpi": (50800, 50800)}, 0.5),
        ("a.jpg", {"dpi": (300, 300)}, None),
        ("a.jpg", {"dpi": (50800, 25400)}, None),
    ],
)
def test_pixel_size_of_flat_files(tmp_path, name, options, expected):
    Image.fromarray(RGB).save(tmp_path / name, **options)
    assert only_plane(tmp_path / name).pixel_size_um == (expected and pytest.approx(expected, rel=1e-3))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolution": PER_CM, "resolutionunit": "CENTIMETER"}, 0.25),
        ({"resolution": (101600, 101600), "resolutionunit": "INCH"}, 0.25),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": PER_CM, "resolutionunit": "NONE"}, None),
        ({"resolution": (40000, 41000), "resolutionunit": "CENTIMETER"}, None),
        ({}, None),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}, 0.25),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "\\u00B5m"}}, 0.25),
        ({"imagej": True, "resolution": (0.004, 0.004), "metadata": {"unit": "nm"}}, 0.25),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "pixel"}}, None),
        ({"imagej": True, "resolution": (4, 4)}, None),
    ],
    ids=str,
)
def test_pixel_size_of_tiff(tmp_path, options, expected):
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", **options)
    assert only_plane(tmp_path / "a.tif").pixel_size_um == (expected and pytest.approx(expected, rel=1e-3))


@pytest.mark.parametrize("count", [3, 10])
def test_pages_may_have_pixel_sizes_of_their_own(tmp_path, count):
    sizes_um = [0.25, 0.5, None, *[0.25] * 7][:count]
    facts = [
        {} if um is None else {"resolution": (1e4 / um, 1e4 / um), "resolutionunit": "CENTIMETER"} for um in sizes_um
    ]
    write_pages(tmp_path / "sizes.tif", list(zip(TEN, facts, strict=False)))
    assert [plane.pixel_size_um for plane in planes_in(tmp_path / "sizes.tif")] == sizes_um


@pytest.mark.parametrize(
    ("x", "y", "unit", "expected"),
    [
        (0.25, 0.25, None, 0.25),
        (0.25, 0.25, "µm", 0.25),
        (250, 250, "nm", 0.25),
        (0.00025, 0.00025, "mm", 0.25),
        (0.25, 0.2520, "µm", 0.25),
        (0.25, 0.2600, "µm", None),
        (353, 353, "µm", None),
        (0.01, 0.01, "µm", None),
        (0.25, 0.25, "pixel", None),
        (0, 0, "µm", None),
        (0.25, None, "µm", None),
        ("wide", "wide", "µm", None),
    ],
)
def test_pixel_size_of_ome_tiff(tmp_path, x, y, unit, expected):
    metadata = {"axes": "YXS", "PhysicalSizeX": x, "PhysicalSizeY": y}
    if unit:
        metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    tifffile.imwrite(tmp_path / "a.ome.tif", RGB, photometric="rgb", ome=True, metadata=metadata)
    assert only_plane(tmp_path / "a.ome.tif").pixel_size_um == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    ("names", "sizes_um", "expected"),
    [
        (("a", "b"), (0.5, 0.07), 0.07),
        (("", ""), (0.5, 0.07), None),
        (("b", "b"), (0.5, 0.07), None),
        (("b", "b"), (0.07, 0.07), 0.07),
    ],
)
def test_pixel_size_of_the_image_that_is_in_the_ome_tiff(tmp_path, names, sizes_um, expected):
    write_ome_set(tmp_path, STACK[:2], sizes_um=sizes_um, names=names)
    for i, size_um in enumerate(sizes_um):
        assert [plane.pixel_size_um for plane in planes_in(tmp_path / f"{i}.ome.tif")] == [size_um]
    (tmp_path / "0.ome.tif").unlink()
    assert [plane.pixel_size_um for plane in planes_in(tmp_path / "1.ome.tif")] == [expected]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("scale", "outer", "unit", "expected"),
    [
        ([1, 0.25, 0.25], None, None, 0.25),
        ([1, 0.5, 0.5], [1, 0.5, 0.5], None, 0.25),
        ([1, 250, 250], None, "nanometer", 0.25),
        ([1, 0.25, 0.2], None, None, None),
        ([1, 1, 1], None, "parsec", None),
        ([1, 100, 100], None, None, None),
    ],
)
def test_pixel_size_of_ome_zarr(tmp_path, scale, outer, unit, expected, version):
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, RGB.transpose(2, 0, 1).copy(), "cyx", version, scale, outer, unit)
    assert only_plane(path).pixel_size_um == (expected and pytest.approx(expected))


def test_ome_zarr_without_a_unit_has_no_pixel_size(tmp_path):
    group = write_ome_zarr(tmp_path / "a.zarr", RGB.transpose(2, 0, 1).copy(), "cyx", "0.4", [1, 0.25, 0.25])
    multiscale = group.attrs["multiscales"][0]
    for axis in multiscale["axes"]:
        axis.pop("unit", None)
    group.attrs["multiscales"] = [multiscale]
    assert only_plane(tmp_path / "a.zarr").pixel_size_um is None


# Finding and naming


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folder_is_searched_to_the_bottom_in_natural_order(tmp_path):
    touch(
        tmp_path,
        "c10.png",
        "c2.PNG",
        "C1.jpg",
        "b/z.tiff",
        "b/a.bmp",
        "notes.txt",
        ".hidden.png",
        ".git/x.png",
    )
    images = [file.image for file in find_images([tmp_path])]
    assert images == ["b/a.bmp", "b/z.tiff", "C1.jpg", "c2.PNG", "c10.png"]


def test_names_do_not_depend_on_where_the_folder_lies(tmp_path):
    for place in ("here", "far/away"):
        touch(tmp_path / place / "slides", "a.png", "deep/b.tif")
    near, far = (find_images([tmp_path / place / "slides"]) for place in ("here", "far/away"))
    assert [file.image for file in near] == [file.image for file in far] == ["a.png", "deep/b.tif"]
    assert far[1].path == tmp_path / "far/away/slides/deep/b.tif"


def test_zarr_store_in_a_folder_is_one_image(tmp_path):
    zarr.create_array(tmp_path / "b.zarr", data=RGB)
    touch(tmp_path / "b.zarr", "preview.png")
    write_ome_zarr(tmp_path / "sub" / "plain_name", RGB.transpose(2, 0, 1).copy(), "cyx", "0.4")
    assert [file.image for file in find_images([tmp_path])] == ["b.zarr", "sub/plain_name"]


def test_named_file_is_kept_whatever_its_suffix(tmp_path):
    touch(tmp_path, "x.dat", ".hidden.png")
    assert [file.image for file in find_images([tmp_path / "x.dat", tmp_path / ".hidden.png"])] == [
        "x.dat",
        ".hidden.png",
    ]


def test_same_names_get_the_parent_folders_that_tell_them_apart(tmp_path):
    touch(tmp_path, "a/s/1.png", "b/s/1.png", "b/s/2.png")
    files = find_images([tmp_path / "a/s/1.png", tmp_path / "b/s/1.png", tmp_path / "b/s/2.png"])
    assert [file.image for file in files] == ["a/s/1.png", "b/s/1.png", "2.png"]


def test_two_folders_with_the_same_names(tmp_path):
    touch(tmp_path, "all/1.png", "hem/1.png", "hem/2.png")
    files = find_images([tmp_path / "all", tmp_path / "hem"])
    assert [file.image for file in files] == ["all/1.png", "hem/1.png", "2.png"]


def test_case_alone_tells_names_apart_only_where_it_must(tmp_path):
    touch(tmp_path, "all/a.png", "hem/A.png", "hem/B.png")
    files = find_images([tmp_path / "all", tmp_path / "hem"])
    assert [file.image for file in files] == ["all/a.png", "hem/A.png", "B.png"]
    one, other = PurePosixPath("/s/a.png"), PurePosixPath("/s/A.png")  # one file on Windows and macOS
    assert folders._unique_names({one: 1, other: 1}) == {one: "a.png", other: "A.png"}


def test_names_never_lead_out_of_a_folder(tmp_path, monkeypatch):
    touch(tmp_path, "one/1.png", "two/1.png")
    monkeypatch.chdir(tmp_path / "one")
    files = find_images(["1.png", "../two/1.png"])
    assert [file.image for file in files] == ["one/1.png", "two/1.png"]


def test_an_image_given_twice_is_one_image(tmp_path, monkeypatch):
    touch(tmp_path, "s/1.png", "s/2.png")
    monkeypatch.chdir(tmp_path)
    files = find_images(["s/2.png", "s", tmp_path / "s" / ".." / "s" / "1.png"])
    assert [file.image for file in files] == ["2.png", "1.png"]


def test_link_keeps_its_own_name(tmp_path):
    touch(tmp_path, "store/ab12.png", "data/readme.txt")
    (tmp_path / "data" / "patient1.png").symlink_to(tmp_path / "store" / "ab12.png")
    assert [file.image for file in find_images([tmp_path / "data"])] == ["patient1.png"]


def test_link_to_a_folder_above_ends(tmp_path):
    touch(tmp_path, "a/1.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert [file.image for file in find_images([tmp_path])] == ["a/1.png"]


def test_folders_that_links_lead_to_are_searched_once(tmp_path):
    touch(tmp_path, "in/a/1.png", "in/c/2.png", "out/d/3.png", "out/e/4.png")
    for link, target in {
        "in/a/to_c": "in/c",
        "in/c/to_a": "in/a",
        "in/far": "out/d",
        "in/again": "out/d",
        "out/d/to_e": "out/e",
        "out/e/to_d": "out/d",
    }.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    images = [file.image for file in find_images([tmp_path / "in"])]
    assert images == ["a/1.png", "again/3.png", "again/to_e/4.png", "c/2.png"]
    (tmp_path / "alias").symlink_to(tmp_path / "in")
    assert [file.image for file in find_images([tmp_path / "alias"])] == images


def test_links_to_what_is_left_out_are_followed(tmp_path):
    touch(tmp_path, ".store/day/1.png", "a/2.png")
    (tmp_path / "day").symlink_to(tmp_path / ".store/day")
    assert [file.image for file in find_images([tmp_path])] == ["a/2.png", "day/1.png"]


def test_folders_of_other_programs_hold_no_smears(tmp_path):
    touch(tmp_path, "__MACOSX/b.jpg", "b.jpg", "@eaDir/SYNO_THUMB.jpg", "c.JFIF", "d.jpe", "slide.svs", "e.tf8")
    assert [file.image for file in find_images([tmp_path])] == ["b.jpg", "c.JFIF", "d.jpe", "e.tf8", "slide.svs"]
    assert [file.image for file in find_images([tmp_path / "**/*.jpg"])] == ["b.jpg"]
    assert [file.image for file in find_images([tmp_path / "@eaDir/*.jpg"])] == ["SYNO_THUMB.jpg"]


def test_label_images_are_no_smears(tmp_path):
    touch(tmp_path, "a.png", "a_labels.tif", "in/a_labels.tiff", "b.tif", "b_NUCLEI.TIFF", "labels.tif", "c_labels.png")
    assert [file.image for file in find_images([tmp_path])] == ["a.png", "b.tif", "c_labels.png", "labels.tif"]
    assert [file.image for file in find_images([tmp_path / "*.[tT]*"])] == ["b.tif", "labels.tif"]
    # What nothing else can be meant by is kept.
    assert [file.image for file in find_images([tmp_path / "a_labels.tif"])] == ["a_labels.tif"]
    assert [file.image for file in find_images([tmp_path / "*_labels.tif"])] == ["a_labels.tif"]


def test_inputs_are_a_list_and_none_is_empty():
    assert as_inputs("a.png") == as_inputs(["a.png"]) == ["a.png"]
    assert as_inputs(Path("a.png")) == [Path("a.png")]
    upath = pytest.importorskip("upath")
    assert as_inputs(upath.UPath("memory://a.png")) == [upath.UPath("memory://a.png")]
    with pytest.raises(ParameterError, match="an input is empty"):
        as_inputs(["a.png", ""])


# Bad inputs: each is one line that names the file, and spoils no other


def error_of(file: ImageFile) -> str:
    with pytest.raises(InputError) as caught:
        _ = [plane.read() for plane in open_planes(file)]
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file.path}: ")
    return message


def test_bad_inputs_do_not_stop_the_others(tmp_path):
    (tmp_path / "empty").mkdir()
    Image.fromarray(RGB).save(tmp_path / "good.png")
    missing, empty, good = find_images([tmp_path / "missing.png", tmp_path / "empty", tmp_path / "good.png"])
    assert "no such file or folder" in error_of(missing)
    assert "holds no image that can be read; expected PNG, JPEG, BMP, TIFF or zarr" in error_of(empty)
    assert (missing.image, empty.image) == ("missing.png", "empty")
    assert_array_equal(open_planes(good)[0].read().rgb, RGB)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.png", b"", "the file is empty"),
        ("notes.png", b"hello", "not an image that can be read; expected PNG, JPEG, BMP, TIFF or zarr"),
        ("archive.zip", b"PK\3\4" + bytes(100), "not an image that can be read"),
        ("start.png", b"\x89PNG\r\n\x1a\n", "can't be read as an image"),
        ("start.jpg", b"\xff\xd8\xff\xe0", "can't be read as an image"),
        ("start.bmp", b"BM", "can't be read as an image"),
        ("start.tif", b"II*\0", "can't be read as a TIFF"),
        ("junk.tif", b"II*\0" + b"\xff" * 60, "can't be read as a TIFF"),
    ],
)
def test_files_that_are_no_image(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    (file,) = find_images([tmp_path / name])
    assert words in error_of(file)


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.97])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "zlib.tif", "jpeg.tif", "16.png"])
def test_files_cut_short(tmp_path, suffix, keep):
    path = tmp_path / f"cut.{suffix}"
    if suffix == "16.png":
        path.write_bytes(png_encode(RGB.astype(np.uint16) * 16))
    elif suffix.endswith("tif"):
        compression = suffix.split(".")[0] if "." in suffix else None
        tifffile.imwrite(path, RGB, photometric="rgb", compression=compression)
    else:
        Image.fromarray(RGB).save(path)
    cut_short(path, keep)
    error_of(ImageFile(path, path.name))


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7, 0.9])
def test_tiff_that_lost_its_last_pages(tmp_path, keep):
    path = tmp_path / "cut.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in STACK:
            writer.write(page, photometric="rgb", metadata=None)
    cut_short(path, keep)
    error_of(ImageFile(path, path.name))


def test_imagej_stack_cut_short(tmp_path):
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, STACK, imagej=True, photometric="rgb")
    cut_short(path, 0.6)
    error_of(ImageFile(path, path.name))


def test_tiff_without_width(tmp_path):
    path = tmp_path / "flat.tif"
    tifffile.imwrite(path, RGB, photometric="rgb")
    with tifffile.TiffFile(path) as tif:
        overwrite(path, tif.pages[0].tags["ImageWidth"].valueoffset, b"\0\0\0\0")
    assert "can't be read as a TIFF" in error_of(ImageFile(path, path.name))


def test_bmp_with_an_impossible_width(tmp_path):
    path = tmp_path / "wide.bmp"
    Image.fromarray(RGB).save(path)
    overwrite(path, 18, b"\xff\xff\xff\x7f")
    assert "can't be read as an image" in error_of(ImageFile(path, path.name))


def test_damaged_png_data(tmp_path):
    path = tmp_path / "damaged.png"
    Image.fromarray(RGB).save(path)
    overwrite(path, path.stat().st_size // 2, b"\0\0\0\0\0\0\0\0")
    assert "can't be read as an image" in error_of(ImageFile(path, path.name))


def test_file_that_goes_away_after_it_was_listed(tmp_path):
    path = tmp_path / "gone.png"
    Image.fromarray(RGB).save(path)
    plane = only_plane(path)
    path.unlink()
    with pytest.raises(InputError, match=r"gone.png: no such file"):
        plane.read()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("zarr.json", "{"),
        ("zarr.json", "{}"),
        ("zarr.json", "[]"),
        ("zarr.json", '{"zarr_format": 3, "node_type": "array"}'),
        (".zarray", "{"),
        (".zarray", '{"zarr_format": 2}'),
        ("readme.txt", "no metadata at all"),
    ],
)
def test_damaged_zarr_metadata(tmp_path, name, text):
    (tmp_path / "bad.zarr").mkdir()
    (tmp_path / "bad.zarr" / name).write_text(text)
    (file,) = find_images([tmp_path])
    assert file.image == "bad.zarr"
    error_of(file)


def test_zarr_with_an_unknown_codec(tmp_path):
    path = tmp_path / "odd.zarr"
    zarr.create_array(path, data=RGB)
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["codecs"].append({"name": "nonsense", "configuration": {}})
    (path / "zarr.json").write_text(json.dumps(metadata))
    assert "nonsense" in error_of(ImageFile(path, path.name))


def test_file_without_the_right_to_read_it(tmp_path, monkeypatch):
    path = tmp_path / "locked.png"
    Image.fromarray(RGB).save(path)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "permission denied" in error_of(ImageFile(path, path.name))


def test_folder_without_the_right_to_look(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    touch(tmp_path, "open.png")
    iterdir = Path.iterdir

    def refuse(self: Path):
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    locked, readable = find_images([tmp_path])
    assert (locked.image, readable.image) == ("locked", "open.png")
    assert "permission denied" in error_of(locked)


# What the batch runner and the start-up time rely on


def test_running_out_of_memory_is_no_damage(tmp_path):
    with pytest.raises(InputError, match=r"too large for the memory .*; free some, crop"), readable(tmp_path, "zarr"):
        raise MemoryError


@pytest.mark.parametrize(
    "name", ["EIO", "EAGAIN", "EBUSY", "ESTALE", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ECONNRESET"]
)
def test_a_disk_in_trouble_may_be_asked_again(tmp_path, name):
    number = getattr(errno, name)
    with pytest.raises(StoreError, match="the disk or server failed"), readable(tmp_path, "an image"):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("status", "error"),
    [(status, StoreError) for status in (None, 408, 425, 429, 500, 502, 503, 504)]
    + [(status, InputError) for status in (400, 401, 403, 404, 410, 501)],
)
def test_a_server_in_trouble_may_be_asked_again(tmp_path, monkeypatch, status, error):
    class ServerError(Exception):
        pass

    answer = ServerError("no")
    if status:
        answer.status = status
    monkeypatch.setattr(plane_module, "network_errors", lambda: (ServerError,))
    with pytest.raises(InputError) as caught, readable(tmp_path, "an image"):
        raise answer
    assert caught.type is error
    assert (f"permission denied ({status})" in str(caught.value)) == (status in (401, 403))


def test_labels_and_tables_in_a_store_are_no_change_of_its_image(tmp_path):
    store = tmp_path / "smear.ome.zarr"
    write_ome_zarr(store, RGB.transpose(2, 0, 1).copy(), "cyx", "0.5")
    before = stamp(store)
    for name in ("labels", "tables"):
        (store / name / "cells").mkdir(parents=True)
        (store / name / "cells" / "zarr.json").write_text("{}")
    assert stamp(store) == before
    (store / "full" / "more").write_text("")
    assert stamp(store) != before


def test_planes_can_be_sent_to_another_process(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", STACK, photometric="rgb")
    zarr.create_array(tmp_path / "c.zarr", data=RGB)
    planes = [plane for file in find_images([tmp_path]) for plane in open_planes(file)]
    assert len(planes) == 6
    copies = pickle.loads(pickle.dumps(planes))
    assert copies == planes
    for plane, copy in zip(planes, copies, strict=True):
        assert_array_equal(copy.read().rgb, plane.read().rgb)


def test_import_loads_no_image_library():
    code = "import sys, napari_all_detect.sources; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert not {"PIL", "tifffile", "zarr", "imagecodecs", "ome_zarr_models", "pydantic"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("path", "image"),
    [("set/plate.zarr/0", "plate.zarr/0"), ("a.zarr/b.zarr/0", "a.zarr/b.zarr/0"), ("b/a.png", "a.png")],
)
def test_what_a_server_in_trouble_cannot_tell_is_named_after_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, image: str
) -> None:
    def fails(_: Path) -> bool:
        raise StoreError("503")

    monkeypatch.setattr(folders, "_is_zarr", fails)
    (found,) = find_images([tmp_path / path])
    assert found.image == image


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://h/a.png?sig=a'SECRET: no such file", "http://h/a.png?...: no such file"),
        ("'HTTPS://joe@h/a.png?sig=SECRET' is gone", "'HTTPS://h/a.png?...' is gone"),
        ("http://h/a.png#token=SECRET, and more", "http://h/a.png#..., and more"),
        ("['http://h/a?x', 'http://h/b?x']", "['http://h/a?...', 'http://h/b?...']"),
        ("day#1/a?.png: no such file", "day#1/a?.png: no such file"),
    ],
)
def test_keys_in_addresses_are_not_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
