import logging
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi

from all_detect_training import reading, telling
from all_detect_training.cells import Cells
from all_detect_training.listing import list_folders
from all_detect_training.reading import read_cells as read_listed
from all_detect_training.single_cells import first_plane
from napari_all_detect.bundle.manifest import Crop
from napari_all_detect.crops import center_crop
from napari_all_detect.errors import InputError
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import PlaneInput
from napari_all_detect.pipeline.cutting import cut_cells
from napari_all_detect.samples import draw_smear
from napari_all_detect.segmentation import segment_cells
from napari_all_detect.sources import as_rgb

CLASSES = {"Benign": "Hem", "Early": "ALL"}


def read_cells(folder: Path, classes: dict[str, str], **options: Any) -> Cells:
    return read_listed(list_folders(folder, classes), folder, **options)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in threads: processes take seconds to start, and their log can't be caught."""
    monkeypatch.setattr(reading, "ProcessPoolExecutor", lambda workers, **_: ThreadPoolExecutor(workers))


@pytest.fixture
def smears(tmp_path: Path) -> Path:
    """Two smears of normal cells and three of blasts, numbered so that names sort otherwise than numbers."""
    for sub, numbers, fraction in (("Benign", (2, 10), 0.0), ("Early", (1, 9, 11), 1.0)):
        (tmp_path / sub).mkdir()
        for i in numbers:
            smear = draw_smear((144, 160), n_cells=6, fraction_all=fraction, seed=i, touching=0, border=0)
            Image.fromarray(smear.rgb).save(tmp_path / sub / f"im{i}.png")
    return tmp_path


def segmented(path: Path) -> tuple[np.ndarray, np.ndarray]:
    rgb = np.asarray(Image.open(path))
    return rgb, segment_cells(rgb)


@pytest.mark.usefixtures("in_process")
def test_cells_of_smears_are_those_that_a_bundle_scores(smears: Path) -> None:
    wide = draw_smear((320, 320), n_cells=6, fraction_all=1, seed=5, touching=0, border=0, cell_diameter_px=80)
    Image.fromarray(wide.rgb).save(smears / "Early" / "im3.png")
    as_they_are = read_cells(smears, CLASSES, kind="smears", crop_size=48)
    asked = []

    def training_px(cells: Cells) -> float:
        asked.append(cells)
        return float(np.median(cells.diameter_px[cells.image != "Early/im3.png"]))

    cells = read_cells(smears, CLASSES, kind="smears", crop_size=48, training_px=training_px)
    (seen,) = asked
    assert len(seen) == len(as_they_are)
    crop = Crop(size=48, cell_diameter_px=training_px(as_they_are))
    rescaled = set()
    for name in dict.fromkeys(cells.image.tolist()):
        given = PlaneInput(as_rgb(np.asarray(Image.open(smears / name))))
        cut = cut_cells(given, ScoreParams(), crop)
        np.testing.assert_array_equal(cells.crops[cells.image == name], cut.crops)
        if cut.scale != 1:
            rescaled.add(name)
            assert (cells.crops[cells.image == name] != as_they_are.crops[cells.image == name]).any()
    assert "Early/im3.png" in rescaled
    assert len(rescaled) < 6
    np.testing.assert_array_equal(cells.diameter_px, as_they_are.diameter_px)


@pytest.mark.usefixtures("in_process")
def test_a_smear_that_changes_meanwhile_is_refused(smears: Path) -> None:
    def training_px(cells: Cells) -> float:
        for path in (smears / "Early").iterdir():
            Image.fromarray(np.full((90, 90, 3), 235, np.uint8)).save(path)
        return 2 * float(np.median(cells.diameter_px))

    with pytest.raises(InputError, match=r"im\d+\.png: changed while it was read"):
        read_cells(smears, CLASSES, kind="smears", crop_size=48, training_px=training_px)


