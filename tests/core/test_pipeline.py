import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from imagecodecs import png_encode
from numpy.typing import NDArray

from napari_all_detect.batch import score_batch
from napari_all_detect.bundle import load_bundle
from napari_all_detect.bundle.places import builtin_root
from napari_all_detect.digest import file_digest
from napari_all_detect.engines import Choice
from napari_all_detect.errors import BundleError, InputError, ParameterError
from napari_all_detect.export.csv import csv_text
from napari_all_detect.params import OutputParams, ScoreParams
from napari_all_detect.pipeline import PlaneInput, ScoredImage, Scorer, open_scorer, score_image, score_plane
from napari_all_detect.pipeline import scorer as scorers
from napari_all_detect.pipeline.scorer import kept_scorer
from napari_all_detect.segmentation import segment_cells
from napari_all_detect.sources import as_rgb
from napari_all_detect.sources.tiled import of_plane
from napari_all_detect.tiling import TiledCells, find_tiled

pytestmark = pytest.mark.usefixtures("reuse_engines")

Pixels = NDArray[np.uint8]
MEMBERS = ["vgg16", "mobilenet", "densenet121"]
COLUMNS = [
    *("image", "plane", "label", "y_px", "x_px", "bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1", "area_px"),
    *("diameter_px", "eccentricity", "solidity", "y_um", "x_um", "area_um2", "diameter_um"),
    *("nc_ratio", "nucleus_area_px", "nucleus_lobes"),
    *("p_all", "p_hem", "call", "spread", "votes_all", "members_run", "least_p_all", "most_p_all"),
    *("p_all_vgg16", "p_all_mobilenet", "p_all_densenet121"),
    *("domain_distance", "in_domain", "flags", "bundle", "well", "field"),
]


@pytest.fixture(scope="module")
def rgb(smear: Callable[..., Pixels]) -> Pixels:
    return smear(4)


@pytest.fixture
def scorer(tiny_bundle: Path, reuse_engines: None) -> Scorer:
    return open_scorer(ScoreParams(bundle=str(tiny_bundle)))


@pytest.fixture
def score(scorer: Scorer) -> Callable[..., ScoredImage]:
    def with_options(image: Any, labels: Any = None, pixel_size_um: float | None = None, **options: Any) -> ScoredImage:
        changed = replace(scorer, params=replace(scorer.params, **options))
        return score_plane(changed, PlaneInput(as_rgb(image), labels=labels, pixel_size_um=pixel_size_um))

    return with_options


Score = Callable[..., ScoredImage]


def scores(table: pd.DataFrame) -> NDArray[np.float64]:
    return table[[f"p_all_{name}" for name in MEMBERS]].to_numpy(np.float64)


def test_a_row_per_cell_with_the_columns_of_the_contract(score: Score, rgb: Pixels) -> None:
    scored = score(rgb)
    assert list(scored.table.columns) == COLUMNS
    assert scored.table["label"].tolist() == list(range(1, scored.labels.max() + 1))
    assert 4 <= len(scored.table) == len(scored.crops) == len(scored.member_probabilities)
    np.testing.assert_array_equal(scored.labels, segment_cells(rgb))
    assert set(scored.table["image"]) == {"image"}
    assert set(scored.table["plane"]) == {"0"}
    assert set(scored.table["bundle"]) == {"tiny-0.1"}
    assert scored.table["domain_distance"].isna().all()
    assert scored.table["in_domain"].isna().all()


def test_geometry_counted_from_the_label_image(score: Score, rgb: Pixels) -> None:
    scored = score(rgb)
    for row in scored.table.itertuples():
        y, x = np.nonzero(scored.labels == row.label)
        assert row.area_px == len(y)
        assert (row.bbox_y0, row.bbox_x0, row.bbox_y1, row.bbox_x1) == (y.min(), x.min(), y.max() + 1, x.max() + 1)
        assert (row.y_px, row.x_px) == pytest.approx((y.mean(), x.mean()), rel=1e-6)
        assert row.diameter_px == pytest.approx(2 * np.sqrt(len(y) / np.pi), rel=1e-6)


