"""From shapes to light: how much of each stained thing lies on a pixel, and the picture that it makes."""

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.samples.placing import KINDS, Cell, Field
from napari_all_detect.samples.shapes import (
    Outline,
    coverage,
    random_outline,
    relative_radius,
    smooth_noise,
    window_around,
)
from napari_all_detect.samples.stains import COMPONENTS, Component, Stain

__all__ = ["Layers", "paint_platelets", "paint_red_cells", "paint_white_cells", "transmit"]

Floats = NDArray[np.float32]
Layers = dict[Component, Floats]  # for each component an (H, W) image: how many layers of it the light passes

RED_CELL = 0.56  # diameter of a red cell, over that of a white cell
N_STAMPS = 24  # different red cells; each is also mirrored and turned


def paint_red_cells(rng: np.random.Generator, layers: Layers, field: Field, cell_diameter_px: float) -> None:
    """Strew red cells, single and in short rolls, over the field, but not on white cells."""
    diameter_px = RED_CELL * cell_diameter_px
    stamps = [_red_cell(rng, 0.5 * diameter_px) for _ in range(N_STAMPS)]
    centres = _red_cell_places(rng, field.shape, diameter_px)
    centres = centres[~_meets_white_cell(field.labels, centres, 0.5 * diameter_px)]
    choices = rng.integers(N_STAMPS, size=len(centres))
    turns = rng.integers(8, size=len(centres))
    for (y, x), choice, turn in zip(centres.tolist(), choices.tolist(), turns.tolist(), strict=True):
        stamp = stamps[choice]
        stamp = stamp.T if turn & 4 else stamp
        _press(layers["red_cell"], stamp[:: 1 - (turn & 2), :: 1 - 2 * (turn & 1)], y, x)


def paint_platelets(rng: np.random.Generator, layers: Layers, field: Field, cell_diameter_px: float) -> None:
    """Strew platelets, alone or a few together, between the white cells."""
    height, width = field.shape
    for _ in range(rng.poisson(height * width / (4.5 * cell_diameter_px) ** 2)):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
            radius = cell_diameter_px * rng.uniform(0.035, 0.075)
            outline = random_outline(rng, radius, oval=0.25, rough=0.3)
            dy, dx = rng.normal(0, 0.1 * cell_diameter_px, 2)
            window = window_around(y + dy, x + dx, outline.reach_px, field.shape)
            inside = coverage(relative_radius(outline, y + dy, x + dx, window), radius)
            if inside.size and not field.labels[window].any():
                density = rng.uniform(0.5, 1.1) * inside
                layers["platelet"][window] = np.maximum(layers["platelet"][window], density)


def paint_white_cells(rng: np.random.Generator, layers: Layers, field: Field, cell_diameter_px: float) -> None:
    """Paint every white cell of the field, with the chromatin and cytoplasm of its kind."""
    for label, cell in enumerate(field.cells, start=1):
        window = window_around(cell.y_px, cell.x_px, cell.outline.reach_px, field.shape)
        others = (field.labels[window] > 0) & (field.labels[window] != label)
        relative = cell.body(window)
        inside = np.where(others, np.float32(0), coverage(relative, cell.outline.radius_px))
        nucleus = np.minimum(inside, coverage(cell.nucleus(window), cell.lobes[0][2].radius_px))
        look = KINDS[cell.kind]
        strength = np.float32(rng.normal(1, 0.05))
        rim = np.clip(relative, 0, 1) ** 6
        veil = smooth_noise(rng, relative.shape, 0.06 * cell_diameter_px)
        cytoplasm = (inside - nucleus) * (0.8 + 0.4 * rim + 0.12 * veil)
        for name in ("red_cell", "platelet"):
            layers[name][window] *= 1 - 0.9 * inside
        layers["cytoplasm"][window] += np.maximum(look.cytoplasm * strength * cytoplasm, 0)
        chromatin = strength * _chromatin(rng, cell, relative, cell_diameter_px)
        layers["nucleus"][window] += np.maximum(look.chromatin * nucleus * chromatin, 0)


