"""Cut a drawn cell out of one image and lay it into another: touching cells with truth, on any background."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi

from all_detect_training.segmenter.masks import DrawnImage
from napari_all_detect.segmentation.light import empty_field

__all__ = ["Cutout", "cut_out", "paste", "paste_beside"]

SEAM_PX = 0.7
UNDERNEATH = 0.35
"""Of a pasted cell, how much shows where another lies on it."""

CLOSENESS = (0.85, 1.02)
"""Distance between the centres of touching cells, over the sum of their radii."""


@dataclass(frozen=True)
class Cutout:
    """A cell: the light it lets pass relative to its own slide, (h, w, 3), where it is, and where its nucleus is."""

    light: NDArray[np.float32]
    cell: NDArray[np.bool_]
    nucleus: NDArray[np.bool_]


def cut_out(image: DrawnImage, factor: float, rng: np.random.Generator) -> Cutout:
    """Cut out the largest cell, resized, turned by any angle, mirrored or not."""
    small = image.resized(factor)
    number = int(np.bincount(small.cells.ravel())[1:].argmax()) + 1
    rows, columns = ndi.find_objects(small.cells)[number - 1]
    window = slice(max(0, rows.start - 3), rows.stop + 3), slice(max(0, columns.start - 3), columns.stop + 3)
    cell = small.cells[window] == number
    angle, mirror = rng.uniform(0, 360), 1 - 2 * int(rng.random() < 0.5)

    def turned(array: NDArray[np.uint8], smooth: Image.Resampling) -> NDArray[np.uint8]:
        picture = Image.fromarray(array).rotate(angle, resample=smooth, expand=True)
        return np.asarray(picture)[:, ::mirror]

    mask, nucleus = (
        turned(np.where(m, 255, 0).astype(np.uint8), Image.Resampling.BILINEAR) > 127
        for m in (cell, small.nuclei[window] & cell)
    )
    rgb = turned(np.ascontiguousarray(small.rgb[window]), Image.Resampling.BICUBIC)
    return Cutout((rgb / empty_field(image.rgb)).astype(np.float32), mask, nucleus & mask)


def paste(scene: DrawnImage, cutout: Cutout, y: float, x: float) -> None:
    """Lay a cell into a scene, centred at (y, x), under the cells that are there; changes the scene's arrays."""
    (height, width), (scene_height, scene_width) = cutout.cell.shape, scene.cells.shape
    top, left = int(np.floor(y - height / 2)), int(np.floor(x - width / 2))
    rows = slice(max(0, top), max(0, min(scene_height, top + height)))
    columns = slice(max(0, left), max(0, min(scene_width, left + width)))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return
    here = rows, columns
    part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    before = scene.cells[here] > 0
    new = cutout.cell[part] & ~before
    share = ndi.gaussian_filter(new.astype(np.float32), SEAM_PX)[..., None]
    share *= np.where(before, UNDERNEATH, 1.0)[..., None]
    colour = np.clip(cutout.light[part] * empty_field(scene.rgb), 0, 255)
    scene.rgb[here] = (scene.rgb[here] * (1 - share) + colour * share).astype(np.uint8)
    scene.nuclei[here][new] = cutout.nucleus[part][new]
    scene.known[here][new] = True
    scene.cells[here][new] = scene.cells.max() + 1


def paste_beside(scene: DrawnImage, cutout: Cutout, rng: np.random.Generator) -> None:
    """Lay a cell into a scene so that it touches one that is there, if there is one."""
    height, width = scene.cells.shape
    numbers = np.unique(scene.cells[scene.cells > 0])
    if len(numbers) == 0:
        paste(scene, cutout, rng.uniform(0, height), rng.uniform(0, width))
        return
    rows, columns = np.nonzero(scene.cells == rng.choice(numbers))
    reach = np.sqrt(len(rows) / np.pi) + np.sqrt(cutout.cell.sum() / np.pi)
    angle, far = rng.uniform(0, 2 * np.pi), reach * rng.uniform(*CLOSENESS)
    paste(scene, cutout, rows.mean() + far * np.sin(angle), columns.mean() + far * np.cos(angle))
