import csv
import math
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from scipy import ndimage

from napari_all_detect.errors import OutputError
from napari_all_detect.samples import STAINS, Smear, Stain, draw_smear, write_samples

COMMITTED = Path(__file__).parents[2] / "sample_data"


@pytest.fixture(scope="module")
def crowd() -> Smear:
    """A large smear with enough cells for averages to mean something."""
    return draw_smear((900, 900), n_cells=120, seed=3, touching=0.3, border=0.1)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder)
    return folder


def of_class(smear: Smear, name: str) -> np.ndarray:
    return np.flatnonzero(np.array(smear.classes) == name) + 1


def on_border(labels: np.ndarray) -> set[int]:
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return set(edges.tolist()) - {0}


def neighbours(labels: np.ndarray) -> set[int]:
    """Return the labels that share a pixel edge with another label."""
    found: set[int] = set()
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        meet = (one != other) & (one > 0) & (other > 0)
        found |= set(one[meet].tolist()) | set(other[meet].tolist())
    return found


def whole_areas(smear: Smear) -> dict[int, int]:
    """Return the areas of the cells that neither the border nor a neighbour cuts."""
    cut = on_border(smear.labels) | neighbours(smear.labels)
    areas = np.bincount(smear.labels.ravel())
    return {label: int(areas[label]) for label in range(1, areas.size) if label not in cut}


def test_same_arguments_draw_the_same_bytes() -> None:
    one, two = draw_smear(seed=7), draw_smear(seed=7)
    assert one.rgb.tobytes() == two.rgb.tobytes()
    assert one.labels.tobytes() == two.labels.tobytes()
    assert one.nuclei.tobytes() == two.nuclei.tobytes()
    assert one.classes == two.classes


def test_another_seed_draws_another_smear() -> None:
    one, two = draw_smear(seed=7), draw_smear(seed=8)
    assert (one.rgb != two.rgb).mean() > 0.5
    assert (one.labels != two.labels).any()


def test_types_and_shapes(crowd: Smear) -> None:
    assert (crowd.rgb.shape, crowd.rgb.dtype) == ((900, 900, 3), np.uint8)
    assert (crowd.labels.shape, crowd.labels.dtype) == ((900, 900), np.int32)
    assert (crowd.nuclei.shape, crowd.nuclei.dtype) == ((900, 900), np.int32)


def test_all_cells_are_placed_where_they_fit_and_numbered_without_gaps(crowd: Smear) -> None:
    assert len(crowd.classes) == 120
    assert np.unique(crowd.labels).tolist() == list(range(121))
    assert np.unique(crowd.nuclei).tolist() == list(range(121))


def test_each_cell_is_one_piece(crowd: Smear) -> None:
    for label, window in enumerate(ndimage.find_objects(crowd.labels), start=1):
        assert ndimage.label(crowd.labels[window] == label)[1] == 1


@pytest.mark.parametrize("lobed", [0.0, 1.0])
def test_nuclei_lie_inside_their_cells(lobed: float) -> None:
    smear = draw_smear((512, 512), n_cells=30, touching=0.5, border=0.2, lobed=lobed)
    nucleus = smear.nuclei > 0
    assert (smear.nuclei[nucleus] == smear.labels[nucleus]).all()


@pytest.mark.parametrize(("fraction", "n_all"), [(0.0, 0), (0.25, 5), (1.0, 20)])
def test_share_of_blasts(fraction: float, n_all: int) -> None:
    smear = draw_smear((400, 400), n_cells=20, fraction_all=fraction)
    assert smear.classes.count("ALL") == n_all
    assert smear.classes.count("Hem") == 20 - n_all


def test_border_cells_are_cut_and_no_others() -> None:
    smear = draw_smear((400, 400), n_cells=20, border=0.4, touching=0.0, fraction_all=1.0)
    areas = np.bincount(smear.labels.ravel())[1:]
    cut = sorted(on_border(smear.labels))
    assert cut == list(range(1, 9))
    assert areas[:8].mean() < 0.85 * areas[8:].mean()
    assert on_border(draw_smear((400, 400), n_cells=20, border=0.0).labels) == set()


def test_touching_cells_touch_and_others_keep_apart() -> None:
    together = draw_smear((500, 500), n_cells=24, touching=0.5, border=0.0)
    assert set(range(13, 25)) <= neighbours(together.labels)
    apart = draw_smear((256, 256), n_cells=200, cell_diameter_px=20, touching=0.0, border=0.0)
    assert len(apart.classes) > 80
    assert neighbours(apart.labels) == set()
    assert ndimage.label(apart.labels, np.ones((3, 3)))[1] == len(apart.classes)


@pytest.mark.parametrize("diameter_px", [20.0, 60.0, 400.0])
def test_size_follows_the_diameter(diameter_px: float) -> None:
    side = round(8 * diameter_px)
    smear = draw_smear((side, side), n_cells=10, cell_diameter_px=diameter_px, border=0, touching=0)
    areas = np.array(list(whole_areas(smear).values()))
    diameters = 2 * np.sqrt(areas / np.pi) / diameter_px
    assert diameters.size == 10
    assert 0.85 < diameters.mean() < 1.1
    assert 0.6 < diameters.min() < diameters.max() < 1.45


