"""The cells that are scored: of real smears if ALL_DETECT_DATA names them, else of drawn ones."""

import os
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from napari_all_detect import draw_smear, segment_cells
from napari_all_detect.bundle import Bundle
from napari_all_detect.crops import center_crop

IMAGES_APART = 40
"""Neighbouring images of the set are of one patient, often."""


def real_smears(most: int) -> list[np.ndarray]:
    """Return up to so many smears of the Taleqani set, from all its classes; none where it isn't at hand."""
    from PIL import Image

    data = os.environ.get("ALL_DETECT_DATA")
    found = sorted(Path(data).glob("taleqani/*/*.jpg"))[::IMAGES_APART] if data else []
    chosen = found[:: max(1, len(found) // most)][:most]
    return [np.asarray(Image.open(path).convert("RGB")) for path in chosen]


def cells_of(bundle: Bundle, n: int, real: bool, enlarged: int = 1) -> tuple[np.ndarray, str]:
    """Return n crops as a bundle wants them, repeated if need be, and what they are of; smears may be enlarged."""
    smears = real_smears(max(2, n // 8)) if real else []
    if enlarged > 1:
        smears = [_enlarged(rgb, enlarged) for rgb in smears]
    what = f"cells of {len(smears)} Taleqani smears" if smears else "drawn cells"
    if not smears:
        smears = [draw_smear((512, 512), n_cells=30, cell_diameter_px=30, seed=1).rgb]
    crops = np.concatenate([center_crop(rgb, segment_cells(rgb), bundle.manifest.crop.size) for rgb in smears])
    return np.stack(list(islice(cycle(crops), n))), what


def _enlarged(rgb: np.ndarray, times: int) -> np.ndarray:
    from PIL import Image

    height, width = rgb.shape[:2]
    return np.asarray(Image.fromarray(rgb).resize((times * width, times * height), Image.Resampling.BICUBIC))


class NoNetworks:
    """An engine that takes no time: what is left is the cost of everything around the ensemble."""

    name, device = "none", "cpu"

    def __init__(self, n_members: int) -> None:
        self._n_members = n_members

    def predict(self, crops: np.ndarray, progress: Any = None, members: Any = None) -> np.ndarray:
        """Return what depends on the crop's middle pixel."""
        n_members = self._n_members if members is None else len(members)
        middle = crops.shape[1] // 2
        p_all = np.repeat(crops[:, middle, middle, :1] / np.float32(255), n_members, axis=1)
        return np.stack([1 - p_all, p_all], axis=2).astype(np.float32)
