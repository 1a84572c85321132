"""Each format, read back by a reader of its own."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geojson
import numpy as np
import pandas as pd
import pytest
import shapely
import zarr
from numpy.typing import NDArray

from napari_all_detect.errors import InputError, MissingDependencyError
from napari_all_detect.export.colours import CALL_COLOURS, probability_colours
from napari_all_detect.export.formats import check_formats
from napari_all_detect.export.geojson import geojson_text, write_geojson
from napari_all_detect.export.h5ad import SHAPES, write_h5ad
from napari_all_detect.export.ome_zarr import NAME, LabelledPlane, add_labels, write_ome_zarr
from napari_all_detect.params import FORMATS, SegmentationParams
from napari_all_detect.segmentation import segment_cells
from napari_all_detect.sources import find_images, open_planes
from napari_all_detect.table import cell_columns, empty_cells, geometry, typed

MEMBERS = ["vgg16", "mobilenet"]
Pixels = NDArray[np.uint8]
Labels = NDArray[np.int32]


@pytest.fixture(scope="module")
def rgb(smear: Callable[..., Pixels]) -> Pixels:
    return smear(3, (256, 256), 12)


@pytest.fixture(scope="module")
def found(rgb: Pixels) -> tuple[Labels, Labels | None]:
    return segment_cells(rgb, SegmentationParams(method="classical"), nuclei=True)


@pytest.fixture(scope="module")
def labels(found: tuple[Labels, Labels]) -> Labels:
    return found[0]


@pytest.fixture(scope="module")
def nuclei(found: tuple[Labels, Labels]) -> Labels:
    return found[1]


def table_of(labels: Labels, nuclei: Labels | None = None, pixel_size_um: float | None = None) -> pd.DataFrame:
    """Make the rows of a plane, with scores that differ."""
    columns = geometry(labels, pixel_size_um, nuclei)
    n = len(columns["label"])
    p_all = np.random.default_rng(0).random((n, 3)).astype(np.float32)
    columns |= {"image": "a.png", "plane": "0", "votes_all": 1, "spread": p_all.std(axis=1), "bundle": "b-1"}
    columns |= {"p_all": p_all[:, 0], "p_hem": 1 - p_all[:, 0], "call": np.where(p_all[:, 0] < 0.5, "Hem", "ALL")}
    columns |= {f"p_all_{name}": p_all[:, k + 1] for k, name in enumerate(MEMBERS)}
    return typed(cell_columns(MEMBERS), columns, n)


@pytest.fixture(scope="module")
def cells(labels: Labels, nuclei: Labels) -> pd.DataFrame:
    return table_of(labels, nuclei, 0.25)


def test_colours_run_from_hem_to_all_in_256_steps() -> None:
    many = probability_colours(np.linspace(0, 1, 100_000, dtype=np.float32))
    assert len(np.unique(many, axis=0)) <= 256
    assert tuple(many[0]) == CALL_COLOURS["Hem"]
    assert tuple(many[-1]) == CALL_COLOURS["ALL"]
    assert (np.diff(many[:, 0].astype(int)) >= 0).all()  # ever redder


class TestGeojson:
    def test_outlines_lie_where_the_cells_lie(self, cells: pd.DataFrame, labels: Labels, nuclei: Labels) -> None:
        features = json.loads(geojson_text(cells, labels, nuclei))["features"]
        assert len(features) == len(cells) > 4
        for feature, (_, row) in zip(features, cells.iterrows(), strict=True):
            cell, nucleus = (shapely.geometry.shape(feature[name]) for name in ("geometry", "nucleusGeometry"))
            assert cell.is_valid
            assert nucleus.is_valid
            # The path through the middles of edges cuts an eighth off each corner, four more outer than inner ones.
            assert cell.area == row["area_px"] - 0.5
            assert cell.exterior.is_ccw
            assert cell.bounds == (row["bbox_x0"], row["bbox_y0"], row["bbox_x1"], row["bbox_y1"])
            assert abs(cell.centroid.x - 0.5 - row["x_px"]) < 0.02
            assert abs(cell.centroid.y - 0.5 - row["y_px"]) < 0.02
            assert nucleus.area == pytest.approx(row["nucleus_area_px"], abs=0.5 * row["nucleus_lobes"] + 3)
            assert cell.contains(nucleus.buffer(-0.6))

    def test_a_reader_of_its_own_takes_it(self, cells: pd.DataFrame, labels: Labels, tmp_path: Path) -> None:
        write_geojson(cells, labels, tmp_path / "new" / "a.geojson")
        back = geojson.loads((tmp_path / "new" / "a.geojson").read_text(encoding="utf-8"))
        assert isinstance(back, geojson.FeatureCollection)
        assert back.is_valid
        for feature, (_, row) in zip(back.features, cells.iterrows(), strict=True):
            assert feature.properties["objectType"] == "cell"
            assert feature.properties["classification"] == {
                "name": row["call"],
                "color": list(CALL_COLOURS[row["call"]]),
            }
            measured = feature.properties["measurements"]
            assert {"domain_distance", "in_domain", "image", "call"}.isdisjoint(measured)
            for name in ("label", "area_px", "p_all", "p_all_vgg16", "diameter_um", "nucleus_lobes"):
                assert np.float32(measured[name]) == np.float32(row[name])
            assert "nucleusGeometry" not in feature

    @pytest.mark.parametrize(
        ("plane", "place"),
        [
            ("0", None),
            ("p3", None),
            ("t0_z0", None),
            ("z4", {"c": -1, "z": 4, "t": 0}),
            ("t2_z11", {"c": -1, "z": 11, "t": 2}),
        ],
    )
    def test_outlines_lie_on_the_plane_of_their_stack(
        self, cells: pd.DataFrame, labels: Labels, nuclei: Labels, plane: str, place: dict[str, int] | None
    ) -> None:
        """As QuPath writes a place other than the first; it reads no other."""
        for feature in json.loads(geojson_text(cells.assign(plane=plane), labels, nuclei))["features"]:
            assert feature["geometry"].get("plane") == feature["nucleusGeometry"].get("plane") == place

    def test_what_is_no_measurement_is_metadata(self, cells: pd.DataFrame, labels: Labels) -> None:
        cells = cells.assign(flags="blurred;merged", in_domain=pd.array([True] * len(cells), "boolean"))
        for feature, (_, row) in zip(
            json.loads(geojson_text(cells, labels))["features"], cells.iterrows(), strict=True
        ):
            told = {"image": row["image"], "plane": row["plane"], "bundle": row["bundle"]}
            assert feature["properties"]["metadata"] == told | {"flags": "blurred;merged", "in_domain": "True"}
            assert all(isinstance(value, (int, float)) for value in feature["properties"]["measurements"].values())

    def test_parts_that_touch_by_a_corner_and_holes(self) -> None:
        labels = np.zeros((14, 14), np.int32)
        labels[1:8, 1:8] = 1
        labels[3:5, 3:5] = 0  # a hole, with a piece of another cell in it
        labels[3, 3] = 2
        labels[8:10, 8:10] = 1  # touches at a corner
        labels[12, 0] = 3
        cells = typed(cell_columns([]), {"label": [1, 2, 3], "call": "Hem", **dict.fromkeys(WHOLE, 0)}, 3)
        one, two, three = json.loads(geojson_text(cells, labels))["features"]
        shape = shapely.geometry.shape(one["geometry"])
        assert (shape.geom_type, len(shape.geoms), shape.is_valid) == ("MultiPolygon", 2, True)
        assert shape.area == 49 - 0.5 - (4 - 0.5) + 4 - 0.5
        assert [len(part.interiors) for part in shape.geoms] == [1, 0]
        assert shapely.geometry.shape(two["geometry"]).bounds == (3, 3, 4, 4)
        assert shapely.geometry.shape(three["geometry"]).bounds == (0, 12, 1, 13)

    def test_a_ring_within_a_ring(self) -> None:
        labels = np.ones((9, 9), np.int32)
        labels[1:8, 1:8] = 0
        labels[2:7, 2:7] = 1
        labels[4, 4] = 0
        (cell,) = json.loads(geojson_text(pd.DataFrame({"label": [1], "call": ["ALL"]}), labels))["features"]
        shape = shapely.geometry.shape(cell["geometry"])
        assert shape.is_valid
        assert [len(part.interiors) for part in shape.geoms] == [1, 1]
        assert shape.contains(shapely.Point(2.5, 2.5))
        assert not shape.intersects(shapely.Point(4.5, 4.5))

    def test_outlines_of_a_coarser_level(self) -> None:
        labels, nuclei = np.zeros((2, 16, 16), np.int32)
        labels[2:10, 2:12] = nuclei[4:8, 4:8] = 1
        text = geojson_text(pd.DataFrame({"label": [1], "call": ["ALL"]}), labels, nuclei, downsample=2.0)
        (cell,) = json.loads(text)["features"]
        assert shapely.geometry.shape(cell["geometry"]).bounds == (4, 4, 24, 20)
        assert shapely.geometry.shape(cell["nucleusGeometry"]).bounds == (8, 8, 16, 16)

    @pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:The 'future.infer_string' option")
    @pytest.mark.parametrize("texts_of_pandas_3", [False, True])
    def test_numbers_have_the_digits_of_their_type_and_what_is_missing_is_left_out(
        self, texts_of_pandas_3: bool
    ) -> None:
        labels = np.array([[1, 2]])
        values = {"label": [1, 2], "image": "é.png", "call": ["ALL", "Hem"], **dict.fromkeys(WHOLE, 3)}
        values |= {
            "p_all": [0.1, 1e-7],
            "spread": [np.nan, 0.0],
            "members_run": [pd.NA, 5],
            "in_domain": [pd.NA, False],
        }
        cells = typed(cell_columns([]), values, 2)[
            ["label", "image", "call", "p_all", "spread", "members_run", "in_domain"]
        ]
        with pd.option_context("future.infer_string", texts_of_pandas_3):
            text = geojson_text(cells.assign(image=cells["image"].tolist()), labels)
        one, two = (feature["properties"] for feature in json.loads(text)["features"])
        assert json.dumps(one["measurements"]) == '{"label": 1, "p_all": 0.1}'
        assert json.dumps(two["measurements"]) == '{"label": 2, "p_all": 1e-07, "spread": 0.0, "members_run": 5}'
        assert (one["metadata"], two["metadata"]) == ({"image": "é.png"}, {"image": "é.png", "in_domain": "False"})

    def test_the_whole_file(self) -> None:
        cells = pd.DataFrame({"label": [1], "plane": ["z2"], "call": ["ALL"], "p_all": np.array([0.75], np.float32)})
        ring = "[[1.5,1.0],[1.0,0.5],[1.5,0.0],[2.0,0.5],[1.5,1.0]]"
        assert geojson_text(cells, np.array([[0, 1]])) == (
            '{"type":"FeatureCollection","features":[{"type":"Feature","geometry":{"type":"Polygon","coordinates":'
            f'[{ring}],"plane":{{"c":-1,"z":2,"t":0}}}},"properties":{{"objectType":"cell","name":"1",'
            '"classification":{"name":"ALL","color":[213,94,0]},"measurements":{"label":1,"p_all":0.75},'
            '"metadata":{"plane":"z2"}}}]}\n'
        )

    @pytest.mark.parametrize("number", [2, 7])
    def test_labels_that_lack_a_cell_are_refused(self, number: int) -> None:
        cells = pd.DataFrame({"label": [1, number], "call": "ALL", "p_all": 0.75})
        with pytest.raises(InputError, match=r"1 of 2 cells are not in their labels"):
            geojson_text(cells, np.array([[1, 1, 0, 3]]))

    def test_no_cells(self) -> None:
        text = geojson_text(empty_cells(MEMBERS), np.zeros((8, 8), np.int32))
        assert json.loads(text) == {"type": "FeatureCollection", "features": []}


WHOLE = [column.name for column in cell_columns([]) if column.dtype == "int64" and column.name != "label"]


class TestH5ad:
    def test_anndata_reads_all_of_the_table(self, cells: pd.DataFrame, tmp_path: Path) -> None:
        anndata = pytest.importorskip("anndata")
        write_h5ad(cells, tmp_path / "cells.h5ad")
        back = anndata.read_h5ad(tmp_path / "cells.h5ad")
        assert back.obs_names.tolist() == [f"a.png/0/{n}" for n in cells["label"]]
        assert back.var_names.tolist() == list(SHAPES)
        np.testing.assert_array_equal(back.X, cells[list(SHAPES)].to_numpy(np.float32))
        np.testing.assert_array_equal(back.obsm["spatial"], cells[["x_px", "y_px"]])
        np.testing.assert_array_equal(back.obsm["members"], cells[["p_all_vgg16", "p_all_mobilenet"]])
        assert back.uns["members"].tolist() == MEMBERS
        left = [name for name in cells if name not in SHAPES and not name.startswith("p_all_")]
        assert list(back.obs) == left
        for name in left:
            assert back.obs[name].astype(object).where(back.obs[name].notna(), None).tolist() == (
                cells[name].astype(object).where(cells[name].notna(), None).tolist()
            )

    def test_columns_without_any_value_are_no_variables(self, labels: Labels, tmp_path: Path) -> None:
        anndata = pytest.importorskip("anndata")
        write_h5ad(table_of(labels), tmp_path / "cells.h5ad")
        names = anndata.read_h5ad(tmp_path / "cells.h5ad").var_names.tolist()
        assert names == ["area_px", "diameter_px", "eccentricity", "solidity"]

    def test_no_cells(self, tmp_path: Path) -> None:
        anndata = pytest.importorskip("anndata")
        write_h5ad(empty_cells(MEMBERS), tmp_path / "cells.h5ad")
        assert anndata.read_h5ad(tmp_path / "cells.h5ad").shape == (0, len(SHAPES))


class TestOmeZarr:
    def test_ngio_reads_image_labels_and_table(
        self, rgb: Pixels, labels: Labels, cells: pd.DataFrame, tmp_path: Path
    ) -> None:
        ngio = pytest.importorskip("ngio")
        write_ome_zarr(rgb, labels, cells, tmp_path / "a.zarr", 0.25)
        container = ngio.open_ome_zarr_container(tmp_path / "a.zarr")
        np.testing.assert_array_equal(container.get_image().get_as_numpy(), np.moveaxis(rgb, 2, 0))
        assert container.get_image().pixel_size.yx == (0.25, 0.25)
        np.testing.assert_array_equal(container.get_label(NAME).get_as_numpy(), labels)
        table = container.get_feature_table(NAME)
        assert table.reference_label == NAME
        back = table.dataframe
        assert back.index.tolist() == cells["label"].tolist()
        for name in cells.columns.drop("label"):
            if str(cells[name].dtype) not in ("Int64", "boolean"):
                assert back[name].dtype == cells[name].dtype
                np.testing.assert_array_equal(back[name], cells[name])
        assert back["nucleus_lobes"].tolist() == cells["nucleus_lobes"].tolist()
        assert back["in_domain"].isna().all()

    def test_ome_zarr_reads_image_labels_colours_and_properties(
        self, rgb: Pixels, labels: Labels, cells: pd.DataFrame, tmp_path: Path
    ) -> None:
        pytest.importorskip("ome_zarr")
        from ome_zarr.io import parse_url
        from ome_zarr.reader import Reader

        write_ome_zarr(rgb, labels, cells, tmp_path / "a.zarr", 0.25)
        image, _, drawn = Reader(parse_url(tmp_path / "a.zarr"))()
        np.testing.assert_array_equal(np.asarray(image.data[0]), np.moveaxis(rgb, 2, 0))
        np.testing.assert_array_equal(np.asarray(drawn.data[0]).squeeze(), labels)
        assert image.metadata["coordinateTransformations"][0][0]["scale"][-2:] == [0.25, 0.25]
        found = drawn.metadata["color"]
        expected = probability_colours(cells["p_all"]) / 255
        np.testing.assert_allclose([found[label][:3] for label in cells["label"]], expected)
        properties = drawn.metadata["properties"]
        assert [np.float32(properties[label]["p_all"]) for label in cells["label"]] == cells["p_all"].tolist()

    def test_the_specification_is_kept(self, rgb: Pixels, labels: Labels, cells: pd.DataFrame, tmp_path: Path) -> None:
        from ome_zarr_models.v05 import Image, ImageLabel

        write_ome_zarr(rgb, labels, cells, tmp_path / "a.zarr", 0.25)
        Image.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
        label = ImageLabel.from_zarr(zarr.open_group(tmp_path / "a.zarr" / "labels" / NAME, mode="r"))
        of_label = label.ome_attributes.image_label
        assert of_label.source.image == "../../"
        colours = {colour.label_value: tuple(colour.rgba) for colour in of_label.colors}
        expected = [(*colour, 255) for colour in probability_colours(cells["p_all"]).tolist()]
        assert colours == dict(zip(cells["label"], expected, strict=True))
        properties = of_label.properties
        assert [row.label_value for row in properties] == cells["label"].tolist()
        dumped = [row.model_dump() for row in properties]
        assert [np.float32(row["p_all"]) for row in dumped] == cells["p_all"].tolist()
        for name in ("call", "flags"):
            assert [row[name] for row in dumped] == cells[name].tolist()

    def test_our_own_reader_gets_the_plane_back(
        self, rgb: Pixels, labels: Labels, cells: pd.DataFrame, tmp_path: Path
    ) -> None:
        for name, size in (("known", 0.25), ("unknown", None)):
            write_ome_zarr(rgb, labels, cells, tmp_path / f"{name}.zarr", size)
            (plane,) = open_planes(find_images([tmp_path / f"{name}.zarr"])[0])
            np.testing.assert_array_equal(plane.read().rgb, rgb)
            assert plane.pixel_size_um == size

    @pytest.mark.parametrize(("pixel_size_um", "unit"), [(0.25, "micrometer"), (None, None)])
    def test_channels_and_axes_are_described(
        self,
        rgb: Pixels,
        labels: Labels,
        cells: pd.DataFrame,
        tmp_path: Path,
        pixel_size_um: float | None,
        unit: str | None,
    ) -> None:
        write_ome_zarr(rgb, labels, cells, tmp_path / "a.zarr", pixel_size_um)
        image, label = (
            json.loads((tmp_path / "a.zarr" / group / "zarr.json").read_text())["attributes"]["ome"]
            for group in ("", f"labels/{NAME}")
        )
        for attributes in (image, label):
            axes = attributes["multiscales"][0]["axes"]
            assert [axis.get("unit") for axis in axes if axis["name"] in "yx"] == [unit, unit]
        channels = image["omero"]["channels"]
        assert [channel["color"] for channel in channels] == ["FF0000", "00FF00", "0000FF"]
        for channel in channels:
            assert channel["window"] == {"start": 0, "end": 255, "min": 0, "max": 255}

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_labels_of_a_stack_are_one_numbering(
        self, labels: Labels, cells: pd.DataFrame, tmp_path: Path, version: str
    ) -> None:
        ngio = pytest.importorskip("ngio")
        labels, cells = 3 * labels, cells.assign(label=3 * cells["label"])  # numbers that are given may have gaps
        store, n = tmp_path / "stack.zarr", int(labels.max())
        pixels = np.zeros((2, 3, 2, *labels.shape), np.uint8)
        ngio.create_ome_zarr_from_array(
            store, pixels, pixelsize=0.25, axes_names=list("tczyx"), ngff_version=version, consolidation_mode="auto"
        )
        places = [{"t": t, "z": z} for t in range(2) for z in range(2)]
        empty = LabelledPlane(places[1], np.zeros_like(labels), empty_cells(MEMBERS))
        planes = [LabelledPlane(place, labels, cells) for place in places]
        for _ in range(2):  # the second time replaces what the first wrote
            add_labels(store, [planes[0], empty, *planes[2:]])
        container = ngio.open_ome_zarr_container(store)
        written = container.get_label(NAME).get_as_numpy()
        assert written.shape == (2, 2, *labels.shape)
        for place, before in zip(places, (0, None, n, 2 * n), strict=True):
            expected = np.where(labels > 0, labels + before, 0) if before is not None else 0 * labels
            np.testing.assert_array_equal(written[place["t"], place["z"]], expected)
        back = container.get_feature_table(NAME).dataframe
        assert back.index.tolist() == list(range(3, 3 * n + 1, 3))
        assert back["label_in_plane"].tolist() == cells["label"].tolist() * 3
        assert container.list_labels() == [NAME]

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    @pytest.mark.parametrize("units", [{}, {"y": "nanometer", "x": "nanometer"}, {"t": "minute", "z": "micrometer"}])
    def test_axes_of_labels_have_the_units_of_the_image(
        self, labels: Labels, cells: pd.DataFrame, tmp_path: Path, version: str, units: dict[str, str]
    ) -> None:
        ngio = pytest.importorskip("ngio")
        pixels = np.zeros((1, 3, 1, *labels.shape), np.uint8)
        ngio.create_ome_zarr_from_array(
            tmp_path / "a.zarr", pixels, pixelsize=1, axes_names=list("tczyx"), ngff_version=version, levels=1
        )
        group = zarr.open_group(tmp_path / "a.zarr")
        attributes: dict[str, Any] = group.attrs.asdict()
        for axis in attributes.get("ome", attributes)["multiscales"][0]["axes"]:
            axis.pop("unit", None)
            axis |= {"unit": units[axis["name"]]} if axis["name"] in units else {}
        group.attrs.put(attributes)
        add_labels(tmp_path / "a.zarr", [LabelledPlane({"t": 0, "z": 0}, labels, cells)])
        attributes = zarr.open_group(tmp_path / "a.zarr", path=f"labels/{NAME}", mode="r").attrs.asdict()
        axes = attributes.get("ome", attributes)["multiscales"][0]["axes"]
        assert [axis["name"] for axis in axes] == list("tzyx")
        assert {axis["name"]: axis["unit"] for axis in axes if "unit" in axis} == units

    @pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part:zarr.errors.ZarrUserWarning")
    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_consolidated_metadata_are_renewed(
        self, labels: Labels, cells: pd.DataFrame, tmp_path: Path, version: str
    ) -> None:
        ngio = pytest.importorskip("ngio")
        store, ours = tmp_path / "a.zarr", [f"labels/{NAME}/0", f"tables/{NAME}"]
        pixels = np.zeros((3, *labels.shape), np.uint8)
        ngio.create_ome_zarr_from_array(
            store, pixels, pixelsize=0.25, axes_names=list("cyx"), ngff_version=version, levels=1
        )
        zarr.consolidate_metadata(store)
        for rows in (cells[:1], cells):
            add_labels(store, [LabelledPlane({}, labels, rows)])
            root = zarr.open_group(store, mode="r")
            assert [name in root for name in ours] == [True, True]
            inner: Any = root[f"labels/{NAME}"].attrs.asdict()
            assert len(inner.get("ome", inner)["image-label"]["colors"]) == len(rows)
        with pytest.raises(ZeroDivisionError):
            add_labels(store, (1 / 0 for _ in range(1)))
        root = zarr.open_group(store, mode="r")
        assert root.metadata.consolidated_metadata is not None
        assert [name in root for name in ours] == [False, False]

    def test_labels_of_a_coarser_level(self, labels: Labels, cells: pd.DataFrame, tmp_path: Path) -> None:
        ngio = pytest.importorskip("ngio")
        height, width = labels.shape
        pixels = np.zeros((3, 2 * height, 2 * width), np.uint8)
        ngio.create_ome_zarr_from_array(
            tmp_path / "a.zarr", pixels, pixelsize=0.25, axes_names=list("cyx"), levels=2, consolidation_mode="auto"
        )
        add_labels(tmp_path / "a.zarr", [LabelledPlane({}, labels, cells)], level="1")
        label = ngio.open_ome_zarr_container(tmp_path / "a.zarr").get_label(NAME)
        np.testing.assert_array_equal(label.get_as_numpy(), labels)
        assert label.pixel_size.yx == (0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("parquet", "pyarrow", "parquet"), ("h5ad", "anndata", "h5ad"), ("ome-zarr", "ngio", "ome-zarr")],
)
def test_what_is_missing_is_named(name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"{name}.* needs {package}: pip install '.*\[{extra}\]'"):
        check_formats(["csv", name])
    check_formats(set(FORMATS) - {name})
