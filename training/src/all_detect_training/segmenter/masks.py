"""Images in which somebody drew the cells, or drew boxes around them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi

from all_detect_training.segmenter.boxes import WHITE_CELL, Box, read_boxes
from all_detect_training.single_cells import first_plane
from napari_all_detect.errors import InputError
from napari_all_detect.segmentation.light import chromatin, empty_field
from napari_all_detect.segmentation.scale import seed_level, wide_regions
from napari_all_detect.sources import find_images

__all__ = ["DrawnImage", "hold_out", "read_boxed", "read_masked", "read_rgb"]

NUCLEUS, CELL = 191, 64
"""Levels of a mask above which a pixel is nucleus, or at least cell: 255 is nucleus, 128 cytoplasm, 0 the rest."""

LEAST_PART = 0.05
"""Parts of a mask that are smaller than this share of the largest are slips of the pen."""

BOX_MARGIN_PX = 6
BOX_TO_DIAMETER = 0.97
"""A box is drawn a little wider than its cell."""

UNDRAWN_RADIUS, UNDRAWN_REACH = 0.1, 0.3
"""Over a cell's diameter: radius of chromatin that betrays a white cell that nobody drew, and how far that reaches."""


@dataclass(frozen=True)
class DrawnImage:
    """A picture, and what is known of it.

    Attributes
    ----------
    name : str
    boxes : tuple of Box
        Around the white cells, if that is what was drawn.
    rgb : (H, W, 3) uint8
    cells : (H, W) int32
        A number per white cell.
    nuclei : (H, W) bool
    known : (H, W) bool
        Where the two above are true; elsewhere nobody drew.
    diameter_px : float
        Of a typical white cell.
    """

    name: str
    rgb: NDArray[np.uint8]
    cells: NDArray[np.int32]
    nuclei: NDArray[np.bool_]
    known: NDArray[np.bool_]
    diameter_px: float
    boxes: tuple[Box, ...] = ()

    def resized(self, factor: float) -> "DrawnImage":
        """Return it larger or smaller by this factor."""
        size = max(1, round(self.rgb.shape[1] * factor)), max(1, round(self.rgb.shape[0] * factor))
        smooth = Image.Resampling.BILINEAR if factor < 1 else Image.Resampling.BICUBIC
        return replace(
            self,
            rgb=np.asarray(Image.fromarray(self.rgb).resize(size, smooth)),
            cells=np.asarray(Image.fromarray(self.cells).resize(size, Image.Resampling.NEAREST)),
            nuclei=np.asarray(Image.fromarray(self.nuclei).resize(size, Image.Resampling.NEAREST)),
            known=np.asarray(Image.fromarray(self.known).resize(size, Image.Resampling.NEAREST)),
            diameter_px=self.diameter_px * factor,
        )


def read_masked(folder: Path) -> list[DrawnImage]:
    """Read `<name>_image.*` with `<name>_mask.*`: 255 nucleus, 128 cytoplasm, 0 the rest.

    Raises
    ------
    InputError
        If the folder holds no such pair or no mask with a cell, or a mask's size is not its image's.
    """
    drawn = []
    for path in _files(folder, "_image"):
        name = f"{path.stem.removesuffix('_image')}_mask"
        masks = [other for other in _files(folder, "_mask") if other.stem == name]
        if not masks:
            raise InputError(f"{path}: no mask beside it; expected {name}.png")
        rgb, mask = read_rgb(path), _grey(masks[0])
        if mask.shape != rgb.shape[:2]:
            raise InputError(f"{masks[0]}: its shape is {mask.shape}, the image's {rgb.shape[:2]}; expected the same")
        drawn.append(_masked(path.stem.removesuffix("_image"), rgb, mask))
    if not drawn:
        raise InputError(f"{folder}: no image; expected <name>_image.png with <name>_mask.png")
    with_cells = [image for image in drawn if image.cells.any()]
    if not with_cells:
        raise InputError(f"{folder}: no cell in any mask; expected 255 for nucleus and 128 for cytoplasm")
    return with_cells


