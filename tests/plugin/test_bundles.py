import shutil

import pytest

from napari_all_detect._napari.run.bundles import card_text, scoring_bundles
from napari_all_detect.bundle import load_bundle


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return the folder of the user's bundles."""
    monkeypatch.setenv("ALL_DETECT_HOME", str(tmp_path))
    from napari_all_detect.bundle.places import user_root

    return user_root()


def test_ensembles_are_offered_and_segmenters_are_not():
    names = [listed.name for listed in scoring_bundles()]
    assert "lite" in names
    assert "cells" not in names


def test_a_broken_bundle_is_shown_with_its_reason(home):
    shutil.copytree(load_bundle("lite").folder, home / "mine")
    next((home / "mine/members").iterdir()).write_bytes(b"damaged")
    (broken,) = [listed for listed in scoring_bundles() if listed.error]
    assert broken.name == "mine"
    assert "SHA-256" in broken.error
    assert "SHA-256" in card_text("mine")


def test_the_card_is_the_bundles():
    assert card_text("lite") == load_bundle("lite").card