@pytest.mark.usefixtures("in_process")
def test_cells_of_smears_carry_class_image_and_diameter(smears: Path) -> None:
    cells = read_cells(smears, CLASSES, kind="smears", crop_size=48)
    assert list(dict.fromkeys(cells.image.tolist())) == [
        "Benign/im2.png",
        "Benign/im10.png",
        "Early/im1.png",
        "Early/im9.png",
        "Early/im11.png",
    ]
    assert cells.is_all.dtype == bool
    assert cells.is_all.tolist() == [name.startswith("Early") for name in cells.image]
    rgb, labels = segmented(smears / "Early" / "im9.png")
    here = cells[cells.image == "Early/im9.png"]
    np.testing.assert_array_equal(here.crops, center_crop(rgb, labels, 48))
    area = np.bincount(labels.ravel())[1:]
    np.testing.assert_allclose(here.diameter_px, np.sqrt(area * 4 / np.pi), rtol=1e-6)
    # Blasts are drawn 35 px wide on average, lymphocytes 26.
    assert np.median(cells.diameter_px[cells.is_all]) == pytest.approx(35, rel=0.15)
    assert np.median(cells.diameter_px[~cells.is_all]) == pytest.approx(26, rel=0.15)


@pytest.mark.usefixtures("in_process")
def test_a_damaged_image_is_left_out_and_logged(smears: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = read_cells(smears, CLASSES, kind="smears", crop_size=48)
    broken = smears / "Early" / "im9.png"
    broken.write_bytes(broken.read_bytes()[:2000])
    (smears / "Early" / "im12.png").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        rest = read_cells(smears, CLASSES, kind="smears", crop_size=48)
    np.testing.assert_array_equal(rest.crops, whole[whole.image != "Early/im9.png"].crops)
    assert sorted(Path(r.getMessage().split(": ")[1]).name for r in caplog.records) == ["im12.png", "im9.png"]


@pytest.mark.usefixtures("in_process")
def test_smears_without_a_cell_are_told_once(smears: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = read_cells(smears, CLASSES, kind="smears", crop_size=48)
    assert not caplog.records
    for i in range(20, 26):
        Image.new("RGB", (144, 160), (235, 230, 238)).save(smears / "Early" / f"im{i}.png")
    (smears / "Early" / "im30.png").write_bytes(b"no image")
    rest = read_cells(smears, CLASSES, kind="smears", crop_size=48)
    np.testing.assert_array_equal(rest.crops, whole.crops)
    broken, said = [record.getMessage() for record in caplog.records]
    assert "im30.png" in broken
    assert said.startswith("no cell found in 6 of 12 images, which are left out: Early/im20.png, ")
    assert said.endswith("Early/im24.png and 1 more")


@pytest.mark.usefixtures("in_process")
def test_cells_that_reach_into_the_masked_corner_are_left_out(smears: Path) -> None:
    rgb, labels = segmented(smears / "Benign" / "im2.png")
    spoiled = set(labels[-70:, -70:].ravel().tolist()) - {0}
    assert 0 < len(spoiled) < labels.max()
    kept = np.where(np.isin(labels, list(spoiled)), 0, labels)
    cells = read_cells(smears, CLASSES, kind="smears", crop_size=48, mask_corner_px=70)
    here = cells[cells.image == "Benign/im2.png"]
    np.testing.assert_array_equal(here.crops, center_crop(rgb, kept, 48))
    area = np.bincount(kept.ravel())[1:]
    np.testing.assert_allclose(here.diameter_px, np.sqrt(area[area > 0] * 4 / np.pi), rtol=1e-6)


@pytest.mark.usefixtures("in_process")
def test_images_of_one_cell_are_cut_at_their_centre(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for sub in CLASSES:
        (tmp_path / sub).mkdir()
        pixels = np.zeros((60, 70, 3), np.uint8)
        pixels[10:40, 20:50] = rng.integers(1, 256, (30, 30, 3))
        Image.fromarray(pixels).save(tmp_path / sub / "cell.bmp")
    Image.fromarray(np.zeros((60, 70, 3), np.uint8)).save(tmp_path / "Early" / "empty.bmp")
    cells = read_cells(tmp_path, CLASSES, kind="cells", crop_size=40)
    assert cells.image.tolist() == ["Benign/cell.bmp", "Early/cell.bmp"]
    np.testing.assert_array_equal(cells.crops[1], np.asarray(Image.open(tmp_path / "Early" / "cell.bmp"))[10:50, 15:55])
    assert cells.diameter_px.tolist() == pytest.approx([np.sqrt(900 * 4 / np.pi)] * 2)


def test_processes_read_the_same_and_say_what_they_leave_out(
    smears: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (smears / "Early" / "im3.png").write_bytes(b"no image")
    by_processes = read_cells(smears, CLASSES, kind="smears", crop_size=48, workers=2)
    assert "im3.png" in capfd.readouterr().err
    monkeypatch.setattr(reading, "ProcessPoolExecutor", lambda workers, **_: ThreadPoolExecutor(workers))
    here = read_cells(smears, CLASSES, kind="smears", crop_size=48)
    np.testing.assert_array_equal(by_processes.crops, here.crops)
    assert by_processes.image.tolist() == here.image.tolist()


def test_a_missing_class_folder_is_named(smears: Path) -> None:
    with pytest.raises(InputError, match="no sub-folder 'Pro'; expected one for each of: Benign, Early, Pro"):
        read_cells(smears, {**CLASSES, "Pro": "ALL"}, kind="smears", crop_size=48)


def test_an_empty_class_folder_is_named_before_anything_is_read(smears: Path) -> None:
    (smears / "Pro").mkdir()
    (smears / "Pro" / "notes.txt").touch()
    with pytest.raises(InputError, match="Pro: no image; put PNG, JPEG, BMP, TIFF or zarr there, or leave 'Pro'"):
        list_folders(smears, {**CLASSES, "Pro": "ALL"})


def test_files_of_formats_that_are_not_read_are_counted_and_named(
    smears: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = list_folders(smears, CLASSES)
    for name in ("Early/notes.txt", "Early/Thumbs.db", "Early/.DS_Store", "Early/im1_labels.tif", "Early/@eaDir/a.gif"):
        (smears / name).parent.mkdir(exist_ok=True)
        (smears / name).touch()
    zarr.open_group(smears / "Early/s.zarr", mode="w").create_array("0", data=np.zeros((8, 8, 3), np.uint8))
    assert [image.image for image in list_folders(smears, CLASSES)] == [*(i.image for i in listed), "Early/s.zarr"]
    # What `all-detect score` has left in a folder of images.
    (smears / "Early/run.json").write_text("{}")
    for name in ("cells.csv", "images.csv"):
        (smears / "Early" / name).touch()
    zarr.open_group(smears / "Early/ome-zarr/s.zarr", mode="w").create_array("0", data=np.zeros((8, 8, 3), np.uint8))
    assert len(list_folders(smears, CLASSES)) == len(listed) + 1
    assert not caplog.records
    (smears / "Benign/sub").mkdir()
    for name in ("Early/im7.webp", "Early/slide.czi", "Benign/sub/im8.GIF"):
        (smears / name).touch()
    assert len(list_folders(smears, CLASSES)) == len(listed) + 1
    (record,) = caplog.records
    names = ", ".join(str(Path(name)) for name in ("Benign/sub/im8.GIF", "Early/im7.webp", "Early/slide.czi"))
    assert record.getMessage() == f"left out: 3 files that are no PNG, JPEG, BMP, TIFF or zarr: {names}"


def test_a_class_that_is_neither_all_nor_hem_is_refused(smears: Path) -> None:
    with pytest.raises(InputError, match="classes map to blast; expected ALL or Hem"):
        read_cells(smears, {**CLASSES, "Early": "blast"}, kind="smears", crop_size=48)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("classes", "missing"), [({"Benign": "Hem"}, "ALL"), ({"Early": "ALL"}, "Hem")])
def test_one_class_alone_is_refused(smears: Path, classes: dict[str, str], missing: str) -> None:
    with pytest.raises(InputError, match=f"no {missing} cell found"):
        read_cells(smears, classes, kind="smears", crop_size=48)


def test_a_corner_of_single_cells_cannot_be_masked(smears: Path) -> None:
    with pytest.raises(InputError, match="smears only"):
        read_cells(smears, CLASSES, kind="cells", crop_size=48, mask_corner_px=8)


def test_cells_are_read_back_as_they_were_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cells = Cells(
        rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8),
        np.array([True, False, True]),
        np.array(["a/1", "b/1", "a/2"]),
        np.array([20.0, 30.0, 25.0], np.float32),
    )
    cells.save(tmp_path / "cells.npz")
    read = Cells.load(tmp_path / "cells.npz")
    assert len(read) == 3
    for name in ("crops", "is_all", "image", "diameter_px"):
        saved, loaded = getattr(cells, name), getattr(read, name)
        np.testing.assert_array_equal(loaded, saved)
        assert loaded.dtype == saved.dtype
    assert read[read.is_all].image.tolist() == ["a/1", "a/2"]


def cell_on_black(size: int = 72, side: int = 30, off: int = 0) -> NDArray[np.uint8]:
    """Draw a square cell."""
    rng = np.random.default_rng(0)
    pixels = np.zeros((size, size, 3), np.uint8)
    at = slice((size - side) // 2 + off, (size + side) // 2 + off)
    pixels[at, at] = (np.array((120, 60, 160)) + rng.normal(0, 25, (side, side, 3))).clip(9, 255)
    return pixels


@pytest.fixture
def one_each(tmp_path: Path) -> Path:
    for sub in CLASSES:
        (tmp_path / sub).mkdir()
        Image.fromarray(cell_on_black()).save(tmp_path / sub / "cell.png")
    return tmp_path


def read_one(folder: Path, name: str, crop_size: int = 40) -> Cells:
    cells = read_cells(folder, CLASSES, kind="cells", crop_size=crop_size)
    return cells[cells.image == f"Early/{name}"]


@pytest.mark.usefixtures("in_process")
def test_the_noise_of_jpeg_is_background(one_each: Path) -> None:
    y, x = np.mgrid[:96, :96] - 48
    texture = ndi.gaussian_filter(np.random.default_rng(0).normal(0, 60, (96, 96)), 1.5)
    disc = np.clip(21 - np.hypot(y, x), 0, 2)[..., None] / 2
    pixels = ((texture[..., None] + (120, 60, 160)) * disc).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(one_each / "Early" / "cell.bmp")
    Image.fromarray(pixels).save(one_each / "Early" / "cell.jpg", quality=90, subsampling=0)
    noisy = np.asarray(Image.open(one_each / "Early" / "cell.jpg"))
    assert np.sqrt(noisy.any(axis=-1).sum() / pixels.any(axis=-1).sum()) > 1.1
    whole, cells = read_one(one_each, "cell.bmp", 60), read_one(one_each, "cell.jpg", 60)
    assert cells.diameter_px == pytest.approx(whole.diameter_px, rel=0.02)
    assert not cells.crops[0, :5].any()
    np.testing.assert_array_equal(cells.crops[0, 20:40, 20:40], noisy[38:58, 38:58])


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_of_a_cell_are_laid_over_black(one_each: Path, mode: str) -> None:
    rgb = cell_on_black()
    alpha = np.where(rgb.any(axis=-1), 255, 0).astype(np.uint8)
    alpha[40, 40] = 128
    image = Image.fromarray(np.where(alpha[..., None] > 0, rgb, 200).astype(np.uint8))
    image.putalpha(Image.fromarray(alpha))
    image.convert(mode).save(one_each / "Early" / "clear.png")
    cells = read_one(one_each, "clear.png")
    np.testing.assert_array_equal(cells.crops[0].any(axis=-1), alpha[16:56, 16:56] > 0)
    if mode == "RGBA":
        expected = np.round(rgb[16:56, 16:56] * (alpha[16:56, 16:56, None] / 255))
        np.testing.assert_allclose(cells.crops[0], expected, atol=1)


@pytest.mark.usefixtures("in_process")
def test_cells_that_are_not_on_black_are_told_once(one_each: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(6):
        Image.fromarray(np.where(cell_on_black() > 0, cell_on_black(), 235)).save(one_each / "Early" / f"{i}.png")
    read_cells(one_each, CLASSES, kind="cells", crop_size=40)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "6 of 8 images of one cell are not on black: Early/0.png, " in said
    assert "Early/4.png and 1 more; scoring blackens" in said


@pytest.mark.usefixtures("in_process")
def test_a_cell_far_off_the_centre_is_left_out_and_logged(one_each: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(cell_on_black(300, off=100)).save(one_each / "Early" / "corner.png")
    assert not len(read_one(one_each, "corner.png"))
    assert "left out" in caplog.text
    assert "corner.png: black in the 40 px about its centre" in caplog.text


@pytest.mark.usefixtures("in_process")
def test_pages_beyond_the_first_are_told(one_each: Path, caplog: pytest.LogCaptureFixture) -> None:
    import tifffile

    tifffile.imwrite(one_each / "Early" / "stack.tif", np.stack([cell_on_black()] * 3), photometric="rgb")
    assert len(read_one(one_each, "stack.tif")) == 1
    (said,) = [record.getMessage() for record in caplog.records]
    assert "stack.tif: 3 pages or planes, of which only the first is read" in said


def test_a_reading_process_that_dies_is_an_error_that_says_what_to_do(
    smears: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*_: Any, **__: Any) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(ThreadPoolExecutor, "map", died)
    monkeypatch.setattr(reading, "ProcessPoolExecutor", lambda workers, **_: ThreadPoolExecutor(workers))
    with pytest.raises(InputError, match="want of memory; give it more, or take fewer --workers"):
        read_cells(smears, CLASSES, kind="smears", crop_size=48)


def test_a_process_that_reads_keeps_to_one_core_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    monkeypatch.delenv("ALL_DETECT_THREADS", raising=False)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=reading._prepare_reader) as pool:
        found = list(pool.map(os.getenv, ("TF_NUM_INTRAOP_THREADS", "ALL_DETECT_THREADS")))
    assert found == ["3", "1"]


def test_crops_are_never_held_twice() -> None:
    """In a process of its own, as its highest memory is what counts.

    The C library keeps small pieces for itself while a later one is in use; which are small it learns as it goes.
    """
    program = """
import resource, numpy as np
from all_detect_training import reading
from all_detect_training.reading import Found, _moved
np.ones(30_000_000, np.uint8)
read = (Found(np.full((1, 600, 600, 3), i % 255, np.uint8), np.zeros(1, np.float32)) for i in range(500))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = list(reading._in_blocks(read))
later = np.ones(1_000_000, np.uint8)
crops = _moved(found)
assert (crops[:, 0, 0, 0] == np.arange(500) % 255).all()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / crops.nbytes)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.3


def test_a_process_that_reads_leaves_ctrl_c_to_the_one_it_reads_for() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=reading._prepare_reader) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups to send Ctrl-C to")
def test_ctrl_c_in_a_terminal_is_heard_once(smears: Path) -> None:
    """The processes that read are just starting, and would say so in a traceback each."""
    import psutil

    program = f"""
import signal
from pathlib import Path
from all_detect_training.listing import list_folders
from all_detect_training.reading import read_cells
folder = Path({str(smears)!r})
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in its background
    print("begins", flush=True)
    read_cells(list_folders(folder, {CLASSES}), folder, kind="smears", crop_size=48, workers=2)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    while len(psutil.Process(process.pid).children()) < 3:  # the two, and what Python keeps for shared memory
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said.count("Traceback") == 1, said
    assert said.endswith("KeyboardInterrupt\n"), said


@pytest.mark.usefixtures("in_process")
def test_after_an_interruption_the_rest_is_not_read(smears: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come at any moment, such as while crops are copied here."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    read = []
    monkeypatch.setattr(reading, "first_plane", lambda path: read.append(path) or first_plane(path))
    monkeypatch.setattr(telling.Telling, "reach", interrupted)
    images = 20 * list_folders(smears, CLASSES)
    with pytest.raises(KeyboardInterrupt):
        read_listed(images, smears, kind="smears", crop_size=48)
    assert len(read) < 10


@pytest.mark.usefixtures("in_process")
def test_reading_tells_how_far_it_has_come(
    smears: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "FIRST_S", 0)
    with caplog.at_level(logging.INFO, "all_detect_training"):
        read_cells(smears, CLASSES, kind="smears", crop_size=48)
    assert "reading images: 1 of 5, about " in caplog.text


def test_without_crops_all_else_is_there(tmp_path: Path) -> None:
    cells = Cells(np.ones((3, 8, 8, 3), np.uint8), np.arange(3) > 0, np.array(["a", "b", "c"]), np.ones(3, np.float32))
    cells.save(tmp_path / "cells.npz")
    found = Cells.load(tmp_path / "cells.npz", crops=False)
    assert (len(found), found.crops.nbytes, found.image.tolist()) == (3, 0, ["a", "b", "c"])
