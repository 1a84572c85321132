"""Cells found, measured and cut out tile by tile: the same as in the whole plane, to the last bit."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.draw import disk

from napari_all_detect.errors import InputError
from napari_all_detect.export.labels import labels_tiff
from napari_all_detect.label_store import LabelStore
from napari_all_detect.labelled import LabelImage, boxes_of
from napari_all_detect.params import SegmentationParams
from napari_all_detect.samples import draw_smear
from napari_all_detect.scratch import Scratch
from napari_all_detect.segmentation import ON_BLACK, cell_finder, learned, methods, segment_cells, tiles, view
from napari_all_detect.segmentation.learned import segment_learned
from napari_all_detect.segmentation.view import Found, Survey, Unsettled, View
from napari_all_detect.sources import RgbPlane, TiledPlane
from napari_all_detect.sources.tiled import of_plane
from napari_all_detect.tiling import TiledCells, WholeCells, find_tiled, given_tiled, read_crops

Pixels = NDArray[np.uint8]
METHODS = ("learned", "classical")


def crowd(shape: tuple[int, int], seed: int, diameter: float = 32.0) -> Pixels:
    """Draw a smear in which many cells touch others."""
    n = round(shape[0] * shape[1] / diameter**2 / 10)
    return draw_smear(shape, n_cells=n, cell_diameter_px=diameter, touching=0.4, seed=seed).rgb


def find(method: str, diameter: float | None = None, pixel_size_um: float | None = None) -> Any:
    params = SegmentationParams(method=method, cell_diameter_px=diameter)
    return cell_finder(params, pixel_size_um, "auto", "auto")


def whole_cells(rgb: Pixels, found: Found) -> WholeCells:
    return WholeCells(rgb, found.cells, found.nuclei)


def assert_same(
    tiled: TiledCells, whole: WholeCells, pixel_size_um: float | None = None, scales: tuple[float, ...] = (1.0, 0.55)
) -> None:
    assert_array_equal(np.asarray(tiled.labels), whole.labels)
    assert (tiled.nuclei is None) == (whole.nuclei is None)
    if tiled.nuclei is not None and whole.nuclei is not None:
        assert_array_equal(np.asarray(tiled.nuclei), whole.nuclei)
    there, here = (cells.measure(pixel_size_um) for cells in (tiled, whole))
    assert there.keys() == here.keys()
    for name in here:
        assert_array_equal(there[name], here[name], err_msg=name)
    for scale in scales:
        assert_array_equal(tiled.cut(40, scale), whole.cut(40, scale), err_msg=str(scale))


def compare(rgb: Pixels, tile_px: int, find: Any, scales: tuple[float, ...] = (1.0,)) -> WholeCells:
    found = find(View.whole(rgb), True)
    whole = whole_cells(rgb, found)
    tiled = find_tiled(of_plane(RgbPlane(rgb), tile_px), find)
    assert tiled.notes == ((ON_BLACK,) if found.on_black else ())
    assert_same(tiled, whole, 0.25, scales)
    return whole


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("tile_px", "seed"), [(256, 1), (311, 2)])
def test_tiles_give_what_the_whole_gives(method: str, tile_px: int, seed: int) -> None:
    whole = compare(crowd((560, 610), seed), tile_px, find(method))
    assert len(np.unique(whole.labels)) > 20
    borders = [whole.labels[y - 1 : y + 1] for y in range(tile_px, 560, tile_px)]
    cut = sum(len(np.intersect1d(one, other)) - 1 for one, other in borders)
    assert cut > 1, "no cell lies on a border of tiles"


@settings(max_examples=6)
@given(
    height=st.integers(200, 480),
    width=st.integers(200, 480),
    tile_px=st.integers(120, 300),
    seed=st.integers(0, 999),
    diameter=st.sampled_from([24.0, 32.0, 47.0]),
)
def test_tiles_of_any_size_give_what_the_whole_gives(
    height: int, width: int, tile_px: int, seed: int, diameter: float
) -> None:
    compare(crowd((height, width), seed, diameter), tile_px, find("classical", diameter))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("diameter", "pixel_size_um"), [(33.3, None), (None, 0.35)])
def test_a_width_that_is_told(method: str, diameter: float | None, pixel_size_um: float | None) -> None:
    compare(crowd((500, 520), 4), 256, find(method, diameter, pixel_size_um))


@pytest.mark.parametrize("method", METHODS)
def test_a_clump_over_a_corner_of_tiles(method: str) -> None:
    """Four tiles see parts of it; the cell on the corner belongs to one."""
    rgb = crowd((600, 600), 5)
    lone = draw_smear((300, 300), n_cells=40, touching=1.0, seed=8, cell_diameter_px=32).rgb
    rgb[150:450, 150:450] = lone
    whole = compare(rgb, 300, find(method))
    regions = ndi.label(whole.labels)[0]
    sizes = [len(np.unique(whole.labels[regions == i])) for i in range(1, regions.max() + 1)]
    assert max(sizes) >= 4


@pytest.mark.parametrize("method", METHODS)
def test_a_large_plane_is_surveyed_on_a_sample(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "SAMPLE_EDGE_PX", 160)
    monkeypatch.setattr(view, "SAMPLES", 3)
    rgb = crowd((760, 700), 6)
    sampled = view.sample(rgb)
    assert sampled is not None
    assert sampled.shape == (480, 480, 3)
    params = SegmentationParams(method=method)
    whole = WholeCells(rgb, *segment_cells(rgb, params, nuclei=True))
    assert_same(find_tiled(of_plane(RgbPlane(rgb), 256), find(method)), whole)
    monkeypatch.undo()
    of_all = segment_cells(rgb, params)
    assert np.mean((of_all > 0) == (whole.labels > 0)) > 0.98


def test_what_a_scanner_left_black_is_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "SAMPLE_EDGE_PX", 100)
    monkeypatch.setattr(view, "SAMPLES", 3)
    rgb = crowd((600, 600), 7)
    rgb[:, :240] = 0
    sampled = view.sample(rgb)
    assert sampled is not None
    assert sampled.any(axis=-1).mean() > 0.8
    assert view.sample(np.zeros_like(rgb)) is not None
    whole = WholeCells(rgb, *segment_cells(rgb, SegmentationParams(method="classical"), nuclei=True))
    assert whole.labels[:, 250:].any()
    assert whole.labels[:, :200].max() == 0


def slide(shape: tuple[int, int], places: list[tuple[int, int]], edge: int, seed: int = 20) -> Pixels:
    """Draw fields of blood on glass."""
    rng = np.random.default_rng(seed)
    rgb = np.clip(np.rint(rng.normal(248, 2, (*shape, 3))), 0, 255).astype(np.uint8)
    for k, (y, x) in enumerate(places):
        rgb[y : y + edge, x : x + edge] = crowd((edge, edge), seed + k)
    return rgb


class Counting:
    """A network that counts how often it is asked."""

    def __init__(self, mapper: Any) -> None:
        self.mapper, self.asked = mapper, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.mapper, name)

    def predict(self, light: Pixels) -> Pixels:
        self.asked += 1
        predicted: Pixels = self.mapper.predict(light)
        return predicted


@pytest.mark.parametrize("tile_px", [160, 256])
def test_glass_is_passed_over_and_nothing_is_lost(tile_px: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells lie on borders of fields that are cut by tiles; the same labels come out as with the network everywhere."""
    from napari_all_detect.bundle import load_segmenter
    from napari_all_detect.engines import open_mapper

    monkeypatch.setattr(learned, "TILE_PX", 256)
    rgb = slide((660, 720), [(60, 130), (400, 460)], 220)
    mapper = Counting(open_mapper(load_segmenter("cells"), "auto", "auto"))
    plane, asked, found = of_plane(RgbPlane(rgb), tile_px), [], []
    for bare in (learned._is_bare, lambda *_: False):
        monkeypatch.setattr(learned, "_is_bare", bare)
        mapper.asked = 0
        found.append(find_tiled(plane, lambda part, nuclei: segment_learned(part, None, mapper, nuclei=nuclei)))
        asked.append(mapper.asked)
    there, everywhere = found
    assert len(there.numbers) > 5
    assert_same(there, whole_cells(rgb, segment_learned(View.whole(rgb), None, mapper)))
    assert_same(everywhere, WholeCells(rgb, np.asarray(there.labels), np.asarray(there.nuclei)))
    assert asked[0] < asked[1], "the network saw glass"


