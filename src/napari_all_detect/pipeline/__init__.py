"""One road from a plane to its table, for command line, batch, plugin and Python API: `score_plane`.

It has two halves, as the first needs no networks of the ensemble and the second no pixels: `cut_cells` and
`score_cells`. A batch does the first half of one plane while the second of another is done.
"""

from napari_all_detect.pipeline.cutting import CutCells, PlaneInput, cut_cells, find_cells
from napari_all_detect.pipeline.planes import score_image, score_plane
from napari_all_detect.pipeline.scorer import Scorer, kept_scorer, make_scorer, open_scorer, settle
from napari_all_detect.pipeline.scoring import ScoredImage, score_cells

__all__ = [
    "CutCells",
    "PlaneInput",
    "ScoredImage",
    "Scorer",
    "cut_cells",
    "find_cells",
    "kept_scorer",
    "make_scorer",
    "open_scorer",
    "score_cells",
    "score_image",
    "score_plane",
    "settle",
]