def test_crops_and_probabilities_are_in_the_order_of_the_rows(score: Score, scorer: Scorer, rgb: Pixels) -> None:
    scored = score(rgb)
    for i, row in enumerate(scored.table.itertuples()):
        shown = scored.crops[i].any(axis=2).sum()
        assert shown == pytest.approx(row.area_px, rel=0.02)
        mean = rgb[scored.labels == row.label].mean(axis=0)
        np.testing.assert_allclose(scored.crops[i][scored.crops[i].any(axis=2)].mean(axis=0), mean, atol=2)
    np.testing.assert_array_equal(scored.member_probabilities[:, :, 1], scores(scored.table).astype(np.float32))
    np.testing.assert_array_equal(scorer.engine.predict(scored.crops), scored.member_probabilities)


def test_a_whole_ensemble_has_no_bounds_but_its_p_all(score: Score, rgb: Pixels) -> None:
    table = score(rgb).table
    assert set(table["members_run"]) == {3}
    for bound in ("least_p_all", "most_p_all"):
        np.testing.assert_array_equal(table[bound], table["p_all"])


def drawn_labels(rgb: Pixels, numbers: list[int], dtype: Any = np.int32) -> NDArray[Any]:
    labels = np.zeros(rgb.shape[:2], dtype)
    for i, number in enumerate(numbers):
        labels[10 + 40 * i : 34 + 40 * i, 20 + 50 * i : 48 + 50 * i] = number
    return labels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.uint64])
def test_labels_given_are_used_as_they_are(score: Score, rgb: Pixels, dtype: Any) -> None:
    labels = drawn_labels(rgb, [40, 3, 7], dtype)
    before = labels.copy()
    scored = score(rgb, labels)
    assert scored.table["label"].tolist() == [3, 7, 40]
    np.testing.assert_array_equal(scored.labels, labels)
    np.testing.assert_array_equal(labels, before)
    assert scored.labels.dtype == np.int32
    assert scored.table["bbox_x0"].tolist() == [70, 120, 20]
    assert scored.table["area_px"].tolist() == [24 * 28] * 3
    for row, crop in zip(scored.table.itertuples(), scored.crops, strict=True):
        cell = rgb[row.bbox_y0 : row.bbox_y1, row.bbox_x0 : row.bbox_x1]
        np.testing.assert_array_equal(crop[8:32, 6:34], cell)


@pytest.mark.parametrize("dtype", [bool, np.int32])
def test_a_nucleus_is_its_cell_s_whatever_its_number(scorer: Scorer, rgb: Pixels, dtype: Any) -> None:
    labels, nuclei = drawn_labels(rgb, [7, 3]), np.zeros(rgb.shape[:2], dtype)
    nuclei[20:30, 30:40] = nuclei[60:80, 80:85] = 1  # the second reaches beyond its cell
    scored = score_plane(scorer, PlaneInput(as_rgb(rgb), labels=labels, nuclei=nuclei))
    assert scored.table[["label", "nucleus_area_px"]].to_numpy().tolist() == [[3, 70], [7, 100]]
    assert scored.nuclei is not None
    np.testing.assert_array_equal(scored.nuclei, np.where(nuclei > 0, labels, 0))


def test_the_numbers_of_labels_do_not_change_scores(score: Score, rgb: Pixels) -> None:
    low, high = (score(rgb, drawn_labels(rgb, numbers)).table for numbers in ([1, 2, 3], [5, 70, 4_000_000]))
    pd.testing.assert_frame_equal(low.drop(columns="label"), high.drop(columns="label"))


