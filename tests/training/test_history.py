from pathlib import Path

import pytest

from all_detect_training.history import trained_facts, training_in_words, write_history
from all_detect_training.presets import FitParams, MemberSpec
from napari_all_detect.errors import InputError

MEMBERS = (MemberSpec("vgg16", 32, stretch=1.5), MemberSpec("mobilenet", 32))


def test_how_a_training_went(tmp_path: Path) -> None:
    """The epoch that is kept is the last of those with the best AUC."""
    rows = [(1, 0.8, 16), (2, 0.9, 16), (3, 0.9, 8), (4, 0.7, 4)]
    write_history(tmp_path / "vgg16.csv", [{"epoch": n, "batch_size": b, "auc": auc} for n, auc, b in rows])
    facts = trained_facts(tmp_path, MEMBERS)
    assert facts == {"vgg16": {"epochs": 4, "kept": 3, "batch_sizes": [16, 8, 4]}}
    params = FitParams(members=MEMBERS, crop_size=32, epochs=6, batch_size=16)
    starts = {"vgg16": "vgg16_notop.weights.h5, SHA-256 00", "mobilenet": "random"}
    assert training_in_words(params, starts, facts) == (
        "vgg16 from vgg16_notop.weights.h5, epoch 3 kept of 4 (9 at most) in batches of 16, then 8, then 4; "
        "mobilenet from random, 6 epochs at most in batches of 16"
    )


def test_rows_of_an_earlier_version_lack_a_column(tmp_path: Path) -> None:
    write_history(tmp_path / "vgg16.csv", [{"epoch": 1, "auc": 0.8}, {"epoch": 2, "batch_size": 8, "auc": 0.7}])
    assert trained_facts(tmp_path, MEMBERS)["vgg16"] == {"epochs": 2, "kept": 1, "batch_sizes": [8]}


@pytest.mark.parametrize("text", ["", "epoch,auc\n", "epoch\n1\n", "epoch,auc\n1,high\n"])
def test_a_damaged_history_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "vgg16.csv").write_text(text)
    with pytest.raises(InputError, match=r"vgg16\.csv: damaged .*; remove it"):
        trained_facts(tmp_path, MEMBERS)
