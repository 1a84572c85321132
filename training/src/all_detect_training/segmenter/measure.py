"""How well a method finds cells: Dice against drawn masks, and what becomes of boxed cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from all_detect_training.segmenter.boxes import box_iou
from all_detect_training.segmenter.masks import DrawnImage
from napari_all_detect.params import SegmentationParams
from napari_all_detect.segmentation import segment_cells

__all__ = ["box_figures", "dice", "mask_figures"]

FOUND_IOU = 0.5
FALSE_IOU = 0.1
"""A label whose box meets no drawn one by more than this is no white cell."""

DIGITS = 3
Mask = NDArray[np.bool_]


def dice(one: Mask, other: Mask) -> float:
    """Return twice the overlap over the sum of both; 1 where both are empty."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else 1.0


def mask_figures(images: Sequence[DrawnImage], params: SegmentationParams) -> dict[str, Any]:
    """Measure a method on images with masks.

    Returns
    -------
    figures : dict
        `images`; and for `cell` and `nucleus` (all that is labelled against all that is drawn), `drawn_cell` and
        `drawn_nucleus` (the one label that covers most of what is drawn, so that neighbours that nobody drew don't
        count), each the mean Dice and that of the worst tenth (10th percentile).
    """
    rows = []
    for image in images:
        cells, nuclei = segment_cells(image.rgb, params, nuclei=True)
        drawn = image.cells > 0
        covered = np.bincount(cells[drawn], minlength=2)
        label = 1 + int(covered[1:].argmax())
        nuclei = np.zeros_like(cells) if nuclei is None else nuclei
        pairs = ((cells, drawn), (nuclei, image.nuclei))
        rows.append([dice(*pair) for a, b in pairs for pair in ((a > 0, b), (a == label, b))])
    scores = np.array(rows)
    names = ("cell", "drawn_cell", "nucleus", "drawn_nucleus")
    means, worst = scores.mean(axis=0), np.quantile(scores, 0.1, axis=0)
    figures = {
        name: {"dice": round(float(mean), DIGITS), "worst_tenth": round(float(low), DIGITS)}
        for name, mean, low in zip(names, means, worst, strict=True)
    }
    return {"images": len(images), **figures}


def box_figures(images: Sequence[DrawnImage], params: SegmentationParams) -> dict[str, Any]:
    """Measure a method on images with boxes.

    Returns
    -------
    figures : dict
        `images`, `boxes`; `found`, the share of boxes that a label's box meets at an IoU of 0.5 or more; and
        `false_per_image`, labels that meet no box.
    """
    found, false = 0, 0
    for image in images:
        labels = ndi.find_objects(segment_cells(image.rgb, params))
        outlines = [(rows.start, columns.start, rows.stop, columns.stop) for rows, columns in labels]
        found += sum(max((box_iou(box, o) for o in outlines), default=0.0) >= FOUND_IOU for box in image.boxes)
        false += sum(max((box_iou(box, o) for box in image.boxes), default=0.0) < FALSE_IOU for o in outlines)
    n = sum(len(image.boxes) for image in images)
    return {
        "images": len(images),
        "boxes": n,
        "found": round(found / n, DIGITS) if n else None,
        "false_per_image": round(false / len(images), DIGITS),
    }
