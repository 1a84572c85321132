import json
import os
import shutil

import pytest
from qtpy.QtCore import Qt

from napari_all_detect._napari.qt.bundle_box import BundleBox
from napari_all_detect.bundle import load_bundle
from napari_all_detect.bundle.places import user_root


@pytest.fixture
def box(qtbot, tmp_path, monkeypatch):
    """Return a box of the bundles that come with the package."""
    monkeypatch.setenv("ALL_DETECT_HOME", str(tmp_path / "home"))
    box = BundleBox("lite")
    qtbot.addWidget(box)
    return box


@pytest.fixture
def mine(tmp_path):
    """Return the folder of a bundle that is not installed."""
    return shutil.copytree(load_bundle("lite").folder, tmp_path / "mine")


def test_a_folder_and_a_zip_are_opened_and_each_is_listed_once(box, mine, monkeypatch):
    n = box.count()
    assert box.currentText() == load_bundle("lite").label
    zipped = shutil.make_archive(str(mine), "zip", mine)
    monkeypatch.chdir(mine.parent)
    for path in (mine, mine.relative_to(mine.parent), mine):
        box.open_bundle(path)
        assert box.currentData() == str(mine)
        assert box.currentText() == f"{load_bundle('lite').label} (mine)"
    assert box.count() == n + 1
    box.open_bundle(type(mine)(zipped))
    assert box.currentText().endswith("(mine.zip)")
    assert load_bundle(box.currentData()).label == load_bundle("lite").label
    assert box.count() == n + 2
    box.setCurrentIndex(0)
    facts = json.loads((mine / "bundle.json").read_text())
    (mine / "bundle.json").write_text(json.dumps(facts | {"version": "9.9.9"}))
    box.open_bundle(mine)
    assert (box.currentData(), box.currentText()) == (str(mine), "lite-9.9.9 (mine)")
    assert box.count() == n + 2


def test_a_broken_bundle_is_listed_with_its_reason(box, qtbot, mine, tmp_path):
    next((mine / "members").iterdir()).write_bytes(b"damaged")
    shutil.copytree(mine, user_root() / "mine")
    box = BundleBox("lite")
    qtbot.addWidget(box)
    place = box.findData("mine")
    assert box.itemText(place) == "mine (broken)"
    assert "SHA-256" in box.itemData(place, Qt.ItemDataRole.ToolTipRole)


def test_what_is_no_bundle_is_told_at_once_and_not_listed(box, mine, tmp_path, notices):
    n, chosen = box.count(), box.currentData()
    next((mine / "members").iterdir()).write_bytes(b"damaged")
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.zip").write_bytes(os.urandom(100))
    segmenter = next(path.parent for path in load_bundle("lite").folder.parent.glob("cells/bundle.json"))
    for path, said in (
        (mine, "SHA-256"),
        (tmp_path / "empty", "bundle.json"),
        (tmp_path / "no.zip", "no.zip"),
        (segmenter, "finds cells"),
    ):
        box.open_bundle(path)
        assert said in notices[-1]
    assert (box.count(), box.currentData()) == (n, chosen)


def test_the_button_asks_for_either(box, mine, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    zipped = shutil.make_archive(str(mine), "zip", mine)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(mine))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (zipped, "Zip (*.zip)"))
    button = box.open_button()
    folder, archive = button.menu().actions()
    folder.trigger()
    assert box.currentData() == str(mine)
    archive.trigger()
    assert box.currentData() == zipped
