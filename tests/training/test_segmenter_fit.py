import errno
import io
import json
import logging
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from all_detect_training.cli import main
from all_detect_training.commands import segmenter as cli
from all_detect_training.metrics import auc
from all_detect_training.out_folder import check_out
from all_detect_training.segmenter import fit, pack
from all_detect_training.segmenter.fit import SegmenterParams, fit_segmenter
from all_detect_training.segmenter.pack import pack_segmenter
from all_detect_training.segmenter.scenes import Scenes, compose, core_depth
from all_detect_training.segmenter.stains import as_seen
from all_detect_training.weights import round_to_half, save_half_precision
from napari_all_detect import SegmentationParams, draw_smear, segment_cells
from napari_all_detect.bundle import load_bundle, load_segmenter
from napari_all_detect.engines import open_mapper
from napari_all_detect.errors import BundleError, OutputError
from napari_all_detect.unet import build_unet

# Three steps of the rate's rise move weights by some hundredths.
TINY = SegmenterParams(widths=(4, 8), n_scenes=12, patch_px=32, batch_size=8, steps=3, learning_rate=1.0, seed=1)
LONGER = replace(TINY, steps=160, learning_rate=2e-2)
SAME = 1e-3
NAMED = {"name": "tiny", "version": "1.0.0"}
DATA = {"set1": {"train": 9, "held_out": 3}, "fields": {"train": 4, "held_out": 1}}
MASK_FIGURES = {
    "images": 3,
    "cell": {"dice": 0.9125, "worst_tenth": 0.75},
    "drawn_cell": {"dice": 0.934, "worst_tenth": 0.8},
    "nucleus": {"dice": 0.881, "worst_tenth": 0.7},
}
BOX_FIGURES = {"images": 1, "boxes": 4, "found": 0.75, "false_per_image": 2.0}
NAMES = ["--name", "tiny", "--version", "1.0.0"]


@pytest.fixture(scope="module")
def discs() -> Scenes:
    """Dark discs with darker nuclei on white."""
    rng = np.random.default_rng(0)
    n, side = 12, 48
    rgb = np.full((n, side, side, 3), 240.0)
    truth = np.zeros((n, side, side, 4), np.uint8)
    rows, columns = np.indices((side, side))
    for i in range(n):
        far = np.hypot(rows - rng.uniform(12, 36), columns - rng.uniform(12, 36))
        radius = rng.uniform(8, 11)
        cell, nucleus = far <= radius, far <= radius / 2
        rgb[i][cell], rgb[i][nucleus] = (150, 120, 190), (110, 60, 160)
        truth[i] = np.stack([255 * cell, 255 * nucleus, 255 * core_depth(cell.astype(np.int32)), 255 + 0 * far], -1)
    scenes = Scenes(np.clip(rgb + rng.normal(0, 2, rgb.shape), 0, 255).astype(np.uint8), truth)
    # Training that changed its scenes would fail.
    for array in (scenes.rgb, scenes.truth):
        array.setflags(write=False)
    return scenes


@dataclass(frozen=True)
class Learned:
    """A network that `fit_segmenter` trained, and what it logged meanwhile."""

    network: Any
    log: list[str]


@pytest.fixture(scope="module")
def learned(discs: Scenes) -> Learned:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "LOG_EVERY", 40)
        patch.setattr(fit.log, "handlers", [handler])
        patch.setattr(fit.log, "level", logging.INFO)
        return Learned(fit_segmenter(discs, LONGER), lines)


@pytest.fixture(scope="module")
def start(discs: Scenes) -> Any:
    """What training starts from."""
    return fit_segmenter(discs, replace(TINY, steps=0))


@pytest.fixture(scope="module")
def short(discs: Scenes) -> Any:
    return fit_segmenter(discs, TINY)


@pytest.fixture(scope="module")
def network() -> Any:
    """An untrained network, as `fit_segmenter` returns one."""
    import keras

    keras.utils.set_random_seed(0)
    unet = build_unet(TINY.widths)
    round_to_half(unet)
    return unet


def probabilities(network: Any, rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.asarray(network.predict_on_batch(as_seen(rgb)), float)))


