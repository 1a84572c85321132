import errno
import json
import re
import shutil
import tracemalloc
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn import metrics as sklearn_metrics

from all_detect_training import ablating, plots
from all_detect_training import report_page as report_page_module
from all_detect_training.ablation import Classifier, classifiers, table_4
from all_detect_training.by_subject import subject_auc, subject_table
from all_detect_training.cells import Cells
from all_detect_training.cli import main
from all_detect_training.figures import ENSEMBLES, FIGURES, call_figures, paper_figures
from all_detect_training.history import write_history
from all_detect_training.metrics import member_figures
from all_detect_training.plots import comparison_plot, reliability_plot, roc_plot
from all_detect_training.presets import PRESETS
from all_detect_training.published import METHODS, TABLE_4
from all_detect_training.report import write_report
from all_detect_training.report_page import chosen_cells, report_page
from all_detect_training.reporting import Findings
from all_detect_training.resampling import confusion_by_group, resamples, weighted_auc, with_interval
from all_detect_training.runs import Run, load_run
from napari_all_detect.bundle.manifest import Validation
from napari_all_detect.explain import GradCam
from napari_all_detect.networks import ARCHITECTURES

MakeRun = Callable[[Mapping[str, NDArray[np.floating]]], Path]


@pytest.fixture
def run(make_run: MakeRun, made_up_cells: Cells) -> Path:
    rng = np.random.default_rng(0)
    signal = np.where(made_up_cells.is_all, 0.6, 0.4)
    return make_run(
        {name: (signal + rng.normal(0, s, len(signal))).clip(0, 1) for name, s in (("vgg16", 0.1), ("mobilenet", 0.2))}
    )


def test_the_papers_table_5_gives_what_it_prints() -> None:
    figures = paper_figures(np.array([[502, 146, 64, 1155]]))
    printed = TABLE_4[300, "WEN-kappa"]
    for name, values in figures.items():
        # 0.8611 is printed as 0.862.
        assert values[0] == pytest.approx(printed[name], abs=0.0011 if name == "balanced_accuracy" else 0.0005)


@pytest.mark.parametrize("counts", [(502, 146, 64, 1155), (3, 1, 0, 9), (5, 0, 4, 0), (0, 5, 0, 4)])
def test_figures_are_those_of_scikit_learn(counts: tuple[int, ...]) -> None:
    truth = np.repeat([False, False, True, True], counts)
    called = np.repeat([False, True, False, True], counts)
    figures = {name: float(values[0]) for name, values in paper_figures(np.array([counts])).items()}
    options: dict[str, Any] = {"average": "weighted", "zero_division": 0}
    assert figures == pytest.approx(
        {
            "weighted_precision": sklearn_metrics.precision_score(truth, called, **options),
            "weighted_recall": sklearn_metrics.recall_score(truth, called, **options),
            "weighted_f1": sklearn_metrics.f1_score(truth, called, **options),
            "accuracy": sklearn_metrics.accuracy_score(truth, called),
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(truth, called),
        }
    )


@pytest.mark.parametrize("counts", [(0, 0, 1, 5), (5, 1, 0, 0), (0, 0, 0, 6), (0, 0, 6, 0)])
def test_where_a_class_is_missing_nothing_but_the_share_of_right_calls_is_defined(counts: tuple[int, ...]) -> None:
    confusion = np.array([counts])
    figures = {name: float(values[0]) for name, values in paper_figures(confusion).items()}
    right = (counts[0] + counts[3]) / 6
    assert (figures.pop("accuracy"), figures.pop("weighted_recall")) == (right, right)
    of_calls = call_figures(confusion)
    assert np.isnan([*figures.values(), of_calls["f1"][0], of_calls["kappa"][0]]).all(), figures


@pytest.mark.parametrize("n_hem", [3, 60])
def test_intervals_are_of_the_resamples_that_have_both_classes(n_hem: int) -> None:
    """Of 3 among 23 subjects none is drawn in 4 % of the resamples; of many each time some are."""
    rng = np.random.default_rng(1)
    n = 20 + n_hem
    group = np.repeat(np.arange(n), 30)
    is_all = group < 20
    p_all = np.where(is_all, rng.normal(1, 1, len(group)), rng.normal(-1, 1, len(group)))
    times = resamples(n)
    confusion = times @ confusion_by_group(is_all, p_all >= 0, group, n)
    has_both = (confusion[:, :2].sum(axis=1) > 0) & (confusion[:, 2:].sum(axis=1) > 0)
    assert has_both.all() == (n_hem == 60)
    of_all, of_both = (call_figures(counts) | paper_figures(counts) for counts in (confusion, confusion[has_both]))
    for name in ("kappa", "f1", "weighted_precision", "weighted_f1", "balanced_accuracy"):
        assert with_interval(of_all[name]) == with_interval(of_both[name])
        assert np.isfinite(of_both[name]).all()


