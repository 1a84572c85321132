"""Keras's other backends train, go on after a kill, export and explain; each in a process of its own.

This file is also the program of that process.
"""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from all_detect_training import fit
from all_detect_training.bundling import About, export_bundle
from all_detect_training.cells import Cells
from all_detect_training.plans import plan_run, write_record
from all_detect_training.presets import FitParams, MemberSpec
from all_detect_training.splits import split_contiguous
from all_detect_training.training_set import TrainingSet
from napari_all_detect.bundle import load_bundle
from napari_all_detect.engines.keras import KerasEngine
from napari_all_detect.explain import grad_cam
from napari_all_detect.trust import calibrate

MOBILENET = MemberSpec("mobilenet", 32, "conv_pw_2_relu")
PARAMS = FitParams(
    members=(MemberSpec("vgg16", 32, "block1_pool"), MOBILENET),
    crop_size=32,
    epochs=4,
    step_epochs=2.0,
    batch_size=8,
    dropout=0.3,
    mixed_precision=True,
)


def purple_or_pink() -> Cells:
    """Forty squares of each class; a few have the other's colour."""
    rng = np.random.default_rng(0)
    names = np.array([f"{sub}/{i}.png" for sub in ("all", "hem") for i in range(40)])
    is_all = np.char.startswith(names, "all")
    colour = np.where(is_all[:, None, None, None], (110, 60, 170), (170, 120, 170)) + rng.normal(0, 15, (80, 1, 1, 3))
    crops = (colour + rng.normal(0, 20, (80, 32, 32, 3))).clip(1, 255).astype(np.uint8)
    return Cells(crops, is_all, names, np.full(80, 30.0, np.float32))


def train_killed_and_again(cells: Cells, split: NDArray[np.str_], run: Path) -> None:
    """Train the members; the second is killed in its third epoch, and goes on."""
    train_epoch, epochs = fit._train_epoch, []

    def killed(*arguments: Any) -> float:
        epochs.append(1)
        if len(epochs) == PARAMS.epochs + 3:
            raise KeyboardInterrupt
        return train_epoch(*arguments)

    fit._train_epoch = killed
    try:
        fit.fit_ensemble(cells, split, PARAMS, run)
        raise AssertionError("was not killed")
    except KeyboardInterrupt:
        fit._train_epoch = train_epoch
    fit.fit_ensemble(cells, split, PARAMS, run)


def the_whole_road(folder: Path) -> None:
    """Train and export a bundle, and explain cells with it; what came out goes to the folder."""
    import keras

    cells, run = purple_or_pink(), folder / "run"
    run.mkdir()
    given = TrainingSet(folder, "cells", {"all": "ALL", "hem": "Hem"}, [])
    split = split_contiguous(cells.image, PARAMS.train_share, PARAMS.validation_share)
    write_record(run, plan_run(given, mask_corner_px=0, preset="two", params=PARAMS, trunks=None), cells, split)
    cells.save(run / "cells.npz")
    train_killed_and_again(cells, split, run)
    _, undisturbed = fit.fit_member(
        cells, split, MOBILENET, PARAMS, None, folder / "undisturbed.npz", folder / "undisturbed.csv"
    )
    export_bundle(run, folder / "bundle", About("two", "1"))
    bundle = load_bundle(folder / "bundle")
    np.save(folder / "maps.npy", grad_cam(bundle, cells.crops, [1, 1], device="cpu").members)
    told = {"backend": keras.backend.backend(), "undisturbed": undisturbed}
    (folder / "told.json").write_text(json.dumps(told))


@pytest.mark.filterwarnings("ignore:kappa of members is:UserWarning")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_goes_the_whole_road(backend: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install {backend}")
    environment = os.environ | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    words = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["backend"] == backend
    versions = json.loads((tmp_path / "run" / "run.json").read_text())["versions"]
    assert {"tensorflow", "tensorflow-cpu", "jax", "torch"} & versions.keys() == {backend}

    with (tmp_path / "run" / "mobilenet.csv").open(newline="") as file:
        resumed = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert len(resumed) == PARAMS.epochs
    for row, wanted in zip(resumed, told["undisturbed"], strict=True):
        assert row == pytest.approx(wanted, rel=1e-4)
    assert resumed[-1]["loss"] < resumed[0]["loss"]

    # TensorFlow, here, sees in the bundle what the other backend saw in it.
    bundle, crops = load_bundle(tmp_path / "bundle"), purple_or_pink().crops
    votes = KerasEngine(bundle, "cpu").predict(crops)[..., 1]
    for vote, member in zip(votes.T, bundle.manifest.members, strict=True):
        there = np.load(tmp_path / "run" / f"{member.architecture}.npy")
        assert there.std() > 5e-4
        np.testing.assert_allclose(vote, calibrate(there, member.temperature), atol=1e-5)
    maps = grad_cam(bundle, crops, [1, 1], device="cpu").members
    np.testing.assert_allclose(np.load(tmp_path / "maps.npy"), maps, atol=1e-2)


if __name__ == "__main__":
    the_whole_road(Path(sys.argv[1]))
