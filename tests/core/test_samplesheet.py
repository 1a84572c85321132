from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest

from napari_all_detect.errors import InputError
from napari_all_detect.interval import fraction_interval
from napari_all_detect.samplesheet import (
    SAMPLE_COLUMNS,
    SUBJECT_COLUMNS,
    coverage,
    read_sample_sheet,
    sum_samples,
    sum_subjects,
)
from napari_all_detect.table import IMAGE_COLUMNS, typed


def sheet_of(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "samples.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def images() -> pd.DataFrame:
    values = {
        "image": ["a.png", "b.tif", "b.tif", "c.png", "d.png"],
        "plane": ["0", "p0", "p1", "0", "0"],
        "cells": [4, 1, 0, 2, 9],
        "all": [3, 0, 0, 0, 9],
        "hem": [1, 1, 0, 0, 0],
        "uncertain": [0, 0, 0, 2, 0],
        "out_of_domain": [3, 1, 0, None, 0],
        "mean_p_all": [0.75, 0.25, np.nan, 0.5, 1.0],
    }
    return typed(IMAGE_COLUMNS, values, 5)


@pytest.mark.parametrize(
    "text",
    [
        "image,sample,subject\na.png,s1,P1\nb.png,01,\n",
        "subject,image,sample\r\nP1,a.png,s1\r\n,b.png,01\r\n",
        "\ufeffimage,sample,subject\na.png,s1,P1\nb.png,01,\n",
        "image,sample,subject\na.png,s1,P1,\nb.png,01,,\n",
        'image,sample,subject\n"a.png","s1","P1"\n"b.png","01",""\n',
        "image,sample,subject\na.png,s1,P1\n,,\nb.png,01,\n , \n,,,,\n",
        "\ufeffimage;sample;subject\r\na.png;s1;P1\r\nb.png;01;\r\n",
        "image\tsample\tsubject\na.png\ts1\tP1\nb.png\t01\t\n",
        'image,sample,subject,"age; sex; site; nose; note"\na.png,s1,P1,x\nb.png,01,,\n',
        "image,sample,subject,a;b;c;d;e\na.png,s1,P1,x\nb.png,01,,\n",
        '"a note,\non lines";image;sample;subject\n;a.png;s1;P1\n;b.png;01;\n',
        "image,sample,subject\n./a.png,s1,P1\nb.png/,01,\n",
        " image, sample ,subject\n a.png , s1,P1 \nb.png,01, \n",
    ],
    ids=[
        "plain",
        "other order, CRLF",
        "byte order mark",
        "commas at line ends",
        "quoted",
        "empty rows",
        "semicolons",
        "tabs",
        "semicolons in a quoted name",
        "semicolons in a name",
        "semicolons, a name on two lines",
        "spelling",
        "spaces",
    ],
)
def test_a_good_sheet(text: str, tmp_path: Path) -> None:
    sheet = read_sample_sheet(sheet_of(tmp_path, text))
    assert sheet[["image", "sample", "subject"]].to_numpy().tolist() == [["a.png", "s1", "P1"], ["b.png", "01", ""]]


def test_subject_is_optional_and_na_is_a_name(tmp_path: Path) -> None:
    sheet = read_sample_sheet(sheet_of(tmp_path, "image,sample\nNA,null\n"))
    assert sheet.to_dict("list") == {"image": ["NA"], "sample": ["null"], "subject": [""]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,subject\na.png,P1\n", "no column sample; it has image, subject; expected image, sample"),
        ("image;subject\na.png;P1\n", "no column sample; it has image, subject; expected image, sample"),
        ("image sample\na.png s1\n", "no column image or sample; it has image sample;"),
        ("image,sample\na.png,s1\na.png,s2\n", "a.png is listed twice, in lines 2 and 3; expected each image once"),
        ("image,sample\nd/a.png,s1\n\n./d//a.png,s2\n", "d/a.png is listed twice, in lines 2 and 4; expected"),
        ("image,sample\nd,s1\n.\\d\\,s1\n", "d is listed twice, in lines 2 and 3; expected"),
        ("image,sample\na.png,s1\n,s2\n", "line 3 has no image; expected a file or folder"),
        ("image,sample,subject\na.png,s1,P1\nb.png, ,P1\n", "line 3 has no sample; expected what its image is"),
        ("image,sample,sample\na.png,s1,x\n", "several columns sample; it has image, sample, sample; expected one"),
        ("subject,image,sample,subject\nP1,a.png,s1,\n", "several columns subject; it has subject, image, sample"),
        ("image,sample\n\u00e4,s1\na\u0308,s1\n", "listed twice, in lines 2 and 3; expected each image once"),
        ("image,sample,subject\na,S,\nb,S,P1\nc,T,\n", "sample S is of subject P1 in some lines and of none in"),
        ("", "no sample sheet that can be read"),
        ("image,sample\na.png,s1,more\n", "no sample sheet that can be read"),
        ("image,sample\na.png,s1\nb.png,s1,P1,more\n", "line 3 has more fields than the header"),
        ("image,sample\nä.png,s1\n".encode("latin-1"), "not coded as UTF-8: save it as 'CSV UTF-8'"),
    ],
)
def test_bad_sheets_are_refused(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_sample_sheet(sheet_of(tmp_path, text))


def test_names_may_be_copied_from_the_tables(tmp_path: Path) -> None:
    """Where they got an apostrophe so that no spreadsheet takes them for formulas."""
    sheet = read_sample_sheet(sheet_of(tmp_path, "image,sample,subject\n'-a,'=S,'+P\nb,=S,+P\n"))
    assert sheet.to_dict("list") == {"image": ["-a", "b"], "sample": ["=S"] * 2, "subject": ["+P"] * 2}


def test_two_subjects_may_have_samples_of_one_name(tmp_path: Path) -> None:
    sheet = read_sample_sheet(sheet_of(tmp_path, "image,sample,subject\na,before,P1\nb,before,P2\n"))
    assert sheet["subject"].tolist() == ["P1", "P2"]


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_unreadable_sheets_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sample sheet that can be read"):
        read_sample_sheet(tmp_path / name)


def sums(text: str, tmp_path: Path) -> pd.DataFrame:
    return sum_samples(images(), read_sample_sheet(sheet_of(tmp_path, text)))


def test_sums_by_hand(tmp_path: Path) -> None:
    table = sums("image,sample,subject\nc.png,s2,P2\na.png,s1,P1\nb.tif,s1,P1\n", tmp_path)
    assert list(table.columns) == [column.name for column in SAMPLE_COLUMNS]
    assert table.iloc[:, :7].to_numpy().tolist() == [["s2", "P2", 1, 2, 0, 0, 2], ["s1", "P1", 3, 5, 3, 2, 0]]
    assert table["out_of_domain"].fillna(-1).tolist() == [-1, 4]
    both = sums("image,sample\na.png,s1\nc.png,s1\n", tmp_path)
    assert both["out_of_domain"].isna().all(), "of some of its cells it is not known"
    assert table["fraction_all"].isna().tolist() == [True, False]
    assert table["fraction_all"][1] == pytest.approx(3 / 5)
    assert table["mean_p_all"].tolist() == pytest.approx([0.5, (4 * 0.75 + 0.25) / 5])


def test_a_subject_has_the_cells_of_all_its_samples(tmp_path: Path) -> None:
    text = "image,sample,subject\nc.png,s2,P1\na.png,s1,P1\nb.tif,s3,\n"
    table = sum_subjects(images(), read_sample_sheet(sheet_of(tmp_path, text)))
    assert list(table.columns) == [column.name for column in SUBJECT_COLUMNS]
    of_samples = sums(text, tmp_path).set_index(["sample", "subject"])
    both = of_samples.loc[[("s2", "P1"), ("s1", "P1")]]
    row = table.iloc[0]
    assert (row["subject"], row["samples"]) == ("P1", 2)
    for name in ("images", "cells", "all", "hem", "uncertain"):
        assert row[name] == both[name].sum()
    expected = (both["mean_p_all"] * both["cells"]).sum() / both["cells"].sum()
    assert row["mean_p_all"] == pytest.approx(expected)
    assert len(table) == 1
    assert len(sum_subjects(images(), read_sample_sheet(sheet_of(tmp_path, "image,sample\na.png,s1\n")))) == 0


def test_images_outside_the_sheet_are_left_out_and_unknown_ones_make_no_row(tmp_path: Path) -> None:
    table = sums("image,sample\na.png,s1\nunknown.png,s9\n", tmp_path)
    assert table[["sample", "images", "cells"]].to_numpy().tolist() == [["s1", 1, 4]]


def test_a_sheet_of_other_images_gives_an_empty_table(tmp_path: Path) -> None:
    table = sums("image,sample\nunknown.png,s9\n", tmp_path)
    assert len(table) == 0
    assert list(table.columns) == [column.name for column in SAMPLE_COLUMNS]


@pytest.mark.parametrize("columns", ["image,sample", "image,sample,subject"])
def test_no_images_or_no_lines_give_an_empty_table(columns: str, tmp_path: Path) -> None:
    sheet = read_sample_sheet(sheet_of(tmp_path, f"{columns}\na.png,s1\n"))
    for given, lines in ((images().iloc[:0], sheet), (images(), sheet.iloc[:0])):
        assert sum_samples(given, lines).to_dict("list") == {column.name: [] for column in SAMPLE_COLUMNS}
        assert sum_subjects(given, lines).to_dict("list") == {column.name: [] for column in SUBJECT_COLUMNS}


def test_an_image_without_cells_is_a_sample_too(tmp_path: Path) -> None:
    empty = images().iloc[[2]]
    table = sum_samples(empty, read_sample_sheet(sheet_of(tmp_path, "image,sample\nb.tif,s1\n")))
    assert table["cells"].tolist() == [0]
    assert table[["fraction_all", "mean_p_all"]].isna().all(axis=None)


def test_further_columns_do_no_harm(tmp_path: Path) -> None:
    table = sums("image,sample,cells,notes,mean_p_all\na.png,s1,many,fine,7\n", tmp_path)
    assert table["cells"].tolist() == [4]
    assert table["mean_p_all"].tolist() == [0.75]
    assert sums("image,sample,,\na.png,s1,,\n", tmp_path)["cells"].tolist() == [4]


def test_a_line_stands_for_all_below_it_the_nearest_one_counts(tmp_path: Path) -> None:
    names = ["p.zarr/A/1/0", "p.zarr/A/1/1", "p.zarr/A/2/0", "day1/a.png", "day10/a.png"]
    many = pd.concat([images().iloc[[0]].assign(image=name) for name in names], ignore_index=True)
    text = "image,sample\np.zarr,rest\np.zarr/A/1,well\nday1,day\n"
    table = sum_samples(many, read_sample_sheet(sheet_of(tmp_path, text)))
    assert table[["sample", "images"]].to_numpy().tolist() == [["rest", 1], ["well", 2], ["day", 1]]


def test_a_url_is_below_the_line_of_its_folder(tmp_path: Path) -> None:
    names = ["http://h/day1/a.png", "http://h/day2/c.png", "http://k/day2/c.png", "s3://h/day2/c.png"]
    many = pd.concat([images().iloc[[0]].assign(image=name) for name in names], ignore_index=True)
    text = "image,sample\nhttp://h/,S1\nhttp://h/day2/c.png,S2\ns3://h/day2/,S3\n"
    table = sum_samples(many, read_sample_sheet(sheet_of(tmp_path, text)))
    assert table[["sample", "images"]].to_numpy().tolist() == [["S1", 1], ["S2", 1], ["S3", 1]]


def test_the_interval_is_over_images_and_planes_of_one_image_are_none_of_their_own(tmp_path: Path) -> None:
    """And over the cells that are called, not the uncertain ones."""
    names = [("a.png", "0"), ("b.png", "0"), ("c.tif", "p0"), ("c.tif", "p1")]
    rows = [
        images().iloc[[0]].assign(image=i, plane=p, all=k, hem=10 - k, uncertain=10)
        for (i, p), k in zip(names, (5, 7, 4, 4), strict=True)
    ]
    text = "image,sample\na.png,S\nb.png,S\nc.tif,S\n"
    table = sum_samples(pd.concat(rows, ignore_index=True), read_sample_sheet(sheet_of(tmp_path, text)))
    low, high = fraction_interval([5, 7, 8], [10, 10, 20])
    assert table[["fraction_all_low", "fraction_all_high"]].to_numpy()[0].tolist() == pytest.approx([low, high])


def test_one_image_has_no_interval(tmp_path: Path) -> None:
    table = sums("image,sample\na.png,s1\n", tmp_path)
    assert table[["fraction_all_low", "fraction_all_high"]].isna().all(axis=None)


def test_an_image_without_a_called_cell_says_nothing() -> None:
    assert fraction_interval([5, 0], [10, 0]) is None
    assert fraction_interval([5, 7, 8, 0], [10, 10, 20, 0]) == fraction_interval([5, 7, 8], [10, 10, 20])


@pytest.mark.parametrize("fraction", [0.15, 0.3, 0.5])
@pytest.mark.parametrize("alike", [0.02, 0.1])
def test_the_interval_covers_what_it_says(fraction: float, alike: float) -> None:
    """Of smears whose images differ, 95 % of the intervals hold the fraction that the images were drawn with."""
    random = np.random.default_rng(1)
    a = 1 / alike - 1
    covered = []
    for _ in range(600):
        n = random.integers(5, 40, 12)
        k = random.binomial(n, random.beta(fraction * a, (1 - fraction) * a, 12))
        low, high = fraction_interval(k, n)
        covered.append(low <= fraction <= high)
    assert 0.92 < np.mean(covered) <= 0.995


@pytest.mark.parametrize("k", [0, 10])
def test_an_interval_holds_its_fraction(k: int) -> None:
    for images in range(2, 60):
        low, high = fraction_interval([k] * images, [10] * images)
        assert low <= k / 10 <= high


@pytest.mark.parametrize("n", [[40] * 12, [10] * 2, [1, 1], [3, 200, 8]])
@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_one_cell_more_or_less_makes_no_leap(n: list[int], share: float) -> None:
    """Also from images that all agree, as of a healthy subject without any positive cell, to ones that don't."""
    same = [int(share * count) for count in n]
    other = [same[0] + (-1 if share == 1 else 1), *same[1:]]
    (low, high), (other_low, other_high) = fraction_interval(same, n), fraction_interval(other, n)
    assert (low == 0) == (share == 0 or not any(same))
    assert (high == 1) == (share == 1)
    assert 0.5 < (high - low) / (other_high - other_low) < 2
    assert low <= other_low <= high or other_low <= low <= other_high


def test_no_cell_of_many_says_more_than_no_cell_of_few() -> None:
    highs = [fraction_interval([0] * 12, [n] * 12)[1] for n in (1, 4, 16, 64)]
    assert highs == sorted(highs, reverse=True)
    assert highs[-1] < 0.01


def test_what_a_sheet_and_the_images_know_of_each_other(tmp_path: Path) -> None:
    sheet = read_sample_sheet(sheet_of(tmp_path, "image,sample\nday1,s1\na.png,s2\ntypo.png,s2\n"))
    found = coverage(sheet, ["day1/x.png", "day1/y.png", "a.png", "b.png", "b.png"])
    assert (found.idle, found.n_unlisted, found.is_empty) == (("typo.png",), 1, False)
    assert coverage(sheet, ["b.png"]).is_empty


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_accent_may_be_a_character_of_its_own(forms: tuple[str, str], tmp_path: Path) -> None:
    """As in file names that macOS made."""
    written, named = (normalize(form, "größe") for form in forms)
    sheet = read_sample_sheet(sheet_of(tmp_path, f"image,sample\n{written}.png,s1\n{written},s2\n"))
    names = [f"{named}.png", f"{named}/x.png"]
    found = coverage(sheet, names)
    assert (found.idle, found.n_unlisted, found.is_empty) == ((), 0, False)
    table = sum_samples(images().iloc[:2].assign(image=names), sheet)
    assert table[["sample", "cells"]].to_numpy().tolist() == [["s1", 4], ["s2", 1]]
