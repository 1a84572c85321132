"""Sample sheets that say what is scored: how they spell places, lines that overlap, and where results go."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
import zarr
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect.batch import BatchSummary, score_batch
from napari_all_detect.batch.planning import listed_images, plan_units
from napari_all_detect.batch.units import Unit
from napari_all_detect.cli.program import main
from napari_all_detect.errors import InputError
from napari_all_detect.params import OutputParams, ScoreParams, SegmentationParams
from napari_all_detect.samplesheet import read_sample_sheet, sum_samples
from napari_all_detect.sources import ImageFile, find_images
from napari_all_detect.table import IMAGE_COLUMNS, typed

pytestmark = pytest.mark.usefixtures("reuse_engines")

Pixels = NDArray[np.uint8]


@pytest.fixture
def params(duo_bundle: Path) -> ScoreParams:
    return ScoreParams(bundle=str(duo_bundle), segmentation=SegmentationParams(method="classical"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for sheets, with images in it and above."""
    for name in ("up.png", "home/day1/a.png", "home/day1/b.png", "home/day2/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 16)).save(tmp_path / name)
    return tmp_path / "home"


@pytest.fixture
def plate(home: Path) -> Path:
    """A plate of three wells with a field each; its row `A` is a folder, as some writers leave it."""
    wells = ["A/01", "A/02", "B/01"]
    rows = [{"name": name} for name in "AB"]
    columns = [{"name": name} for name in ("01", "02")]
    listed = [{"path": well, "rowIndex": "AB".index(well[0]), "columnIndex": int(well[-1]) - 1} for well in wells]
    facts = {"version": "0.4", "rows": rows, "columns": columns, "wells": listed, "name": "p"}
    group = zarr.open_group(home / "plate.zarr", mode="w", zarr_format=2, attributes={"plate": facts})
    for well in wells:
        images = {"images": [{"path": "0"}], "version": "0.4"}
        group.create_group(well, attributes={"well": images})
        scales = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}]
        axes = [{"name": "c", "type": "channel"}, *({"name": name, "type": "space"} for name in "yx")]
        field = group.create_group(f"{well}/0")
        field.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": scales, "name": "f"}]
        field.create_array("0", data=np.zeros((3, 16, 24), np.uint8))
    for name in (".zgroup", ".zattrs"):
        (home / "plate.zarr/A" / name).unlink(missing_ok=True)
    return home / "plate.zarr"