def most_different(one: Any, other: Any) -> float:
    """Return by how much the weights of two networks differ at most."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_a_few_steps_teach_what_is_easy(discs: Scenes, learned: Learned, start: Any) -> None:
    found, found_before = (probabilities(network, discs.rgb) for network in (learned.network, start))
    truth = discs.truth[:, ::2, ::2]
    for channel in (0, 1):
        inside = truth[..., channel] > 127
        assert auc(inside.ravel(), found[..., channel].ravel()) > 0.93
        assert found[..., channel][~inside].mean() < 0.1
        assert found[..., channel][inside].mean() > 0.4
    error, error_before = (np.abs(p[..., 2] - truth[..., 2] / 255).mean() for p in (found, found_before))
    assert error < 0.1 < 0.3 < error_before


def test_the_mean_loss_is_logged_and_falls(learned: Learned) -> None:
    assert [line.split(":")[0] for line in learned.log] == [f"step {n} of 160" for n in (40, 80, 120, 160)]
    losses = [float(line.split()[-1]) for line in learned.log]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]


def test_the_trained_network_takes_images_of_any_size(learned: Learned) -> None:
    assert learned.network.input_shape == (None, None, None, 3)
    for height, width in ((32, 32), (64, 96), (40, 8)):
        logits = np.asarray(learned.network.predict_on_batch(np.ones((2, height, width, 3), np.float32)))
        assert logits.shape == (2, height // 2, width // 2, 3)
        assert np.isfinite(logits).all()


def test_weights_are_what_half_precision_can_hold(learned: Learned) -> None:
    for values in learned.network.get_weights():
        assert values.dtype == np.float32
        assert_array_equal(values, values.astype(np.float16).astype(np.float32))


def test_every_weight_is_trained(start: Any, short: Any) -> None:
    assert all((a != b).any() for a, b in zip(start.get_weights(), short.get_weights(), strict=True))


def test_the_same_seed_trains_the_same_network_and_another_one_another(discs: Scenes, start: Any, short: Any) -> None:
    assert most_different(fit_segmenter(discs, TINY), short) < SAME
    assert most_different(fit_segmenter(discs, replace(TINY, steps=0, seed=2)), start) > 0.05


def test_nothing_is_learned_where_the_truth_is_unknown(discs: Scenes, short: Any) -> None:
    truth = discs.truth.copy()
    truth[:, :, 24:, 3] = 0
    lies = truth.copy()
    lies[:, :, 24:, :3] = 255 - lies[:, :, 24:, :3]
    honest, deceived = (fit_segmenter(Scenes(discs.rgb, t), TINY) for t in (truth, lies))
    assert most_different(honest, deceived) < SAME
    assert most_different(honest, short) > 10 * SAME


def test_a_packed_network_is_a_bundle_that_gives_the_same_maps(network: Any, tmp_path: Path) -> None:
    manifest = pack_segmenter(network, tmp_path / "deep" / "out", **NAMED, params=TINY, data=DATA, metrics={})
    bundle = load_segmenter(tmp_path / "deep" / "out")
    assert bundle.manifest == manifest
    assert bundle.label == "tiny-1.0.0"
    assert (manifest.network.widths, manifest.network.cell_diameter_px) == (TINY.widths, TINY.cell_diameter_px)
    rgb = draw_smear((64, 64), n_cells=2, seed=1).rgb
    maps = open_mapper(bundle).predict(rgb)
    logits = np.asarray(network.predict_on_batch(rgb[None] / np.float32(230)), float)[0]
    assert_allclose(maps, 255 / (1 + np.exp(-logits)), atol=1)


def test_a_bundle_says_what_it_was_made_from_and_with(network: Any, tmp_path: Path) -> None:
    metrics = {"set1": MASK_FIGURES, "fields": BOX_FIGURES}
    pack_segmenter(network, tmp_path / "out", **NAMED, params=TINY, data=DATA, metrics=metrics)
    content = json.loads((tmp_path / "out" / "bundle.json").read_text(encoding="utf-8"))
    assert content["training"]["data"] == DATA
    assert content["training"]["params"] == json.loads(json.dumps(asdict(TINY)))
    assert {"python", "keras", "numpy", "napari-all-detect"} <= set(content["training"]["versions"])
    assert content["metrics"] == metrics
    assert content["research_use_only"] is True
    assert str(tmp_path) not in json.dumps(content)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"bundle.json", "MODEL_CARD.md", "network.weights.h5"}
    with h5py.File(tmp_path / "out" / "network.weights.h5") as file:
        kinds: set[Any] = set()
        file.visititems(lambda _, item: kinds.add(item.dtype) if isinstance(item, h5py.Dataset) else None)
    assert kinds == {np.dtype(np.float16)}


def test_a_segmenters_bundle_does_not_score(network: Any, tmp_path: Path) -> None:
    pack_segmenter(network, tmp_path / "out", **NAMED, params=TINY, data=DATA, metrics={})
    with pytest.raises(BundleError, match=r"tiny-1\.0\.0 finds cells"):
        load_bundle(tmp_path / "out")


def test_the_card_lists_the_data_and_the_figures_on_what_was_held_out(network: Any, tmp_path: Path) -> None:
    metrics = {"set1": MASK_FIGURES, "fields": BOX_FIGURES}
    pack_segmenter(network, tmp_path / "out", **NAMED, params=TINY, data=DATA, metrics=metrics)
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text(encoding="utf-8")
    lines = card.splitlines()
    assert lines[0] == "# tiny 1.0.0"
    assert "| set1 | 9 | 3 |" in lines
    assert "| fields | 4 | 1 |" in lines
    held_out = lines.index("## Held out")
    assert lines.index("| set1 | 3 | 0.912 | 0.750 | 0.881 |") > held_out
    assert lines.index("| fields | 1 | 0.750 | 2.000 |") > held_out
    assert "research use only" in card.lower()
    assert "Nothing was held out." not in card


def test_the_card_says_when_nothing_was_held_out(network: Any, tmp_path: Path) -> None:
    pack_segmenter(network, tmp_path / "out", **NAMED, params=TINY, data=DATA, metrics={})
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Nothing was held out." in card


def test_held_out_images_without_a_single_box_can_be_packed(network: Any, tmp_path: Path) -> None:
    metrics = {"fields": {"images": 2, "boxes": 0, "found": None, "false_per_image": 0.5}}
    pack_segmenter(network, tmp_path / "out", **NAMED, params=TINY, data=DATA, metrics=metrics)
    card = load_segmenter(tmp_path / "out").folder / "MODEL_CARD.md"
    (row,) = [line for line in card.read_text(encoding="utf-8").splitlines() if line.startswith("| fields | 2 |")]
    assert "0.500" in row
    assert "None" not in row


def test_the_same_network_gives_the_same_digest(network: Any, tmp_path: Path) -> None:
    one, same = (pack_segmenter(network, tmp_path / name, **NAMED, params=TINY, data=DATA, metrics={}) for name in "ab")
    assert one.network.sha256 == same.network.sha256


def test_only_a_new_or_an_empty_folder_is_free(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    for path in (tmp_path / "full" / "mine.txt", tmp_path / "file"):
        path.write_text("mine")
    for name in ("new", "deep/new", "empty"):
        check_out(tmp_path / name)
    for name in ("full", "file"):
        with pytest.raises(OutputError, match=f"{name} exists already; name a new or an empty folder"):
            check_out(tmp_path / name)
    with pytest.raises(OutputError, match=r"new: can't be written \(.*\); name another folder"):
        check_out(tmp_path / "file" / "new")
    assert {p.name for p in tmp_path.iterdir()} == {"empty", "full", "file"}
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("wrong", [{"name": "Tiny Cells"}, {"name": "tiny.zip"}, {"version": "one two"}])
def test_a_name_that_no_bundle_can_have_is_refused_and_nothing_is_left(
    network: Any, tmp_path: Path, wrong: dict[str, str]
) -> None:
    out = tmp_path / "out"
    (field,) = wrong
    with pytest.raises(BundleError, match=field):
        pack_segmenter(network, out, **(NAMED | wrong), params=TINY, data=DATA, metrics={})
    assert not out.exists()


@dataclass(frozen=True)
class Trained:
    """What `segmenter` wrote and printed, and from which images."""

    masks: Path
    boxes: Path
    out: Path
    printed: str
    err: str


def write_masks(folder: Path, n: int = 5) -> Path:
    folder.mkdir(parents=True)
    for i in range(n):
        smear = draw_smear((96, 96), n_cells=1, seed=i, touching=0, border=0, cell_diameter_px=50)
        mask = np.where(smear.nuclei > 0, 255, np.where(smear.labels > 0, 128, 0)).astype(np.uint8)
        Image.fromarray(smear.rgb).save(folder / f"{i}_image.png")
        Image.fromarray(mask).save(folder / f"{i}_mask.png")
    return folder


def write_boxes(folder: Path, n: int = 4) -> Path:
    folder.mkdir(parents=True)
    for i in range(n):
        smear = draw_smear((160, 160), n_cells=2, seed=i, touching=0, border=0, cell_diameter_px=50)
        Image.fromarray(smear.rgb).save(folder / f"{i}.png")
        objects = ""
        for number in range(1, smear.labels.max() + 1):
            y, x = np.nonzero(smear.labels == number)
            box = {"ymin": y.min(), "xmin": x.min(), "ymax": y.max() + 1, "xmax": x.max() + 1}
            sides = "".join(f"<{side}>{value}</{side}>" for side, value in box.items())
            objects += f"<object><name>WBC</name><bndbox>{sides}</bndbox></object>"
        (folder / f"{i}.xml").write_text(f"<annotation>{objects}</annotation>")
    return folder


@dataclass(frozen=True)
class Small(SegmenterParams):
    """A network that is built and trained in seconds."""

    widths: tuple[int, ...] = (4, 8)
    patch_px: int = 32
    batch_size: int = 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train for two steps on masks and boxes; every second image is held out."""
    folder = tmp_path_factory.mktemp("segmenter")
    masks, boxes, out = write_masks(folder / "drawn"), write_boxes(folder / "fields"), folder / "out"
    words = ["segmenter", "--masks", masks, "--boxes", boxes, "--out", out, *NAMES]
    words += ["--steps", 2, "--scenes", 8, "--hold-out", 2]
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(io.StringIO()) as printed,
        redirect_stderr(io.StringIO()) as err,
    ):
        patch.setattr(cli, "compose", partial(compose, n_smears=4))
        patch.setattr(cli, "SegmenterParams", Small)
        assert main([str(word) for word in words]) == 0
    return Trained(masks, boxes, out, printed.getvalue(), err.getvalue())


