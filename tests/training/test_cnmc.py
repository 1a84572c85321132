import csv
import gzip
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from all_detect_training.cli import main
from all_detect_training.cnmc import PRELIMINARY, PUBLISHED, CnmcCheck, check_cnmc, describe, list_cnmc, subject_of
from all_detect_training.commands import fit as fit_command
from all_detect_training.splits import PAPER_IMAGES, PAPER_SUBJECTS
from all_detect_training.training_set import cnmc_set
from napari_all_detect.errors import InputError

LABELS = "validation_data/C-NMC_test_prelim_phase_data_labels.csv"


@pytest.fixture(scope="module")
def published(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty files under all published names, with the real table of labels."""
    root = tmp_path_factory.mktemp("cnmc")
    with gzip.open(data_folder / "cnmc" / "all_file_names.txt.gz", "rt") as file:
        names = [line.strip() for line in file if line.strip().endswith(".bmp")]
    for folder in {Path(name).parent for name in names}:
        (root / folder).mkdir(parents=True)
    for name in names:
        (root / name).touch()
    table = Path("C-NMC_Leukemia") / LABELS
    (root / table).write_bytes((data_folder / "cnmc" / table).read_bytes())
    return root


def small(root: Path) -> Path:
    """Two subjects of each class in each fold and in the preliminary set, laid out as published."""
    rng = np.random.default_rng(0)

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((450, 450, 3), np.uint8)
        pixels[150:300, 150:300] = rng.integers(1, 255, (150, 150, 3))
        Image.fromarray(pixels).save(path)

    for k in range(3):
        for part, prefix in (("all", ""), ("hem", "Hh"[k % 2])):
            for subject in (2 * k + 1, 2 * k + 2):
                write(root / f"training_data/fold_{k}/{part}/UID_{prefix}{subject}_1_1_{part}.bmp")
    rows = [("UID_90_1_1_all.bmp", "1.bmp", 1), ("UID_H91_1_1_hem.bmp", "2.bmp", 0)]
    for _, new, _ in rows:
        write(root / "validation_data/C-NMC_test_prelim_phase_data" / new)
    with (root / LABELS).open("w", newline="") as file:
        csv.writer(file).writerows([("Patient_ID", "new_names", "labels"), *rows])
    return root


@pytest.mark.parametrize(
    ("name", "subject", "is_all"),
    [("UID_1_2_2_all.bmp", "1", True), ("UID_H10_100_1_hem.bmp", "H10", False), ("UID_h3_4_1_hem.bmp", "H3", False)],
)
def test_subjects_come_out_of_names(name: str, subject: str, is_all: bool) -> None:
    assert subject_of(name) == (subject, is_all)


@pytest.mark.parametrize("name", ["1.bmp", "UID_1_2_all.bmp", "UID_1_2_2_all.png", "UID_1_2_2_blast.bmp"])
def test_what_is_no_published_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="no name of C-NMC 2019"):
        subject_of(name)


def test_all_published_names_are_read(published: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = list_cnmc(published)
    assert not caplog.records
    assert Counter((i.group, "ALL" if i.is_all else "Hem") for i in images) == PUBLISHED
    training = [i for i in images if i.group != PRELIMINARY]
    assert len({i.subject for i in training if i.is_all}) == 47
    assert len({i.subject for i in training if not i.is_all}) == 26
    assert len({i.subject for i in images if i.group == PRELIMINARY}) == 13 + 15
    assert not {i.subject for i in training} & {i.subject for i in images if i.group == PRELIMINARY}
    assert len({i.image for i in images}) == len(images)


def test_the_papers_split_has_its_numbers_of_subjects_and_nearly_its_images(published: Path) -> None:
    given = cnmc_set(published, "paper", 2021)
    assert given.sides is not None
    for name, is_all in (("ALL", True), ("Hem", False)):
        for side, k in (("train", 0), ("validation", 1)):
            own = [i for i, s in zip(given.images, given.sides, strict=True) if s == side and i.is_all == is_all]
            assert len({i.subject for i in own}) == PAPER_SUBJECTS[name][k]
            assert abs(len(own) - PAPER_IMAGES[name][k]) <= 3
    tests = Counter(i.is_all for i, s in zip(given.images, given.sides, strict=True) if s == "test")
    assert tests == {True: 1219, False: 648}
    assert cnmc_set(published, "paper", 2021).sides == given.sides
    assert cnmc_set(published, "paper", 1).sides != given.sides


@pytest.mark.parametrize("split", ["paper", "fold_1", "2/5"])
def test_no_subject_is_on_two_sides(published: Path, split: str) -> None:
    given = cnmc_set(published, split, 0)
    assert given.sides is not None
    sides = {(i.subject, s) for i, s in zip(given.images, given.sides, strict=True)}
    assert len(sides) == 47 + 26 + 28
    assert {s for _, s in sides} == {"train", "validation", "test"}


def test_check_names_what_is_missing_damaged_and_not_whole(tmp_path: Path) -> None:
    root = small(tmp_path / "C-NMC_Leukemia")
    (root / "validation_data/C-NMC_test_prelim_phase_data/2.bmp").unlink()
    damaged = root / "training_data/fold_0/all/UID_1_1_1_all.bmp"
    damaged.write_bytes(damaged.read_bytes()[:400])
    Image.new("RGB", (300, 300)).save(root / "training_data/fold_1/all/UID_3_1_1_all.bmp")
    check = check_cnmc(tmp_path)
    assert not check.is_whole
    faults = "\n".join(check.faults)
    for text in (
        "missing: ",
        "2.bmp",
        f"damaged: {damaged}",
        "UID_3_1_1_all.bmp: 300 x 300 px; expected 450 x 450",
        "fold_2, Hem: 2 images; 1096 were published",
    ):
        assert text in faults
    assert check.counts["fold_0", "ALL"] == 1


def test_many_faults_of_one_kind_hide_no_others(tmp_path: Path) -> None:
    root = small(tmp_path / "C-NMC_Leukemia")
    with (root / LABELS).open("a", newline="") as file:
        csv.writer(file).writerows((f"UID_{k}_1_1_all.bmp", f"{k}.bmp", 1) for k in range(100, 700))
    for path in root.glob("training_data/fold_0/*/*.bmp"):
        path.write_bytes(b"BM")
    faults = check_cnmc(tmp_path).faults
    assert len([fault for fault in faults if fault.startswith("missing: ")]) == 50
    assert "and 550 more like these" in faults
    assert len([fault for fault in faults if fault.startswith("damaged: ")]) == 4


def test_check_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small(tmp_path)
    assert main(["check", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "fold_0       ALL         2       2397  2" in printed.out
    assert "not the whole of C-NMC 2019" in printed.err


def test_the_real_images_are_sound(data_folder: Path) -> None:
    check = check_cnmc(data_folder / "cnmc")
    assert sum(check.counts.values()) == 13
    assert not [fault for fault in check.faults if fault.startswith("damaged")]


def test_a_part_of_the_data_gives_no_papers_split_but_folds(tmp_path: Path) -> None:
    root = small(tmp_path)
    with pytest.raises(InputError, match=r"6 ALL subjects; expected 32 .*all-detect-train check"):
        cnmc_set(root, "paper", 0)
    given = cnmc_set(root, "fold_1", 0)
    assert given.sides is not None
    assert Counter(given.sides) == {"train": 8, "validation": 4, "test": 2}


def test_names_in_capitals_are_read(tmp_path: Path) -> None:
    root = small(tmp_path)
    training, preliminary = root / "training_data", root / "validation_data/C-NMC_test_prelim_phase_data"
    for path, name in (
        (training / "fold_0/all/UID_1_1_1_all.bmp", "UID_1_1_1_all.BMP"),
        (training / "fold_1/hem", "HEM"),
        (training / "fold_2", "Fold_2"),
        (preliminary / "1.bmp", "1.BMP"),
    ):
        path.rename(path.with_name(name))
    images = list_cnmc(root)
    assert Counter(image.group for image in images) == {"fold_0": 4, "fold_1": 4, "fold_2": 4, PRELIMINARY: 2}
    assert all(image.path.is_file() for image in images)
    assert Counter(check_cnmc(root).counts.values()) == {2: 6, 1: 2}


def test_folders_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    root = small(tmp_path)
    if (root / "training_data/FOLD_2").exists():
        pytest.skip("needs a file system that tells cases apart")
    (root / "training_data/FOLD_2").mkdir()
    said = "training_data: FOLD_2 and fold_2 differ in case only"
    with pytest.raises(InputError, match=said):
        list_cnmc(root)
    assert any(said in fault for fault in check_cnmc(root).faults)


def test_what_is_missing_of_the_published_is_told_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = small(tmp_path)
    shutil.rmtree(root / "training_data/fold_2/all")
    list_cnmc(root)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{root}: fewer images than were published: fold_0 2 of 2397 ALL, fold_0 2 of 1130 Hem, ")
    assert "fold_2 0 of 2457 ALL, fold_2 2 of 1096 Hem, preliminary 1 of 1219 ALL" in said
    assert said.endswith(f"see what is missing: all-detect-train check {root}")


@pytest.mark.parametrize("split", ["fold_0", "fold_1"])
def test_a_split_by_folds_takes_all_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    monkeypatch.setattr(fit_command, "open_cells", lambda *_: pytest.fail("the images were read"))
    root = small(tmp_path)
    (root / "training_data/fold_2").rename(root / "training_data/fold_two")
    assert main(["fit", "--preset", "lite", "--cnmc", str(root), "--split", split, "--out", str(tmp_path / "run")]) == 1
    assert f"{root}: no image in fold_2; expected all three folds in training_data" in capsys.readouterr().err


def test_a_split_that_is_none_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="split is 'fold_3'; expected paper, fold_0, fold_1, fold_2, or K/N such as"):
        cnmc_set(small(tmp_path), "fold_3", 0)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training_data"):
        list_cnmc(tmp_path)


@pytest.mark.parametrize(
    ("name", "label", "expected"),
    [("UID_90_1_1_all.bmp", "0", 1), ("UID_90_1_1_all.bmp", "0.0", 1), ("UID_90_1_1_all.bmp", "", 1)]
    + [("UID_H91_1_1_hem.bmp", label, 0) for label in ("1", "2", "0.5", "nan")],
)
def test_a_label_that_contradicts_the_name_is_refused(tmp_path: Path, name: str, label: str, expected: int) -> None:
    root = small(tmp_path)
    (root / LABELS).write_text(f"Patient_ID,new_names,labels\n{name},1.bmp,{label}\n")
    with pytest.raises(InputError, match=f"has label {label}; expected {expected} by its name"):
        list_cnmc(root)


def test_labels_saved_again_as_decimals_are_read(tmp_path: Path) -> None:
    root = small(tmp_path)
    text = (root / LABELS).read_text()
    (root / LABELS).write_text(text.replace("bmp,1\n", "bmp,1.0\n").replace("bmp,0\n", "bmp,0.0\n"))
    assert (root / LABELS).read_text().count(".0\n") == 2
    assert [image.is_all for image in list_cnmc(root) if image.group == PRELIMINARY] == [True, False]


def test_check_covers_the_final_set_whose_labels_nobody_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = small(tmp_path / "C-NMC_Leukemia")
    assert "final: 0 images; 2586 were published" in check_cnmc(tmp_path).faults
    final = root / "testing_data/C-NMC_test_final_phase_data"
    final.mkdir(parents=True)
    sound = np.zeros((450, 450, 3), np.uint8)
    Image.fromarray(sound).save(final / "1.bmp")
    (final / "2.bmp").write_bytes(b"BM")
    check = check_cnmc(tmp_path)
    assert check.final == 1
    faults = "\n".join(check.faults)
    assert f"damaged: {final / '2.bmp'}" in faults
    assert f"missing: {final / '3.bmp'}" in faults
    assert f"{final / '52.bmp'}\nand 2534 more like these\n" in faults
    assert "final: 1 images; 2586 were published" in faults
    assert main(["check", str(tmp_path)]) == 1
    assert "final                    1       2586  unlabelled" in capsys.readouterr().out


def test_a_strange_name_is_one_fault_and_macos_own_files_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = small(tmp_path)
    fold = root / "training_data/fold_0/all"
    (fold / "._UID_1_1_1_all.bmp").write_bytes(b"macOS")
    assert len(list_cnmc(root)) == 14
    (fold / "UID_1_1_1_all copy.bmp").touch()
    (fold / "UID_1_1_1_hem.bmp").touch()
    with (root / LABELS).open("a", newline="") as file:
        csv.writer(file).writerows([("UID_92", "3.bmp", 1), ("UID_93_1_1_all.bmp", "4.bmp", 0)])
    faults = [fault for fault in check_cnmc(root).faults if "published" not in fault]
    assert [fault.partition(str(root))[2] for fault in faults] == [
        "/training_data/fold_0/all: UID_1_1_1_all copy.bmp: no name of C-NMC 2019; expected "
        "UID_<subject>_<image>_<cell>_<all or hem>.bmp",
        "/training_data/fold_0/all/UID_1_1_1_hem.bmp: its name says otherwise than its folder; get the data again",
        f"/{LABELS}: UID_92: no name of C-NMC 2019; expected UID_<subject>_<image>_<cell>_<all or hem>.bmp",
        f"/{LABELS}: UID_93_1_1_all.bmp has label 0; expected 1 by its name; get it again",
    ]
    assert main(["check", str(root)]) == 1
    assert "fold_0       ALL         2       2397  2" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"fold_0/all: UID_1_1_1_all copy\.bmp: no name"):
        list_cnmc(root)


@pytest.mark.parametrize("table", [None, "name,label\nx,1\n"])
def test_a_table_of_labels_that_is_missing_or_another_is_named(
    tmp_path: Path, table: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    root = small(tmp_path)
    (root / LABELS).unlink()
    if table is not None:
        (root / LABELS).write_text(table)
    said = f"{root / LABELS}: expected the columns" if table else f"missing: {root / LABELS}, without which"
    check = check_cnmc(root)
    assert [fault for fault in check.faults if fault.startswith(said)]
    assert (check.counts["fold_0", "ALL"], check.counts[PRELIMINARY, "ALL"]) == (2, 0)
    if table is None:
        assert len(list_cnmc(root)) == 12
        assert said in caplog.text


def test_without_the_final_set_all_that_training_needs_may_be_there() -> None:
    check = CnmcCheck([], dict(PUBLISHED), ["final: 0 images; 2586 were published"])
    assert not check.is_whole
    assert describe(check)[-1] == "not whole; all that training and testing need is there"
    assert CnmcCheck([], dict(PUBLISHED), [], 2586).is_whole
