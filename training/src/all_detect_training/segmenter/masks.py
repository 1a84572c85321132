"""Images in which somebody drew the cells, or drew boxes around them."""

import logging
from collections import Counter
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

log = logging.getLogger(__name__)

LEVELS = (0, 128, 255)
EXPECTED_LEVELS = "expected 255 for nucleus, 128 for cytoplasm and 0 for the rest, in grey"
NUCLEUS, CELL = 191, 64
"""Levels of a mask above which a pixel is nucleus, or at least cell."""

LEVEL_MARGIN, MOST_OFF_LEVEL = 20, 0.05
"""How far from a level a pixel may be; and the share of what is drawn that may be further away in patches, as at an
outline it may."""

LEAST_PART = 0.05
"""Parts of a mask that are smaller than this share of the largest are slips of the pen; so is a cytoplasm or nucleus
that is no larger share of the cells."""

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
        If the folder holds no such pair, no mask with a cell, or none with cytoplasm or with a nucleus; or if a mask
        has other levels or another size than its image.
    """
    paths = _files(folder, "_image")
    if not paths:
        raise InputError(f"{folder}: no image; expected <name>_image.png with <name>_mask.png")
    names = [path.stem.removesuffix("_image") for path in paths]
    masks = {path.stem.removesuffix("_mask"): path for path in _files(folder, "_mask")}
    drawn = []
    for name, path in zip(names, paths, strict=True):
        if name not in masks:
            raise InputError(f"{path}: no mask beside it; expected {name}_mask.png")
        mask_path = masks[name]
        rgb, mask = read_rgb(path), _read_mask(mask_path)
        if mask.shape != rgb.shape[:2]:
            raise InputError(f"{mask_path}: its shape is {mask.shape}, the image's {rgb.shape[:2]}; expected the same")
        if mask.max() > CELL:
            drawn.append(_masked(name, rgb, mask))
        else:
            log.warning("left out: %s: no cell; highest level %d, expected 128 or 255", mask_path, int(mask.max()))
    alone = [path.name for name, path in masks.items() if name not in names]
    if alone:
        log.warning("%s: masks without an image, passed over: %s", folder, ", ".join(alone))
    if not drawn:
        raise InputError(f"{folder}: no cell in any mask; {EXPECTED_LEVELS}")
    _check_parts(folder, drawn)
    return drawn


def read_boxed(folder: Path) -> list[DrawnImage]:
    """Read images with boxes around white cells (Pascal VOC, `<name>.xml`): what is outside of them is none.

    Raises
    ------
    InputError
        If an image has no boxes beside it, or a box holds no pixel of its image.
    """
    drawn, others = [], Counter[str]()
    for file in find_images([folder]):
        rgb = read_rgb(file.path)
        boxes, passed_over = read_boxes(file.path, rgb.shape[:2])
        others += passed_over
        known = np.ones(rgb.shape[:2], bool)
        for y0, x0, y1, x1 in boxes:
            rows = slice(max(0, y0 - BOX_MARGIN_PX), y1 + BOX_MARGIN_PX)
            known[rows, max(0, x0 - BOX_MARGIN_PX) : x1 + BOX_MARGIN_PX] = False
        nothing = np.zeros(known.shape, np.int32)
        diameter = _box_diameter(boxes, known.shape)
        drawn.append(DrawnImage(file.path.stem, rgb, nothing, nothing > 0, known, diameter, boxes))
    without = sum(not image.boxes for image in drawn)
    if others or without:
        names = ", ".join(f"{n} {name!r}" for name, n in others.most_common()) or "none"
        log.info(
            "%s: %d of %d images have no %s; objects of other names, passed over: %s",
            *(folder, without, len(drawn), WHITE_CELL, names),
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


def _read_mask(path: Path) -> NDArray[np.uint8]:
    """Read a mask; refuse one with other levels, in colours, or inverted."""
    try:
        with Image.open(path) as mask:
            grey, colours = np.asarray(mask.convert("L")), np.asarray(mask.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: can't be read ({error}); expected a mask as PNG or TIFF") from error
    is_off = [np.abs(colours.astype(np.int16) - level).max(axis=-1) > LEVEL_MARGIN for level in LEVELS]
    off = ndi.binary_opening(np.all(is_off, axis=0))
    share = float(off.sum()) / max(1, int(is_off[0].sum()))
    if share > MOST_OFF_LEVEL:
        found = Counter(map(tuple, colours[off].tolist())).most_common(3)
        levels = ", ".join(str(colour if len(set(colour)) > 1 else colour[0]) for colour, _ in found)
        raise InputError(f"{path}: {share:.0%} of what is drawn has other levels (such as {levels}); {EXPECTED_LEVELS}")
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.mean(border > NUCLEUS) > 0.5:
        raise InputError(f"{path}: nucleus along most of its border, as if inverted; {EXPECTED_LEVELS}")
    return grey


def _check_parts(folder: Path, drawn: Sequence[DrawnImage]) -> None:
    """Refuse masks that all lack cytoplasm, or nuclei; name single ones."""
    shares = [np.count_nonzero(image.nuclei) / np.count_nonzero(image.cells) for image in drawn]
    for part, lacking in (
        ("cytoplasm", [share >= 1 - LEAST_PART for share in shares]),
        ("nucleus", [share <= LEAST_PART for share in shares]),
    ):
        names = [image.name for image, lacks in zip(drawn, lacking, strict=True) if lacks]
        if len(names) == len(drawn):
            raise InputError(f"{folder}: no {part} in any mask, whole cells or nuclei alone; {EXPECTED_LEVELS}")
        if names:
            log.warning("%s: no %s in %d of %d masks: %s", folder, part, len(names), len(drawn), ", ".join(names))


def _masked(name: str, rgb: NDArray[np.uint8], mask: NDArray[np.uint8]) -> DrawnImage:
    parts, _ = ndi.label(mask > CELL)
    area = np.bincount(parts.ravel())[1:]
    large = np.concatenate([[False], area > LEAST_PART * area.max()])
    cells = ndi.label(large[parts])[0].astype(np.int32)
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
