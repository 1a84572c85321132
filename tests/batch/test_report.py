"""The report: what it says, and how a browser takes it."""

import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect import retrying
from napari_all_detect.batch import BatchProgress, reporting, score_batch
from napari_all_detect.errors import StoreError
from napari_all_detect.export.colours import probability_colours
from napari_all_detect.export.report import Report, report_html
from napari_all_detect.params import OutputParams, ReadParams, ScoreParams, SegmentationParams
from napari_all_detect.sources import Plane

pytestmark = pytest.mark.usefixtures("reuse_engines")

Pixels = NDArray[np.uint8]
PHONE_PX = 390
THRESHOLD = 0.8
COLOURS = {"ALL": "#d55e00", "Hem": "#0072b2", "uncertain": "#7f7f7f"}


@pytest.fixture(scope="module")
def unsure(tmp_path_factory: pytest.TempPathFactory, duo_bundle: Path) -> Path:
    """A bundle that calls the middle cells uncertain, and whose threshold is far from 0.5."""
    folder = Path(shutil.copytree(duo_bundle, tmp_path_factory.mktemp("unsure") / "duo"))
    facts = json.loads((folder / "bundle.json").read_text())
    bounds = {"least_all": [0.595], "most_hem": [0.71]}
    rates = {"error_rate_all": 0.05, "error_rate_hem": 0.05, "n_all": 40, "n_hem": 40, "rates": [0.05]}
    facts["ensemble"] |= {"threshold": THRESHOLD, "conformal": rates | {"bounds": {"kappa": bounds}}}
    (folder / "bundle.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, unsure: Path, smear: Callable[..., Pixels]) -> Path:
    """A run with a plate, samples, a failure, and names that are HTML."""
    ngio = pytest.importorskip("ngio")
    folder = tmp_path_factory.mktemp("report")
    wells = [("A", "01", "0"), ("A", "02", "0"), ("B", "02", "0")]
    images = [ngio.ImageInWellPath(row=row, column=column, path=field) for row, column, field in wells]
    plate = ngio.create_empty_plate(folder / "plate.zarr", name="p", images=images)
    for seed, (row, column, field) in enumerate(wells):
        pixels = np.ascontiguousarray(np.moveaxis(smear(seed), 2, 0))
        options = {"pixelsize": 0.25, "axes_names": list("cyx"), "levels": 1, "consolidation_mode": "auto"}
        ngio.create_ome_zarr_from_array(plate.get_image_store(row, column, field), pixels, **options)
    Image.fromarray(smear(7)).save(folder / "<b>&.png")
    (folder / "<script>alert(1).png").touch()
    (folder / "sheet.csv").write_text("image,sample\nplate.zarr/A,<i>one\nplate.zarr/B,two\n")
    params = ScoreParams(bundle=str(unsure), segmentation=SegmentationParams(method="classical"))
    inputs = [folder / "plate.zarr", folder / "<b>&.png", folder / "<script>alert(1).png"]
    score_batch(inputs, folder / "out", params, OutputParams(samples=str(folder / "sheet.csv")))
    return folder / "out"


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return (results / "report.html").read_text(encoding="utf-8")


def css(p_all: float) -> str:
    return f"#{probability_colours([p_all]).tobytes().hex()}"


def test_it_says_what_the_tables_say(results: Path, page: str) -> None:
    cells, images = pd.read_csv(results / "cells.csv"), pd.read_csv(results / "images.csv")
    calls = cells["call"].value_counts()
    assert len(set(calls)) == len(COLOURS)  # or nobody could tell which is which
    assert {name: value for value, name in re.findall(r"<div><b>([^<]*)</b>([^<]*)</div>", page)} == {
        "images": "4",
        "cells": str(len(cells)),
        **{call: str(calls[call]) for call in COLOURS},
        "ALL of called": f"{calls['ALL'] / (calls['ALL'] + calls['Hem']):.1%}",
        "out of domain": "unknown",  # this bundle has no domain
        "failed": "1",
    }
    assert "kappa, threshold 0.8" in page
    assert "Hem below 0.595, ALL above 0.710, uncertain between them" in page
    in_wells = images.dropna(subset="well")
    assert (in_wells["uncertain"] > 0).any()
    for row in in_wells.itertuples():
        fraction = row.all / (row.all + row.hem)
        colour = f"background:{css(fraction)};color:#fff"
        assert f'<td style="{colour}" title="{row.cells} cells">{fraction:.0%}</td>' in page
    for name, n in cells["flags"].dropna().str.split(";").explode().value_counts().items():
        assert f'<td class="">{name}</td><td class="n">{n}</td>' in page
    assert page.count("For research use only. Not for diagnosis or any clinical decision.") == 2


def test_histograms_show_each_call_in_its_colour(results: Path, page: str) -> None:
    calls = pd.read_csv(results / "cells.csv")["call"].value_counts()
    histograms = re.findall(r"<figure><svg.*?</svg>", page)
    assert len(histograms) == 2
    for histogram in histograms:
        bars = re.findall(r'fill="(#\w+)"><title>(\d+) (\w+)</title>', histogram)
        drawn = {call: sum(int(n) for _, n, name in bars if name == call) for call in COLOURS}
        assert drawn == calls.to_dict()
        assert {call: colour for colour, _, call in bars} == COLOURS


def test_cells_are_counted_by_call_within_the_edges() -> None:
    random = np.random.default_rng(0)
    p_all = [0.0, 0.05, 0.5, 1.0, *random.random(196)]
    diameter_px = [3.0, 8.0, 512.0, 700.0, *random.uniform(10, 90, 196)]
    cells = pd.DataFrame({"call": random.choice([*COLOURS], 200), "p_all": p_all, "diameter_px": diameter_px})
    counted = {
        column: {call: np.ones(len(edges) - 1, np.int64) for call in COLOURS}
        for column, (*_, edges) in reporting.HISTOGRAMS.items()
    }
    reporting._count(counted, cells)
    for column, (*_, edges) in reporting.HISTOGRAMS.items():
        for call, own in cells.groupby("call")[column]:
            expected, _ = np.histogram(np.clip(own, edges[0], edges[-1]), edges)
            np.testing.assert_array_equal(counted[column][call], 1 + expected)


def test_galleries_show_the_ends_and_the_middle(results: Path, page: str) -> None:
    cells = pd.read_csv(results / "cells.csv")
    sections = dict(re.findall(r"<section><h2>([^<]*)</h2>(.*?)</section>", page, re.DOTALL))
    p_all = cells["p_all"]
    for title, order in {
        "Highest P(ALL)": -p_all,
        "Lowest P(ALL)": p_all,
        "Least certain": (p_all - THRESHOLD).abs(),
    }.items():
        shown = re.findall(r"<b>([\d.]*)</b> ±.*?#(\d+)", sections[title], re.DOTALL)
        best = cells.loc[order.sort_values(kind="stable").index[:12]]
        assert [number for number, _ in shown] == [f"{p:.3f}" for p in best["p_all"]]
        assert sections[title].count("data:image/jpeg;base64,") == min(12, len(cells))
        assert re.findall(r"border-color:(#\w+)", sections[title]) == [css(p) for p in best["p_all"]]


def test_a_picture_shows_the_cell_and_what_is_around_it() -> None:
    plane = np.full((60, 120, 3), 90, np.uint8)
    plane[20:30, 90:100] = plane[:10, :10] = (255, 0, 0)
    for y0, x0, around in ((20, 90, 90), (0, 0, 255)):  # beyond the plane it is white
        said = {"bbox_y0": y0, "bbox_x0": x0, "bbox_y1": y0 + 10, "bbox_x1": x0 + 10}
        shown = np.asarray(Image.open(io.BytesIO(reporting._picture(plane, said)))).astype(int)
        size = len(shown)
        assert shown.shape == (size, size, 3)
        assert np.abs(shown[size // 2, size // 2] - (255, 0, 0)).max() < 20
        assert np.abs(shown[size // 2, [3, -4]] - [[around], [90]]).max() < 20
        assert np.abs(shown[[3, -4], size // 2] - [[around], [90]]).max() < 20


@pytest.mark.parametrize(("n", "is_said"), [(200, False), (201, True)])
def test_a_long_table_is_shown_in_part(n: int, is_said: bool, results: Path) -> None:
    run = json.loads((results / "run.json").read_text())
    counts = {"planes": n, "cells": 0, "all": 0, "hem": 0, "uncertain": 0}
    files = ["samples.csv", "failures.csv", "images.csv"]
    samples, failures, images = (pd.DataFrame({"name": [f"{file}-{i}" for i in range(n)]}) for file in files)
    page = report_html(Report(run, counts, images, samples, [], {}, [], {}, {}, failures))
    for file in files:
        assert re.findall(rf"{file}-(\d+)", page) == [str(i) for i in range(200)]
    said = [f"The first 200 of 201; all are in {file}." for file in files]
    assert re.findall("The first [^<]*", page) == (said if is_said else [])


def test_all_text_from_outside_is_escaped_and_nothing_is_fetched(page: str) -> None:
    assert "<b>&.png" not in page
    assert "&lt;b&gt;&amp;.png" in page
    assert "<script" not in page
    assert "&lt;i&gt;one" in page
    sources = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]*)""", page)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert "http" not in re.sub("http-equiv", "", page)


def test_a_run_without_a_cell_has_a_report(tmp_path: Path, duo_bundle: Path) -> None:
    Image.fromarray(np.full((60, 60, 3), 235, np.uint8)).save(tmp_path / "blank.png")
    score_batch([tmp_path / "blank.png"], tmp_path / "out", ScoreParams(bundle=str(duo_bundle)))
    page = (tmp_path / "out/report.html").read_text()
    assert "kappa, threshold 0.5" in page
    assert "none; the threshold calls every cell" in page
    assert "none called" in page
    assert "Highest P(ALL)" not in page


@pytest.fixture
def browser() -> str:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium: install it to see how a browser takes the report")
    return path


def test_a_browser_shows_it_without_a_complaint_and_within_a_phone(browser: str, page: str, tmp_path: Path) -> None:
    measure = "document.body.dataset.seen = [root.scrollWidth, root.querySelectorAll('img').length, broken].join()"
    (tmp_path / "phone.html").write_text(
        f'<body><iframe width={PHONE_PX} height=800 style="border:0" srcdoc="{escape(page)}"></iframe><script>'
        "onload = () => { const root = document.querySelector('iframe').contentDocument.documentElement;"
        "const broken = [...root.querySelectorAll('img')].filter(i => !i.naturalWidth).length;"
        f"{measure} }}</script>",
        encoding="utf-8",
    )
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [browser, *options, profile, (tmp_path / "phone.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    (seen,) = re.findall(r'data-seen="([\d,]*)"', done.stdout)
    width, pictures, broken = map(int, seen.split(","))
    assert width <= PHONE_PX
    assert pictures == page.count("<img")
    assert broken == 0
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


class Damage(BatchProgress):
    """Spoils a zarr array once its plane is scored, all but the chunk that holds the first pixel."""

    def __init__(self, array: Path) -> None:
        self.array = array

    def plane(self) -> None:
        for chunk in (self.array / "c").rglob("*"):
            if chunk.is_file() and chunk != self.array / "c/0/0/0":
                chunk.write_bytes(b"spoilt")


def test_a_plane_whose_tiles_cannot_be_read_any_more_has_no_pictures(
    tmp_path: Path, duo_bundle: Path, smear: Callable[..., Pixels]
) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=smear(3), chunks=(16, 16, 3))
    params = ScoreParams(
        bundle=str(duo_bundle),
        segmentation=SegmentationParams(method="classical"),
        reading=ReadParams(tile_size_px=256),
    )
    summary = score_batch([tmp_path / "a.zarr"], tmp_path / "out", params, progress=Damage(tmp_path / "a.zarr"))
    assert (summary.planes, summary.exit_status) == (1, 0)
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert summary.cells > 1
    assert f"<p>{summary.cells} cells that belong above are not shown: what was scored can't be read any more" in page


def test_a_plane_that_cannot_be_read_at_once_has_its_pictures(
    tmp_path: Path, duo_bundle: Path, smear: Callable[..., Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_plane, errors = Plane.open, iter([StoreError("the server failed")])

    def failing_once(plane: Plane) -> Any:
        for error in errors:
            raise error
        return open_plane(plane)

    def cut(*arguments: Any) -> Any:
        monkeypatch.setattr(Plane, "open", failing_once)
        return own(*arguments)

    own = reporting._cut
    monkeypatch.setattr(reporting, "_cut", cut)
    monkeypatch.setattr(retrying.time, "sleep", lambda seconds: None)
    Image.fromarray(smear(3)).save(tmp_path / "a.png")
    params = ScoreParams(bundle=str(duo_bundle), segmentation=SegmentationParams(method="classical"))
    score_batch([tmp_path / "a.png"], tmp_path / "out", params)
    assert next(errors, None) is None
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "<img" in page
    assert "not shown" not in page
