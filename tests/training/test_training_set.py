import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from all_detect_training.cli import main
from all_detect_training.listing import LabelledImage, read_manifest
from all_detect_training.plans import plan_run
from all_detect_training.presets import FitParams
from all_detect_training.run_cells import _images_table
from all_detect_training.runs import load_run
from all_detect_training.splits import refuse_shared_cells, split_by_subject, split_contiguous, split_folds
from all_detect_training.training_set import folder_set, manifest_set, sides_of
from napari_all_detect.bundle import load_bundle
from napari_all_detect.errors import InputError

Rows = list[tuple[str, ...]]
HEAD = ("path", "class", "subject", "split")


def write(folder: Path, rows: Rows, head: tuple[str, ...] = HEAD) -> Path:
    for row in rows:
        if row[0]:
            (folder / row[0]).touch()
    with (folder / "cells.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return folder / "cells.csv"


SIX: Rows = [
    (f"{name}{side[:2]}.png", name, f"{name}-{side}", side)
    for name in ("ALL", "Hem")
    for side in ("train", "validation", "test")
]


def test_a_manifest_with_its_own_split(tmp_path: Path) -> None:
    given = manifest_set(write(tmp_path, SIX), "cells", None, 0)
    assert given.sides == ["train", "validation", "test"] * 2
    assert [i.image for i in given.images[:2]] == ["ALL/ALLtr.png", "ALL/ALLva.png"]
    assert (given.split, given.images[3].subject, given.images[3].is_all) == ("given", "Hem-train", False)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("", "ALL", "1", "train"), "line 8: no path"),
        (("x.png", "blast", "1", "train"), "line 8: class is 'blast'; expected ALL or Hem"),
        (("x.png", "ALL", " ", "train"), "line 8: no subject"),
        (("x.png", "ALL", "1", "dev"), "line 8: split is 'dev'"),
        (("x.png", "ALL", "1\r\nx.png,ALL,2,test", "train"), "line 8: a line break in its subject; a quote was not"),
        (("x.png", "ALL\ny.png,ALL", "1", "train"), "line 8: a line break in its class; a quote was not closed"),
        (("x.png", "ALL", "1", "train\ny.png,ALL,1,train"), "line 8: a line break in its split; a quote was not"),
        (("ALLva.png", "ALL", "1", "train"), r"rows: line 3 \(ALL/ALLva.png\) = line 8 \(ALL/ALLva.png\); name each"),
        (("./ALLva.png", "ALL", "1", "train"), r"line 3 \(ALL/ALLva.png\) = line 8 \(ALL/./ALLva.png\)"),
        (("ALLva.png", "Hem", "1", "train"), r"line 3 \(ALL/ALLva.png\) = line 8 \(Hem/ALLva.png\)"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_manifest(write(tmp_path, [*SIX, row]))
    assert "\n" not in str(caught.value)


def test_missing_files_and_columns_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, SIX)
    (tmp_path / "Hemva.png").unlink()
    with pytest.raises(InputError, match=r"1 of 6 files are missing: .*Hemva\.png"):
        read_manifest(path)
    with pytest.raises(InputError, match="expected path, class, subject"):
        read_manifest(write(tmp_path, [("a.png", "ALL")], ("path", "class")))
    with pytest.raises(InputError, match="can't be read"):
        read_manifest(tmp_path / "no.csv")
    for name in ("class", " subject"):
        with pytest.raises(InputError, match=f"2 columns are called {name.strip().lower()}; keep one, or rename"):
            read_manifest(write(tmp_path, [("a.png", "ALL", "1", "x")], (*HEAD[:3], name)))


