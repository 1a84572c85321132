import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from napari_all_detect.table import IMAGE_COLUMNS, cell_columns, empty_cells, geometry, image_row, typed

# Word for word the contract of `cells.csv`.
BEFORE_MEMBERS = (
    "image, plane, label, y_px, x_px, bbox_y0, bbox_x0, bbox_y1, bbox_x1, area_px, diameter_px, eccentricity, "
    "solidity, y_um, x_um, area_um2, diameter_um, nc_ratio, nucleus_area_px, nucleus_lobes, p_all, p_hem, call, "
    "spread, votes_all, members_run, least_p_all, most_p_all"
)
AFTER_MEMBERS = "domain_distance, in_domain, flags, bundle, well, field"
IN_UM = ["y_um", "x_um", "area_um2", "diameter_um"]
TYPES = {"str": "object", "int64": "int64", "Int64": "Int64", "float32": "float32", "boolean": "boolean"}


@pytest.mark.parametrize("members", [[], ["vgg16"], ["xception", "vgg16", "mobilenet"]])
def test_columns_are_the_contract_in_its_order(members: list[str]) -> None:
    names = [column.name for column in cell_columns(members)]
    assert ", ".join(names) == ", ".join([BEFORE_MEMBERS, *(f"p_all_{m}" for m in members), AFTER_MEMBERS])
    assert list(empty_cells(members).columns) == names


def test_every_column_says_what_it_means_and_its_unit() -> None:
    for column in (*cell_columns(["vgg16"]), *IMAGE_COLUMNS):
        assert column.meaning
        assert column.dtype in TYPES
        assert column.unit == {"px": "px", "um": "um", "um2": "um2"}.get(column.name.rpartition("_")[2], column.unit)


@pytest.mark.parametrize("n", [0, 3])
def test_tables_have_all_columns_and_types_however_empty(n: int) -> None:
    columns = cell_columns(["vgg16"])
    values: dict[str, Any] = {c.name: 1 for c in columns if c.dtype == "int64"}
    table = typed(columns, values, n)
    assert len(table) == n
    assert {c.name: TYPES[c.dtype] for c in columns} == table.dtypes.astype(str).to_dict()
    assert table["p_all"].isna().all()
    assert table["in_domain"].isna().all()
    assert (table["flags"] == "").all()


def test_one_value_fills_all_rows() -> None:
    table = typed(cell_columns([]), {"image": "a.png", "label": np.arange(3)} | dict.fromkeys(INTEGERS, 0), 3)
    assert table["image"].tolist() == ["a.png"] * 3
    assert table["label"].tolist() == [0, 1, 2]


INTEGERS = ["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1", "area_px", "votes_all"]


def rectangles() -> np.ndarray:
    labels = np.zeros((20, 30), np.int32)
    labels[2:6, 3:13] = 1
    labels[10, 29] = 3
    return labels


def test_geometry_by_hand() -> None:
    columns = geometry(rectangles(), pixel_size_um=0.5)
    expected = {
        "label": [1, 3],
        "y_px": [3.5, 10],
        "x_px": [7.5, 29],
        "bbox_y0": [2, 10],
        "bbox_x0": [3, 29],
        "bbox_y1": [6, 11],
        "bbox_x1": [13, 30],
        "area_px": [40, 1],
        "diameter_px": [2 * math.sqrt(40 / math.pi), 2 * math.sqrt(1 / math.pi)],
        "eccentricity": [math.sqrt(1 - 16 / 100), 0],
        "solidity": [1, 1],
        "y_um": [1.75, 5],
        "x_um": [3.75, 14.5],
        "area_um2": [10, 0.25],
        "diameter_um": [math.sqrt(40 / math.pi), math.sqrt(1 / math.pi)],
    }
    assert columns.keys() == expected.keys()
    for name, values in expected.items():
        # skimage counts pixels as little squares, which makes the ellipse a trifle rounder.
        assert_allclose(columns[name], values, rtol=0.02 if name == "eccentricity" else 1e-6, err_msg=name)


def test_without_a_pixel_size_micrometres_are_empty() -> None:
    columns = geometry(rectangles(), None)
    assert not set(IN_UM) & set(columns)
    assert typed(cell_columns([]), columns | {"votes_all": 0}, 2)[IN_UM].isna().all(axis=None)


def lobed() -> tuple[np.ndarray, np.ndarray]:
    """Four cells: a lobed nucleus with grains beside it, a round one, none, and nothing but nucleus."""
    labels, nuclei = np.zeros((2, 40, 60), np.int32)
    labels[2:22, 2:22], labels[2:22, 30:50], labels[28:38, 2:12], labels[28:38, 30:40] = 1, 2, 4, 7
    nuclei[4:10, 4:10] = nuclei[4:10, 12:18] = nuclei[12:18, 4:10] = 1
    nuclei[20, 4:10] = nuclei[12, 12] = nuclei[14, 14] = 1
    nuclei[8:18, 36:46] = 2
    nuclei[28:38, 30:40] = 7
    return labels, nuclei


def test_nuclei_by_hand() -> None:
    labels, nuclei = lobed()
    columns = geometry(labels, None, nuclei)
    assert columns["label"].tolist() == [1, 2, 4, 7]
    assert columns["nucleus_area_px"].tolist() == [3 * 36 + 6 + 2, 100, 0, 100]
    assert columns["nucleus_lobes"].tolist() == [3, 1, 0, 1]
    assert_allclose(columns["nc_ratio"], [116 / 284, 100 / 300, np.nan, np.nan])


