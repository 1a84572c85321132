"""Find white blood cells in stained smears and score each with an ensemble of CNNs.

>>> import napari_all_detect as ad
>>> smear = ad.draw_smear((224, 224), n_cells=4, seed=3)
>>> labels = ad.segment_cells(smear.rgb)
>>> crops = ad.center_crop(smear.rgb, labels, size=56)
>>> crops.shape[1:]
(56, 56, 3)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_all_detect.batch import score_batch, segment_batch
    from napari_all_detect.bundle import load_bundle
    from napari_all_detect.crops import center_crop
    from napari_all_detect.params import ScoreParams, SegmentationParams
    from napari_all_detect.pipeline import ScoredImage, score_image
    from napari_all_detect.samples import draw_smear
    from napari_all_detect.segmentation import segment_cells

__version__ = "0.1.0"

__all__ = [
    "ScoreParams",
    "ScoredImage",
    "SegmentationParams",
    "center_crop",
    "draw_smear",
    "load_bundle",
    "score_batch",
    "score_image",
    "segment_batch",
    "segment_cells",
]

# Imported when first used: `import napari_all_detect` stays fast, and loads no network library.
_HOMES = {
    "ScoreParams": "params",
    "ScoredImage": "pipeline",
    "SegmentationParams": "params",
    "center_crop": "crops",
    "draw_smear": "samples",
    "load_bundle": "bundle",
    "score_batch": "batch",
    "score_image": "pipeline",
    "segment_batch": "batch",
    "segment_cells": "segmentation",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
