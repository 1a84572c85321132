"""Where the white cells lie and what they look like: the ground truth of a drawn smear."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.samples.shapes import Outline, Window, random_outline, relative_radius, window_around

__all__ = ["KINDS", "Cell", "Field", "Kind", "place_cells"]

Kind = Literal["blast", "lymphocyte", "granulocyte"]
TRIES = 80  # places tried for one cell before it is given up
GAP_PX = 2.0  # between a cell that is alone and its neighbours
MOST_OVERLAP = 0.15  # of a touching cell that may be lost to those it touches
LEAST_VISIBLE = 0.2  # of a cell that the border cuts


@dataclass(frozen=True)
class Look:
    """How one kind of white cell is drawn.

    Attributes
    ----------
    diameter : float
        Mean diameter, over `cell_diameter_px`.
    nucleus_area : (float, float)
        Least and greatest share of the nucleus in the cell's area.
    grain : float
        Width of the chromatin's grains, over `cell_diameter_px`.
    contrast : float
        Standard deviation of the chromatin's density.
    chromatin, cytoplasm : float
        Density of nucleus and cytoplasm, in layers of the stain.
    """

    diameter: float
    nucleus_area: tuple[float, float]
    grain: float
    contrast: float
    chromatin: float
    cytoplasm: float


KINDS: dict[Kind, Look] = {
    "blast": Look(1.10, (0.80, 0.90), grain=0.022, contrast=0.20, chromatin=0.72, cytoplasm=1.25),
    "lymphocyte": Look(0.82, (0.62, 0.85), grain=0.042, contrast=0.24, chromatin=1.30, cytoplasm=0.80),
    "granulocyte": Look(1.00, (0.35, 0.45), grain=0.045, contrast=0.18, chromatin=1.15, cytoplasm=0.40),
}


@dataclass(frozen=True)
class Cell:
    """A white cell: its centre, its outline, and the lobes of its nucleus (offset y, offset x, outline)."""

    kind: Kind
    y_px: float
    x_px: float
    outline: Outline
    lobes: tuple[tuple[float, float, Outline], ...]

    def body(self, window: Window) -> NDArray[np.float32]:
        """Return the relative radius of the cell: at most 1 inside (see `relative_radius`)."""
        return relative_radius(self.outline, self.y_px, self.x_px, window)

    def nucleus(self, window: Window) -> NDArray[np.float32]:
        """Return the least relative radius of the lobes: at most 1 inside the nucleus."""
        y, x = self.y_px, self.x_px
        lobes = [relative_radius(curve, y + dy, x + dx, window) for dy, dx, curve in self.lobes]
        nearest: NDArray[np.float32] = np.minimum.reduce(lobes)
        return nearest


@dataclass
class Field:
    """The truth, growing while cells are placed: label images `(H, W)` int32; the cells, label 1 first."""

    labels: NDArray[np.int32]
    nuclei: NDArray[np.int32]
    cells: list[Cell] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.labels.shape[0], self.labels.shape[1]


def place_cells(
    rng: np.random.Generator,
    shape: tuple[int, int],
    kinds: Sequence[Kind],
    *,
    n_border: int,
    n_touching: int,
    cell_diameter_px: float,
) -> Field:
    """Place a cell per kind: the first `n_border` on the border, the last `n_touching` in contact.

    A cell for which no free place is found in `TRIES` tries is left out.

    Parameters
    ----------
    rng : Generator
    shape : (int, int)
        Height and width of the smear.
    kinds : sequence of {"blast", "lymphocyte", "granulocyte"}
    n_border, n_touching : int
    cell_diameter_px : float
        Of a typical cell; each kind has its own, and each cell differs.

    Returns
    -------
    field : Field
    """
    grown = Field(np.zeros(shape, np.int32), np.zeros(shape, np.int32))
    for index, kind in enumerate(kinds):
        touching = index >= len(kinds) - n_touching and bool(grown.cells)
        for _ in range(TRIES):
            cell = _random_cell(rng, kind, cell_diameter_px)
            if index < n_border:
                cell = _moved(cell, *_border_place(rng, shape, cell.outline.radius_px))
            elif touching:
                cell = _moved(cell, *_contact_place(rng, grown.cells, cell.outline))
            else:
                cell = _moved(cell, rng.uniform(0, shape[0]), rng.uniform(0, shape[1]))
            if (index < n_border or _lies_inside(cell, shape)) and _add(grown, cell, touching=touching):
                break
    return grown


def _random_cell(rng: np.random.Generator, kind: Kind, cell_diameter_px: float) -> Cell:
    look = KINDS[kind]
    radius = 0.5 * cell_diameter_px * look.diameter * float(np.clip(rng.normal(1, 0.10), 0.8, 1.25))
    outline = random_outline(rng, radius, oval=0.12, rough=0.10)
    share = float(np.sqrt(rng.uniform(*look.nucleus_area)))
    if kind == "granulocyte":
        return Cell(kind, 0.0, 0.0, outline, _lobed_nucleus(rng, radius, share))
    turn, away = rng.uniform(0, 2 * np.pi), 0.7 * (1 - share) * radius
    dent = random_outline(rng, 1.0, oval=0.02, rough=0.05).waves
    inner = Outline(radius * share, outline.waves + dent)
    return Cell(kind, 0.0, 0.0, outline, ((away * np.sin(turn), away * np.cos(turn), inner),))


def _lobed_nucleus(
    rng: np.random.Generator, radius_px: float, share: float
) -> tuple[tuple[float, float, Outline], ...]:
    """Return three to five round lobes along an arc that fill about `share`² of the cell."""
    n_lobes = int(rng.integers(3, 6))
    lobe_px = radius_px * share / np.sqrt(n_lobes) * 1.08
    turn, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.0)
    arc_px = 0.52 * radius_px
    step = 1.55 * lobe_px / arc_px * bend
    angles = turn + step * np.arange(n_lobes)
    outlines = [random_outline(rng, lobe_px * rng.uniform(0.9, 1.1), oval=0.15, rough=0.08) for _ in angles]
    places = zip((arc_px * np.sin(angles)).tolist(), (arc_px * np.cos(angles)).tolist(), strict=True)
    return tuple((dy, dx, outline) for (dy, dx), outline in zip(places, outlines, strict=True))


def _moved(cell: Cell, y_px: float, x_px: float) -> Cell:
    return Cell(cell.kind, y_px, x_px, cell.outline, cell.lobes)


def _border_place(rng: np.random.Generator, shape: tuple[int, int], radius_px: float) -> tuple[float, float]:
    """Return a centre so near a random side of the image that the side cuts the cell."""
    along, depth = rng.uniform(0, 1), rng.uniform(-0.25, 0.55) * radius_px
    y, x = along * (shape[0] - 1), along * (shape[1] - 1)
    sides = ((depth, x), (shape[0] - 1 - depth, x), (y, depth), (y, shape[1] - 1 - depth))
    return sides[int(rng.integers(4))]


def _contact_place(rng: np.random.Generator, cells: list[Cell], outline: Outline) -> tuple[float, float]:
    """Return a centre at which the outline just runs into that of a random cell."""
    other = cells[int(rng.integers(len(cells)))]
    angle = rng.uniform(-np.pi, np.pi)
    there, back = np.array([[angle], [angle + np.pi]], np.float32)
    apart = float(other.outline.radius_at(there)[0] + outline.radius_at(back)[0])
    apart -= max(1.0, 0.08 * outline.radius_px)
    return other.y_px + apart * np.sin(angle), other.x_px + apart * np.cos(angle)


def _lies_inside(cell: Cell, shape: tuple[int, int]) -> bool:
    reach = cell.outline.reach_px + 1
    return reach <= cell.y_px <= shape[0] - 1 - reach and reach <= cell.x_px <= shape[1] - 1 - reach


def _add(grown: Field, cell: Cell, *, touching: bool) -> bool:
    """Write the cell into the label images; False, and nothing written, if it does not go there."""
    from scipy import ndimage

    window = window_around(cell.y_px, cell.x_px, cell.outline.reach_px, grown.shape)
    relative = cell.body(window)
    whole, taken = relative <= 1, grown.labels[window] > 0
    if touching:
        lost = np.count_nonzero(whole & taken)
        if not 0 < lost <= MOST_OVERLAP * np.count_nonzero(whole):
            return False
    elif (taken & (relative <= 1 + GAP_PX / cell.outline.radius_px)).any():
        return False
    body = _largest_part(whole & ~taken)
    nucleus = body & (cell.nucleus(window) <= 1) & (relative <= 0.97)
    visible = np.count_nonzero(body) / (np.pi * cell.outline.radius_px**2)
    if visible < LEAST_VISIBLE or not nucleus.any():
        return False
    if touching and not (ndimage.binary_dilation(body) & taken).any():
        return False
    grown.cells.append(cell)
    grown.labels[window][body] = len(grown.cells)
    grown.nuclei[window][nucleus] = len(grown.cells)
    return True


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected part (over edges, not corners) of a mask."""
    from scipy import ndimage

    parts, n_parts = ndimage.label(mask)
    if n_parts < 2:
        return mask
    largest: NDArray[np.bool_] = parts == 1 + np.bincount(parts[mask])[1:].argmax()
    return largest