def test_blasts_are_larger_with_scant_cytoplasm(crowd: Smear) -> None:
    areas, nuclei = whole_areas(crowd), np.bincount(crowd.nuclei.ravel())
    mean, share = {}, {}
    for name in ("ALL", "Hem"):
        labels = [label for label in of_class(crowd, name).tolist() if label in areas]
        mean[name] = np.mean([areas[label] for label in labels])
        share[name] = np.mean([nuclei[label] / areas[label] for label in labels])
    assert mean["ALL"] > 1.4 * mean["Hem"]
    assert 0.78 < share["ALL"] < 0.92
    assert 0.55 < share["Hem"] < 0.82


def test_lobed_cells_have_smaller_nuclei_of_another_shape() -> None:
    arguments = {"shape": (500, 500), "n_cells": 20, "fraction_all": 0.0, "touching": 0.0, "border": 0.0}
    lobed, plain = draw_smear(**arguments, lobed=1.0), draw_smear(**arguments, lobed=0.0)
    shares = [np.count_nonzero(smear.nuclei) / np.count_nonzero(smear.labels) for smear in (lobed, plain)]
    assert shares[0] < 0.5 < 0.6 < shares[1]
    assert set(lobed.classes) == {"Hem"}


@pytest.mark.parametrize("stain", sorted(STAINS))
def test_things_have_the_colour_of_the_stain(stain: str) -> None:
    bare = {"shape": (400, 400), "stain": stain, "n_cells": 15, "platelets": False}
    smear, empty = draw_smear(**bare), draw_smear(**bare, red_cells=False)
    green = smear.rgb[..., 1].astype(float)
    background = (smear.labels == 0) & (np.abs(smear.rgb.astype(float) - empty.rgb).max(axis=-1) < 8)
    red = (smear.labels == 0) & (green < empty.rgb[..., 1] - 25.0)
    blast = np.isin(smear.nuclei, of_class(smear, "ALL"))
    lymphocyte = np.isin(smear.nuclei, of_class(smear, "Hem"))
    assert background.mean() > 0.1
    assert red.mean() > 0.1
    levels = [np.median(green[mask]) for mask in (background, red, blast, lymphocyte)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] - levels[1] > 25
    assert levels[1] - levels[2] > 15
    assert levels[2] - 8 > STAINS[stain].nucleus[1] > levels[3] + 8
    assert np.abs(np.median(smear.rgb[background], axis=0) - STAINS[stain].background).max() < 10


def test_what_changes_the_picture_leaves_the_truth() -> None:
    one = draw_smear(seed=2)
    two = draw_smear(seed=2, stain="pink", red_cells=False, platelets=False, blur_px=2, noise=0, exposure=1.2)
    assert np.array_equal(one.labels, two.labels)
    assert np.array_equal(one.nuclei, two.nuclei)
    assert not np.array_equal(one.rgb, two.rgb)


def test_exposure_noise_and_blur() -> None:
    plain = {"n_cells": 0, "red_cells": False, "platelets": False}
    dim, bright = (draw_smear(**plain, exposure=exposure).rgb for exposure in (0.5, 1.3))
    assert 115 < dim.mean() < 135
    assert (bright == 255).mean() > 0.99
    noisy, still = (draw_smear(**plain, exposure=0.5, noise=noise).rgb[..., 1] for noise in (4.0, 0.0))
    assert 5 < np.diff(noisy.astype(float)).std() < 6.5
    assert np.abs(np.diff(still.astype(float))).max() <= 1
    sharp, soft = (draw_smear(noise=0, blur_px=blur).rgb.astype(float) for blur in (0.0, 3.0))
    assert np.abs(np.diff(soft, axis=0)).mean() < 0.6 * np.abs(np.diff(sharp, axis=0)).mean()


def test_platelets_add_dark_specks_off_the_white_cells() -> None:
    bare = {"red_cells": False, "noise": 0.0, "blur_px": 0.0, "shape": (400, 400)}
    dark = [draw_smear(**bare, platelets=drawn).rgb[..., 1] < 190 for drawn in (False, True)]
    labels = draw_smear(**bare).labels
    assert np.count_nonzero(dark[1] & (labels == 0)) > 50 + np.count_nonzero(dark[0] & (labels == 0))


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (90, 1), (5, 7), (31, 33)])
@pytest.mark.parametrize("diameter_px", [8.0, 32.0, 400.0])
def test_any_shape_can_be_drawn(shape: tuple[int, int], diameter_px: float) -> None:
    smear = draw_smear(shape, cell_diameter_px=diameter_px, border=0.5)
    assert smear.rgb.shape == (*shape, 3)
    assert smear.labels.max() == len(smear.classes) <= 8


