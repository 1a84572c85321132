"""Small scenes with truth to learn from.

Real cells where they were drawn, pasted beside each other or between real red cells; and smears that are drawn
altogether, in stains of many kinds. For what carries across laboratories is variety: a set of single cells on one
stain teaches neither touching cells nor other backgrounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage as ndi
from skimage.measure import label

from all_detect_training.segmenter.masks import DrawnImage
from all_detect_training.segmenter.pasting import cut_out, paste, paste_beside
from napari_all_detect.samples import STAINS, Stain, draw_smear

__all__ = ["Scenes", "compose", "core_depth"]

SCENE_PX = 128
SMEAR_PX = 224
SCALE_SPREAD = 0.25
"""Standard deviation of the logarithm of the cells' diameter: estimates of it are as rough as that."""

MASKED, PARTLY, BLANK = 0.4, 0.32, 0.04
"""Shares of the scenes that start from images with masks, partly known ones, and nothing; the others are drawn."""

AT_CELLS, AT_CELLS_PARTLY = 0.9, 0.6
"""Shares of the scenes that are cut out around a cell; what partly known images teach best is what is none."""

NO_WHITE_CELLS = 0.15
"""Share of the drawn smears that hold red cells and platelets alone."""

BURNT_IN = 0.08
"""Share of the scenes that get a scale bar or a text."""


Pixel = TypeVar("Pixel", bound=np.generic)


@dataclass(frozen=True)
class Scenes:
    """What the network learns from.

    Attributes
    ----------
    rgb : (N, s, s, 3) uint8
    truth : (N, s, s, 4) uint8
        Cell, nucleus, core depth (0 to 255), and where these are known.
    """

    rgb: NDArray[np.uint8]
    truth: NDArray[np.uint8]


def compose(
    n: int,
    masked: Sequence[DrawnImage],
    partly: Sequence[DrawnImage],
    *,
    cell_diameter_px: float,
    n_smears: int = 120,
    seed: int = 0,
) -> Scenes:
    """Compose scenes.

    Parameters
    ----------
    n : int
        Number of scenes.
    masked, partly : sequence of DrawnImage
        Images with drawn cells, and images of which parts are known, such as red cells outside of boxes around white
        ones; either may be empty.
    cell_diameter_px : float
        To which cells are resized, about.
    n_smears : int
        Drawn smears to cut scenes from.
    seed : int
    """
    rng = np.random.default_rng(seed)
    smears = [_drawn_smear(rng, cell_diameter_px) for _ in range(n_smears)]
    rgb = np.empty((n, SCENE_PX, SCENE_PX, 3), np.uint8)
    truth = np.empty((n, SCENE_PX, SCENE_PX, 4), np.uint8)
    for i in range(n):
        scene = _scene(rng, masked, partly, smears, cell_diameter_px)
        rgb[i] = scene.rgb
        truth[i, ..., 0] = np.where(scene.cells > 0, 255, 0)
        truth[i, ..., 1] = np.where(scene.nuclei & (scene.cells > 0), 255, 0)
        truth[i, ..., 2] = np.rint(255 * core_depth(scene.cells))
        truth[i, ..., 3] = np.where(scene.known, 255, 0)
    return Scenes(rgb, truth)


