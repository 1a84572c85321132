import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from all_detect_training.cells import Cells
from all_detect_training.presets import FitParams, MemberSpec
from all_detect_training.splits import SPLITS, split_contiguous

CLASSES = {"Benign": "Hem", "Early": "ALL", "Pre": "ALL"}


@pytest.fixture(scope="session")
def tiny() -> FitParams:
    """Two networks small enough to train in seconds."""
    return FitParams(
        members=(MemberSpec("vgg16", 32, "block1_pool"), MemberSpec("mobilenet", 32, "conv_pw_2_relu")),
        crop_size=48,
        epochs=4,
        step_epochs=2.0,
        batch_size=8,
    )


@pytest.fixture
def made_up_cells() -> Cells:
    """Eight images of three cells in each class folder: 5 train, 1 validates, 2 test."""
    names = [f"{sub}/{i}.png" for sub in CLASSES for i in range(1, 9)]
    image = np.repeat(names, 3)
    is_all = np.array([not name.startswith("Benign") for name in image])
    crops = np.zeros((len(image), 48, 48, 3), np.uint8)
    return Cells(crops, is_all, image, np.linspace(20, 40, len(image), dtype=np.float32))


@pytest.fixture
def make_run(tmp_path: Path, tiny: FitParams, made_up_cells: Cells) -> Callable[..., Path]:
    """Write a run folder as `fit` leaves it, with predictions of one's own for each member."""

    def make(p_all: Mapping[str, NDArray[np.floating]]) -> Path:
        cells = made_up_cells
        params = replace(tiny, members=tuple(m for m in tiny.members if m.architecture in p_all))
        run = tmp_path / "run"
        (run / "members").mkdir(parents=True)
        cells.save(run / "cells.npz")
        for name, p in p_all.items():
            np.save(run / f"{name}.npy", p.astype(np.float32))
            (run / "members" / f"{name}.weights.h5").write_bytes(f"weights of {name}".encode())
        side = split_contiguous(cells.image, params.train_share, params.validation_share)
        folder = np.array([name.split("/")[0] for name in cells.image])
        record = {
            "created": "2026-01-31",
            "preset": "tiny",
            "params": asdict(params),
            "data": {
                "kind": "smears",
                "classes": CLASSES,
                "mask_corner_px": 32,
                "images": 25,
                "images_sha256": "0" * 64,
            },
            "trunks": dict.fromkeys(p_all, "random"),
            "counts": {
                s: {
                    sub: {
                        "images": len(set(cells.image[(side == s) & (folder == sub)])),
                        "cells": int(((side == s) & (folder == sub)).sum()),
                    }
                    for sub in CLASSES
                }
                for s in SPLITS
            },
            "versions": {"python": "3.11.0", "keras": "3.15.1"},
        }
        (run / "run.json").write_text(json.dumps(record))
        return run

    return make
