"""Boxes that somebody drew around white cells, as Pascal VOC writes them."""

from pathlib import Path
from xml.etree import ElementTree

from napari_all_detect.errors import InputError

__all__ = ["WHITE_CELL", "Box", "box_iou", "read_boxes"]

WHITE_CELL = "WBC"

Box = tuple[int, int, int, int]
"""First row, first column, row after the last, column after the last."""


def box_iou(one: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union."""
    (a0, b0, a1, b1), (c0, d0, c1, d1) = one, other
    shared = max(0, min(a1, c1) - max(a0, c0)) * max(0, min(b1, d1) - max(b0, d0))
    return shared / ((a1 - a0) * (b1 - b0) + (c1 - c0) * (d1 - d0) - shared)


def read_boxes(image: Path) -> list[Box]:
    """Read the boxes of the white cells of an image."""
    path = image.with_suffix(".xml")
    try:
        objects = ElementTree.parse(path).iter("object")
        sides = ("ymin", "xmin", "ymax", "xmax")
        return [
            (box[0], box[1], box[2], box[3])
            for o in objects
            if o.findtext("name") == WHITE_CELL
            for box in [[int(o.findtext(f"bndbox/{side}", "")) for side in sides]]
        ]
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path}: no boxes can be read ({error}); expected Pascal VOC") from error
