import errno
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from all_detect_training import bioimageio_package
from all_detect_training.bundling import About, export_bundle
from all_detect_training.card.page import card_page
from all_detect_training.cells import Cells
from all_detect_training.cli import main
from all_detect_training.commands import publishing
from napari_all_detect.bundle import load_bundle


class Page(HTMLParser):
    """Collects tags, what they refer to, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def exported(make_run: Callable[..., Path], made_up_cells: Cells, tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    signal = np.where(made_up_cells.is_all, 0.62, 0.38)
    p_all = {name: (signal + rng.normal(0, 0.2, len(signal))).clip(0, 1) for name in ("vgg16", "mobilenet")}
    about = About("tiny", "1.2.3", data_notes="Of *drawn* cells. <script>alert(1)</script>")
    export_bundle(make_run(p_all), tmp_path / "bundle", about)
    return tmp_path / "bundle"


def test_the_card_is_a_page_that_stands_alone(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["card", str(exported), "--out", str(tmp_path / "pages" / "card.html")]
    assert main(words) == 0
    page = Page()
    page.feed((tmp_path / "pages" / "card.html").read_text(encoding="utf-8"))
    facts = json.loads((exported / "bundle.json").read_text())
    figure = facts["metrics"]["ensembles"]["kappa"]["cell"]["auc"]
    assert f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})" in page.text
    assert "Not for diagnosis" in page.text
    # The AUCs, and the reliability of two members and their ensemble.
    assert page.tags.count("svg") == 1 + 3
    assert page.tags.count("h2") == (exported / "MODEL_CARD.md").read_text().count("\n## ")
    assert "script" not in page.tags
    assert "em" in page.tags
    assert all(reference.startswith("#") for reference in page.references)
    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_refused_before_it_is_drawn(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(publishing, "card_page", lambda _: pytest.fail("drawn"))
    (tmp_path / "file").touch()
    assert main(["card", str(exported), "--out", str(tmp_path / "file" / "card.html")]) == 1
    assert "card.html: can't be written (" in capsys.readouterr().err


def test_the_page_draws_the_aucs_for_cells_the_best_first(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("all_detect_training.card.page.comparison_plot", lambda rows, _: drawn.append(rows) or "")
    bundle = load_bundle(exported)
    card_page(bundle)
    metrics = bundle.manifest.metrics
    named = metrics["members"] | {f"ensemble, {name}": row for name, row in metrics["ensembles"].items()}
    (rows,) = drawn
    found = {name: {"value": value, "low": low, "high": high} for name, value, low, high in rows}
    assert found == {name: row["cell"]["auc"] for name, row in named.items()}
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)


def test_the_shipped_bundles_have_pages(tmp_path: Path) -> None:
    for name, pictures in (("lite", 1 + 6), ("cells", 0)):
        assert main(["card", name, "--out", str(tmp_path / f"{name}.html")]) == 0
        page = Page()
        page.feed((tmp_path / f"{name}.html").read_text(encoding="utf-8"))
        assert page.tags.count("svg") == pictures


def test_a_bundle_becomes_a_package_that_bioimageio_accepts_and_runs(
    duo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bioimageio.core", reason="pip install 'all-detect-training[bioimageio]'")
    folder = Path(shutil.copytree(duo_bundle, tmp_path / "duo"))
    facts = json.loads((folder / "bundle.json").read_text())
    facts["ensemble"]["temperatures"] = {"kappa": 1.7}
    facts["license"] = "Research use only"
    (folder / "bundle.json").write_text(json.dumps(facts))
    # In a process of its own, as bioimage.io's tools leave files open.
    words = ["bioimageio", str(folder), "--out", str(tmp_path / "duo.zip")]
    code = "import sys; from all_detect_training.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(f"{tmp_path / 'duo.zip'}: duo-0.1 as a bioimage.io package, validated and run")
    with zipfile.ZipFile(tmp_path / "duo.zip") as package:
        names = set(package.namelist())
        description = package.read("rdf.yaml").decode()
        license_text = package.read("LICENSE.txt").decode()
        package.extract("probabilities.npy", tmp_path)
    assert {"ensemble.keras", "cells.npy", "probabilities.npy", "README.md", "rdf.yaml"} <= names
    assert "format_version: 0.5." in description
    assert license_text == "Research use only\n"
    expected = np.load(tmp_path / "probabilities.npy")
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-6)
    assert np.ptp(expected[:, 1]) > 0.01
    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "stain", "said"),
    [("package.txt", None, "no .zip"), ("package.zip", "reinhard", "normalises the stain (reinhard)")],
)
def test_what_can_be_no_package_is_refused(
    duo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, stain: str | None, said: str
) -> None:
    folder = Path(shutil.copytree(duo_bundle, tmp_path / "duo"))
    facts = json.loads((folder / "bundle.json").read_text())
    facts["crop"]["stain_normalisation"] = stain
    (folder / "bundle.json").write_text(json.dumps(facts))
    assert main(["bioimageio", str(folder), "--out", str(tmp_path / out)]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / out).exists()


def test_a_full_disk_is_that_of_the_package_and_said(
    duo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bioimageio.core", reason="pip install 'all-detect-training[bioimageio]'")
    folders = []

    def full(_: Any, folder: Path) -> None:
        folders.append(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bioimageio_package, "_write_parts", full)
    out = tmp_path / "new" / "duo.zip"
    assert main(["bioimageio", str(duo_bundle), "--out", str(out)]) == 1
    assert f"{out}: can't be written (No space left on device); make room there" in capsys.readouterr().err
    assert [folder.parent for folder in folders] == [out.parent]
    assert not list(out.parent.iterdir())


def test_a_segmenter_is_no_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bioimageio", "cells", "--out", str(tmp_path / "cells.zip")]) == 1
    assert "finds cells" in capsys.readouterr().err