def test_a_mask_is_one_cell(score: Score, rgb: Pixels) -> None:
    scored = score(rgb, drawn_labels(rgb, [1, 1], bool))
    assert scored.table[["label", "area_px"]].to_numpy().tolist() == [[1, 2 * 24 * 28]]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.zeros((5, 5), int), r"\(5, 5\), the image's \(144, 176\)"),
        (np.zeros((144, 176, 1), int), r"\(144, 176, 1\), the image's"),
        (np.zeros((144, 176)), "labels are float64; expected whole numbers"),
        (np.full((144, 176), -1), "labels run from -1 to 0"),
        (np.full((144, 176), 2**22), "labels run from 0 to 4194304; expected 0 to 4194303"),
        (np.full((144, 176), 2**40), "expected 0 to 4194303"),
        (np.full((144, 176), "a"), "labels are <U1"),
    ],
)
def test_labels_that_are_none_of_this_image_are_refused(
    score: Score, rgb: Pixels, labels: NDArray[Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        score(rgb, labels)
    assert "\n" not in str(caught.value)


def test_labels_may_be_lists_but_no_path(tiny_bundle: Path, rgb: Pixels) -> None:
    labels = drawn_labels(rgb, [1, 2])
    listed, given = (score_image(rgb, given, bundle=str(tiny_bundle)).table for given in (labels.tolist(), labels))
    pd.testing.assert_frame_equal(listed, given)
    for odd, reason in (("a.tif", "labels: got the path a.tif"), ([[1], [1, 2]], "labels are no array")):
        with pytest.raises(InputError, match=reason):
            score_image(rgb, odd, bundle=str(tiny_bundle))


def assert_no_cells(scored: ScoredImage, shape: tuple[int, int]) -> None:
    assert list(scored.table.columns) == COLUMNS
    assert len(scored.table) == 0
    assert scored.labels.shape == shape
    assert not scored.labels.any()
    assert scored.crops.shape == (0, 40, 40, 3)
    assert scored.member_probabilities.shape == (0, 3, 2)
    summary = scored.summary.iloc[0]
    assert (len(scored.summary), summary["cells"], summary["all"], summary["hem"]) == (1, 0, 0, 0)
    assert scored.summary[["fraction_all", "mean_p_all", "median_diameter_px"]].isna().all(axis=None)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (60, 80)])
@pytest.mark.parametrize("grey", [0, 230])
def test_an_image_without_a_cell_gives_an_empty_table(score: Score, shape: tuple[int, int], grey: int) -> None:
    assert_no_cells(score(np.full((*shape, 3), grey, np.uint8)), shape)


def test_labels_without_a_cell_give_an_empty_table(score: Score, rgb: Pixels) -> None:
    scored = score(rgb, np.zeros(rgb.shape[:2], int))
    assert_no_cells(scored, rgb.shape[:2])
    filled = score(rgb)
    assert scored.table.dtypes.equals(filled.table.dtypes)
    assert scored.summary.dtypes.equals(filled.summary.dtypes)


def test_a_cell_of_one_pixel(score: Score) -> None:
    scored = score(np.full((1, 1, 3), 90, np.uint8), np.ones((1, 1), int), rescale="none")
    assert scored.table["area_px"].tolist() == [1]
    assert scored.crops.sum() == 3 * 90
    assert "touches_border" in scored.table["flags"][0]


def test_the_same_pixels_of_another_type_score_the_same(score: Score, rgb: Pixels) -> None:
    expected = csv_text(score(rgb).table)
    opaque = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    for image in (opaque, rgb.astype(np.uint16) * 257, rgb / np.float64(255), rgb.astype(np.float32)):
        assert csv_text(score(image).table) == expected


def test_what_was_done_to_the_pixels_is_noted(score: Score, rgb: Pixels) -> None:
    grey = score(rgb[..., 1])
    assert "grey image" in grey.summary["notes"][0]
    assert "scaled to 8 bits" in score(rgb.astype(np.uint16) * 257).summary["notes"][0]
    assert score(rgb).summary["notes"][0] == ""
    assert score(rgb, pixel_size_um=0.4).summary["notes"][0] == ""
    assert "um wide by a pixel size of 4 um: is that right?" in score(rgb, pixel_size_um=4.0).summary["notes"][0]
    assert "um wide by a pixel size of 0.05 um" in score(rgb, pixel_size_um=0.05).summary["notes"][0]
    np.testing.assert_array_equal(grey.labels, segment_cells(np.dstack([rgb[..., 1]] * 3)))


