"""The report: what it says, and how a browser takes it."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect.batch import BatchProgress, score_batch
from napari_all_detect.params import OutputParams, ReadParams, ScoreParams, SegmentationParams

pytestmark = pytest.mark.usefixtures("reuse_engines")

Pixels = NDArray[np.uint8]
PHONE_PX = 390


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, duo_bundle: Path, smear: Callable[..., Pixels]) -> Path:
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
    params = ScoreParams(bundle=str(duo_bundle), segmentation=SegmentationParams(method="classical"))
    inputs = [folder / "plate.zarr", folder / "<b>&.png", folder / "<script>alert(1).png"]
    score_batch(inputs, folder / "out", params, OutputParams(samples=str(folder / "sheet.csv")))
    return folder / "out"


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return (results / "report.html").read_text(encoding="utf-8")


def test_it_says_what_the_tables_say(results: Path, page: str) -> None:
    cells, images = pd.read_csv(results / "cells.csv"), pd.read_csv(results / "images.csv")
    totals = dict(re.findall(r"<div><b>([^<]*)</b>([^<]*)</div>", page))
    by_name = {name: value for value, name in re.findall(r"<div><b>([^<]*)</b>([^<]*)</div>", page)}
    n_all = int((cells["call"] == "ALL").sum())
    assert totals
    assert by_name["images"] == str(len(images)) == "4"
    assert by_name["cells"] == str(len(cells))
    assert by_name["ALL"] == str(n_all)
    assert by_name["failed"] == "1"
    assert by_name["out of domain"] == "unknown"  # this bundle has no domain
    assert "kappa, threshold 0.5" in page
    assert "none; the threshold calls every cell" in page
    assert by_name["ALL of called"] == f"{n_all / len(cells):.1%}"
    for row in images.itertuples():
        if isinstance(row.well, str) and row.all + row.hem:
            assert f'title="{row.cells} cells">{row.fraction_all:.0%}</td>' in page
    for name, n in cells["flags"].dropna().str.split(";").explode().value_counts().items():
        assert f'<td class="">{name}</td><td class="n">{n}</td>' in page
    assert page.count("For research use only. Not for diagnosis or any clinical decision.") == 2


def test_galleries_show_the_ends_and_the_middle(results: Path, page: str) -> None:
    cells = pd.read_csv(results / "cells.csv")
    sections = dict(re.findall(r"<section><h2>([^<]*)</h2>(.*?)</section>", page, re.DOTALL))
    p_all = cells["p_all"]
    for title, order in {
        "Highest P(ALL)": -p_all,
        "Lowest P(ALL)": p_all,
        "Least certain": (p_all - 0.5).abs(),
    }.items():
        shown = re.findall(r"<b>([\d.]*)</b> ±.*?#(\d+)", sections[title], re.DOTALL)
        best = cells.loc[order.sort_values(kind="stable").index[:12]]
        assert [number for number, _ in shown] == [f"{p:.3f}" for p in best["p_all"]]
        assert sections[title].count("data:image/jpeg;base64,") == min(12, len(cells))


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
    assert summary.cells > 0
    assert "<img" not in (tmp_path / "out/report.html").read_text(encoding="utf-8")