@pytest.fixture
def remote(home: Path, serve: Callable[[Any], str]) -> str:
    """Serve the folder over HTTP; return its URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    return serve(partial(Quiet, directory=str(home)))


def planned(home: Path, *lines: str) -> tuple[list[Unit], list[list[Any]]]:
    """Plan what a sheet lists; return the units, and how many of their images each sample gets."""
    (home / "sheet.csv").write_text("image,sample\n" + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    sheet = read_sample_sheet(home / "sheet.csv")
    units, failures = plan_units(listed_images(sheet["image"], home))
    assert failures == []
    values = {"image": images_of(units), "cells": 1, "all": 1, "hem": 0, "uncertain": 0, "mean_p_all": 0.5}
    samples = sum_samples(typed(IMAGE_COLUMNS, values, len(units)), sheet)
    return units, samples[["sample", "images"]].to_numpy().tolist()


def images_of(units: list[Unit]) -> list[str]:
    return [unit.plane.image for unit in units]


def scored(home: Path, text: str, params: ScoreParams) -> BatchSummary:
    (home / "sheet.csv").write_text(text)
    return score_batch([], home / "out", params, OutputParams(samples=str(home / "sheet.csv")))


@pytest.mark.parametrize(
    "lines",
    [
        ("day1/,S1", "./day2/c.png,S2"),
        ("./day1,S1", "day2//c.png,S2"),
        ("day1\\,S1", ".\\day2\\c.png,S2"),
        ("day1/a.png,S1", ".\\day1/b.png,S1", "day2/./,S2"),
    ],
)
def test_a_place_may_be_spelt_in_many_ways(lines: tuple[str, ...], home: Path) -> None:
    units, samples = planned(home, *lines)
    assert images_of(units) == ["day1/a.png", "day1/b.png", "day2/c.png"]
    assert samples == [["S1", 2], ["S2", 1]]


def test_the_folder_of_the_sheet_itself(home: Path) -> None:
    units, samples = planned(home, "./,rest", "day1,S1")
    assert images_of(units) == ["day1/a.png", "day1/b.png", "day2/c.png"]
    assert samples == [["rest", 1], ["S1", 2]]


def test_urls_with_and_without_a_folder(remote: str, home: Path) -> None:
    units, samples = planned(home, f"{remote}/day1/,S1", f"{remote}/day1/b.png,S2", f"{remote}/day2/c.png,S3")
    assert images_of(units) == [f"{remote}/{name}" for name in ("day1/a.png", "day1/b.png", "day2/c.png")]
    assert samples == [["S1", 1], ["S2", 1], ["S3", 1]]
    server = remote.removeprefix("http://").replace(":", "_")
    assert units[0].stem == f"http_/{server}/day1/a"


def test_a_query_is_sent_but_not_told(remote: str, home: Path) -> None:
    lines = [f"{remote}/day1/a.png?sig=a//b/&to=http://x/,S1", f"{remote}/day1/a.png?sig=c,S2", f"{remote}/day1,S3"]
    units, samples = planned(home, *lines)
    assert [str(unit.plane.path) for unit in units[:2]] == [line.rpartition(",")[0] for line in lines[:2]]
    assert samples == [["S1", 1], ["S2", 1], ["S3", 2]]
    told = [text for unit in units for text in (unit.plane.image, unit.stem)]
    assert len(set(told)) == 8
    assert not any("sig" in text for text in told)
    assert not any("?" in unit.stem for unit in units)


@pytest.mark.parametrize("by_sheet", [True, False])
def test_no_password_or_key_is_in_the_results(
    by_sheet: bool, remote: str, home: Path, duo_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "bad.png").write_bytes(b"no image")
    login = remote.replace("http://", "http://joe:SECRET@")
    inputs = [f"{login}/day1", f"{login}/bad.png", f"{remote}/bad.png?token=SECRET", f"{remote}/day2/c.png?sig=SECRET"]
    sheet, out = home / "sheet.csv", home / "out"
    sheet.write_text("image,sample\n" + "".join(f"{name},S{i}\n" for i, name in enumerate(inputs)))
    given = ["--samples", str(sheet)] if by_sheet else inputs
    options = ["--bundle", str(duo_bundle), "--segmentation", "classical"]
    assert main(["score", *given, "--out", str(out), *options]) == 3
    written = [path for path in out.rglob("*") if path.is_file() and path.name != "run.json"]
    assert len(list(out.rglob("*_labels.tif"))) == 3
    assert any(path.parent.parent.name == "units" for path in written)
    assert not [path for path in written if "SECRET" in str(path) or b"SECRET" in path.read_bytes()]
    assert "SECRET" not in "".join(capsys.readouterr())
    assert "SECRET" in (out / "run.json").read_text()
    if by_sheet:
        samples = pd.read_csv(out / "samples.csv")
        assert samples[["sample", "images"]].to_numpy().tolist() == [["S0", 2], ["S3", 1]]


@pytest.mark.parametrize(
    "text",
    [
        "image,sample\n{0}/a.png?sig=SECRET,S1\n{0}/a.png?sig=SECRET,S2\n",
        "image,sample\n{0}/day1,S1\n{0}//day1,S2\n",
        "{0}/a.png?sig=SECRET,S1\n{0}/b.png?sig=SECRET,S1\n",
    ],
    ids=["twice", "the same place", "no header"],
)
def test_no_password_or_key_is_in_an_error(
    text: str, remote: str, home: Path, duo_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "sheet.csv").write_text(text.format(remote.replace("http://", "http://joe:SECRET@")))
    command = ["score", "--samples", str(home / "sheet.csv"), "--out", str(home / "out"), "--bundle", str(duo_bundle)]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert f"{remote}/" in said
    assert "SECRET" not in said


def test_a_name_may_be_copied_from_the_tables(home: Path) -> None:
    """Where it got an apostrophe so that no spreadsheet takes it for a formula."""
    Image.new("RGB", (24, 16)).save(home / "-ve.png")
    units, samples = planned(home, "'-ve.png,S1", "day2,S2")
    assert images_of(units) == ["-ve.png", "day2/c.png"]
    assert samples == [["S1", 1], ["S2", 1]]


@pytest.mark.parametrize("order", [("day1,S1", "day1/a.png,S2"), ("day1/a.png,S2", "day1,S1")])
def test_an_image_on_two_lines_is_scored_once_for_the_nearest(order: tuple[str, ...], home: Path) -> None:
    units, samples = planned(home, *order)
    assert images_of(units) == ["day1/a.png", "day1/b.png"]
    assert sorted(samples) == [["S1", 1], ["S2", 1]]


@pytest.mark.parametrize("swapped", [False, True])
def test_the_nearest_line_counts_however_places_are_written(swapped: bool, home: Path) -> None:
    lines = [f"{home.as_posix()},far", "day1/../day1,near", "day?/*.png,pattern"]
    units, samples = planned(home, *(lines[::-1] if swapped else lines))
    assert len(units) == 3
    assert sorted(samples) == [["far", 1], ["near", 2]]


@pytest.mark.parametrize(
    "lines",
    [
        ("plate.zarr/A/01,S1", "plate.zarr/A,S2", "plate.zarr,S3"),
        ("plate.zarr,S3", "plate.zarr/A,S2", "plate.zarr/A/01/0,S1"),
    ],
)
def test_planes_of_nested_lines_are_scored_once(lines: tuple[str, ...], plate: Path) -> None:
    units, samples = planned(plate.parent, *lines)
    assert images_of(units) == [f"plate.zarr/{field}/0" for field in ("A/01", "A/02", "B/01")]
    assert [unit.plane.well for unit in units] == ["A01", "A02", "B01"]
    assert [unit.number for unit in units] == [0, 1, 2]
    assert sorted(samples) == [["S1", 1], ["S2", 1], ["S3", 1]]


def test_a_line_stands_for_the_wells_of_a_row(plate: Path) -> None:
    """Whether it is a group, as `B` is, or a mere folder."""
    units, samples = planned(plate.parent, "plate.zarr/A,S1", "plate.zarr/B,S2")
    assert images_of(units) == [f"plate.zarr/{well}/0" for well in ("A/01", "A/02", "B/01")]
    assert samples == [["S1", 2], ["S2", 1]]


def test_a_group_that_is_no_row_is_not_searched(plate: Path) -> None:
    (plate / "B/.zattrs").rename(plate / ".zattrs")
    _, (failure,) = plan_units(listed_images(["plate.zarr/B"], plate.parent))
    assert "a zarr group without an OME-Zarr image" in failure.reason


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_file_is_found_whether_its_accent_is_a_character_of_its_own(forms: tuple[str, str], home: Path) -> None:
    line, name = (normalize(form, "größe.png") for form in forms)
    (home / "day1/a.png").rename(home / name)
    units, samples = planned(home, f"{line},S1", "day2,S2")
    assert images_of(units) == [line, "day2/c.png"]
    assert samples == [["S1", 1], ["S2", 1]]


def test_two_images_of_one_name_are_not_taken_for_each_other(plate: Path) -> None:
    other = shutil.copytree(plate, plate.parent / "other/plate.zarr")
    units, (failure,) = plan_units(find_images([plate, other / "A/01/0"]))
    assert len(units) == 3
    assert (failure.input, failure.stage) == ("plate.zarr/A/01/0", "open")
    assert failure.reason.startswith(f"{other / 'A/01/0'}: {plate / 'A/01/0'} has the same name in this run; score one")


def test_planes_of_nested_inputs_are_scored_once(plate: Path) -> None:
    units, _ = plan_units(find_images([plate, plate / "A/01"]))
    assert len(units) == 3


def test_one_place_on_two_lines_is_refused(home: Path, params: ScoreParams) -> None:
    text = f"image,sample\nday1/a.png,S1\n{(home / 'day1/a.png').as_posix()},S2\n"
    with pytest.raises(InputError, match=r"lists day1/a.png and .*/home/day1/a.png, which are the same place"):
        scored(home, text, params)
    assert not (home / "out").exists()


def test_results_stay_in_their_folder(home: Path, params: ScoreParams, smear: Callable[..., Pixels]) -> None:
    before = {path for path in home.parent.rglob("*") if path.is_file()}
    up = home.parent / "up.png"
    Image.fromarray(smear(1)).save(up)
    (home.parent / "__").mkdir()
    (home / "deep").mkdir()
    summary = scored(home / "deep", "image,sample\n../../up.png,S1\n../day1/,S2\n", params)
    assert (summary.planes, summary.failures) == (3, ())
    out = home / "deep" / "out"
    labels = sorted(path.relative_to(out).as_posix() for path in out.rglob("*_labels.tif"))
    assert labels == ["labels/__/__/up_labels.tif", "labels/__/day1/a_labels.tif", "labels/__/day1/b_labels.tif"]
    new = {path for path in home.parent.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(home / "deep") for path in new)
    assert pd.read_csv(out / "samples.csv")[["sample", "images"]].to_numpy().tolist() == [["S1", 1], ["S2", 2]]


def test_labels_of_a_run_are_found_again_by_the_names_that_it_wrote(home: Path, params: ScoreParams) -> None:
    """Though those of places above the sheet, or on servers, are not the images'."""
    (home / "deep").mkdir()
    (home / "deep/sheet.csv").write_text("image,sample\n../up.png,S1\n../day1,S2\n")
    output = OutputParams(samples=str(home / "deep/sheet.csv"))
    Image.new("RGB", (24, 16)).save(home / "up.png")
    first = score_batch([], home / "first", params, output)
    again = score_batch([], home / "again", params, replace(output, labels=str(home / "first/labels")))
    assert (first.planes, first.failures, again.planes, again.failures) == (3, (), 3, ())