@pytest.mark.parametrize(
    ("rescale", "said"),
    [
        (0.3, "more than 3 times as wide as those of the training: photographed with far more"),
        (0.34, ""),
        (3.0, ""),
        (3.1, "less than a third as wide as those of the training: photographed with far less"),
    ],
)
def test_cells_of_another_detail_are_noted(score: Score, rgb: Pixels, rescale: float, said: str) -> None:
    notes = score(rgb, rescale=rescale).summary["notes"][0]
    assert notes == (f"cells are {said} detail" if said else "")
    assert score(np.full((40, 40, 3), 230, np.uint8), rescale=rescale).summary["notes"][0] == ""  # of no cell


def test_what_tiles_make_different_is_noted_too(scorer: Scorer, rgb: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_clumps(*given: Any) -> TiledCells:
        return replace(find_tiled(*given), notes=("clumps were cut",))

    monkeypatch.setattr("napari_all_detect.tiling.find_tiled", cut_clumps)
    scored = score_plane(scorer, PlaneInput(of_plane(as_rgb(rgb[..., 1]), 96)))
    note = scored.summary["notes"][0]
    assert "grey image" in note
    assert note.endswith(";clumps were cut")


@pytest.mark.parametrize("image", [np.zeros((4, 4, 2)), np.zeros((0, 4, 3)), np.zeros(5), np.full((4, 4), np.nan)])
def test_what_is_no_image_is_refused(tiny_bundle: Path, image: NDArray[Any]) -> None:
    with pytest.raises(InputError):
        score_image(image, bundle=str(tiny_bundle))


def test_micrometres_only_with_a_pixel_size(score: Score, rgb: Pixels) -> None:
    micro = ["y_um", "x_um", "area_um2", "diameter_um"]
    without = score(rgb)
    assert without.table[micro].isna().all(axis=None)
    assert np.isnan(without.summary["pixel_size_um"][0])
    of_file = score(rgb, pixel_size_um=0.5)
    for name in ("y", "x", "diameter"):
        np.testing.assert_allclose(of_file.table[f"{name}_um"], of_file.table[f"{name}_px"] * 0.5, rtol=1e-6)
    np.testing.assert_allclose(of_file.table["area_um2"], of_file.table["area_px"] * 0.25, rtol=1e-6)
    assert of_file.summary["pixel_size_um"][0] == 0.5


def test_a_pixel_size_chosen_wins_over_the_files(scorer: Scorer, rgb: Pixels) -> None:
    chosen = replace(scorer, params=replace(scorer.params, pixel_size_um=2.0, rescale="none"))
    table = score_plane(chosen, PlaneInput(as_rgb(rgb), pixel_size_um=0.5)).table
    np.testing.assert_allclose(table["x_um"], table["x_px"] * 2.0, rtol=1e-6)


@pytest.mark.parametrize(("of_file", "chosen"), [(0.2, None), (0.5, 0.2)])
def test_a_pixel_size_says_how_wide_cells_are(
    scorer: Scorer, rgb: Pixels, of_file: float, chosen: float | None
) -> None:
    changed = replace(scorer, params=replace(scorer.params, pixel_size_um=chosen))
    expected = segment_cells(rgb, pixel_size_um=0.2)
    assert (expected != segment_cells(rgb)).any()
    for pixels in (as_rgb(rgb), of_plane(as_rgb(rgb), 96)):
        scored = score_plane(changed, PlaneInput(pixels, pixel_size_um=of_file))
        np.testing.assert_array_equal(np.asarray(scored.labels), expected)


@pytest.mark.parametrize("weighting", [None, "kappa", "accuracy", "auc", "f1", "equal"])
def test_equation_2_by_hand(score: Score, rgb: Pixels, tiny_bundle: Path, weighting: str | None) -> None:
    facts = json.loads((tiny_bundle / "bundle.json").read_text())
    figure = weighting or "kappa"
    weights = [1.0 if weighting == "equal" else member["validation"][figure] for member in facts["members"]]
    assert weighting == "equal" or len(set(weights)) == 3
    table = score(rgb, weighting=weighting).table
    votes = scores(table)
    expected = (votes[:, 0] * weights[0] + votes[:, 1] * weights[1] + votes[:, 2] * weights[2]) / sum(weights)
    np.testing.assert_allclose(table["p_all"], expected, atol=1e-6)
    np.testing.assert_allclose(table["p_all"] + table["p_hem"], 1, atol=1e-6)


def test_weightings_differ(score: Score, rgb: Pixels) -> None:
    p_all = [score(rgb, weighting=w).table["p_all"].to_numpy() for w in ("kappa", "accuracy", "auc", "f1", "equal")]
    for i, one in enumerate(p_all):
        for other in p_all[:i]:
            assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("share", [0.0, 0.4, 0.7, 1.0])
def test_calls_and_votes_by_hand(score: Score, rgb: Pixels, share: float) -> None:
    threshold = share if share in (0.0, 1.0) else float(np.quantile(score(rgb).table["p_all"], share))
    scored = score(rgb, threshold=threshold)
    table = scored.table
    called = ["ALL" if p >= threshold else "Hem" for p in table["p_all"]]
    assert table["call"].tolist() == called
    assert table["votes_all"].tolist() == (scores(table) >= threshold).sum(axis=1).tolist()
    np.testing.assert_allclose(table["spread"], scores(table).std(axis=1), atol=1e-6)
    summary = scored.summary.iloc[0]
    n_all = called.count("ALL")
    assert (summary["all"], summary["hem"], summary["uncertain"]) == (n_all, len(called) - n_all, 0)
    assert summary["fraction_all"] == pytest.approx(n_all / len(called))
    assert summary["mean_p_all"] == pytest.approx(table["p_all"].mean(), rel=1e-6)
    assert summary["median_diameter_px"] == pytest.approx(np.median(table["diameter_px"]))
    expected = {0.0: {"ALL"}, 1.0: {"Hem"}}.get(threshold, {"ALL", "Hem"})
    assert set(called) == expected


def changed_copy(folder: Path, target: Path, change: Callable[[dict[str, Any]], Any]) -> str:
    shutil.copytree(folder, target)
    facts = json.loads((target / "bundle.json").read_text())
    change(facts)
    (target / "bundle.json").write_text(json.dumps(facts))
    return str(target)


def test_the_bundle_says_weighting_and_threshold_unless_chosen(duo_bundle: Path, tmp_path: Path) -> None:
    ensemble = {"weighting": "f1", "threshold": 0.75}
    bundle = changed_copy(duo_bundle, tmp_path / "b", lambda facts: facts.update(ensemble=ensemble))
    own = open_scorer(ScoreParams(bundle=bundle))
    assert (own.threshold, own.weights.tolist()) == (0.75, pytest.approx([0.95, 0.65]))
    chosen = open_scorer(ScoreParams(bundle=bundle, weighting="equal", threshold=0.0))
    assert (chosen.threshold, chosen.weights.tolist()) == (0.0, [1, 1])


def test_a_negative_kappa_counts_as_0_with_a_warning(duo_bundle: Path, tmp_path: Path, rgb: Pixels) -> None:
    bundle = changed_copy(
        duo_bundle, tmp_path / "b", lambda facts: facts["members"][0]["validation"].update(kappa=-0.1)
    )
    with pytest.warns(UserWarning, match="negative weights count as 0"):
        scored = score_image(rgb, bundle=bundle)
    np.testing.assert_allclose(scored.table["p_all"], scored.table["p_all_mobilenet"], rtol=1e-6)
    assert (scored.table["p_all"] != scored.table["p_all_vgg16"]).any()


def test_members_without_any_weight_are_refused_before_they_are_built(
    duo_bundle: Path, tmp_path: Path, rgb: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worthless(facts: dict[str, Any]) -> None:
        for member in facts["members"]:
            member["validation"]["kappa"] = 0

    bundle = changed_copy(duo_bundle, tmp_path / "b", worthless)
    assert len(score_image(rgb, bundle=bundle, weighting="equal").table) > 0
    monkeypatch.setattr("napari_all_detect.pipeline.scorer.open_engine", lambda *_: pytest.fail("networks were built"))
    with pytest.raises(BundleError, match="no member's kappa is above 0"):
        open_scorer(ScoreParams(bundle=bundle))


@pytest.mark.parametrize("fast_calls", [False, True])
def test_weights_that_are_no_numbers_give_no_calls(
    duo_bundle: Path, tmp_path: Path, rgb: Pixels, fast_calls: bool
) -> None:
    def damaged(facts: dict[str, Any]) -> None:
        path = tmp_path / "b" / facts["members"][1]["weights_file"]
        with h5py.File(path, "r+") as file:
            file["layers/dense/vars/1"][...] = np.nan
        facts["members"][1]["sha256"] = file_digest(path)

    bundle = changed_copy(duo_bundle, tmp_path / "b", damaged)
    with pytest.raises(BundleError, match=r"bundle duo-0\.1, member mobilenet: gives NaN"):
        score_image(rgb, bundle=bundle, fast_calls=fast_calls, weighting="equal")


def enlarged(rgb: Pixels, factor: int) -> Pixels:
    return rgb.repeat(factor, axis=0).repeat(factor, axis=1)


def test_rescaling(score: Score, rgb: Pixels) -> None:
    def factor_of(image: Pixels, **options: Any) -> float:
        return float(score(image, **options).summary["rescale"][0])

    # The bundle states 0.25 um a pixel and cells of 30 px; those drawn have about 30 px.
    assert factor_of(rgb) == 1.0
    assert factor_of(rgb, pixel_size_um=0.5) == 2.0
    assert factor_of(rgb, pixel_size_um=0.5, rescale="none") == 1.0
    assert factor_of(rgb, pixel_size_um=0.5, rescale=0.7) == pytest.approx(0.7)
    large = score(enlarged(rgb, 3))
    median = np.median(large.table["diameter_px"])
    assert large.summary["rescale"][0] == pytest.approx(30 / median, rel=1e-6)
    assert 75 < median < 120
    assert factor_of(enlarged(rgb, 3), rescale="none") == 1.0


def test_rescaling_changes_the_crops_and_not_the_geometry(score: Score, rgb: Pixels) -> None:
    labels = drawn_labels(rgb, [1, 2, 3])
    whole, half = (score(rgb, labels, rescale=factor) for factor in ("none", 0.5))
    geometry = COLUMNS[2:13]
    pd.testing.assert_frame_equal(whole.table[geometry], half.table[geometry])
    shown = [scored.crops.any(axis=3).sum() for scored in (whole, half)]
    assert shown == [3 * 24 * 28, 3 * 12 * 14]
    assert np.abs(whole.table["p_all"] - half.table["p_all"]).max() > 0.01
    large, small = enlarged(rgb, 2), enlarged(labels, 2)
    np.testing.assert_allclose(score(large, small, rescale=0.5).crops.astype(int), whole.crops, atol=15)


@pytest.mark.parametrize("options", [{"rescale": 100.0}, {"rescale": "auto"}])
def test_only_what_is_shown_is_enlarged(score: Score, options: dict[str, Any]) -> None:
    dot = np.zeros((700, 700), int)
    dot[5, 5] = 1  # a point instead of a cell: 1.1 px where the bundle's cells have 30
    scored = score(np.full((700, 700, 3), 200, np.uint8), dot, **options)
    shown = scored.crops[0].any(axis=-1).sum()
    assert shown == (40**2 if options["rescale"] == 100.0 else 27**2)


def test_flags(score: Score, rgb: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = rgb // 2
    labels = np.zeros(rgb.shape[:2], int)
    labels[0:30, 40:70] = 1  # at the upper border
    labels[60:90, 60:90] = 2
    labels[95:103, 100:108] = 3  # 9 px wide
    labels[100:130, 110:160] = 4  # 50 px wide in crops of 40
    labels[114:144, 20:50] = 5  # at the lower border
    of_one = ["touches_border", "", "fragment;scale_mismatch", "larger_than_crop", "touches_border"]
    assert score(rgb, labels).table["flags"].tolist() == of_one
    half = score(rgb, labels, rescale=0.5).table["flags"].tolist()
    assert half == ["touches_border;fragment", "fragment", "fragment;scale_mismatch", "", "touches_border;fragment"]
    rgb[62:70, 62:80] = 255
    assert score(rgb, labels).table["flags"][1] == "overexposed"
    at_once = csv_text(score(rgb, labels).table)
    monkeypatch.setattr("napari_all_detect.pipeline.scoring.CELLS_AT_ONCE", 2)
    assert csv_text(score(rgb, labels).table) == at_once


def test_twice_the_same_bytes(score: Score, rgb: Pixels) -> None:
    assert csv_text(score(rgb).table) == csv_text(score(rgb.copy()).table)


def test_progress_sums_up_to_the_cells(scorer: Scorer, rgb: Pixels) -> None:
    told: list[int] = []
    scored = score_plane(scorer, PlaneInput(as_rgb(rgb)), told.append)
    assert sum(told) == len(scored.table) > 0


def test_names_are_those_given(scorer: Scorer, rgb: Pixels) -> None:
    scored = score_plane(scorer, PlaneInput(as_rgb(rgb), "a/b.tif", "p3"))
    for table in (scored.table, scored.summary):
        assert set(zip(table["image"], table["plane"], strict=True)) == {("a/b.tif", "p3")}


def test_score_image_takes_options_and_refuses_bad_ones(tiny_bundle: Path, rgb: Pixels) -> None:
    bundle = str(tiny_bundle)
    assert set(score_image(rgb, bundle=bundle, threshold=0.0).table["call"]) == {"ALL"}
    by_hand = score_image(rgb, drawn_labels(rgb, [9]), bundle=bundle).table
    assert by_hand["label"].tolist() == [9]
    with pytest.raises(ParameterError, match="threshold is 2; expected 0 to 1"):
        score_image(rgb, bundle=bundle, threshold=2)
    with pytest.raises(ParameterError, match="weighting is 'best'; expected one of: kappa"):
        score_image(rgb, bundle=bundle, weighting="best")
    with pytest.raises(BundleError, match="no bundle is named 'nowhere'"):
        score_image(rgb, bundle="nowhere")


def test_score_image_reads_a_path_as_a_batch_does(tiny_bundle: Path, rgb: Pixels, tmp_path: Path) -> None:
    options = {"photometric": "rgb", "resolution": (4e4, 4e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "smear.tif", rgb, **options)
    (tmp_path / "deep.png").write_bytes(png_encode(rgb.astype(np.uint16) * 16))
    params = ScoreParams(bundle=str(tiny_bundle))
    for name, note in {"smear.tif": "", "deep.png": "16-bit values in 0-4095 scaled to 8 bits"}.items():
        score_batch(tmp_path / name, tmp_path / "out", params, OutputParams(overwrite=True))
        scored = score_image(tmp_path / name, bundle=tiny_bundle)
        assert csv_text(scored.table) == (tmp_path / "out/cells.csv").read_text(encoding="utf-8")
        assert csv_text(scored.summary) == (tmp_path / "out/images.csv").read_text(encoding="utf-8")
        assert (scored.summary["notes"][0], len(scored.table) > 0) == (note, True)
    assert score_image(str(tmp_path / "smear.tif"), bundle=tiny_bundle).table["diameter_um"].notna().all()
    some = drawn_labels(rgb, [9])
    assert score_image(tmp_path / "smear.tif", some, bundle=tiny_bundle).table["label"].tolist() == [9]


def test_score_image_refuses_a_path_of_several_planes(tiny_bundle: Path, rgb: Pixels, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([rgb, rgb]), photometric="rgb")
    tifffile.imwrite(tmp_path / "smear.tif", rgb, photometric="rgb")
    for path, words in (("stack.tif", r"stack\.tif: 2 planes"), ("", "2 images"), ("none.tif", "no such file")):
        with pytest.raises(InputError, match=f"{words}.*(expected one: score_batch scores several|check the path)"):
            score_image(tmp_path / path, bundle=tiny_bundle)


def test_score_image_takes_a_path_for_a_path(tmp_path: Path, rgb: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lite").mkdir()
    with pytest.raises(BundleError, match=r"lite: no file bundle\.json"):
        score_image(rgb, bundle=Path("lite"))


class TestLite:
    """The bundle that the package ships."""

    @pytest.fixture(autouse=True)
    def folder(self) -> Path:
        folder = builtin_root() / "lite"
        if not (folder / "bundle.json").exists():
            pytest.skip("the lite bundle is not in the package")
        return folder

    def test_five_members_in_order(self) -> None:
        manifest = load_bundle("lite").manifest
        expected = ["vgg16", "xception", "mobilenet", "inception_resnet_v2", "densenet121"]
        assert [member.name for member in manifest.members] == expected
        assert [member.architecture for member in manifest.members] == expected
        assert manifest.research_use_only

    def test_small_enough_to_ship(self, folder: Path) -> None:
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert 2_000_000 < size <= 15_000_000

    def test_scores_a_drawn_smear(self, rgb: Pixels) -> None:
        scored = score_image(rgb)
        assert len(scored.table) >= 4
        assert scored.member_probabilities.shape == (len(scored.table), 5, 2)
        probabilities = scored.table.filter(regex=r"^p_").to_numpy(np.float64)
        assert np.isfinite(probabilities).all()
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
        np.testing.assert_allclose(scored.table["p_all"] + scored.table["p_hem"], 1, atol=1e-6)
        assert set(scored.table["bundle"]) == {load_bundle("lite").label}


def test_kept_networks_compute_in_what_is_chosen_for_the_parameters_at_hand(
    duo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A precision that was measured with the bundle's own weighting is not taken for another one."""

    def chosen(bundle: Any, params: ScoreParams) -> Choice:
        return Choice("keras", "bf16" if params.weighting is None else "fp32", "")

    monkeypatch.setattr(scorers, "choose", chosen)
    monkeypatch.setattr(scorers, "open_engine", lambda bundle, params: [params.precision])
    scorers._kept.cache_clear()
    own, equal, again = (kept_scorer(ScoreParams(bundle=str(duo_bundle), weighting=w)) for w in (None, "equal", None))
    assert (own.engine, equal.engine) == (["bf16"], ["fp32"])
    assert own.engine is again.engine
    assert kept_scorer(ScoreParams(bundle=str(duo_bundle), device="cpu")).engine is not own.engine
    scorers._kept.cache_clear()


def test_a_bundle_that_was_replaced_is_loaded_anew(duo_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(duo_bundle, tmp_path / "copy"))
    before = kept_scorer(ScoreParams(bundle=str(copy)))
    facts = json.loads((copy / "bundle.json").read_text())
    facts["version"], facts["ensemble"]["threshold"] = "9.9.9", 0.75
    (copy / "bundle.json").write_text(json.dumps(facts))
    after = kept_scorer(ScoreParams(bundle=str(copy)))
    assert (before.bundle.label, after.bundle.label) == ("duo-0.1", "duo-9.9.9")
    assert after.threshold == 0.75
