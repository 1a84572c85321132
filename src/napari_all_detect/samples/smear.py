"""One drawn smear: picture and truth."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.samples.painting import (
    Layers,
    paint_platelets,
    paint_red_cells,
    paint_white_cells,
    transmit,
)
from napari_all_detect.samples.placing import Kind, place_cells
from napari_all_detect.samples.stains import COMPONENTS, STAINS, Stain

__all__ = ["Smear", "draw_smear"]

Class = Literal["ALL", "Hem"]


@dataclass(frozen=True)
class Smear:
    """A picture of a smear and what is in it.

    Attributes
    ----------
    rgb : (H, W, 3) uint8
        The picture.
    labels : (H, W) int32
        Whole white cells: 0 is no white cell, cells are numbered from 1 without a gap, each
        is one connected piece (over pixel edges), none overlaps another.
    nuclei : (H, W) int32
        Their nuclei under the same numbers; each lies inside its cell. A lobed nucleus may be in several
        pieces.
    classes : tuple of {"ALL", "Hem"}
        ``"ALL"`` (blast) or ``"Hem"`` (normal) of label 1, 2, ...
    """

    rgb: NDArray[np.uint8]
    labels: NDArray[np.int32]
    nuclei: NDArray[np.int32]
    classes: tuple[Class, ...]


def draw_smear(
    shape: tuple[int, int] = (224, 224),
    *,
    n_cells: int = 8,
    fraction_all: float = 0.5,
    cell_diameter_px: float = 32.0,
    stain: str | Stain = "marrow",
    seed: int = 0,
    touching: float = 0.2,
    border: float = 0.1,
    red_cells: bool = True,
    platelets: bool = True,
    blur_px: float = 0.7,
    noise: float = 1.5,
    exposure: float = 1.0,
    lobed: float = 0.0,
) -> Smear:
    """Draw a stained smear of leukemic blasts and normal white cells, and tell what was drawn.

    Blasts are large, with fine pale chromatin, sometimes nucleoli, and scant cytoplasm; lymphocytes are
    smaller, with a dense clumped nucleus and a rim of pale cytoplasm. Red cells and platelets lie between
    them. The picture is light that was weakened by every thing it passed (Beer-Lambert), blurred, with
    noise. The same arguments give the same smear. `stain`, `red_cells`, `platelets`, `blur_px`, `noise` and
    `exposure` change the picture alone, not the truth.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels, each at least 1.
    n_cells : int
        White cells to place. A cell that finds no place in 80 random tries is left out, so a crowded or
        small field holds fewer: `len(smear.classes)` tells how many. Only cells on the border are cut; the
        others lie inside.
    fraction_all : float
        Share of blasts, 0 to 1, rounded to whole cells (of `n_cells`).
    cell_diameter_px : float
        Typical diameter of a white cell, at least 8 and meant for 20 to 400: blasts are 1.1 times as wide on
        average, lymphocytes 0.82, lobed cells 1.0, red cells 0.56.
    stain : str or Stain
        A name in `STAINS`, or colours of your own.
    seed : int
        0 or more.
    touching : float
        Share of cells, 0 to 1, that are placed in contact with an earlier one. Other cells stay 2 pixels
        apart.
    border : float
        Share of cells, 0 to 1, that are placed so that the border of the picture cuts them.
    red_cells, platelets : bool
        Whether to draw them.
    blur_px : float
        Standard deviation of the Gaussian blur, 0 or more.
    noise : float
        Standard deviation of the camera's noise in grey levels, 0 or more.
    exposure : float
        Factor on the light, above 0; 1.3 burns out the background.
    lobed : float
        Share of normal cells, 0 to 1, that are drawn as granulocytes, with a lobed nucleus. Their class is
        Hem too.

    Returns
    -------
    smear : Smear

    Raises
    ------
    ValueError
        If an argument is out of its range or the stain is unknown.

    Examples
    --------
    >>> smear = draw_smear((128, 160), n_cells=4, seed=1)
    >>> smear.rgb.shape, smear.labels.max(), sorted(smear.classes)
    ((128, 160, 3), np.int32(4), ['ALL', 'ALL', 'Hem', 'Hem'])
    """
    _check(shape, cell_diameter_px, exposure)
    _check_not_negative(n_cells=n_cells, seed=seed, blur_px=blur_px, noise=noise)
    _check_shares(fraction_all=fraction_all, touching=touching, border=border, lobed=lobed)
    colours = _stain(stain)
    rng = np.random.default_rng(seed)
    n_border = round(border * n_cells)
    field = place_cells(
        rng,
        shape,
        _kinds(rng, n_cells, fraction_all, lobed),
        n_border=n_border,
        n_touching=min(round(touching * n_cells), n_cells - n_border),
        cell_diameter_px=cell_diameter_px,
    )
    layers: Layers = {name: np.zeros(shape, np.float32) for name in COMPONENTS}
    if red_cells:
        paint_red_cells(rng, layers, field, cell_diameter_px)
    if platelets:
        paint_platelets(rng, layers, field, cell_diameter_px)
    paint_white_cells(rng, layers, field, cell_diameter_px)
    rgb = transmit(rng, layers, colours, exposure=exposure, blur_px=blur_px, noise=noise)
    classes: tuple[Class, ...] = tuple("ALL" if cell.kind == "blast" else "Hem" for cell in field.cells)
    return Smear(rgb, field.labels, field.nuclei, classes)


def _kinds(rng: np.random.Generator, n_cells: int, fraction_all: float, lobed: float) -> list[Kind]:
    n_all = round(fraction_all * n_cells)
    n_lobed = round(lobed * (n_cells - n_all))
    counts: dict[Kind, int] = {
        "blast": n_all,
        "granulocyte": n_lobed,
        "lymphocyte": n_cells - n_all - n_lobed,
    }
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    return [kinds[index] for index in rng.permutation(n_cells)]


def _stain(stain: str | Stain) -> Stain:
    if isinstance(stain, Stain):
        return stain
    if stain not in STAINS:
        raise ValueError(f"no stain is called {stain!r}; there are {', '.join(STAINS)}")
    return STAINS[stain]


def _check(shape: tuple[int, int], cell_diameter_px: float, exposure: float) -> None:
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape is {shape}; height and width are needed, each at least 1")
    if not 8 <= cell_diameter_px < math.inf:
        raise ValueError(f"cell_diameter_px is {cell_diameter_px}; it must be at least 8, and finite")
    if not 0 < exposure < math.inf:
        raise ValueError(f"exposure is {exposure}; it must be above 0, and finite")


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}; a share between 0 and 1 is needed")


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; it must be 0 or more, and finite")