def test_names_of_files_are_safe_and_differ(home: Path) -> None:
    up, a = home.parent / "up.png", home / "day1/a.png"
    files = [ImageFile(up, "../up.png"), ImageFile(a, "__/up.png"), ImageFile(home / "day1/b.png", f"{home}/x/b.png")]
    units, _ = plan_units(files)
    assert [unit.stem for unit in units] == ["___/up", "__/up", f"{home.as_posix().lstrip('/')}/x/b"]


def test_a_sheet_none_of_whose_images_can_be_opened(home: Path, params: ScoreParams) -> None:
    summary = scored(home, "image,sample\nnone.png,S1\nnowhere,S2\n", params)
    assert summary.planes == 0
    assert [(failure.input, failure.stage) for failure in summary.failures] == [
        ("none.png", "open"),
        ("nowhere", "open"),
    ]
    assert len(pd.read_csv(home / "out/samples.csv")) == 0
    assert not (home / "out/subjects.csv").exists()


@pytest.mark.parametrize(("line", "failures"), [("day1/a.png", 1), ("a.png", 0), ("elsewhere.png", 1)])
def test_a_sheet_that_names_no_image_of_the_run_is_told(
    home: Path, tmp_path: Path, params: ScoreParams, line: str, failures: int
) -> None:
    """An image that is named itself is called by its name alone."""
    (home / "sheet.csv").write_text(f"image,sample\n{line},S\n")
    output = OutputParams(samples=str(home / "sheet.csv"))
    summary = score_batch([home / "day1/a.png"], tmp_path / "out", params, output)
    assert (summary.planes, len(summary.failures)) == (1, failures)
    assert len(pd.read_csv(tmp_path / "out/samples.csv")) == 1 - failures
    if failures:
        assert summary.failures[0].input == str(home / "sheet.csv")
        assert "no line of the sample sheet names an image of this run" in summary.failures[0].reason