@pytest.mark.parametrize(
    ("spellings", "said"),
    [
        (("a3", "A3"), "subjects a3 and A3 differ in case, zeros, separators or Unicode form only; write one patient"),
        (("1", "01", "1.0"), "subjects 1 and 01 and 1.0 differ"),
        (("P1", "P01", "P-01", "p_1"), "subjects P1 and P01 and P-01 and p_1 differ"),
        (("ALL_003", "ALL 3"), "subjects ALL_003 and ALL 3 differ"),
        (("7-a", "7a"), "subjects 7-a and 7a differ"),
        (("1.05", "1-5"), "subjects 1.05 and 1-5 differ"),
        (("0", "00"), "subjects 0 and 00 differ"),
        (("M\u00fcller", "Mu\u0308ller"), "subjects M\u00fcller and Mu\u0308ller differ"),
    ],
)
def test_a_subject_spelt_in_two_ways_is_refused(tmp_path: Path, spellings: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_manifest(write(tmp_path, [(f"{k}.png", "ALL", one) for k, one in enumerate(spellings)], HEAD[:3]))


def test_subjects_that_are_not_the_same_number_are_several(tmp_path: Path) -> None:
    several = ["1", "10", "100", "1.5", "a1", "a10", "1-0", "1.0.0", "P.1.10", "P1.1.0", "1- 1", "11", ".", "-"]
    rows: Rows = [(f"{k}.png", "ALL", one) for k, one in enumerate(several)]
    assert [image.subject for image in read_manifest(write(tmp_path, rows, HEAD[:3]))] == several


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_manifests_as_spreadsheets_write_them(tmp_path: Path, delimiter: str, encoding: str) -> None:
    """Headings in any case with blanks, rows of delimiters only, backslashes in paths, a byte order mark."""
    (tmp_path / "cells").mkdir()
    for name in ("a.png", "b;1, c.png"):
        (tmp_path / "cells" / name).touch()
    rows = [(" Path", "CLASS ", "subject", ""), ("cells\\a.png", "ALL", "1", ""), ("cells/b;1, c.png", "Hem", "2")]
    with (tmp_path / "cells.csv").open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([*rows, [], ["", "", " ", ""]])
    images = read_manifest(tmp_path / "cells.csv")
    assert [(image.subject, image.is_all) for image in images] == [("1", True), ("2", False)]
    assert all(image.path.is_file() for image in images)


@pytest.mark.parametrize(
    "head",
    [
        'path,class,subject,"notes; a; b; c; d"',
        '"note; x; y\nz",path,class,subject',
        'path;class;subject;"a,b,c,d,e"',
        "path,Class,class,subject",
    ],
)
def test_other_headings_decide_nothing(tmp_path: Path, head: str) -> None:
    (tmp_path / "a.png").touch()
    delimiter = ";" if ";class" in head else ","
    names = next(csv.reader(head.splitlines(keepends=True), delimiter=delimiter))
    values = {"path": "a.png", "class": "ALL", "subject": "1"}
    row = delimiter.join(values.get(name, "other") for name in names)
    (tmp_path / "cells.csv").write_text(f"{head}\n{row}\n")
    (image,) = read_manifest(tmp_path / "cells.csv")
    assert (image.path.name, image.is_all, image.subject) == ("a.png", True, "1")


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_a_file_name_with_a_line_break_or_a_backslash_is_one(tmp_path: Path) -> None:
    names = ["a\nb.png", "a\\b.png"]
    images = read_manifest(write(tmp_path, [(name, "ALL", "1") for name in names], HEAD[:3]))
    assert [image.path.name for image in images] == names


@pytest.mark.parametrize(
    ("rows", "line"),
    [('a.png,ALL,1\n\n"b.png,Hem,2\nc.png,Hem,3\n', 4), ('"a.png,ALL,1\n"b.png",Hem,2\n', 2), ('a.png,ALL,"1', 2)],
)
def test_a_quote_that_is_not_closed_is_told_with_the_line_where_its_row_begins(
    tmp_path: Path, rows: str, line: int
) -> None:
    path = tmp_path / "cells.csv"
    path.write_text(f"path,class,subject\n{rows}")
    with pytest.raises(InputError, match=f"cells.csv, line {line}: .*; see whether a quote was not closed"):
        read_manifest(path)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_manifest_in_another_encoding_says_which_one_to_save_it_in(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "cells.csv"
    path.write_text("path,class,subject\na.png,ALL,M\u00fcller\n", encoding=encoding)
    with pytest.raises(InputError, match=r"is not UTF-8 \(.*\); save it as CSV UTF-8"):
        read_manifest(path)


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    path = tmp_path / "cells.csv"
    for text, line in (("a.png,ALL,1,\n\n\nb.png,Hxm,2,\n", 5), ('a.png,ALL,1,"x\ny\nz"\nb.png,Hxm,2,\n', 5)):
        path.write_text(f"path,class,subject,note\n{text}")
        with pytest.raises(InputError, match=f"line {line}: class is 'Hxm'"):
            read_manifest(path)


@pytest.mark.parametrize("name", ["loop.png", "a" * 300 + ".png", "a\0.png"], ids=["loop", "too long", "NUL"])
def test_names_that_no_file_can_have_are_missing_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    path = tmp_path / "cells.csv"
    path.write_text(f"path,class,subject\n{name},ALL,1\n")
    with pytest.raises(InputError, match="1 of 1 files are missing"):
        read_manifest(path)


def test_what_a_manifest_has_is_told_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    for text, said in (
        ("path;class\n", "columns path;class; expected path, class, subject"),
        ("path|class|subject\n", r"columns path\|class\|subject; expected path, class, subject, separated by commas"),
        ("z,path,class,a\n1,2,3,4\n", "columns z, path, class, a; expected"),
        ("path,class,subject\n", "no row below the header"),
        ("", "columns none; expected"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            read_manifest(path)


def test_where_patients_are_unknown_sides_are_given_or_blocks(tmp_path: Path) -> None:
    nameless = [(name, kind, "", side) for name, kind, _, side in SIX]
    given = manifest_set(write(tmp_path, nameless), "cells", None, 0)
    assert (given.split, given.sides, given.n_subjects) == ("given", ["train", "validation", "test"] * 2, None)
    path = write(tmp_path, [row[:3] for row in nameless], HEAD[:3])
    given = manifest_set(path, "cells", None, 0)
    assert (given.split, given.sides, given.n_subjects) == ("contiguous", None, None)
    with pytest.raises(InputError, match="no subjects, of which --split 1/3 makes folds; fill them in, or do without"):
        manifest_set(path, "cells", "1/3", 0)
    with pytest.raises(InputError, match="no value in column split for some images"):
        manifest_set(write(tmp_path, [*nameless[1:], (*nameless[0][:3], "")]), "cells", None, 0)


def test_about_as_many_subjects_as_images_of_one_cell_are_no_patients(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tiny: FitParams
) -> None:
    path = write(tmp_path, SIX)
    assert manifest_set(path, "smears", None, 0).n_subjects == 6
    assert not caplog.records
    given = manifest_set(path, "cells", "1/3", 0)
    assert given.n_subjects is None
    assert "6 subjects for 6 images of one cell are taken for the images' names, and patients as unknown" in caplog.text
    plan = plan_run(given, mask_corner_px=0, preset="tiny", params=tiny, trunks=None)
    assert (plan["data"]["split"], plan["data"]["subjects"]) == ("1/3", "unknown")
    table = list(csv.DictReader((_images_table(given) or "").splitlines()))
    assert [(row["subject"], row["split"]) for row in table] == [("", side) for side in given.sides or ()]
    caplog.clear()
    more = [(f"{k}_{name}", kind, subject, side) for k in range(2) for name, kind, subject, side in SIX]
    assert manifest_set(write(tmp_path, more), "cells", None, 0).n_subjects == 6
    assert not caplog.records


def test_a_side_without_a_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Hem image for test"):
        manifest_set(write(tmp_path, SIX[:-1]), "cells", None, 0)
    with pytest.raises(InputError, match="no value in column split"):
        manifest_set(write(tmp_path, [(*row[:3], "") for row in SIX]), "cells", None, 0)


@pytest.mark.parametrize("split", ["5", "0/5", "6/5", "1/2", "a/b"])
def test_folds_that_are_none_are_refused(tmp_path: Path, split: str) -> None:
    with pytest.raises(InputError, match="expected K/N"):
        manifest_set(write(tmp_path, SIX), "cells", split, 0)


def test_every_subject_tests_once() -> None:
    rng = np.random.default_rng(0)
    subjects = np.repeat([f"s{i}" for i in range(40)], rng.integers(1, 30, 40))
    is_all = np.array([int(s[1:]) < 22 for s in subjects])
    splits = [split_folds(subjects, is_all, 4, fold, 7) for fold in range(4)]
    tests = [set(subjects[split == "test"]) for split in splits]
    assert sorted(s for test in tests for s in test) == sorted(set(subjects))
    for i, split in enumerate(splits):
        assert set(subjects[split == "validation"]) == tests[(i + 1) % 4]
        assert {"ALL", "Hem"} == {"ALL" if a else "Hem" for a in is_all[split == "test"]}


@pytest.mark.parametrize(
    ("n_hem", "advice"), [(1, "takes 3 Hem subjects at least: add some"), (3, "take 3 folds at most")]
)
def test_too_few_subjects_for_the_folds(n_hem: int, advice: str) -> None:
    names = np.arange(4 + n_hem).astype(str)
    with pytest.raises(InputError, match=f"{n_hem} Hem subjects for 4 folds; .*{advice}"):
        split_folds(names, np.arange(4 + n_hem) < 4, 4, 0, 0)


def test_seed_and_fold_reach_the_split() -> None:
    images = [
        LabelledImage(Path(f"{s}_{k}.bmp"), f"{s}_{k}.bmp", s < 47, str(s), f"fold_{s % 3}")
        for s in range(47 + 26)
        for k in range(1 + s % 7)
    ]
    tests = [LabelledImage(Path(f"{k}.bmp"), f"{k}.bmp", k == 0, f"p{k}", "preliminary") for k in range(2)]
    first, same, other = (sides_of([*images, *tests], "paper", seed).tolist() for seed in (1, 1, 2))
    assert first == same != other
    assert first[-2:] == ["test"] * 2
    assert "test" not in first[:-2]
    subjects, is_all = np.array([i.subject for i in images]), np.array([i.is_all for i in images])
    for k in (1, 2, 3):
        np.testing.assert_array_equal(sides_of(images, f"{k}/3", 5), split_folds(subjects, is_all, 3, k - 1, 5))


def test_a_subject_of_both_classes_is_refused_by_the_papers_split_and_else_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subjects, is_all = np.array(["a", "b", "b"]), np.array([True, True, False])
    with pytest.raises(InputError, match="the same subject has images of both classes: b; leave out those of one"):
        split_by_subject(subjects, is_all, {}, {}, 0)
    rows = [*SIX, ("more.png", "ALL", "Hem-test", "test")]
    manifest_set(write(tmp_path, rows), "cells", None, 0)
    assert "those with cells of both classes count for most of them: Hem-test" in caplog.text


def test_leakage_is_refused_with_the_names() -> None:
    rng = np.random.default_rng(0)
    crops, is_all = rng.integers(0, 255, (4, 8, 8, 3), np.uint8), np.ones(4, bool)
    images, split = np.array(["a", "b", "c", "d"]), np.array(["train", "train", "validation", "test"])
    refuse_shared_cells(split, images, crops, is_all)
    crops[3] = crops[0]
    with pytest.raises(InputError, match="the same cell is on two sides of the split: a = d;"):
        refuse_shared_cells(split, images, crops, is_all)


def test_a_subject_on_two_sides_is_refused_before_any_image_is_read(tmp_path: Path) -> None:
    rows = [*SIX, ("more.png", "ALL", "Hem-test", "train")]
    with pytest.raises(InputError, match="the same subject is on two sides of the split: Hem-test;"):
        manifest_set(write(tmp_path, rows), "cells", None, 0)


def test_a_class_without_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of Hem among the classes"):
        folder_set(tmp_path, {"a": "ALL", "b": "ALL"}, "cells")


def test_the_same_pixels_of_both_classes_are_refused() -> None:
    crops = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), np.uint8)
    images, split = np.array(["ALL/a", "Hem/b", "Hem/c"]), np.array(["train"] * 3)
    is_all = np.array([True, False, False])
    refuse_shared_cells(split, images, crops, is_all)
    crops[2] = crops[0]
    with pytest.raises(InputError, match="the same cell has both classes: ALL/a = Hem/c; leave out what is wrong"):
        refuse_shared_cells(split, images, crops, is_all)


def test_contiguous_blocks_that_share_an_image_are_refused_with_its_names() -> None:
    names = [f"{sub}/{i}.png" for sub in ("all", "hem") for i in range(1, 11)]
    image = np.repeat(names, 2)
    crops = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3), np.uint8)
    is_all, split = np.char.startswith(image, "all"), split_contiguous(image, 0.6, 0.2)
    crops[image == "all/2.png"] = crops[image == "all/1.png"]
    refuse_shared_cells(split, image, crops, is_all)
    crops[image == "all/10.png"] = crops[image == "all/1.png"]
    said = "the same cell is on two sides of the split: all/1.png = all/10.png = all/2.png;"
    with pytest.raises(InputError, match=said):
        refuse_shared_cells(split, image, crops, is_all)