@pytest.fixture
def quick_training(monkeypatch: pytest.MonkeyPatch) -> list[SegmenterParams]:
    """Compose and train nothing; return a list of what training was asked for."""
    asked: list[SegmenterParams] = []

    def untrained(_: Scenes, params: SegmenterParams) -> Any:
        asked.append(params)
        return build_unet(params.widths)

    monkeypatch.setattr(cli, "compose", lambda *_, **__: None)
    monkeypatch.setattr(cli, "fit_segmenter", untrained)
    return asked


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*_: Any, **__: Any) -> None:
        pytest.fail("training was begun")

    monkeypatch.setattr(cli, "compose", begun)
    monkeypatch.setattr(cli, "fit_segmenter", begun)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., int]:
    """Call `segmenter` for `tmp_path / "out"`; other options come as words."""

    def call(*words: object) -> int:
        return main(["segmenter", "--out", str(tmp_path / "out"), *map(str, words), *NAMES])

    return call


def test_segmenter_writes_a_bundle_that_finds_cells(trained: Trained) -> None:
    bundle = load_segmenter(trained.out)
    assert bundle.label == "tiny-1.0.0"
    assert bundle.manifest.network.widths == Small.widths
    rgb = draw_smear((96, 112), n_cells=2, seed=9).rgb
    cells, nuclei = segment_cells(rgb, SegmentationParams(method=str(trained.out)), nuclei=True)
    assert cells.shape == nuclei.shape == (96, 112)
    assert cells.dtype == nuclei.dtype == np.int32
    assert_array_equal(nuclei[nuclei > 0], cells[nuclei > 0])


