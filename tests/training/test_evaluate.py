import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics as sklearn_metrics

from all_detect_training import telling
from all_detect_training.cli import main
from all_detect_training.commands import measuring
from all_detect_training.evaluate import evaluate, evaluation_figures, write_evaluation
from all_detect_training.listing import LabelledImage
from all_detect_training.plans import images_digest
from all_detect_training.reading import read_cells
from all_detect_training.seen_images import sides_in_training
from napari_all_detect import draw_smear
from napari_all_detect.bundle import load_bundle
from napari_all_detect.crops import center_crop
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import open_scorer, score_image

pytestmark = pytest.mark.usefixtures("reuse_engines")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] - 32
    for sub, colour in (("all", (120, 70, 170)), ("hem", (190, 140, 200))):
        (tmp_path / "data" / sub).mkdir(parents=True)
        for i in range(4):
            pixels = (np.array(colour) + rng.normal(0, 40, (64, 64, 3))).clip(1, 255)
            crop = np.where((y**2 + x**2 < 15**2)[..., None], pixels, 0).astype(np.uint8)
            Image.fromarray(crop).save(tmp_path / "data" / sub / f"{i}.png")
    return tmp_path / "data"


def test_a_bundle_is_measured_as_it_scores(
    folder: Path, duo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "hem" / "broken.png").write_bytes(b"no image")
    words = ["evaluate", str(duo_bundle), "--cells", str(folder), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "left out" in printed.err
    table = pd.read_csv(tmp_path / "out" / "cells.csv", keep_default_na=False)
    assert len(table) == 8
    assert table["class"].tolist() == ["ALL"] * 4 + ["Hem"] * 4
    for row in table.itertuples():
        rgb = np.asarray(Image.open(folder / row.image))
        alone = score_image(rgb, rgb.any(axis=-1).astype(int), bundle=str(duo_bundle)).table.iloc[0]
        assert float(row.p_all) == pytest.approx(alone["p_all"], abs=1e-6)
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    truth, p_all = table["class"] == "ALL", table["p_all"].astype(float)
    assert figures["figures"]["auc"]["value"] == pytest.approx(sklearn_metrics.roc_auc_score(truth, p_all), abs=1e-6)
    assert figures["calls"]["ALL"] == {
        call: int(((table["call"] == call) & truth).sum()) for call in ("ALL", "Hem", "uncertain")
    }
    assert (figures["in_domain"], figures["resampled"]) == (None, "images")
    assert (figures["images"], figures["images_given"]) == (8, 9)
    assert "8 cells of 8 of 9 images" in printed.out
    assert f"AUC           {figures['figures']['auc']['value']:.3f}" in printed.out
    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err


def test_scoring_tells_how_far_it_has_come(
    folder: Path, duo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "FIRST_S", 0)
    assert main(["evaluate", str(duo_bundle), "--cells", str(folder), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert "measuring the cells of images: 1 of 8, about " in told
    assert "scoring images: 1 of 8, about " in told


def test_images_of_one_cell_are_cut_as_in_training(duo_bundle: Path, tmp_path: Path) -> None:
    """Off the centre, bright or small: what is scored are the crops that `fit` would train on."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:90, :90] - 45
    diameter = load_bundle(str(duo_bundle)).manifest.crop.cell_diameter_px
    images = []
    for i, (shift, share) in enumerate([(9, 1.0), (-7, 1.0), (0, 0.5)]):
        disc = (y - shift) ** 2 + (x + shift) ** 2 < (share * diameter / 2) ** 2
        pixels = np.where(disc[..., None], rng.integers(1, 255, (90, 90, 3)), 0).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        images.append(LabelledImage(tmp_path / f"{i}.png", f"all/{i}.png", is_all=i != 1))
    Image.fromarray(np.zeros((90, 90, 3), np.uint8)).save(tmp_path / "black.png")
    corner = np.zeros((400, 400, 3), np.uint8)
    corner[:20, :20] = 120
    Image.fromarray(corner).save(tmp_path / "corner.png")
    left_out = [LabelledImage(tmp_path / f"{name}.png", f"hem/{name}.png", False) for name in ("black", "corner")]
    params = ScoreParams(bundle=str(duo_bundle))
    table = evaluate([*images, *left_out], "cells", params)
    scorer = open_scorer(params)
    size = scorer.bundle.manifest.crop.size
    crops = read_cells(images, tmp_path, kind="cells", crop_size=size).crops
    np.testing.assert_array_equal(table["p_all_vgg16"], scorer.engine.predict(crops)[:, 0, 1])
    np.testing.assert_allclose(table["diameter_px"] / diameter, [1, 1, 0.5], rtol=0.05)


def test_one_scale_brings_all_images_of_one_cell_to_the_bundles(duo_bundle: Path, tmp_path: Path) -> None:
    scorer = open_scorer(ScoreParams(bundle=str(duo_bundle)))
    crop = scorer.bundle.manifest.crop
    wide = round(4 * crop.cell_diameter_px)
    images = []
    for i, side in enumerate((wide, wide, wide // 3)):
        Image.new("RGB", (side, side), (120, 70, 170)).save(tmp_path / f"{i}.png")
        images.append(LabelledImage(tmp_path / f"{i}.png", f"all/{i}.png", is_all=True))
    scale = crop.cell_diameter_px / (wide * np.sqrt(4 / np.pi))
    assert scale < 0.25
    rgb = [np.asarray(Image.open(image.path)) for image in images]
    crops = [center_crop(pixels, np.ones(pixels.shape[:2], int), crop.size, scale)[0] for pixels in rgb]
    table = evaluate(images, "cells", scorer.params)
    np.testing.assert_array_equal(table["p_all_vgg16"], scorer.engine.predict(np.stack(crops))[:, 0, 1])


def test_jpegs_and_cells_not_on_black_are_scored_as_training_sees_them(
    duo_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:90, :90] - 45
    params = ScoreParams(bundle=str(duo_bundle))
    scorer = open_scorer(params)
    disc = np.clip(scorer.bundle.manifest.crop.cell_diameter_px / 2 + 1 - np.hypot(y, x), 0, 2)[..., None] / 2
    pixels = (disc * rng.normal((120, 60, 160), 10, (90, 90, 3))).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.jpg", quality=90, subsampling=0)
    Image.fromarray(np.where(disc > 0, pixels, 240).astype(np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(pixels[::-1]).save(tmp_path / "2.jpg", quality=90, subsampling=0)
    images = [LabelledImage(tmp_path / name, f"all/{name}", name != "1.png") for name in ("0.jpg", "1.png", "2.jpg")]
    table = evaluate(images, "cells", params)
    assert table["area_px"][0] == pytest.approx((disc > 0).sum(), rel=0.05)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("1 of 3 images of one cell are not on black: all/1.png; scoring blackens")
    crops = read_cells(images, tmp_path, kind="cells", crop_size=scorer.bundle.manifest.crop.size).crops
    np.testing.assert_array_equal(table["p_all_vgg16"], scorer.engine.predict(crops)[:, 0, 1])


def test_figures_by_hand() -> None:
    table = pd.DataFrame(
        {
            "image": ["a", "a", "b", "b"],
            "subject": ["1", "1", "2", "2"],
            "class": ["ALL", "ALL", "Hem", "Hem"],
            "p_all": np.array([0.9, 0.3, 0.2, 0.6], np.float32),
            "call": ["ALL", "uncertain", "Hem", "ALL"],
            "in_domain": pd.array([True, False, True, True], dtype="boolean"),
        }
    )
    figures = evaluation_figures(table, 0.25)
    assert (figures["cells"], figures["images"], figures["resampled"]) == (4, 2, "subjects")
    assert figures["in_domain"] == 0.75
    assert figures["calls"] == {
        "ALL": {"ALL": 1, "Hem": 0, "uncertain": 1},
        "Hem": {"ALL": 1, "Hem": 1, "uncertain": 0},
    }
    values = {name: figure["value"] for name, figure in figures["figures"].items()}
    assert (values["auc"], values["accuracy"], values["sensitivity"], values["specificity"]) == (0.75, 0.75, 1.0, 0.5)
    assert (figures["subjects"]["n"], figures["subjects"]["auc"]["value"]) == (2, 1.0)
    # Four cells, each alone in its bin and of the same weight.
    assert figures["calibration_error"] == pytest.approx((0.1 + 0.7 + 0.2 + 0.6) / 4, abs=1e-6)
    assert evaluation_figures(table, 0.3)["figures"]["sensitivity"]["value"] == 1.0
    some_unknown = evaluation_figures(table.assign(subject=["1", "1", "", ""]), 0.25)
    assert (some_unknown["resampled"], "subjects" in some_unknown) == ("images", False)


def test_of_one_class_only_what_it_has_is_printed(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "image": list("abcd"),
            "subject": [""] * 4,
            "class": ["ALL"] * 4,
            "p_all": np.array([0.9, 0.3, 0.8, 0.6], np.float32),
            "call": ["ALL", "Hem", "ALL", "ALL"],
            "in_domain": pd.array([None] * 4, dtype="boolean"),
        }
    )
    printed = write_evaluation(tmp_path, table, evaluation_figures(table, 0.5))
    rows = dict(line.split(maxsplit=1) for line in printed.splitlines()[1:10])
    assert {name for name, text in rows.items() if text == "n/a"} == {"AUC", "WP", "WFS", "BA", "kappa", "specificity"}
    assert {rows[name][:5] for name in ("WR", "ACC", "sensitivity")} == {"0.750"}
    assert json.loads((tmp_path / "figures.json").read_text())["figures"]["kappa"]["value"] is None


def test_subjects_have_a_table_of_their_own(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "image": ["a", "a", "b"],
            "subject": ["1", "1", "2"],
            "class": ["ALL", "ALL", "Hem"],
            "p_all": np.array([0.9, 0.3, 0.2], np.float32),
            "call": ["ALL", "Hem", "Hem"],
            "in_domain": pd.array([None, None, None], dtype="boolean"),
        }
    )
    printed = write_evaluation(tmp_path / "known", table, evaluation_figures(table, 0.5))
    rows = pd.read_csv(tmp_path / "known" / "subjects.csv", dtype={"subject": str}).set_index("subject")
    assert rows.loc["1", ["class", "cells", "called_all", "mean_p_all"]].tolist() == ["ALL", 2, 0.5, 0.6]
    assert rows[["mean_p_all_low", "mean_p_all_high"]].isna().all(axis=None)
    assert "2 subjects, AUC of their mean P(ALL) 1.000\n" in printed
    assert printed.endswith(
        "No brackets: every resample gives the same, which says nothing of how far off the figure may be.\n"
    )
    apart = table.assign(image=["a", "c", "b"])
    write_evaluation(tmp_path / "apart", apart, evaluation_figures(apart, 0.5))
    rows = pd.read_csv(tmp_path / "apart" / "subjects.csv", dtype={"subject": str}).set_index("subject")
    assert rows.loc["1", ["mean_p_all_low", "mean_p_all_high"]].tolist() == [0.3, 0.9]
    unknown = table.assign(subject="")
    assert "subjects," not in write_evaluation(tmp_path / "unknown", unknown, evaluation_figures(unknown, 0.5))
    assert not (tmp_path / "unknown" / "subjects.csv").exists()


def test_subjects_of_both_classes_are_in_no_figure_of_subjects(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = pd.DataFrame(
        {
            "image": list("abcdef"),
            "subject": ["1", "2", "2", "3", "3", "3"],
            "class": ["ALL", "ALL", "Hem", "Hem", "Hem", "ALL"],
            "p_all": np.array([0.9, 0.3, 0.2, 0.1, 0.1, 0.8], np.float32),
            "call": ["ALL", "Hem", "Hem", "Hem", "Hem", "ALL"],
            "in_domain": pd.array([None] * 6, dtype="boolean"),
        }
    )
    table = pd.concat([table, table[3:5].assign(subject="4")], ignore_index=True)
    figures = evaluation_figures(table, 0.5)
    assert "left out of the figures of subjects, for cells of both classes: 2, 3" in caplog.text
    assert (figures["cells"], figures["subjects"]["n"], figures["subjects"]["auc"]["value"]) == (8, 2, 1.0)
    write_evaluation(tmp_path / "some", table, figures)
    assert pd.read_csv(tmp_path / "some" / "subjects.csv")["subject"].tolist() == [1, 4]
    mixed = table[1:6]
    assert "subjects," not in write_evaluation(tmp_path / "none", mixed, evaluation_figures(mixed, 0.5))
    assert not (tmp_path / "none" / "subjects.csv").exists()
    caplog.clear()
    for unknown in (table.assign(subject=""), table.assign(subject=["", *table["subject"][1:]])):
        assert "subjects" not in evaluation_figures(unknown, 0.5)
    assert not caplog.records


def test_parts_that_are_none_are_named(
    folder: Path, duo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(duo_bundle), "--cells", str(folder), "--only", "fold_9", "--out", str(tmp_path / "out")]
    assert main(words) == 1
    assert "no image in part 'fold_9'; expected no --only" in capsys.readouterr().err


def test_cells_under_a_scale_bar_are_left_out_of_smears(duo_bundle: Path, tmp_path: Path) -> None:
    drawn = draw_smear(seed=3)
    for sub in ("all", "hem"):
        (tmp_path / "data" / sub).mkdir(parents=True)
        Image.fromarray(drawn.rgb).save(tmp_path / "data" / sub / "0.png")
    height, width = drawn.labels.shape
    tables = []
    for side in (0, height // 2):
        out = tmp_path / f"out{side}"
        words = ["evaluate", str(duo_bundle), "--smears", str(tmp_path / "data"), "--mask-corner", str(side)]
        assert main([*words, "--out", str(out)]) == 0
        tables.append(pd.read_csv(out / "cells.csv"))
    whole, masked = tables
    inside = (whole["bbox_y1"] > height - side) & (whole["bbox_x1"] > width - side)
    assert 0 < len(masked) < len(whole)
    assert set(whole["label"][~inside]) <= set(masked["label"])
    assert not ((masked["y_px"] > height - side) & (masked["x_px"] > width - side)).any()


def test_smears_without_a_cell_are_told_once(
    duo_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(draw_smear(seed=3).rgb).save(tmp_path / "0.png")
    Image.new("RGB", (144, 160), (235, 230, 238)).save(tmp_path / "1.png")
    images = [LabelledImage(tmp_path / f"{i}.png", f"all/{i}.png", is_all=True) for i in range(2)]
    params = ScoreParams(bundle=str(duo_bundle))
    table = evaluate(images, "smears", params)
    assert set(table["image"]) == {"all/0.png"}
    assert [r.getMessage() for r in caplog.records] == ["no cell found in 1 of 2 images, which are left out: all/1.png"]
    figures = evaluation_figures(table, 0.5, len(images))
    printed = write_evaluation(tmp_path / "out", table, figures)
    assert printed.startswith(f"{len(table)} cells of 1 of 2 images; ")
    caplog.clear()
    table = evaluate(images[:1], "smears", params)
    assert not caplog.records
    assert " cells of 1 images; " in write_evaluation(tmp_path / "whole", table, evaluation_figures(table, 0.5))


def test_a_corner_of_an_image_of_one_cell_is_not_masked(folder: Path, duo_bundle: Path, tmp_path: Path) -> None:
    words = ["evaluate", str(duo_bundle), "--cells", str(folder), "--mask-corner", "8", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="2"):
        main(words)


def test_a_bundles_own_images_are_known_though_not_their_sides_in_contiguous_blocks(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    images = [LabelledImage(tmp_path / f"{name}.png", f"all/{name}.png", is_all=True) for name in ("a", "b")]
    manifest: Any = SimpleNamespace(training={"dataset": {"images_sha256": images_digest(images, None)}})
    assert sides_in_training(manifest, images) == ["", ""]
    assert sides_in_training(manifest, images[:1]) is None
    manifest.training["dataset"]["split"] = "contiguous"
    assert sides_in_training(manifest, images) == ["", ""]
    manifest.training["dataset"]["split"] = "1/5"
    assert sides_in_training(manifest, images) is None
    manifest.training = {}
    assert sides_in_training(manifest, images) is None


def test_a_part_is_that_of_the_bundles_own_run_where_it_is_known(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the list calls its parts."""
    images = [LabelledImage(Path(f"{k}.png"), f"{k}.png", True, group="test" if k < 3 else "train") for k in range(4)]
    sides = ["train", "test", "validation", "test"]

    def names(sides: list[str] | None, only: str | None) -> list[str]:
        return [image.image for image in measuring._chosen(images, sides, only)]

    assert names(sides, "test") == ["1.png", "3.png"]
    assert not caplog.records
    assert names(None, "test") == names([""] * 4, "test") == ["0.png", "1.png", "2.png"]
    caplog.clear()
    assert len(names(sides, None)) == 4
    assert "2 of 4 images trained or validated this bundle" in caplog.text