def test_images_are_split_in_the_order_in_which_they_are_listed() -> None:
    names = ["a/x1.png", "a/X2.png", "a/x3²1.png", "a/y1.png", "a/Z1.png"]
    assert split_contiguous(np.array(names), 0.4, 0.2).tolist() == ["train"] * 2 + ["validation"] + ["test"] * 2


def test_from_a_manifest_to_a_bundle(
    tmp_path: Path, tiny: FitParams, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from all_detect_training.commands import fit as fit_command

    rng = np.random.default_rng(1)
    rows: Rows = []
    for name, colour in (("ALL", (110, 60, 170)), ("Hem", (210, 150, 160))):
        for subject in range(6):
            for i in range(3):
                pixels = np.zeros((60, 60, 3), np.uint8)
                pixels[15:45, 15:45] = (np.array(colour) + rng.normal(0, 15, (30, 30, 3))).clip(1, 255)
                Image.fromarray(pixels).save(tmp_path / f"{name}{subject}_{i}.png")
                rows.append((f"{name}{subject}_{i}.png", name, f"{name}{subject}"))
    saved = {row[0]: (tmp_path / row[0]).read_bytes() for row in rows}
    path = write(tmp_path, rows, HEAD[:3])
    assert all((tmp_path / name).read_bytes() == data for name, data in saved.items())
    params: Any = replace(tiny, members=tiny.members[:1], epochs=16, step_epochs=8.0)
    monkeypatch.setattr(fit_command, "PRESETS", {"tiny": params})
    words = ["fit", "--preset", "tiny", "--manifest", str(path), "--split", "1/3", "--workers", "1"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    run = load_run(tmp_path / "run")
    assert run.subject is not None
    sides = {(subject, side) for subject, side in zip(run.subject.tolist(), run.split.tolist(), strict=True)}
    assert len(sides) == 12
    assert {side for _, side in sides} == {"train", "validation", "test"}
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "b"), "--name", "b", "--version", "1"]) == 0
    bundle = load_bundle(tmp_path / "b")
    assert bundle.manifest.training["split"]["subjects"] == 12
    assert "12 subjects, fold 1/3 of whole subjects" in bundle.card
    assert "Patients are unknown" not in bundle.card
    assert "--manifest DATA --split 1/3" in bundle.card
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["subjects"] == 12
    assert main([*words[:-3], "2/3", "--workers", "1", "--out", str(tmp_path / "run")]) == 1
    assert "data.split is 1/3 there and 2/3 here" in capsys.readouterr().err
    capsys.readouterr()
    evaluated = ["evaluate", str(tmp_path / "b"), "--manifest", str(path)]
    assert main([*evaluated, "--out", str(tmp_path / "whole")]) == 0
    said = "24 of 36 images trained or validated this bundle, whose figures they flatter; --only test leaves them out"
    assert said in capsys.readouterr().err
    assert main([*evaluated, "--only", "test", "--out", str(tmp_path / "tests")]) == 0
    assert "flatter" not in capsys.readouterr().err
    scored = pd.read_csv(tmp_path / "tests" / "cells.csv", dtype={"subject": str})
    assert set(scored["subject"]) == set(run.subject[run.split == "test"].tolist())
    (tmp_path / "ALL0_0.png").write_bytes((tmp_path / "ALL0_0.png").read_bytes() + b"more")
    assert main([*evaluated, "--only", "test", "--out", str(tmp_path / "others")]) == 1
    assert "no image in part 'test'; expected no --only" in capsys.readouterr().err