def transmit(
    rng: np.random.Generator, layers: Layers, stain: Stain, *, exposure: float, blur_px: float, noise: float
) -> NDArray[np.uint8]:
    """Return the picture: lamp times 10 ** -(sum of optical densities), blurred, with the camera's noise.

    Parameters
    ----------
    rng : Generator
        Source of chance: for noise, the lamp's unevenness, and staining that differs a little from slide to
        slide.
    layers : dict of str to (H, W) float32
        How many layers of each component the light passes.
    stain : Stain
        The colours.
    exposure : float
        Factor on the light; what exceeds 255 is clipped.
    blur_px, noise : float
        Standard deviations of the Gaussian blur (pixels) and of the noise (grey levels).
    """
    from scipy import ndimage

    shape = layers["nucleus"].shape
    strength = {name: rng.normal(1, 0.08) * rng.normal(1, 0.04, 3) for name in COMPONENTS}
    density = {name: stain.optical_density(name) * strength[name] for name in COMPONENTS}
    picture = np.empty((*shape, 3), np.uint8)
    bow, tilt = rng.uniform(0.01, 0.04), rng.normal(0, 0.01, (3, 2))
    for channel, lamp in enumerate(stain.background):
        absorbed = sum(np.float32(density[name][channel]) * layers[name] for name in COMPONENTS)
        light = np.exp(np.float32(-np.log(10)) * absorbed)
        light *= _evenness(shape, bow * rng.uniform(0.4, 1.6), tilt[channel]) * np.float32(lamp * exposure)
        ndimage.gaussian_filter(light, blur_px, output=light, mode="nearest")
        light += rng.standard_normal(shape, dtype=np.float32) * np.float32(noise)
        picture[..., channel] = np.clip(np.rint(light), 0, 255)
    return picture


def _chromatin(rng: np.random.Generator, cell: Cell, relative: Floats, cell_diameter_px: float) -> Floats:
    """Return the density of the nucleus around 1: grains, a firm edge, and in some blasts nucleoli."""
    look = KINDS[cell.kind]
    grains = np.tanh(smooth_noise(rng, relative.shape, look.grain * cell_diameter_px))
    broad = smooth_noise(rng, relative.shape, 0.12 * cell_diameter_px)
    density = 1 + look.contrast * grains + 0.06 * broad + 0.12 * np.clip(relative, 0, 1) ** 4
    if cell.kind == "blast":
        rows, columns = np.indices(relative.shape, np.float32)
        centre_y, centre_x = np.unravel_index(relative.argmin(), relative.shape)
        for _ in range(int(rng.choice([0, 0, 1, 2]))):
            dy, dx = rng.normal(0, 0.16 * cell_diameter_px, 2)
            far = np.hypot(rows - centre_y - dy, columns - centre_x - dx) / (0.06 * cell_diameter_px)
            density -= 0.28 * np.exp(-(far**2))
    chromatin: Floats = density.astype(np.float32)
    return chromatin


def _red_cell(rng: np.random.Generator, radius_px: float) -> Floats:
    """Return how thick a red cell is, about 0 to 1: a disc, dented in the middle, sometimes crenated."""
    outline = random_outline(rng, radius_px * rng.uniform(0.88, 1.12), oval=0.12, rough=0.08)
    if rng.uniform() < 0.15:
        outline = Outline(outline.radius_px, (*outline.waves, (int(rng.integers(8, 12)), 0.05, 0.0)))
    half = int(np.ceil(outline.reach_px)) + 1
    window = window_around(half, half, half, (2 * half + 1, 2 * half + 1))
    relative = relative_radius(outline, half, half, window)
    pallor, width = rng.choice([0.15, 0.5, 0.8]) * rng.uniform(0.8, 1.1), rng.uniform(0.35, 0.5)
    dent = pallor * np.exp(-((relative / width) ** 4))
    edge = 0.2 * np.exp(-(((relative - 0.88) / 0.1) ** 2))
    density = rng.uniform(0.75, 1.1) * (0.85 - dent + edge)
    thickness: Floats = (coverage(relative, outline.radius_px) * density).astype(np.float32)
    return thickness