def read_boxed(folder: Path) -> list[DrawnImage]:
    """Read images with boxes around white cells (Pascal VOC, `<name>.xml`): what is outside of them is none.

    Raises
    ------
    InputError
        If an image has no boxes beside it.
    """
    drawn = []
    for file in find_images([folder]):
        rgb = read_rgb(file.path)
        boxes = read_boxes(file.path)
        known = np.ones(rgb.shape[:2], bool)
        for y0, x0, y1, x1 in boxes:
            rows = slice(max(0, y0 - BOX_MARGIN_PX), y1 + BOX_MARGIN_PX)
            known[rows, max(0, x0 - BOX_MARGIN_PX) : x1 + BOX_MARGIN_PX] = False
        nothing = np.zeros(known.shape, np.int32)
        drawn.append(
            DrawnImage(
                file.path.stem, rgb, nothing, nothing > 0, known, _box_diameter(boxes, known.shape), tuple(boxes)
            )
        )
    known_diameters = [image.diameter_px for image in drawn if image.diameter_px > 0]
    if not known_diameters:
        raise InputError(f"{folder}: no box holds a whole {WHITE_CELL}; expected images with boxes around white cells")
    typical = float(np.median(known_diameters))
    return [image if image.diameter_px > 0 else replace(image, diameter_px=typical) for image in drawn]


def hold_out(images: Sequence[DrawnImage], every: int) -> tuple[list[DrawnImage], list[DrawnImage]]:
    """Part images into those to train on and every `every`-th, which is held out; 0 holds none out."""
    held = {i for i in range(len(images)) if every and i % every == every - 1}
    return [x for i, x in enumerate(images) if i not in held], [x for i, x in enumerate(images) if i in held]


def _files(folder: Path, ending: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.stem.endswith(ending)) if folder.is_dir() else []


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image's only or first plane; (H, W, 3) uint8."""
    return first_plane(path).read().rgb


def _grey(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as mask:
            return np.asarray(mask.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: can't be read ({error}); expected a mask as PNG or TIFF") from error


def _masked(name: str, rgb: NDArray[np.uint8], mask: NDArray[np.uint8]) -> DrawnImage:
    parts, n = ndi.label(mask > CELL)
    area = np.bincount(parts.ravel(), minlength=2)[1:]
    large = np.concatenate([[False], area > LEAST_PART * area.max()])
    cells = ndi.label(large[parts])[0].astype(np.int32) if n else parts.astype(np.int32)
    diameter = 2 * float(np.sqrt(area.max() / np.pi))
    known = ~_undrawn(rgb, cells > 0, diameter)
    return DrawnImage(name, rgb, cells, (mask > NUCLEUS) & (cells > 0), known, diameter)


def _undrawn(rgb: NDArray[np.uint8], drawn: NDArray[np.bool_], diameter: float) -> NDArray[np.bool_]:
    """Mark what surrounds chromatin outside of the drawn cells: neighbours that nobody drew."""
    stain = ndi.gaussian_filter(chromatin(rgb, empty_field(rgb)), 0.02 * diameter)
    seeds = wide_regions((stain > seed_level(stain)) & ~drawn, UNDRAWN_RADIUS * diameter)
    return (ndi.distance_transform_edt(~seeds) <= UNDRAWN_REACH * diameter) & ~drawn if seeds.any() else seeds


def _box_diameter(boxes: Sequence[Box], shape: tuple[int, ...]) -> float:
    """Return the median side of the boxes of whole cells; NaN without any."""
    whole = [b for b in boxes if b[0] > 2 and b[1] > 2 and b[2] < shape[0] - 2 and b[3] < shape[1] - 2]
    sides = [np.sqrt((y1 - y0) * (x1 - x0)) for y0, x0, y1, x1 in whole]
    return BOX_TO_DIAMETER * float(np.median(sides)) if sides else float("nan")