def test_members_and_ensembles_on_the_test_cells(run: Path) -> None:
    loaded = load_run(run)
    found = {one.name: one for one in classifiers(loaded)}
    assert list(found) == ["vgg16", "mobilenet", "SAP", "WEN-accuracy", "WEN-AUC", "WEN-F1", "WEN-kappa"]
    test = loaded.split == "test"
    np.testing.assert_array_equal(found["vgg16"].p_all, loaded.p_all[test, 0])
    np.testing.assert_allclose(found["SAP"].p_all, loaded.p_all[test].mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(found["SAP"].group, loaded.cells.image[test])
    by_subject = classifiers(replace(loaded, subject=np.char.add("s", np.arange(len(test)).astype(str))))
    assert by_subject[0].group[0].startswith("s")


def test_votes_are_weighed_by_the_validation_cells_alone(run: Path) -> None:
    loaded = load_run(run)
    found = {one.name: one.p_all for one in classifiers(loaded)}
    is_all, side, test = loaded.cells.is_all, loaded.split == "validation", loaded.split == "test"
    for weighting, name in ENSEMBLES.items():
        figures = [member_figures(is_all[side], p[side]) for p in loaded.p_all.T]
        weights = np.array([1.0 if weighting == "equal" else f[weighting] for f in figures])
        np.testing.assert_allclose(found[name], loaded.p_all[test] @ weights / weights.sum(), atol=1e-6)
        assert weights[0] != weights[1] or weighting == "equal"


def test_a_cell_at_the_threshold_is_called_all() -> None:
    one = Classifier("x", 48, np.array([True, False]), np.array([0.5, 0.4]), np.array(["a", "b"]))
    assert one.confusion.tolist() == [[1, 0], [0, 1]]
    assert table_4([one])["accuracy"].tolist() == [1.0]


def test_the_cells_to_look_at_are_the_surest_right_and_wrong_ones() -> None:
    is_all = np.array([True] * 5 + [False] * 5)
    p_all = np.array([0.6, 0.9, 0.8, 0.4, 0.1, 0.2, 0.3, 0.1, 0.7, 0.5])
    assert chosen_cells(Classifier("x", 48, is_all, p_all, is_all.astype(str))) == [1, 2, 7, 5, 4, 3, 8, 9]


def test_panels_are_those_of_the_test_cells_that_they_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_run(run)
    crops = np.ones((1, 8, 8, 3), np.uint8) * np.arange(len(loaded.cells), dtype=np.uint8)[:, None, None, None]
    loaded = replace(loaded, cells=replace(loaded.cells, crops=crops))
    asked: list[Any] = []

    def heat(_: Any, crops: NDArray[np.uint8], weights: Any) -> GradCam:
        asked.append((crops, weights))
        return GradCam(np.zeros((len(crops), 2, 8, 8), np.float32), np.ones((len(crops), 8, 8), np.float32))

    monkeypatch.setattr(ablating, "grad_cam", heat)
    monkeypatch.setattr(ablating, "draw_heatmaps", lambda *arguments: arguments)
    figures = {name: Validation(accuracy=0.7, auc=0.8, f1=0.6, kappa=k, n=9) for name, k in (("a", 0.4), ("b", 0.1))}
    members = [SimpleNamespace(name=name, validation=validation) for name, validation in figures.items()]
    of: Any = classifiers(loaded)
    bundle: Any = SimpleNamespace(manifest=SimpleNamespace(members=members))
    panels = ablating._panels(loaded, of, bundle)
    which = chosen_cells(of[-1])
    assert len(panels) == len(which) > 2
    for (caption, drawn), k in zip(panels, which, strict=True):
        i, p = np.flatnonzero(loaded.split == "test")[k], of[-1].p_all[k]
        true = "ALL" if loaded.cells.is_all[i] else "Hem"
        assert caption == f"{loaded.cells.image[i]}, true {true}, P(ALL) {p:.2f}"
        crop, title, maps, titles = drawn
        assert ((crop == i).all(), title, maps[:, 0, 0].tolist()) == (True, f"true {true}", [0, 0, 1])
        one, two = loaded.p_all[i]
        assert titles == [f"a {one:.2f}", f"b {two:.2f}", f"WEN-kappa {p:.2f}"]
    ((seen, weights),) = asked
    assert seen[:, 0, 0, 0].tolist() == [drawn[0][0, 0, 0] for _, drawn in panels]
    np.testing.assert_allclose(np.divide(weights, np.sum(weights)), [0.8, 0.2])


def test_what_a_run_was_trained_and_tested_on_is_told(run: Path) -> None:
    loaded = load_run(run)
    said = "preset tiny, trained 2026-01-31 on 45 cells; 18 test cells of 6 images, which are drawn"
    assert ablating._facts(loaded).startswith(said)
    assert ablating._facts(loaded).endswith(
        "; seed 2021; vgg16 from random, 4 epochs at most in batches of 8; mobilenet from random, 4 epochs at most in "
        "batches of 8"
    )
    write_history(run / "vgg16.csv", [{"epoch": n, "batch_size": 4, "auc": 1 / n} for n in (1, 2, 3)])
    assert "; vgg16 from random, epoch 1 kept of 3 (4 at most) in batches of 4; " in ablating._facts(loaded)
    named = replace(loaded, record={**loaded.record, "preset": "paper"}, params=replace(PRESETS["paper"], epochs=1))
    named = replace(named, record={**named.record, "trunks": dict.fromkeys(ARCHITECTURES, "random")})
    assert ablating._facts(named).startswith("preset paper (but for epochs), trained ")
    subject = np.array([name.split("/")[0] for name in loaded.cells.image])
    by_subject = replace(loaded, subject=subject)
    assert "; 18 test cells of 3 subjects, which are drawn" in ablating._facts(by_subject)
    of = classifiers(by_subject)
    image = loaded.cells.image[loaded.split == "test"]
    expected = subject_table(of[-1].group, image, of[-1].is_all, of[-1].p_all, 0.5)
    pd.testing.assert_frame_equal(ablating._subjects(by_subject, of)[1], expected)


def test_the_page_shows_the_curves_and_calls_of_each_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(report_page_module, "roc_plot", lambda curves, _: drawn.append(curves) or "")
    of = [
        replace(one, input_px=size, p_all=one.p_all**power)
        for size, power in ((450, 2), (320, 1))
        for one in classifiers(load_run(run))
    ]
    table = table_4(of)
    page = report_page(Findings(table, of, {}, (), {}, {}, []))
    names = ["vgg16", "mobilenet", "SAP", "WEN-kappa"]
    for size, curves in zip((320, 450), drawn, strict=True):
        own = {one.name: one for one in of if one.input_px == size}
        assert list(curves) == names
        for name, (is_all, p_all) in curves.items():
            assert (is_all is own[name].is_all, p_all is own[name].p_all) == (True, True)
        confusion = own["WEN-kappa"].confusion
        start = page.index(f"<th>WEN-kappa, {size} px</th>")
        rows = page[start : page.index("</table>", start)].split("<tr>")[1:]
        assert rows[0].startswith(f"<td>true Hem</td><td></td><td>{confusion[0, 0]} <small>")
        assert rows[1].startswith(f"<td>true ALL</td><td></td><td>{confusion[1, 0]} <small>")
        for name in FIGURES:
            best = table.loc[table[table["input_px"] == size][name].idxmax()]
            interval = f"({best[f'{name}_low']:.3f} to {best[f'{name}_high']:.3f})"
            assert f"<td class=best>{best[name]:.3f}<br><small>{interval}</small></td>" in page


def test_curves_and_diagrams_are_of_the_figures_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_svg", lambda figure: figure.axes[0])
    axes: Any = roc_plot({"x": (np.array([True, True, False, False]), np.array([0.9, 0.6, 0.7, 0.1]))}, [])
    assert axes.lines[1].get_label() == "x"
    # At 0.9 half of ALL is called so, at 0.7 half of Hem too.
    assert [0.0, 0.5] in axes.lines[1].get_xydata().tolist()
    assert [0.5, 0.0] not in axes.lines[1].get_xydata().tolist()
    before, after = ([{"p_all": p, "share_all": p / 2, "weight": w}] for p, w in ((0.4, 0.25), (0.8, 0.75)))
    axes = reliability_plot("x", before, after)
    assert {line.get_label(): line.get_xydata().tolist() for line in axes.lines[1:]} == {
        "before": [[0.4, 0.2]],
        "after": [[0.8, 0.4]],
    }
    assert [dots.get_sizes().tolist() for dots in axes.collections] == [[50], [150]]
    axes = comparison_plot([("first", 0.9, 0.8, 0.95), ("second", 0.7, None, None)], "F1")
    places = dict(zip((text.get_text() for text in axes.get_yticklabels()), axes.get_yticks(), strict=True))
    assert places["first"] > places["second"]
    dots = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert sorted(dots) == [[[0.7, places["second"]]], [[0.9, places["first"]]]]


def test_the_table_by_hand(run: Path) -> None:
    of = classifiers(load_run(run))
    table = table_4(of)
    assert list(table["classifier"]) == [one.name for one in of]
    assert table["auc_paper"].isna().all()
    for one, (_, row) in zip(of, table.iterrows(), strict=True):
        called = one.p_all >= 0.5
        assert row["weighted_f1"] == pytest.approx(
            sklearn_metrics.f1_score(one.is_all, called, average="weighted"), abs=1e-6
        )
        assert row["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(one.is_all, one.p_all), abs=1e-6)
        np.testing.assert_array_equal(one.confusion, sklearn_metrics.confusion_matrix(one.is_all, called))
        for name in FIGURES:
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            assert (pd.isna(low) and pd.isna(high)) or low <= row[name] <= high
    published = table_4([replace(one, input_px=300) for one in of])
    assert published.set_index("classifier")["weighted_f1_paper"]["WEN-kappa"] == 0.886


def test_intervals_draw_whole_subjects() -> None:
    """Where all cells of a subject agree, ten subjects' worth of doubt remains however many cells they have."""
    rng = np.random.default_rng(0)
    right = rng.random(10) < 0.7
    p_all = np.where(right == (np.arange(10) % 2 == 0), 0.9, 0.1)
    is_all = np.arange(10) % 2 == 0
    few, many = (
        table_4(
            [
                Classifier(
                    "x",
                    56,
                    np.repeat(is_all, n),
                    np.repeat(p_all, n),
                    np.repeat(np.arange(10).astype(str), n),
                )
            ]
        ).iloc[0]
        for n in (1, 50)
    )
    for name in FIGURES:
        assert (few[f"{name}_low"], few[f"{name}_high"]) == (many[f"{name}_low"], many[f"{name}_high"])
    assert many["accuracy_high"] - many["accuracy_low"] > 0.2


class Parser(HTMLParser):
    """Collects tags and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_report_stands_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported: list[Any] = []
    real = ablating.export_run

    def export(*arguments: Any) -> Any:
        exported.append(real(*arguments))
        return exported[-1]

    def heat(bundle: Any, crops: NDArray[np.uint8], weights: Any) -> GradCam:
        shape = (len(crops), 2, *crops.shape[1:3])
        return GradCam(np.zeros(shape, np.float32), np.zeros((len(crops), *crops.shape[1:3]), np.float32))

    monkeypatch.setattr(ablating, "export_run", export)
    monkeypatch.setattr(ablating, "load_bundle", lambda _: type("B", (), {"manifest": exported[-1]})())
    monkeypatch.setattr(ablating, "grad_cam", heat)
    assert main(["ablation", str(run), "--out", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", "table4.csv", "table4.md"]
    table = pd.read_csv(tmp_path / "out" / "table4.csv")
    pd.testing.assert_frame_equal(table, table_4(classifiers(load_run(run))), check_dtype=False)
    page = (tmp_path / "out" / "report.html").read_text()
    parser = Parser()
    parser.feed(page)
    # ROC curves, and the reliability of two members and their ensemble.
    assert parser.tags.count("svg") == 1 + 3
    assert "Beside published methods" not in page
    assert parser.tags.count("img") == len(chosen_cells(classifiers(load_run(run))[-1])) > 0
    assert all(ref.startswith(("data:image/png;base64,", "#")) for ref in parser.references)
    assert "Not for diagnosis" in page
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / "table4.md").read_text()
    facts = ablating._facts(load_run(run))
    assert f"\n- 48 px: {facts}\n" in printed
    assert f"<li><b>48 px</b>: {escape(facts)}</li>" in page
    for text in (printed, page):
        assert "No brackets: every resample gives the same" in text
        assert "not tested on the preliminary set" not in text
    for name, value in zip(table["classifier"], table["auc"], strict=True):
        assert re.search(rf"\| {re.escape(name)} \|.* {value:.3f} \(", printed)
    assert main(["ablation", str(run), "--out", str(tmp_path / "out")]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_run_that_learned_nothing_leaves_rows_empty_and_stops_nothing(
    make_run: MakeRun, made_up_cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run({"vgg16": np.full(len(made_up_cells), 0.1), "mobilenet": np.full(len(made_up_cells), 0.2)})
    assert main(["ablation", str(run), "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "table4.csv").set_index("classifier")
    assert table.loc[["vgg16", "mobilenet", "SAP", "WEN-accuracy"], "accuracy"].notna().all()
    names = [f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")]
    assert table.loc[["WEN-F1", "WEN-kappa"], names].isna().all(axis=None)
    assert "| 48 px | WEN-kappa | n/a | n/a | n/a | n/a | n/a | n/a |" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert "no member&#x27;s validation kappa is above 0: nothing was learned" in page
    assert "Reliability" not in page
    of = [replace(one, input_px=300) for one in classifiers(load_run(run))]
    assert "Beside published methods" not in report_page(Findings(table_4(of), of, {}, {300}, {}, {}, []))


def test_a_full_disk_is_that_of_the_report_and_blocks_no_next_try(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("all_detect_training.bundling.shutil.copyfile", full)
    out = tmp_path / "out"
    assert main(["ablation", str(run), "--out", str(out)]) == 1
    assert re.search(rf"{re.escape(str(out))}\S+: the bundle can't be written \(No space", capsys.readouterr().err)
    assert not list(out.iterdir())


def test_two_runs_of_one_input_size_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    assert main(["ablation", str(run), str(other), "--out", str(tmp_path / "out")]) == 1
    assert f"{run} and {other} have the same input size, 48 px; a report holds one run" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_crops_of_one_run_at_a_time_are_in_memory(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    record = json.loads((run / "run.json").read_text())
    record["params"]["crop_size"] = 40
    (other / "run.json").write_text(json.dumps(record))
    held: list[weakref.ref[NDArray[np.uint8]]] = []

    def loaded(folder: Path, **options: Any) -> Run:
        assert not any(crops() is not None for crops in held)
        found = load_run(folder, **options)
        if found.cells.crops.nbytes:
            held.append(weakref.ref(found.cells.crops))
        return found

    monkeypatch.setattr(ablating, "load_run", loaded)
    monkeypatch.setattr(ablating, "_panels", lambda *_: [])
    ablating.write_ablation([run, other], tmp_path / "out")
    assert len(held) == 2


@pytest.mark.parametrize("digest", ["0" * 64, "1" * 64], ids=["same", "other"])
def test_runs_of_other_images_are_told(
    make_run: MakeRun, made_up_cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str], digest: str
) -> None:
    run = make_run({"vgg16": np.full(len(made_up_cells), 0.1)})
    other = shutil.copytree(run, tmp_path / "other")
    record = json.loads((run / "run.json").read_text())
    record["params"]["crop_size"], record["data"]["images_sha256"] = 40, digest
    (other / "run.json").write_text(json.dumps(record))
    assert main(["ablation", str(run), str(other), "--out", str(tmp_path / "out")]) == 0
    said = "These runs were not trained and tested on the same images and sides: their figures can"
    page, table = ((tmp_path / "out" / name).read_text() for name in ("report.html", "table4.md"))
    for text in (capsys.readouterr().err, page, table):
        assert text.count(said) == (digest == "1" * 64)


def test_subjects_by_hand() -> None:
    group = np.array(["s1"] * 4 + ["s2"] * 2 + ["s3"])
    image = np.array(["a", "b", "c", "d", "e", "e", "f"])
    is_all = np.array([True] * 4 + [False] * 3)
    p_all = np.array([0.9, 0.8, 0.4, 0.7, 0.2, 0.6, 0.95])
    table = subject_table(group, image, is_all, p_all, 0.5).set_index("subject")
    assert table.index.tolist() == ["s3", "s1", "s2"]
    assert table.loc["s1", ["class", "cells", "called_all", "mean_p_all"]].tolist() == ["ALL", 4, 0.75, 0.7]
    assert 0.4 < table.loc["s1", "mean_p_all_low"] < 0.7 < table.loc["s1", "mean_p_all_high"] < 0.9
    # Neither one cell nor several of one image say how much another image would differ.
    assert table.loc[["s2", "s3"], ["mean_p_all_low", "mean_p_all_high"]].isna().all(axis=None)
    assert subject_auc(group, is_all, p_all)["value"] == 0.5
    assert subject_auc(group[:4], is_all[:4], p_all[:4]) == {"value": None, "low": None, "high": None}
    strict = subject_table(group, image, is_all, p_all, 0.85).set_index("subject")
    assert strict.loc["s1", "called_all"] == 0.25


def test_intervals_of_a_subject_draw_whole_images() -> None:
    """More cells of the same images take no doubt away; where all cells of all images agree, there is no interval."""
    means = np.random.default_rng(0).random(6)
    few, many = (
        subject_table(np.full(6 * n, "s"), np.repeat(list("abcdef"), n), np.ones(6 * n, bool), np.repeat(means, n), 0.5)
        for n in (1, 50)
    )
    names = ["mean_p_all", "mean_p_all_low", "mean_p_all_high"]
    pd.testing.assert_frame_equal(few[names], many[names])
    drawn = np.random.default_rng(0).choice(means, (100_000, 6)).mean(axis=1)
    expected = np.quantile(drawn, [0.025, 0.975])
    assert few.loc[0, names[1:]].tolist() == pytest.approx(expected.tolist(), abs=0.02)
    # An image weighs as much as it has cells.
    uneven = subject_table(np.full(4, "s"), np.array(list("aaab")), np.ones(4, bool), np.array([0.1] * 3 + [0.9]), 0.5)
    assert uneven.loc[0, names].tolist() == pytest.approx([0.3, 0.1, 0.9])


def test_an_interval_of_no_width_is_none() -> None:
    subject, is_all = np.arange(9).astype(str), np.arange(9) < 5
    assert subject_auc(subject, is_all, is_all * 0.8) == {"value": 1.0, "low": None, "high": None}
    one = Classifier("x", 300, is_all, is_all * 0.8, subject)
    other = replace(one, name="WEN-kappa", p_all=np.where(is_all, 0.9, 0.1))
    table = table_4([one, other])
    assert table["auc"].tolist() == [1.0, 1.0]
    assert table[[f"{name}{end}" for name in FIGURES for end in ("_low", "_high")]].isna().all(axis=None)
    page = report_page(Findings(table, [one, other], {}, {300}, {}, {}, []))
    assert "<td class=best>1.000</td>" in page
    assert "1.000 to 1.000" not in page


def test_subjects_are_told_apart_by_the_input_size(run: Path, tmp_path: Path) -> None:
    of = classifiers(load_run(run))
    group, image = np.array(["s1", "s1", "s2"]), np.array(["a", "b", "c"])
    rows = subject_table(group, image, group == "s1", np.array([0.9, 0.7, 0.1]), 0.5)
    subjects = {48: ("WEN-kappa at 48 px: AUC 1.000", rows), 64: ("WEN-kappa at 64 px: AUC 0.900", rows)}
    write_report(tmp_path / "out", Findings(table_4(of), of, {}, {}, {}, subjects, []))
    written = pd.read_csv(tmp_path / "out" / "subjects.csv")
    assert written.columns[:2].tolist() == ["input_px", "subject"]
    assert written["input_px"].tolist() == [48, 48, 64, 64]
    assert written["mean_p_all_low"].isna().tolist() == [False, True, False, True]
    page, table = ((tmp_path / "out" / name).read_text() for name in ("report.html", "table4.md"))
    for caption, _ in subjects.values():
        assert f"<p>{caption}</p>" in page
    assert "<td>0.800 <small>(0.700 to 0.900)</small></td>" in page
    assert "<td>0.100</td>" in page
    for text in (page, table):
        assert "Members are combined uncalibrated, as in the paper; a bundle calibrates them first" in text


def test_only_runs_on_the_preliminary_set_stand_beside_published_methods(run: Path) -> None:
    of = [replace(one, input_px=size) for one in classifiers(load_run(run)) for size in (300, 450)]
    found = Findings(table_4(of), of, {}, {300}, {}, {}, [])
    page = report_page(found)
    assert "these runs, 300 px" in page
    assert "these runs, 450 px" not in page
    for method in METHODS:
        assert method.authors in page
        assert f"<td>{'' if method.preliminary is None else f'{method.preliminary:.3f}'}</td>" in page
    parts = page.split("<h2>")
    assert next(part for part in parts if part.startswith("Beside")).count("<svg") == 1


def test_the_papers_figures_beside_a_run_on_other_images_are_told(run: Path, tmp_path: Path) -> None:
    of = [replace(one, input_px=size) for one in classifiers(load_run(run)) for size in (300, 450)]
    said = "The runs of 300 px were not tested on the preliminary set of C-NMC 2019"
    for on_preliminary, n in (({300}, 0), ({450}, 1), ((), 1)):
        out = tmp_path / str(on_preliminary)
        write_report(out, Findings(table_4(of), of, {}, on_preliminary, {}, {}, []))
        for name in ("table4.md", "report.html"):
            assert (out / name).read_text().count(said) == n


def test_what_is_published_has_its_source() -> None:
    assert all(one.source and (one.preliminary or one.final) for one in METHODS)
    (preprint,) = (one for one in METHODS if "2105.03995" in one.source)
    assert preprint.preliminary == TABLE_4[300, "WEN-kappa"]["weighted_f1"]


def test_the_reliability_diagram_shows_every_bin_before_and_after() -> None:
    bins = [{"p_all": p, "share_all": p, "weight": 0.25} for p in (0.1, 0.4, 0.6, 0.9)]
    svg = reliability_plot("a <member>", bins, bins[1:])
    assert svg.count("#d55e00") > 0 < svg.count("#0072b2")
    assert svg.count('xlink:href="#m') + svg.count("<use") >= 7
    assert "a &lt;member>" in svg or "a &lt;member&gt;" in svg
    assert reliability_plot("a <member>", bins, bins[1:]) == svg


def test_file_names_that_are_no_unicode_are_written_in_ascii(run: Path, tmp_path: Path) -> None:
    of = classifiers(load_run(run))
    image = Image.new("RGB", (4, 4))
    write_report(tmp_path / "out", Findings(table_4(of), of, {}, {}, {}, {}, [("all/caf\udce9.png, true ALL", image)]))
    assert "all/caf\\udce9.png, true ALL" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_what_cannot_be_composed_leaves_no_folder(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Findings) -> str:
        raise ValueError

    of = classifiers(load_run(run))
    monkeypatch.setattr("all_detect_training.report.report_page", broken)
    with pytest.raises(ValueError):
        write_report(tmp_path / "out", Findings(table_4(of), of, {}, {}, {}, {}, []))
    assert not (tmp_path / "out").exists()


def test_a_name_that_a_spreadsheet_would_run_is_quoted_in_the_tables(run: Path, tmp_path: Path) -> None:
    of = classifiers(load_run(run))
    subject, p_all = np.array(["=1+1", "b"]), np.array([0.9, 0.1])
    rows = subject_table(subject, subject, p_all > 0.5, p_all, 0.5)
    write_report(tmp_path / "out", Findings(table_4(of), of, {}, {}, {}, {48: ("run", rows)}, []))
    assert (tmp_path / "out" / "subjects.csv").read_text().splitlines()[1] == "48,'=1+1,ALL,1,1.0,0.9,,"


def test_aucs_in_blocks_are_those_of_each_resample() -> None:
    rng = np.random.default_rng(0)
    is_all, group = rng.random(200) < 0.4, rng.integers(0, 30, 200)
    p_all, times = rng.random(200).round(1), resamples(30)
    found = weighted_auc(is_all, p_all, times, group)
    for k in (0, 1, 63, 64, 65, 1000):
        weights = times[k][group]
        expected = sklearn_metrics.roc_auc_score(is_all, p_all, sample_weight=weights)
        assert found[k] == pytest.approx(expected, abs=1e-12)
    assert len(found) == 1001


def test_aucs_take_little_memory() -> None:
    rng = np.random.default_rng(0)
    is_all, group, p_all = rng.random(20_000) < 0.4, rng.integers(0, 30, 20_000), rng.random(20_000)
    times = resamples(30)
    tracemalloc.start()
    weighted_auc(is_all, p_all, times, group)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