def test_a_full_field_holds_fewer_cells_than_asked() -> None:
    smear = draw_smear((96, 96), n_cells=60, touching=0.5)
    assert 3 < len(smear.classes) < 60
    assert smear.labels.max() == len(smear.classes)


def test_own_stain() -> None:
    green_slide = replace(STAINS["marrow"], background=(100, 200, 100))
    rgb = draw_smear(n_cells=0, red_cells=False, platelets=False, stain=green_slide).rgb
    assert np.abs(np.median(rgb, axis=(0, 1)) - (100, 200, 100)).max() < 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shape": (0, 5)}, "shape is"),
        ({"n_cells": -1}, "n_cells is -1"),
        ({"cell_diameter_px": 7.9}, "cell_diameter_px is 7.9"),
        ({"fraction_all": 1.1}, "fraction_all is 1.1"),
        ({"touching": -0.1}, "touching is -0.1"),
        ({"border": float("nan")}, "border is nan"),
        ({"lobed": 2}, "lobed is 2"),
        ({"exposure": 0}, "exposure is 0"),
        ({"noise": -1}, "noise is -1"),
        ({"noise": math.inf}, "noise is inf"),
        ({"exposure": math.inf}, "exposure is inf"),
        ({"cell_diameter_px": math.inf}, "cell_diameter_px is inf"),
        ({"blur_px": -1}, "blur_px is -1"),
        ({"stain": "blue"}, "no stain is called 'blue'; there are marrow, giemsa, yellow, pink"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_smear(**wrong)


def test_a_colour_without_light_is_refused() -> None:
    with pytest.raises(ValueError, match="nucleus is"):
        Stain((250, 250, 250), (200, 200, 200), (100, 50, 100), (90, 90, 90), (0, 0, 90))


def test_written_truth_reads_back(written: Path) -> None:
    with (written / "truth" / "cells.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "label", "class", "y_px", "x_px", "diameter_px"]
    pictures = sorted((written / "smears").iterdir())
    assert [path.name for path in pictures] == [f"smear_{number}.png" for number in range(1, 7)]
    for picture in pictures:
        labels = tifffile.imread(written / "truth" / f"{picture.stem}_labels.tif")
        cells = [row for row in rows if row["image"] == picture.name]
        assert iio.imread(picture).shape == (*labels.shape, 3)
        assert labels.dtype == np.uint16
        assert [int(row["label"]) for row in cells] == np.unique(labels)[1:].tolist()
        assert {row["class"] for row in cells} == {"ALL", "Hem"}
        for row in cells:
            mask = labels == int(row["label"])
            centre = ndimage.center_of_mass(mask)
            assert np.allclose(centre, (float(row["y_px"]), float(row["x_px"])), atol=0.006)
            assert np.pi / 4 * float(row["diameter_px"]) ** 2 == pytest.approx(mask.sum(), rel=0.002)


def test_the_samples_vary(written: Path) -> None:
    with (written / "truth" / "cells.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    counts = {}
    for name in sorted({row["image"] for row in rows}):
        classes = [row["class"] for row in rows if row["image"] == name]
        counts[name] = (len(classes), classes.count("ALL") / len(classes))
    shares = [share for _, share in counts.values()]
    sizes = [size for size, _ in counts.values()]
    assert min(shares) < 0.15
    assert max(shares) > 0.85
    assert min(sizes) <= 5
    assert max(sizes) >= 60


def test_only_the_smears_folder_holds_pictures_and_all_is_small(written: Path) -> None:
    files = [path for path in written.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files if path.suffix == ".png"} == {"smears"}
    assert sum(path.stat().st_size for path in files) < 2_000_000


def test_readme_says_that_the_smears_are_drawn_and_how(written: Path) -> None:
    text = (written / "README.md").read_text(encoding="utf-8")
    assert "not real" in text
    assert text.count("draw_smear((") == 6
    assert "seed=6" in text


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "truth" / "cells.csv"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(OutputError, match=r"cells\.csv exists already .* Name another folder"):
        write_samples(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "mine"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        write_samples(path)
    with pytest.raises(OutputError, match="can't be written"):
        write_samples(path / "below")


def test_committed_sample_data_is_what_is_drawn(written: Path) -> None:
    # Another machine may round a few pixels differently; a change in how smears are drawn shows as far more.
    drawn = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    kept = sorted(path.relative_to(COMMITTED) for path in COMMITTED.rglob("*") if path.is_file())
    assert kept == drawn
    for path in drawn:
        if path.suffix == ".png":
            now, then = (iio.imread(folder / path).astype(float) for folder in (written, COMMITTED))
            assert np.abs(now - then).mean() < 0.5, path
        elif path.suffix == ".tif":
            now, then = (tifffile.imread(folder / path) for folder in (written, COMMITTED))
            assert (now != then).mean() < 0.001, path
        elif path.suffix == ".md":
            assert (written / path).read_text("utf-8") == (COMMITTED / path).read_text("utf-8")