def test_squares_with_something_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the first squares meets the smear; without it, nothing would say how wide cells are."""
    monkeypatch.setattr(view, "SAMPLE_EDGE_PX", 60)
    monkeypatch.setattr(view, "SAMPLES", 3)
    rgb = slide((1200, 1300), [(410, 450)], 180)
    assert not any(view._holds_something(square) for square in view._squares(rgb, 3))
    sampled = view.sample(rgb)
    assert sampled is not None
    assert sampled.shape[1] == 180
    assert (sampled[..., 1] < 200).mean() > 0.2
    cells = segment_cells(rgb)
    there = cells[410:590, 450:630]
    assert there.max() > 1
    assert (cells > 0).sum() == (there > 0).sum()
    glass = view.sample(slide((1200, 1300), [], 1))
    assert glass is not None
    assert glass.shape == (180, 180, 3)


@pytest.mark.parametrize("method", METHODS)
def test_cells_on_black(method: str) -> None:
    smear = draw_smear((500, 480), n_cells=60, touching=0.5, seed=9)
    rgb = np.where((smear.labels > 0)[..., None], smear.rgb, np.uint8(0))
    whole = compare(rgb, 200, find(method))
    assert whole.labels.max() > 20


def test_a_plane_without_cells() -> None:
    blank = np.full((300, 300, 3), 235, np.uint8)
    tiled = find_tiled(of_plane(RgbPlane(blank), 128), find("classical"))
    assert tiled.labels[0:300, 0:300].max() == 0
    assert tiled.cut(40, 1.0).shape == (0, 40, 40, 3)
    assert_same(tiled, whole_cells(blank, find("classical")(View.whole(blank), True)))


def test_a_registered_method_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """It labels what is dark, in no order and with gaps."""

    def dark(rgb: Pixels, _: float | None) -> NDArray[np.int32]:
        labels = ndi.label(ndi.binary_opening(rgb[..., 1] < 110, iterations=3))[0].astype(np.int32)
        return np.where(labels > 0, 5000 - 3 * labels, 0).astype(np.int32)

    class Entry:
        name, value, group, dist = "dark", "x:dark", methods.GROUP, None

        def load(self) -> Any:
            return dark

    monkeypatch.setattr(methods, "entry_points", lambda group: [Entry()])
    whole = compare(crowd((500, 500), 10), 256, find("dark"))
    assert whole.labels.max() > 10


def blobs(shape: tuple[int, int], places: list[tuple[int, int]], radius: int) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    for place in places:
        mask[disk(place, radius, shape=shape)] = True
    return mask


def test_a_clump_wider_than_all_margins_is_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of cells across the whole plane: each is found once, and no window grows with the chain."""
    monkeypatch.setattr(tiles, "WIDEST_MARGIN_PX", 64)
    shape = (120, 2400)
    rgb = np.full((*shape, 3), 235, np.uint8)
    places = [(60, x) for x in range(30, 2370, 28)]
    rgb[blobs(shape, places, 15)] = (190, 170, 215)
    rgb[blobs(shape, places, 9)] = (95, 40, 140)
    seen: list[int] = []

    def watched(part: View, nuclei: bool) -> Found:
        seen.append(part.shape[1])
        return find("classical", 30.0)(part, nuclei)

    tiled = find_tiled(of_plane(RgbPlane(rgb), 256), watched)
    assert "clumps" in tiled.notes[0]
    assert max(seen[1:]) <= 256 + 2 * 128 + 64
    labels = np.asarray(tiled.labels)
    owners = [labels[place] for place in places]
    assert 0 not in owners
    assert len(set(owners)) >= 0.9 * len(places)
    assert labels.max() == len(np.unique(labels)) - 1


