"""A network that learned to look for a mark looks at it, wherever it stands."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from all_detect_training.bundling import About, export_bundle
from all_detect_training.cells import Cells
from all_detect_training.fit import fit_ensemble
from all_detect_training.plans import plan_run, write_record
from all_detect_training.presets import FitParams, MemberSpec
from all_detect_training.splits import split_contiguous
from all_detect_training.training_set import TrainingSet
from napari_all_detect.bundle import Bundle, load_bundle
from napari_all_detect.explain import grad_cam

SIZE, MARK = 48, 12


def marked(n: int, is_all: NDArray[np.bool_], rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Grey discs on black; those of ALL bear a dark red square somewhere."""
    y, x = np.mgrid[:SIZE, :SIZE]
    disc = (y - SIZE / 2) ** 2 + (x - SIZE / 2) ** 2 < (SIZE / 2 - 2) ** 2
    crops = np.where(disc[None, ..., None], rng.integers(120, 200, (n, SIZE, SIZE, 3)), 0).astype(np.uint8)
    corners = rng.integers(9, SIZE - 9 - MARK, (n, 2))
    for crop, (top, left), has_mark in zip(crops, corners, is_all, strict=True):
        if has_mark:
            crop[top : top + MARK, left : left + MARK] = 200, 20, 20
    return crops, corners


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("marks")
    rng = np.random.default_rng(1)
    names = np.array([f"{sub}/{i}.png" for sub in ("all", "hem") for i in range(160)])
    is_all = np.char.startswith(names, "all")
    cells = Cells(marked(len(names), is_all, rng)[0], is_all, names, np.full(len(names), 44.0, np.float32))
    params = FitParams(
        members=(MemberSpec("vgg16", 48, "block2_pool"),),
        crop_size=SIZE,
        epochs=6,
        step_epochs=3.0,
        batch_size=16,
    )
    run = folder / "run"
    run.mkdir()
    plan = plan_run(
        TrainingSet(folder, "cells", {"all": "ALL", "hem": "Hem"}, []),
        mask_corner_px=0,
        preset="marks",
        params=params,
        trunks=None,
    )
    split = split_contiguous(names, params.train_share, params.validation_share)
    write_record(run, plan, cells, split)
    cells.save(run / "cells.npz")
    fit_ensemble(cells, split, params, run)
    export_bundle(run, folder / "bundle", About("marks", "1"))
    assert json.loads((folder / "bundle" / "bundle.json").read_text())["metrics"]["ensembles"]["kappa"]
    return load_bundle(folder / "bundle")


def test_grad_cam_finds_a_planted_mark(trained: Bundle) -> None:
    crops, corners = marked(40, np.ones(40, bool), np.random.default_rng(2))
    maps = grad_cam(trained, crops, [1.0])
    for heat in (maps.members[:, 0], maps.ensemble):
        peaks = np.array([np.unravel_index(h.argmax(), h.shape) for h in heat])
        near = (np.abs(peaks - (corners + MARK / 2)) <= MARK / 2 + 4).all(axis=1)
        # By chance some 400 of 2,304 places, a sixth, lie so near.
        assert near.mean() > 0.9
    share = np.array(
        [h[y : y + MARK, x : x + MARK].mean() / h.mean() for h, (y, x) in zip(maps.ensemble, corners, strict=True)]
    )
    assert np.median(share) > 3
