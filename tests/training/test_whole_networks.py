"""The paper's road at its full size, but for images, epochs and members: whole networks at 300 px, on the CPU."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from all_detect_training import fit
from all_detect_training.cli import main as train
from all_detect_training.commands import fit as fit_command
from all_detect_training.presets import PRESETS
from napari_all_detect.bundle import load_bundle
from napari_all_detect.cli import INTERRUPTED
from napari_all_detect.cli import main as detect
from napari_all_detect.samples import draw_smear

LABELS = "validation_data/C-NMC_test_prelim_phase_data_labels.csv"


def write_cnmc(root: Path) -> None:
    """Draw a cell of each of two subjects a class in each fold, and four of the preliminary set, as published."""

    def write(path: Path, seed: int, is_all: bool) -> None:
        look: dict[str, Any] = {"fraction_all": float(is_all), "cell_diameter_px": 200, "seed": seed, "border": 0}
        smear = draw_smear((450, 450), n_cells=1, red_cells=False, **look)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.where(smear.labels[..., None] > 0, smear.rgb, 0).astype(np.uint8)).save(path)

    for fold in range(3):
        for part, prefix in (("all", ""), ("hem", "H")):
            for subject in (2 * fold + 1, 2 * fold + 2):
                name = f"UID_{prefix}{subject}_1_1_{part}.bmp"
                write(root / f"training_data/fold_{fold}/{part}" / name, subject + 10 * len(prefix), part == "all")
    rows = [(f"UID_{'' if k % 2 else 'H'}{90 + k}_1_1_{'all' if k % 2 else 'hem'}.bmp", k) for k in range(4)]
    for name, k in rows:
        write(root / "validation_data/C-NMC_test_prelim_phase_data" / f"{k}.bmp", 50 + k, name.endswith("all.bmp"))
    with (root / LABELS).open("w", newline="") as file:
        csv.writer(file).writerows(
            [("Patient_ID", "new_names", "labels"), *((name, f"{k}.bmp", k % 2) for name, k in rows)]
        )


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:kappa of members is:UserWarning")
def test_from_cells_to_heat_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paper = PRESETS["paper"]
    two = tuple(m for m in paper.members if m.architecture in ("mobilenet", "vgg16"))
    small = replace(paper, members=two, epochs=1, batch_size=4, cells_per_epoch=4, mixed_precision=False)
    monkeypatch.setattr(fit_command, "PRESETS", {"paper": small})
    data, run = tmp_path / "data", tmp_path / "run"
    write_cnmc(data)
    words = ["fit", "--preset", "paper", "--cnmc", str(data), "--split", "fold_0", "--workers", "1", "--out", str(run)]

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit, "predict_p_all", killed)
        assert train(words) == INTERRUPTED
    assert train(words) == 0
    # So little training teaches nothing, and a run that learned nothing is refused: votes of one's own.
    with (run / "images.csv").open(newline="") as file:
        is_all = np.array([row["image"].startswith("all/") for row in csv.DictReader(file)])
    for name, p_of_all in (("mobilenet", 0.8), ("vgg16", 0.7)):
        assert np.load(run / f"{name}.npy").shape == is_all.shape
        np.save(run / f"{name}.npy", np.where(is_all, p_of_all, 0.3).astype(np.float32))

    assert train(["ablation", str(run), "--out", str(tmp_path / "ablation")]) == 0
    table = pd.read_csv(tmp_path / "ablation" / "table4.csv")
    assert set(table["input_px"]) == {300}
    assert table.set_index("classifier")["weighted_f1_paper"]["WEN-kappa"] == 0.886
    assert "Beside published methods" in (tmp_path / "ablation" / "report.html").read_text()

    bundle = tmp_path / "bundle"
    assert train(["export", str(run), "--out", str(bundle), "--name", "paper", "--version", "0"]) == 0
    assert [(m.cut, m.input_size) for m in load_bundle(bundle).manifest.members] == [(None, 300)] * 2
    of_test = ["--cnmc", str(data), "--only", "preliminary", "--out", str(tmp_path / "evaluation")]
    assert train(["evaluate", str(bundle), *of_test]) == 0
    figures = json.loads((tmp_path / "evaluation" / "figures.json").read_text())
    assert (figures["cells"], figures["subjects"]["n"]) == (4, 4)

    image = data / "training_data/fold_1/all/UID_3_1_1_all.bmp"
    assert detect(["score", str(image), "--bundle", str(bundle), "--out", str(tmp_path / "scored")]) == 0
    assert len(pd.read_csv(tmp_path / "scored" / "cells.csv")) == 1
    heat = tmp_path / "heat.png"
    assert detect(["explain", str(image), "--bundle", str(bundle), "--label", "1", "--out", str(heat)]) == 0
    with Image.open(heat) as drawn:
        assert drawn.size[0] > 4 * 100
    capsys.readouterr()