def test_segmenter_says_how_much_it_trained_on_and_held_out(trained: Trained) -> None:
    training = load_segmenter(trained.out).manifest.training
    assert training["data"] == {"drawn": {"train": 3, "held_out": 2}, "fields": {"train": 2, "held_out": 2}}
    assert (training["params"]["steps"], training["params"]["n_scenes"]) == (2, 8)
    assert training["params"]["seed"] == SegmenterParams.seed


def test_segmenter_prints_the_figures_that_the_bundle_and_its_card_tell(trained: Trained) -> None:
    first, _, rest = trained.printed.partition("\n")
    assert first == f"{trained.out}: tiny 1.0.0"
    bundle = load_segmenter(trained.out)
    metrics = bundle.manifest.metrics
    assert json.loads(rest) == metrics
    assert set(metrics) == {"drawn", "fields"}
    assert (metrics["drawn"]["images"], metrics["fields"]["images"], metrics["fields"]["boxes"]) == (2, 2, 4)
    card = (bundle.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"| drawn | 2 | {metrics['drawn']['cell']['dice']:.3f} |" in card
    assert f"| fields | 2 | {metrics['fields']['found']:.3f} |" in card


def test_segmenter_leaves_nothing_but_the_bundle(trained: Trained) -> None:
    assert {p.name for p in trained.out.parent.iterdir()} == {"drawn", "fields", "out"}
    assert {p.name for p in trained.out.iterdir()} == {"bundle.json", "MODEL_CARD.md", "network.weights.h5"}


def test_the_figures_of_a_good_network_are_those_that_measure_gives(
    trained: Trained,
    tmp_path: Path,
    train: Callable[..., int],
    quick_training: list[SegmenterParams],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shipped = load_segmenter("cells")
    facts = shipped.manifest.network

    def finished(*_: Any) -> Any:
        network = build_unet(facts.widths)
        network.load_weights(shipped.weights(facts))
        return network

    @dataclass(frozen=True)
    class Shipped(SegmenterParams):
        widths: tuple[int, ...] = facts.widths
        cell_diameter_px: float = facts.cell_diameter_px

    monkeypatch.setattr(cli, "SegmenterParams", Shipped)
    monkeypatch.setattr(cli, "fit_segmenter", finished)
    words = ["--masks", str(trained.masks), "--boxes", str(trained.boxes), "--hold-out", "2"]
    assert train(*words) == 0
    metrics = load_segmenter(tmp_path / "out").manifest.metrics
    assert metrics["drawn"]["cell"]["dice"] > 0.85
    assert metrics["drawn"]["nucleus"]["dice"] > 0.8
    assert metrics["fields"]["found"] > 0.7
    capsys.readouterr()
    assert main(["measure", *words, "--segmentation", str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out) == metrics


def test_measure_prints_the_figures_of_all_images(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--masks", trained.masks, "--boxes", trained.boxes, "--segmentation", "classical"]
    assert main(["measure", *map(str, words)]) == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert (figures["drawn"]["images"], figures["fields"]["images"], figures["fields"]["boxes"]) == (5, 4, 8)
    assert figures["drawn"]["cell"]["dice"] > 0.85
    assert figures["drawn"]["nucleus"]["dice"] > 0.8
    assert figures["fields"]["found"] > 0.8
    assert captured.err == ""


def test_measure_takes_boxes_from_folders_in_the_folder(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained.boxes, tmp_path / "fields" / "first slide")
    shutil.copytree(trained.boxes, tmp_path / "fields" / "second slide")
    assert main(["measure", "--boxes", str(tmp_path / "fields"), "--segmentation", "classical"]) == 0
    assert json.loads(capsys.readouterr().out)["fields"]["boxes"] == 16


def test_measure_tells_folders_of_the_same_name_apart(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_masks(tmp_path / "other laboratory" / "drawn", 2)
    words = ["--masks", str(trained.masks), "--masks", str(other), "--segmentation", "classical"]
    assert main(["measure", *words]) == 0
    assert sorted(m["images"] for m in json.loads(capsys.readouterr().out).values()) == [2, 5]


def test_measure_tells_folders_of_different_options_apart(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = write_masks(tmp_path / "laboratory" / "fields", 2)
    assert main(["measure", "--masks", str(there), "--boxes", str(trained.boxes), "--segmentation", "classical"]) == 0
    images = {name: m["images"] for name, m in json.loads(capsys.readouterr().out).items()}
    assert images == {str(there): 2, str(trained.boxes): 4}


@pytest.mark.usefixtures("quick_training")
def test_a_folder_that_two_options_name_counts_for_each(
    trained: Trained, tmp_path: Path, train: Callable[..., int]
) -> None:
    both = trained.boxes
    assert train("--masks", trained.masks, "--boxes", both, "--smears", both, "--hold-out", 2) == 0
    data = load_segmenter(tmp_path / "out").manifest.training["data"]
    assert {name: count["train"] for name, count in data.items()} == {
        "drawn": 3,
        f"{both} (boxes)": 2,
        f"{both} (smears)": 4,
    }


def test_segmenter_tells_folders_of_the_same_name_apart(
    trained: Trained, tmp_path: Path, train: Callable[..., int], quick_training: list[SegmenterParams]
) -> None:
    other = write_masks(tmp_path / "other laboratory" / "drawn", 2)
    assert train("--masks", trained.masks, "--masks", other) == 0
    assert len(quick_training) == 1
    counts = load_segmenter(tmp_path / "out").manifest.training["data"].values()
    assert sorted(count["train"] for count in counts) == [2, 5]


def test_options_reach_the_training(
    trained: Trained, tmp_path: Path, train: Callable[..., int], quick_training: list[SegmenterParams]
) -> None:
    assert train("--masks", trained.masks, "--steps", 7, "--scenes", 3, "--seed", 11) == 0
    assert quick_training == [replace(SegmenterParams(), steps=7, n_scenes=3, seed=11)]
    assert load_segmenter(tmp_path / "out").manifest.metrics == {}


def test_a_folder_with_something_in_it_is_refused_before_training(
    trained: Trained,
    tmp_path: Path,
    train: Callable[..., int],
    no_training: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert train("--masks", tmp_path / "no such folder") == 1
    assert "out exists already; name a new or an empty folder" in one_line(capsys)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.usefixtures("quick_training")
@pytest.mark.parametrize("failing", [1, 2])
def test_a_network_whose_bundle_cannot_be_written_is_kept_elsewhere(
    trained: Trained,
    tmp_path: Path,
    train: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failing: int,
) -> None:
    """On a disk that fills up before the bundle is measured, or after."""
    weights: list[Path] = []

    def filling(network: Any, path: Path) -> None:
        save_half_precision(network, path)
        weights.append(path)
        if len(weights) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(pack, "save_half_precision", filling)
    monkeypatch.setattr(cli, "SegmenterParams", Small)
    words = ["--masks", trained.masks, "--boxes", trained.boxes, "--hold-out", 2]
    assert train(*words) == 1
    said = one_line(capsys)
    (kept,) = (tmp_path / "temporary").iterdir()
    assert f"out: the bundle can't be written (No space left on device); it is in {kept} instead" in said
    assert set(load_segmenter(kept).manifest.metrics) == {"drawn", "fields"}
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.setattr(pack, "save_half_precision", save_half_precision)
    assert train(*words) == 0


@pytest.mark.usefixtures("quick_training")
def test_a_bundle_that_can_be_written_nowhere_is_one_line(
    trained: Trained,
    tmp_path: Path,
    train: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(pack, "save_half_precision", full)
    assert train("--masks", trained.masks) == 1
    assert "nor can it be kept among the temporary files" in one_line(capsys)


def write_empty_masks(folder: Path) -> Path:
    write_masks(folder, n=2)
    for path in folder.glob("*_mask.png"):
        Image.fromarray(np.zeros((96, 96), np.uint8)).save(path)
    return folder


@pytest.mark.usefixtures("no_training")
def test_no_drawn_image_to_train_on_is_refused(
    tmp_path: Path, train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    masks, boxes = write_masks(tmp_path / "masks", n=2), write_boxes(tmp_path / "boxes", n=2)
    assert train("--masks", masks, "--boxes", boxes, "--hold-out", 1) == 1
    assert "--hold-out 1 leaves no image with a mask to train on; give a larger number" in capsys.readouterr().err
    assert train("--masks", write_empty_masks(tmp_path / "empty")) == 1
    assert "empty: no cell in any mask; expected 255 for nucleus" in capsys.readouterr().err


def test_nothing_left_to_measure_on_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = write_masks(tmp_path / "masks", n=2)
    assert main(["measure", "--masks", str(masks), "--hold-out", "50"]) == 1
    assert "--hold-out 50 leaves no image to measure on; give a smaller number" in capsys.readouterr().err


def test_a_name_that_no_bundle_can_have_is_refused_before_training(
    trained: Trained,
    tmp_path: Path,
    train: Callable[..., int],
    quick_training: list[SegmenterParams],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("--masks", trained.masks, "--name", "ignored") == 0
    words = ["--masks", str(trained.masks), "--out", str(tmp_path / "other"), "--name", "My Cells", "--version", "1"]
    capsys.readouterr()
    assert main(["segmenter", *words]) == 1
    assert "name" in one_line(capsys)
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    assert len(quick_training) == 1


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(
    trained: Trained, tmp_path: Path, quick_training: list[SegmenterParams], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "out"
    assert main(["segmenter", "--masks", str(trained.masks), "--out", str(out), *NAMES]) == 1
    assert "file" in one_line(capsys)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("removed", "said"),
    [("1_mask.png", "1_image.png: no mask beside it"), ("*", "copy: no image; expected <name>_image.png")],
)
def test_masks_that_cannot_be_read_are_refused_in_one_line(
    trained: Trained,
    tmp_path: Path,
    train: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    removed: str,
    said: str,
) -> None:
    copy = shutil.copytree(trained.masks, tmp_path / "copy")
    for path in copy.glob(removed):
        path.unlink()
    assert train("--masks", copy) == 1
    assert said in one_line(capsys)
    assert not (tmp_path / "out").exists()
    assert main(["measure", "--masks", str(copy), "--segmentation", "classical"]) == 1
    assert said in one_line(capsys)


@pytest.mark.usefixtures("no_training")
def test_boxes_that_cannot_be_read_are_refused_in_one_line(
    trained: Trained, tmp_path: Path, train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(trained.boxes, tmp_path / "copy")
    (copy / "2.xml").unlink()
    assert train("--masks", trained.masks, "--boxes", copy) == 1
    assert "2.xml: no boxes can be read" in one_line(capsys)
    assert main(["measure", "--boxes", str(copy), "--segmentation", "classical"]) == 1
    assert "2.xml: no boxes can be read" in one_line(capsys)


@pytest.mark.parametrize("method", ["nonsense", "no/such/bundle"])
def test_a_method_that_does_not_exist_is_refused_in_one_line(
    trained: Trained, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    assert main(["measure", "--masks", str(trained.masks), "--segmentation", method]) == 1
    assert method in one_line(capsys)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    "words",
    [
        ["--steps", "-1"],
        ["--scenes", "0"],
        ["--seed", "-1"],
        ["--hold-out", "-1"],
        ["--steps", "many"],
        ["--scenes", "0.5"],
    ],
)
def test_numbers_out_of_range_are_bad_usage(
    trained: Trained, train: Callable[..., int], capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        train("--masks", trained.masks, *words)
    assert stopped.value.code == 2
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["--masks", "--out", "--version"])
def test_what_segmenter_cannot_do_without_is_asked_for(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"--masks": "there", "--out": "here", "--version": "1.0.0"}
    words = [word for pair in options.items() if pair[0] != missing for word in pair]
    with pytest.raises(SystemExit) as stopped:
        main(["segmenter", *words])
    assert stopped.value.code == 2
    assert missing in capsys.readouterr().err


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was written to standard error, after checking that it is one line and all there is."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("all-detect-train: ")
    return captured.err