def _red_cell_places(rng: np.random.Generator, shape: tuple[int, int], diameter_px: float) -> NDArray[np.float64]:
    """Return centres (n, 2): a shaken grid with empty lakes, and here and there two or three in a row."""
    step = 1.02 * diameter_px
    rows, columns = (np.arange(-step, size + step, step) for size in shape)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    grid[1::2, :, 1] += step / 2
    centres = grid.reshape(-1, 2) + rng.normal(0, 0.24 * step, (grid.shape[0] * grid.shape[1], 2))
    crowd = _slow_wave(rng, centres, 9 * diameter_px)
    lean = np.pi * _slow_wave(rng, centres, 14 * diameter_px)
    keep = 0.45 * crowd + rng.uniform(-1, 1, len(centres)) > -0.05
    rolled = keep & (rng.uniform(size=len(centres)) < 0.35)
    along = np.stack([np.sin(lean), np.cos(lean)], axis=-1)[rolled] * diameter_px
    second = centres[rolled] + along * rng.uniform(0.5, 0.8, (len(along), 1))
    return np.concatenate([centres[keep], second, second[::2] + 0.6 * along[::2]])


def _slow_wave(rng: np.random.Generator, places: NDArray[np.float64], period_px: float) -> NDArray[np.float64]:
    """Return a random smooth function of the place, about -1 to 1."""
    angles, phases = rng.uniform(0, 2 * np.pi, (2, 5))
    rate = 2 * np.pi / (period_px * rng.uniform(0.6, 1.6, 5))
    waves = np.sin(places @ np.stack([np.sin(angles), np.cos(angles)]) * rate + phases)
    wave: NDArray[np.float64] = waves.sum(axis=1) / np.sqrt(5)
    return wave


def _meets_white_cell(labels: NDArray[np.int32], centres: NDArray[np.float64], radius_px: float) -> NDArray[np.bool_]:
    """Return which discs reach well onto a white cell: with the centre or two of eight points around it."""
    angles = np.arange(8) * np.pi / 4
    around = 0.75 * radius_px * np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    points = np.rint(centres[:, None] + np.concatenate([[[0.0, 0.0]], around])).astype(int)
    inside = ((points >= 0) & (points < labels.shape)).all(axis=-1)
    points = np.where(inside[..., None], points, 0)
    hit = inside & (labels[points[..., 0], points[..., 1]] > 0)
    meets: NDArray[np.bool_] = hit[:, 0] | (hit[:, 1:].sum(axis=1) >= 2)
    return meets


def _press(canvas: Floats, stamp: Floats, y_px: float, x_px: float) -> None:
    """Lay a stamp on a canvas; where it meets an earlier one the thinner of the two counts for a third."""
    top, left = round(y_px) - stamp.shape[0] // 2, round(x_px) - stamp.shape[1] // 2
    bottom, right = min(top + stamp.shape[0], canvas.shape[0]), min(left + stamp.shape[1], canvas.shape[1])
    if bottom <= max(top, 0) or right <= max(left, 0):
        return
    below = canvas[max(top, 0) : bottom, max(left, 0) : right]
    stamp = stamp[max(-top, 0) : bottom - top, max(-left, 0) : right - left]
    below[:] = np.maximum(below, stamp) + np.minimum(below, stamp) / 3


def _evenness(shape: tuple[int, ...], bow: float, tilt: NDArray[np.float64]) -> Floats:
    """Return the lamp over the field, 1 on average: by `bow` brighter in the middle, and tilted."""
    down, across = (np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in shape)
    rows = 1 + bow * (1 / 3 - down**2) + tilt[0] * down
    columns = 1 + bow * (1 / 3 - across**2) + tilt[1] * across
    return np.outer(rows, columns).astype(np.float32)