def test_lines_and_images_that_do_not_match_are_told(
    home: Path, tmp_path: Path, duo_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "sheet.csv").write_text("image,sample\nA.png,S\nb.png,S\ntypo.png,T\n")
    words = ["score", str(home / "day1"), "--samples", str(home / "sheet.csv"), "--segmentation", "classical"]
    assert main([*words, "--bundle", str(duo_bundle), "--out", str(tmp_path / "out")]) == 0
    said = "sample sheet: lines that name no image of this run: 2 (A.png, typo.png); images on no line: 1"
    assert said in capsys.readouterr().out.splitlines()


def test_a_well_is_named_from_its_plate_where_its_row_is_a_mere_folder(plate: Path) -> None:
    names = [file.image for file in find_images([plate / "A/01", plate / "A/02/0"])]
    assert names == ["plate.zarr/A/01", "plate.zarr/A/02/0"]
    units, _ = plan_units(find_images([plate, plate / "A/01"]))
    assert images_of(units) == ["plate.zarr/A/01/0", "plate.zarr/A/02/0", "plate.zarr/B/01/0"]


@pytest.mark.parametrize(("place", "fields"), [("", ["A/01/0", "A/02/0", "B/01/0"]), ("B", ["B/01/0"])])
def test_a_plate_and_a_row_are_the_same_from_within(
    plate: Path, monkeypatch: pytest.MonkeyPatch, place: str, fields: list[str]
) -> None:
    from_without, _ = plan_units(find_images([plate / place]))
    monkeypatch.chdir(plate / place)
    units, failures = plan_units(find_images(["."]))
    assert [unit.plane.path.resolve() for unit in units] == [plate / field for field in fields]
    assert (images_of(units), failures) == (images_of(from_without), [])


def test_a_field_has_the_same_name_from_any_working_directory(plate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, given in ((plate.parent, "plate.zarr/A/01/0"), (plate, "A/01/0"), (plate / "A/01", "0")):
        monkeypatch.chdir(folder)
        assert [file.image for file in find_images([given])] == ["plate.zarr/A/01/0"]
