"""Boxes that somebody drew around white cells, as Pascal VOC writes them."""

from collections import Counter
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


def read_boxes(image: Path, shape: tuple[int, ...]) -> tuple[tuple[Box, ...], Counter[str]]:
    """Read the boxes of the white cells of an image of this shape.

    Returns
    -------
    boxes : tuple of Box
        Cut at the image's border, each once.
    others : Counter of str
        Names of the other objects.

    Raises
    ------
    InputError
        If no Pascal VOC lies beside the image, or a box holds none of its pixels.
    """
    path = image.with_suffix(".xml")
    try:
        objects = [(o.findtext("name", "").strip(), o) for o in ElementTree.parse(path).iter("object")]
        white = [o for name, o in objects if _is_white_cell(name)]
        corners = [[int(o.findtext(f"bndbox/{side}", "")) for side in ("ymin", "xmin", "ymax", "xmax")] for o in white]
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path}: no boxes can be read ({error}); expected Pascal VOC") from error
    height, width = shape
    boxes = []
    for y0, x0, y1, x1 in corners:
        box = max(0, y0), max(0, x0), min(height, y1), min(width, x1)
        if box[2] <= box[0] or box[3] <= box[1]:
            raise InputError(
                f"{path}: a box with xmin {x0}, xmax {x1}, ymin {y0}, ymax {y1} holds no pixel of its image of "
                f"{width} x {height} px; expected xmin < xmax and ymin < ymax, in pixels of this image"
            )
        boxes.append(box)
    return tuple(dict.fromkeys(boxes)), Counter(name for name, _ in objects if not _is_white_cell(name))


def _is_white_cell(name: str) -> bool:
    return name.casefold() == WHITE_CELL.casefold()
