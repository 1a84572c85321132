"""CSV, and Parquet beside it."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from napari_all_detect.errors import MissingDependencyError
from napari_all_detect.export.csv import csv_text, unquoted, write_csv
from napari_all_detect.export.formats import check_formats
from napari_all_detect.export.parquet import write_parquet, write_parquet_parts
from napari_all_detect.table import cell_columns, empty_cells, typed

FLOAT32 = np.finfo(np.float32)
# What a file's name or a message may hold.
names = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=12)


def read_back(text: str, **dtypes: Any) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text, newline=""), dtype=dtypes, keep_default_na=False, na_values={"p": [""]})


@given(st.floats(width=32, allow_nan=False))
@example(float(FLOAT32.smallest_subnormal))
@example(float(FLOAT32.max))
@example(-0.0)
@example(float(np.float32(0.1)))
@example(1e-5)
@example(16777216.0)
def test_float32_reads_back_identical(value: float) -> None:
    number = np.float32(value)
    text = csv_text(pd.DataFrame({"p": np.array([number])}), header=False).removesuffix("\n")
    assert np.float32(text).tobytes() == number.tobytes()
    assert pd.read_csv(io.StringIO(f"p\n{text}\n"), dtype={"p": np.float64})["p"].astype(np.float32).item() == number


@given(st.floats(0, 1, width=32))
def test_float32_has_the_fewest_digits(value: float) -> None:
    text = csv_text(pd.DataFrame({"p": np.array([value], np.float32)}), header=False).strip()
    mantissa = text.partition("e")[0].lstrip("0.").replace(".", "").rstrip("0")
    assert len(mantissa) <= 9
    shorter = f"{np.float32(value):.{max(len(mantissa) - 2, 0)}e}"
    assert len(mantissa) <= 1 or np.float32(shorter) != np.float32(value)


def test_missing_values_are_empty_fields() -> None:
    values = {
        "image": "a.png",
        "label": [1, 2, 3],
        "y_um": np.array([np.nan, 2.5, 3]),
        "in_domain": [None, True, False],
    }
    columns = [column for column in cell_columns([]) if column.name in values]
    text = csv_text(typed(columns, values, 3))
    assert text == "image,label,y_um,in_domain\na.png,1,,\na.png,2,2.5,TRUE\na.png,3,3.0,FALSE\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_defused(start: str) -> None:
    table = pd.DataFrame({"image": [f"{start}cmd|'/c calc'!A1", f"safe{start}1"], "n": [-1, 2]})
    back = read_back(csv_text(table), image=str)
    kept = start.replace("\r", "\n")
    assert back["image"].tolist() == [f"'{kept}cmd|'/c calc'!A1", f"safe{kept}1"]
    assert back["n"].tolist() == [-1, 2]


@pytest.mark.parametrize("dtype", ["object", "string"])
def test_text_of_any_pandas_type_is_defused(dtype: str) -> None:
    assert csv_text(pd.DataFrame({"image": pd.Series(["=1"], dtype=dtype)})) == "image\n'=1\n"


@given(st.lists(names, min_size=1, max_size=4))
@example(['smear, "left".png', "zeile\numbruch", "血涂片 №1 é.tif", "'", ""])
@example(["-ve control.png", "'-ve.png", "''=1.png", "'a.png"])
def test_texts_read_back_and_none_is_a_formula(texts: list[str]) -> None:
    table = pd.DataFrame({"image": pd.Series(texts, dtype="object"), "label": range(len(texts))})
    back = read_back(csv_text(table), image=object)
    assert not back["image"].str.startswith(("=", "+", "-", "@", "\t")).any()
    assert back["image"].map(unquoted).tolist() == texts
    assert back["label"].tolist() == list(range(len(texts)))


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb"])
def test_a_carriage_return_makes_no_new_row(text: str) -> None:
    back = read_back(csv_text(pd.DataFrame({"image": [text], "label": [1]})))
    assert back.to_dict("list") == {"image": ["a\nb"], "label": [1]}


def test_an_empty_table_is_its_header() -> None:
    header = ",".join(column.name for column in cell_columns(["vgg16"]))
    assert csv_text(empty_cells(["vgg16"])) == f"{header}\n"
    assert csv_text(empty_cells(["vgg16"]), header=False) == ""


def test_the_file_is_utf8_with_newlines_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    write_csv(pd.DataFrame({"image": ["ä.png", "b"], "p": np.array([0.5, 1], np.float32)}), path)
    assert path.read_bytes() == "image,p\nä.png,0.5\nb,1.0\n".encode()


def cells() -> pd.DataFrame:
    columns = cell_columns(["vgg16"])
    values: dict[str, Any] = {c.name: 7 for c in columns if c.dtype == "int64"}
    values |= {"image": ["ä.png", "=1"], "p_all": [0.1, np.nan], "in_domain": [None, True]}
    return typed(columns, values, 2)


@pytest.mark.parametrize("table", [cells(), empty_cells(["vgg16"])], ids=["rows", "empty"])
def test_parquet_keeps_values_and_types(table: pd.DataFrame, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write_parquet(table, tmp_path / "cells.parquet")
    back = pd.read_parquet(tmp_path / "cells.parquet")
    pd.testing.assert_frame_equal(back.astype(table.dtypes), table)
    assert [d for d in back.dtypes if d == np.float32] == [d for d in table.dtypes if d == np.float32]


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for call in (lambda: check_formats(["parquet"]), lambda: write_parquet(cells(), tmp_path / "cells.parquet")):
        with pytest.raises(MissingDependencyError, match=r"pip install 'napari-all-detect\[parquet\]'"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("row_group", "groups"), [(1, 2), (2, 1), (100, 1)])
def test_parquet_in_parts_is_the_whole_table(row_group: int, groups: int, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    whole = cells()
    parts = [whole[:0], whole[:1], whole[1:1], whole[1:]]
    write_parquet_parts(iter(parts), tmp_path / "cells.parquet", row_group)
    back = pd.read_parquet(tmp_path / "cells.parquet")
    pd.testing.assert_frame_equal(back.astype(whole.dtypes), whole.reset_index(drop=True))
    with pq.ParquetFile(tmp_path / "cells.parquet") as file:
        assert file.metadata.num_row_groups == groups


def test_parquet_without_a_row_has_the_columns(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write_parquet_parts([empty_cells(["vgg16"])], tmp_path / "cells.parquet")
    back = pd.read_parquet(tmp_path / "cells.parquet")
    nothing = empty_cells(["vgg16"])
    pd.testing.assert_frame_equal(back.astype(nothing.dtypes), nothing)