def core_depth(cells: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return each pixel's distance to its cell's outline, over the greatest in the cell: 0 to 1, (H, W) float32.

    The border of the picture is no outline.
    """
    depth = np.zeros(cells.shape, np.float32)
    for number, box in enumerate(ndi.find_objects(cells), start=1):
        if box is None:
            continue
        cell = cells[box] == number
        radius = float(np.sqrt(cell.sum() / np.pi))
        far = int(np.ceil(2 * radius)) + 1
        pad = [(far if s.start == 0 else 1, far if s.stop == n else 1) for s, n in zip(box, cells.shape, strict=True)]
        edges = [(far * (before > 1), far * (after > 1)) for before, after in pad]
        grown = np.pad(np.pad(cell, edges, mode="edge"), 1, constant_values=False)
        distance = ndi.distance_transform_edt(grown)[1:-1, 1:-1]
        inner = tuple(slice(e[0], e[0] + n) for e, n in zip(edges, cell.shape, strict=True))
        greatest = max(float(distance[inner][cell].max()), 0.6 * radius, 1.0)
        depth[box][cell] = np.minimum(1, distance[inner][cell] / greatest)
    return depth


def _scene(
    rng: np.random.Generator,
    masked: Sequence[DrawnImage],
    partly: Sequence[DrawnImage],
    smears: Sequence[DrawnImage],
    diameter: float,
) -> DrawnImage:
    """Compose one scene."""
    dice = rng.random()
    if dice < MASKED and masked:
        scene, more = _window(_scaled(rng, masked, diameter), rng, AT_CELLS), rng.choice([0, 1, 2], p=[0.5, 0.3, 0.2])
    elif dice < MASKED + PARTLY and partly:
        scene, more = _window(_scaled(rng, partly, diameter), rng, AT_CELLS_PARTLY), rng.choice([0, 1, 2, 3])
    elif dice > 1 - BLANK:
        scene, more = _blank(rng, diameter), rng.choice([0, 1, 3])
    else:
        scene, more = _window(_any_of(smears, rng), rng, AT_CELLS), rng.choice([0, 1, 2], p=[0.6, 0.2, 0.2])
    for _ in range(int(more) if masked else 0):
        donor = _any_of(masked, rng)
        cell = cut_out(donor, scene.diameter_px / donor.diameter_px * np.exp(rng.normal(0, 0.15)), rng)
        if rng.random() < 0.7:
            paste_beside(scene, cell, rng)
        else:
            paste(scene, cell, *rng.uniform(0, SCENE_PX, 2))
    return _burnt_in(scene, rng) if rng.random() < BURNT_IN else scene


def _scaled(rng: np.random.Generator, images: Sequence[DrawnImage], diameter: float) -> DrawnImage:
    image = _any_of(images, rng)
    return image.resized(diameter * float(np.exp(rng.normal(0, SCALE_SPREAD))) / image.diameter_px)


def _any_of(images: Sequence[DrawnImage], rng: np.random.Generator) -> DrawnImage:
    return images[int(rng.integers(len(images)))]


def _window(image: DrawnImage, rng: np.random.Generator, at_cells: float) -> DrawnImage:
    """Cut a scene out, a share of them around a cell; where the image ends, it goes on mirrored."""
    height, width = image.cells.shape
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    if image.cells.any() and rng.random() < at_cells:
        rows, columns = np.nonzero(image.cells)
        pick = rng.integers(len(rows))
        y, x = np.array([rows[pick], columns[pick]]) + rng.normal(0, SCENE_PX / 6, 2)
    starts = [
        int(np.clip(centre - SCENE_PX / 2, min(0, n - SCENE_PX), max(0, n - SCENE_PX)))
        for centre, n in ((y, height), (x, width))
    ]

    def cut(array: NDArray[Pixel]) -> NDArray[Pixel]:
        inside = array[tuple(slice(max(s, 0), s + SCENE_PX) for s in starts)]
        pad = [(max(-s, 0), SCENE_PX - max(-s, 0) - n) for s, n in zip(starts, inside.shape[:2], strict=True)]
        return np.pad(inside, [*pad, *[(0, 0)] * (array.ndim - 2)], mode="symmetric")

    # Mirror images are cells of their own.
    cells = label(cut(image.cells), connectivity=1).astype(np.int32)
    return replace(image, rgb=cut(image.rgb), cells=cells, nuclei=cut(image.nuclei), known=cut(image.known))


def _drawn_smear(rng: np.random.Generator, diameter: float) -> DrawnImage:
    """Draw a smear in a stain of its own."""
    diameter *= float(np.exp(rng.normal(0, SCALE_SPREAD)))
    smear = draw_smear(
        (SMEAR_PX, SMEAR_PX),
        n_cells=0 if rng.random() < NO_WHITE_CELLS else int(rng.integers(4, 14)),
        fraction_all=float(rng.choice([0, 0.5, 1])),
        cell_diameter_px=diameter,
        stain=_random_stain(rng),
        seed=int(rng.integers(2**31)),
        touching=rng.uniform(0, 0.7),
        blur_px=rng.uniform(0.4, 1.4),
        noise=rng.uniform(0.5, 4),
        exposure=rng.uniform(0.8, 1.15),
        lobed=rng.uniform(0, 1),
        red_cells=bool(rng.random() < 0.85),
    )
    return DrawnImage("", smear.rgb, smear.labels, smear.nuclei > 0, np.ones(smear.labels.shape, bool), diameter)


def _random_stain(rng: np.random.Generator) -> Stain:
    """Take a stain and make each of its components absorb more or less.

    Red cells may be all but dissolved, or of any colour: they take up eosin, or the blue dyes, or next to nothing.
    """
    stain = STAINS[rng.choice(list(STAINS))]
    slide = np.array(stain.background)
    lysed = rng.uniform(0.1, 0.5) if rng.random() < 0.25 else 1.0

    def varied(colour: tuple[float, float, float], share: float = 1.0) -> tuple[float, float, float]:
        density = np.log(slide / np.array(colour)) * share * np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.1, 3))
        red, green, blue = np.clip(slide * np.exp(-density), 5, 255).tolist()
        return red, green, blue

    red_cell = stain.red_cell
    if rng.random() < 0.4:
        density = np.abs(rng.normal(size=3))
        density *= rng.uniform(0.25, 0.8) / np.linalg.norm(density)
        red, green, blue = (slide * np.exp(-density)).tolist()
        red_cell = red, green, blue
    return Stain(
        stain.background,
        varied(red_cell, lysed),
        varied(stain.platelet),
        varied(stain.cytoplasm),
        varied(stain.nucleus),
    )


def _blank(rng: np.random.Generator, diameter: float) -> DrawnImage:
    """Return a bare slide, or noise: nothing is there to be found but what is pasted."""
    shape = (SCENE_PX, SCENE_PX)
    rgb = rng.uniform(60, 255, 3) * np.ones((*shape, 1))
    if rng.random() < 0.4:
        rgb = rgb + rng.normal(0, rng.uniform(2, 60), (*shape, 3 if rng.random() < 0.5 else 1))
    nothing = np.zeros(shape, np.int32)
    return DrawnImage("", np.clip(rgb, 0, 255).astype(np.uint8), nothing, nothing > 0, nothing == 0, diameter)


def _burnt_in(scene: DrawnImage, rng: np.random.Generator) -> DrawnImage:
    """Add what cameras write into pictures: a bar and its length."""
    picture = Image.fromarray(scene.rgb)
    draw = ImageDraw.Draw(picture)
    y, x = (int(v) for v in rng.integers(0, SCENE_PX - 20, 2))
    level = int(rng.choice([0, 255]))
    draw.rectangle([x, y, x + int(rng.integers(10, 60)), y + int(rng.integers(1, 5))], fill=(level,) * 3)
    draw.text((x, y + 5), f"{rng.integers(5, 100)} um", fill=(level,) * 3)
    return replace(scene, rgb=np.asarray(picture))