def test_lobes_that_meet_over_a_corner_are_two() -> None:
    labels = np.ones((12, 12), np.int32)
    nuclei = np.zeros((12, 12), np.int32)
    nuclei[2:5, 2:5] = nuclei[5:8, 5:8] = 1
    assert geometry(labels, None, nuclei)["nucleus_lobes"].tolist() == [2]


@pytest.mark.parametrize(("grain_px", "lobes"), [(9, 1), (10, 2)])
def test_a_lobe_is_a_tenth_of_the_nucleus(grain_px: int, lobes: int) -> None:
    labels = np.ones((20, 30), np.int32)
    nuclei = np.zeros((20, 30), np.int32)
    nuclei[2 : 2 + 9, 2 : 2 + 10] = 1
    nuclei[15, 2 : 2 + grain_px] = 1
    assert geometry(labels, None, nuclei)["nucleus_lobes"].tolist() == [lobes]


def test_nuclei_of_neighbours_are_apart() -> None:
    labels = np.repeat([[1, 2]], 10, axis=1).repeat(8, axis=0)
    columns = geometry(labels, None, labels)
    assert columns["nucleus_area_px"].tolist() == [80, 80]
    assert columns["nucleus_lobes"].tolist() == [1, 1]


def test_columns_of_nuclei_are_empty_unless_they_were_looked_for() -> None:
    named = ["nc_ratio", "nucleus_area_px", "nucleus_lobes"]
    columns = geometry(rectangles(), None)
    assert not set(named) & set(columns)
    table = typed(cell_columns([]), columns | {"votes_all": 0}, 2)
    assert table[named].isna().all(axis=None)
    assert table.dtypes.astype(str)[named].tolist() == ["float32", "Int64", "Int64"]
    with_nuclei = typed(cell_columns([]), geometry(rectangles(), None, rectangles()) | {"votes_all": 0}, 2)
    assert with_nuclei["nucleus_area_px"].tolist() == [40, 1]
    assert with_nuclei["nc_ratio"].isna().all()
    assert with_nuclei.dtypes.equals(table.dtypes)


def test_no_cells_have_no_nuclei() -> None:
    nothing = np.zeros((8, 8), np.int32)
    columns = geometry(nothing, None, nothing)
    pd.testing.assert_frame_equal(typed(cell_columns(["vgg16"]), columns, 0), empty_cells(["vgg16"]))


@pytest.mark.parametrize("labels", [np.ones((1, 1), int), np.ones((1, 7), int), np.eye(5, dtype=int)])
def test_cells_of_a_pixel_or_a_line_can_be_measured(labels: np.ndarray) -> None:
    columns = geometry(labels, 1.0)
    assert columns["area_px"].tolist() == [labels.sum()]
    assert all(np.isfinite(values).all() for values in columns.values())


@pytest.mark.parametrize("pixel_size_um", [None, 0.25])
def test_no_cells_measure_to_no_rows(pixel_size_um: float | None) -> None:
    columns = geometry(np.zeros((8, 8), np.int32), pixel_size_um)
    pd.testing.assert_frame_equal(typed(cell_columns(["vgg16"]), columns, 0), empty_cells(["vgg16"]))


FACTS = {"image": "a.png", "plane": "p1", "pixel_size_um": 0.25, "rescale": 0.5, "notes": "grey"}


def test_image_row_by_hand() -> None:
    cells = pd.DataFrame(
        {
            "call": ["ALL", "Hem", "ALL", "uncertain"],
            "p_all": np.array([0.9, 0.1, 0.8, 0.5], np.float32),
            "diameter_px": np.array([10, 20, 30, 60], np.float32),
            "in_domain": pd.array([True, False, None, False], "boolean"),
        }
    )
    row = image_row(cells, FACTS)
    assert list(row.columns) == [column.name for column in IMAGE_COLUMNS]
    assert {c.name: TYPES[c.dtype] for c in IMAGE_COLUMNS} == row.dtypes.astype(str).to_dict()
    figures = row.iloc[0].to_dict()
    assert {k: figures[k] for k in FACTS} == FACTS
    assert [figures[k] for k in ("cells", "all", "hem", "uncertain", "out_of_domain")] == [4, 2, 1, 1, 2]
    assert figures["fraction_all"] == pytest.approx(2 / 3)
    assert figures["mean_p_all"] == pytest.approx(2.3 / 4)
    assert figures["median_diameter_px"] == 25


def test_image_row_without_cells() -> None:
    row = image_row(empty_cells([]), FACTS | {"pixel_size_um": None})
    assert row.loc[0, ["cells", "all", "hem", "uncertain", "out_of_domain"]].tolist() == [0, 0, 0, 0, 0]
    empty = ["fraction_all", "mean_p_all", "median_diameter_px", "pixel_size_um"]
    assert row[empty].isna().all(axis=None)


def test_uncertain_cells_alone_have_no_fraction() -> None:
    cells = pd.DataFrame({"call": ["uncertain"], "p_all": np.float32([0.5]), "diameter_px": np.float32([9])})
    row = image_row(cells.assign(in_domain=pd.array([None], "boolean")), FACTS)
    assert row["out_of_domain"].isna().all()
    assert row["fraction_all"].isna().all()
    assert row["mean_p_all"].item() == 0.5
