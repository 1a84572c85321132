"""Images in which nobody drew an outline: what the classical method is sure of there is taught."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import regionprops

from all_detect_training.segmenter.boxes import Box, box_iou
from all_detect_training.segmenter.masks import DrawnImage, read_rgb
from napari_all_detect.params import SegmentationParams
from napari_all_detect.segmentation import segment_cells
from napari_all_detect.sources import find_images

__all__ = ["read_smears", "with_sure_cells"]

LEAST_SOLIDITY = 0.93
FAR_FROM_CELLS = 0.3
"""Over a cell's diameter: what is further than this from all that was found is no cell."""

SURE_IOU = 0.75
"""A cell that was found is sure where its box and one that somebody drew share this much."""

OUTLINE = 0.05
"""Over a cell's diameter: so far to both sides of an outline that nobody drew it is not sure."""


def read_smears(folder: Path, at_least: int = 240) -> list[DrawnImage]:
    """Read smears in which nobody drew: cells that the classical method is sure of, and what is far from any.

    Of twice as many as `at_least`, or more, every second is read, of three times as many every third, and so on.

    Sure are whole cells of common size without dents. What lies between is unknown, and so is a corner with a scale
    bar: nothing there is far from what looks like one.
    """
    files = find_images([folder])
    step = max(1, len(files) // at_least)
    found = [_surely_found(file.path.stem, read_rgb(file.path)) for file in files[::step]]
    return [image for image in found if image is not None]


def with_sure_cells(images: Sequence[DrawnImage]) -> list[DrawnImage]:
    """Add to images with boxes the cells that fill their box and have no dents; their outlines stay unknown."""
    return [_boxed_cells(image) for image in images]


@dataclass(frozen=True)
class _Found:
    """Cells and nuclei as the classical method finds them; area and box of the whole ones without dents, by number."""

    cells: NDArray[np.int32]
    nuclei: NDArray[np.bool_]
    areas: NDArray[np.float64]
    solid: dict[int, tuple[float, Box]]


def _find(rgb: NDArray[np.uint8]) -> _Found:
    cells, nuclei = segment_cells(rgb, SegmentationParams(method="classical"), nuclei=True)
    regions = regionprops(cells)
    height, width = cells.shape
    solid = {
        r.label: (r.area, r.bbox)
        for r in regions
        if r.solidity > LEAST_SOLIDITY and min(r.bbox[:2]) > 0 and r.bbox[2] < height and r.bbox[3] < width
    }
    areas = np.array([region.area for region in regions], np.float64)
    return _Found(cells, np.zeros(cells.shape, bool) if nuclei is None else nuclei > 0, areas, solid)


def _surely_found(name: str, rgb: NDArray[np.uint8]) -> DrawnImage | None:
    found = _find(rgb)
    if not len(found.areas):
        return None
    typical = float(np.median(found.areas))
    sure = [number for number, (area, _) in found.solid.items() if 0.5 < area / typical < 2]
    diameter = 2 * float(np.sqrt(typical / np.pi))
    kept = np.isin(found.cells, sure)
    far = ndi.distance_transform_edt(found.cells == 0) > FAR_FROM_CELLS * diameter
    cells = np.where(kept, found.cells, 0)
    return DrawnImage(name, rgb, cells, kept & found.nuclei, kept | far, diameter)


def _boxed_cells(image: DrawnImage) -> DrawnImage:
    found = _find(image.rgb)
    sure = [number for number, (_, box) in found.solid.items() if _best_iou(box, image.boxes) >= SURE_IOU]
    if not sure:
        return image
    kept = np.isin(found.cells, sure)
    margin = OUTLINE * image.diameter_px
    inside, outside = ndi.distance_transform_edt(kept) > margin, ndi.distance_transform_edt(~kept) > margin
    known = image.known & ~kept
    for y0, x0, y1, x1 in image.boxes:
        if max(_best_iou(found.solid[number][1], [(y0, x0, y1, x1)]) for number in sure) >= SURE_IOU:
            known[y0:y1, x0:x1] = outside[y0:y1, x0:x1]
    return replace(
        image,
        cells=np.where(kept, found.cells, 0).astype(np.int32),
        nuclei=kept & found.nuclei,
        known=known | inside,
    )


def _best_iou(box: Box, others: Sequence[Box]) -> float:
    return max((box_iou(box, other) for other in others), default=0.0)