def test_windows_are_bounded_by_tiles() -> None:
    rgb, read = crowd((900, 1000), 11), list[int]()

    def reader(window: tuple[slice, slice]) -> Pixels:
        part = rgb[window]
        read.append(part.shape[0] * part.shape[1])
        return part

    plane = TiledPlane((900, 1000), 256, reader)
    found = find("classical", 32.0)
    survey = iter([Survey()])

    def first_closed(part: View, nuclei: bool) -> Found:
        next(survey, None)
        return found(part, nuclei)

    cells = find_tiled(plane, first_closed)
    of_survey = sum(1 for n in read if n > 800_000)
    cells.measure(None)
    cells.cut(40, 0.8)
    assert sum(1 for n in read if n > 800_000) == of_survey
    assert max(n for n in read if n <= 800_000) <= 768**2


# Labels that are given


def gapped(shape: tuple[int, int], seed: int) -> NDArray[np.int32]:
    """Label discs and pairs of discs that do not touch, with numbers that lie far apart, in no order."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for number in rng.permutation(60) * 37 + 5:
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        labels[disk((y, x), 11, shape=shape)] = number
        if number % 3 == 0:
            labels[disk((y + 30, x - 20), 6, shape=shape)] = number
    return labels


@settings(max_examples=8)
@given(tile_px=st.integers(64, 300), seed=st.integers(0, 99))
def test_labels_that_are_given(tile_px: int, seed: int) -> None:
    rgb, labels = crowd((330, 410), 12), gapped((330, 410), seed)
    tiled = given_tiled(of_plane(RgbPlane(rgb), tile_px), labels)
    assert tiled.nuclei is None
    assert_same(tiled, WholeCells(rgb, labels, None), scales=(1.0, 0.55, 1.7))


def test_a_number_for_everything_is_refused() -> None:
    plane = of_plane(RgbPlane(np.zeros((100, 900, 3), np.uint8)), 64)
    labels = np.zeros((100, 900), np.uint8)
    labels[5, 5] = labels[5, 800] = 9
    with pytest.raises(InputError, match="label 9 is 796 pixels long"):
        given_tiled(plane, labels)


@pytest.mark.parametrize("value", [-1, 2**22])
def test_numbers_out_of_range_are_refused(value: int) -> None:
    plane = of_plane(RgbPlane(np.zeros((100, 100, 3), np.uint8)), 64)
    labels = np.zeros((100, 100), np.int32)
    labels[80, 80] = value
    with pytest.raises(InputError, match="expected 0 to 4194303"):
        boxes_of(labels, plane.tiles, 500)


# Where they are kept


def test_labels_on_disk_go_with_the_last_that_needs_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rgb = crowd((300, 300), 13)
    tiled = find_tiled(of_plane(RgbPlane(rgb), 256), find("classical"))
    crops = tiled.cut(40, 1.0)
    assert len(list(tmp_path.iterdir())) == 2
    assert_array_equal(read_crops(crops, slice(3, 9)), crops[3:9])
    labels: LabelImage = tiled.labels
    expected = np.asarray(labels)
    del tiled
    assert_array_equal(labels[10:200, 0:300], expected[10:200])
    del labels, crops
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_is_deleted_in_haste(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = LabelStore((20, 20), False)
    assert len(list(tmp_path.iterdir())) == 1
    Scratch.clear()
    assert list(tmp_path.iterdir()) == []
    del store


def test_cells_are_numbered_from_top_to_bottom_however_they_come() -> None:
    rng = np.random.default_rng(3)
    whole = gapped((200, 200), 4)
    numbers = np.unique(whole)[1:]
    store = LabelStore((200, 200), False)
    for number in rng.permutation(numbers):
        store.add((slice(0, 200), slice(0, 200)), (whole == number).astype(np.int32), None)
    labels, nuclei, boxes = store.views()
    assert nuclei is None
    assert boxes[:, 0].tolist() == sorted(boxes[:, 0].tolist())
    shown = labels[0:200, 0:200]
    for number, (y0, x0, y1, x1) in enumerate(boxes.tolist(), start=1):
        ((rows, columns),) = ndi.find_objects((shown == number).astype(int))
        assert (rows.start, columns.start, rows.stop, columns.stop) == (y0, x0, y1, x1)


def test_what_is_mostly_hidden_is_left_out() -> None:
    store = LabelStore((50, 50), True)
    here = slice(0, 50), slice(0, 50)
    one = np.zeros((50, 50), np.int32)
    one[10:30, 10:30] = 1
    store.add(here, one, one)
    again = np.zeros_like(one)
    again[12:34, 10:30] = 1
    again[29:45, 10:30] = 2
    store.add(here, again, None)
    labels, _, boxes = store.views()
    assert boxes.tolist() == [[10, 10, 30, 30], [30, 10, 45, 30]]
    assert_array_equal(np.unique(labels[0:50, 0:50], return_counts=True)[1], [1800, 400, 300])


def test_labels_are_written_by_tiles(tmp_path: Path) -> None:
    import tifffile

    rgb = crowd((600, 700), 14)
    tiled = find_tiled(of_plane(RgbPlane(rgb), 256), find("classical"))
    (tmp_path / "labels.tif").write_bytes(labels_tiff(tiled.labels))
    with tifffile.TiffFile(tmp_path / "labels.tif") as tif:
        assert tif.is_bigtiff
        assert tif.pages.first.is_tiled
        assert len(set(tif.pages.first.databytecounts)) > 1
        assert_array_equal(tif.asarray(), np.asarray(tiled.labels))


def test_a_survey_is_asked_once() -> None:
    survey, answers = Survey(), itertools.count()
    assert [survey("a", lambda: next(answers)) for _ in range(3)] == [0, 0, 0]
    survey.close()
    assert survey("a", lambda: next(answers)) == 0
    with pytest.raises(Unsettled):
        survey("b", lambda: next(answers))


def test_maps_are_kept_as_far_as_they_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "KEPT_BYTES", 250)
    survey, made = Survey(), list[int]()
    survey.close()

    def ask(key: int) -> Iterator[Pixels]:
        def make() -> Pixels:
            made.append(key)
            return np.zeros(100, np.uint8)

        yield survey.kept(key, make)

    for key in (1, 2, 1, 3, 1, 2):
        next(ask(key))
    assert made == [1, 2, 3, 2]
