import errno
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from napari_all_detect import atomic
from napari_all_detect.atomic import write_atomically
from napari_all_detect.errors import OutputError
from napari_all_detect.export.csv import csv_text
from napari_all_detect.results import (
    Failure,
    ResultTables,
    check_folder,
    locked_folder,
    prepare_folder,
    read_run,
    refuse_links,
    write_run,
)
from napari_all_detect.table import IMAGE_COLUMNS, cell_columns, empty_cells, image_row, typed

TABLES = ("cells.csv", "cells.parquet", "cells.h5ad", "images.csv", "samples.csv", "subjects.csv", "failures.csv")
FILES = (*TABLES, "run.json", "report.html")
FOLDERS = ("labels", "geojson", "ome-zarr", "units")


def plane(image: str, n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of a plane with `n` cells, as the pipeline makes them."""
    columns = cell_columns(["vgg16"])
    values: dict[str, Any] = {c.name: np.arange(n) for c in columns if c.dtype in ("int64", "float32")}
    values |= {"image": image, "plane": "0", "call": "ALL", "y_um": None}
    cells = typed(columns, values, n)
    return cells, image_row(cells, {"image": image, "plane": "0", "rescale": 1.0})


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_a_folder_with_any_results_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    for overwrite in (check_folder, prepare_folder):
        with pytest.raises(OutputError, match=f"holds results already \\({name}\\); name another folder or add --over"):
            overwrite(tmp_path, False)
    assert (tmp_path / name).exists()


def test_a_new_folder_is_made_with_its_parents_but_not_by_checking(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "results"
    check_folder(folder, False)
    assert not folder.exists()
    prepare_folder(folder, False)
    assert folder.is_dir()


def test_a_folder_with_other_files_is_taken(tmp_path: Path) -> None:
    (tmp_path / "smear.png").touch()
    prepare_folder(tmp_path, False)
    assert (tmp_path / "smear.png").exists()


def test_overwriting_removes_results_and_leaves_all_else(tmp_path: Path) -> None:
    in_folders = ["labels/a_labels.tif", "labels/day1/b_labels.tif", "geojson/a.geojson", "ome-zarr/d/a.zarr/0/c"]
    ours = [*FILES, *in_folders, "units/0000/000.json"]
    foreign = [
        "notes.txt",
        "cells.xlsx",
        "labels/hand_drawn.tif",
        "labels/day1/readme.txt",
        "old/cells.csv",
        "ome-zarr/a",
    ]
    for name in ours + foreign:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    prepare_folder(tmp_path, True)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(foreign)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_links_that_lead_results_elsewhere_are_refused(name: str, overwrite: bool, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    (out / name).symlink_to(elsewhere)
    with pytest.raises(OutputError, match=rf"{name} is a link, .*; name another folder or delete the link"):
        prepare_folder(out, overwrite)  # to nowhere
    (elsewhere / "mine_labels.tif").mkdir(parents=True)
    with pytest.raises(OutputError, match=rf"{name} is a link"):
        prepare_folder(out, overwrite)
    assert (elsewhere / "mine_labels.tif").exists()


@pytest.mark.parametrize("name", ["labels/day1", "geojson/day1/a", "ome-zarr/a.zarr", "units/0f"])
def test_links_within_folders_of_results_are_refused(name: str, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / name).parent.mkdir(parents=True)
    elsewhere.mkdir()
    (out / name).symlink_to(elsewhere)
    with pytest.raises(OutputError, match=rf"{name} is a link, .*; name another folder or delete the link"):
        refuse_links(out)


def test_an_output_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large disk")
    prepare_folder(tmp_path / "out", True)
    write_run(tmp_path / "out", {})
    assert (tmp_path / "large disk" / "run.json").is_file()


@pytest.mark.parametrize("needed", ["labels", "labels/day1", "images.csv"])
def test_what_the_run_reads_is_not_overwritten(needed: str, tmp_path: Path) -> None:
    (tmp_path / "labels" / "day1").mkdir(parents=True)
    (tmp_path / "images.csv").touch()
    with pytest.raises(OutputError, match="is among the results that would be replaced"):
        check_folder(tmp_path, True, [tmp_path / needed])
    check_folder(tmp_path, True, [tmp_path / "smears", tmp_path])


def test_containers_within_containers_are_replaced(tmp_path: Path) -> None:
    """As those of a plate's fields are."""
    (tmp_path / "ome-zarr/plate.zarr/A/01/0.zarr").mkdir(parents=True)
    prepare_folder(tmp_path, True)
    assert not any((tmp_path / "ome-zarr").iterdir())


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    with pytest.raises(OutputError, match="can't be written to"):
        prepare_folder(tmp_path / "results", False)


def test_tables_start_as_headers(tmp_path: Path) -> None:
    tables = ResultTables(tmp_path, ["vgg16"])
    assert (tmp_path / "cells.csv").read_text() == csv_text(empty_cells(["vgg16"]))
    assert (tmp_path / "images.csv").read_text() == ",".join(c.name for c in IMAGE_COLUMNS) + "\n"
    assert (tmp_path / "failures.csv").read_text() == "input,stage,reason\n"
    assert (tables.planes, tables.failures) == (0, [])


def test_tables_grow_with_each_plane(tmp_path: Path) -> None:
    tables = ResultTables(tmp_path, ["vgg16"])
    parts = [plane("a.png", 2), plane("empty.png", 0), plane("b.png", 3)]
    parts[0][0]["flags"] = ["out_of_domain", ""]
    parts[2][0]["flags"] = ["", "blurred;out_of_domain", "out_of_domain"]
    parts[0][1]["notes"], parts[1][1]["notes"] = "grey", "scaled to 8 bits;grey"
    for done, (cells, summary) in enumerate(parts, start=1):
        tables.add_plane(cells, summary)
        assert tables.planes == done
        for k, name in enumerate(("cells.csv", "images.csv")):
            header, *rows = [csv_text(parts[0][k][:0]), *(csv_text(part[k], header=False) for part in parts[:done])]
            assert (tmp_path / name).read_text() == header + "".join(rows)
    assert tables.counts == {"cells": 5, "all": 5, "hem": 0, "uncertain": 0, "out_of_domain": 3}
    assert tables.notes == {"grey": 2, "scaled to 8 bits": 1}


def test_failures_are_written_at_once(tmp_path: Path) -> None:
    tables = ResultTables(tmp_path, [])
    failure = Failure("=a, b.png", "read", "two\nlines")
    tables.add_failure(failure)
    assert tables.failures == [failure]
    back = pd.read_csv(tmp_path / "failures.csv")
    assert back.to_dict("list") == {"input": ["'=a, b.png"], "stage": ["read"], "reason": ["two\nlines"]}


def test_names_that_are_no_unicode_are_written_escaped(tmp_path: Path) -> None:
    """Linux takes any bytes as a file's name; Python shows the odd ones as lone surrogates."""
    ResultTables(tmp_path, []).add_failure(Failure("a\udcff.png", "open", "damaged"))
    assert pd.read_csv(tmp_path / "failures.csv")["input"].tolist() == ["a\\udcff.png"]


def test_a_file_that_cannot_be_written_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "taken" / "by a folder").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        write_atomically(tmp_path / "taken", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_full_disk_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*run\.json'"):
        write_atomically(tmp_path / "run.json", b"{}")
    assert not list(tmp_path.iterdir())


def test_an_error_without_a_number_keeps_its_words(tmp_path: Path) -> None:
    """As NumPy's of a full disk: with a file's name it would say nothing else."""
    with pytest.raises(OSError, match="12 requested and 4 written"), atomic.written_atomically(tmp_path / "a.npy"):
        raise OSError("12 requested and 4 written")


def test_a_file_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    for name in ("run.json", "run.json.part"):
        (tmp_path / name).symlink_to(tmp_path / "mine.txt")
    write_atomically(tmp_path / "run.json", b"{}")
    assert (tmp_path / "mine.txt").read_text() == "precious"
    assert (tmp_path / "run.json").read_text() == "{}"


def test_run_json_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for status in ("running", "complete"):
        run = {"status": status, "inputs": ["ä.png"], "parameters": {}, "bundle": {"digest": "12ab"}, "images": []}
        write_run(tmp_path, run)
        assert read_run(tmp_path / "run.json") == run
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "can't be read"),
        ("{", "can't be read"),
        ("[]", r"no record of a run: all of it is not valid \(Input should be a valid dictionary\)"),
        ('{"status": "x"}', r"no record of a run: inputs is not valid \(Field required\)"),
        ('{"status": "x", "inputs": [], "parameters": {}}', r"no record of a run: bundle is not valid \(Field"),
    ],
)
def test_what_is_no_record_of_a_run(text: str | None, said: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(OutputError, match=said):
        read_run(tmp_path / "run.json")


def test_a_second_run_is_kept_out(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with (
        locked_folder(folder),
        pytest.raises(OutputError, match=r"another run writes into .*new now"),
        locked_folder(folder),
    ):
        pass
    (folder / ".lock").write_text("another program's")
    with locked_folder(folder):
        pass
    assert [path.name for path in folder.iterdir()] == [".lock"]
