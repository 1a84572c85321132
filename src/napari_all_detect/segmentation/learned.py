"""Cells by a network: light -> maps of cell, nucleus and core -> labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_all_detect.engines import Mapper
from napari_all_detect.segmentation.classical import found_diameter
from napari_all_detect.segmentation.instances import HALF, enlarge, keep_only, part
from napari_all_detect.segmentation.light import chromatin, empty_field, least_chromatin, mean_stain, relative_light
from napari_all_detect.segmentation.nuclei import find_nuclei
from napari_all_detect.segmentation.scale import typical_diameter
from napari_all_detect.unet import EMPTY_FIELD, STRIDE

__all__ = ["segment_learned"]

LIKE_SIZE = (0.88, 1.12)
"""Cells whose diameter, as found, differs from the one assumed by no more are not looked at again."""

CLEAR = 0.8
"""Less depth than this may mean that lobes were taken for cells: a look from afar is cheap."""

SURE = 0.75
"""Less depth than this betrays cells that were taken for parts of larger ones."""

BLUR = 0.05
"""By so much the depth differs between scales that are both right."""

MORE_LOOKS, CLOSEST = 3, 2
"""How often cells are looked at again, and how much narrower than estimated they may be taken to be then."""

ABOVE_RED_CELLS = 0.01
"""Of four stains, nuclei of drawn and boxed cells were by at least 0.11 darker in chromatin's colour."""

TILE_PX = 1024
MARGIN_PX = 64
"""Wider than what the network sees around a pixel at which it matters."""

Labels = NDArray[np.int32]
Maps = NDArray[np.uint8]


def segment_learned(
    rgb: NDArray[np.uint8], diameter: float | None, mapper: Mapper, *, nuclei: bool = True
) -> tuple[Labels, Labels | None]:
    """Find white cells and their nuclei with a network.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    diameter : float or None
        Of a typical white cell, in pixels; None estimates it.
    mapper : Mapper
    nuclei : bool
        Whether to outline the nuclei, too.

    Returns
    -------
    cells : (H, W) int32
    nuclei : (H, W) int32 or None
    """
    shape = rgb.shape[0], rgb.shape[1]
    light = relative_light(rgb, empty_field(rgb), EMPTY_FIELD)
    if diameter is not None:
        look = _look(light, diameter, mapper)
    elif (estimate := found_diameter(rgb)) is not None:
        look = _best_look(light, estimate, mapper)
    else:
        return np.zeros(shape, np.int32), np.zeros(shape, np.int32) if nuclei else None
    cells = enlarge(_only_stained(look, rgb), look.maps[..., 0], shape)
    return cells, find_nuclei(rgb, cells, look.maps[..., 1]) if nuclei else None


@dataclass(frozen=True)
class _Look:
    """What the network finds when cells are taken to be `assumed` wide in the plane, and so `diameter` in the maps."""

    assumed: float
    maps: Maps
    pieces: Labels
    diameter: float

    @cached_property
    def found(self) -> float:
        """Diameter of the cells that are found, in pixels of the plane."""
        return (typical_diameter(self.pieces) or self.diameter) * self.assumed / self.diameter

    @cached_property
    def depth(self) -> float:
        """Greatest depth in each cell, averaged over their area, 0 to 1: at a wrong scale the network is not sure."""
        inside = self.pieces > 0
        if not inside.any():
            return 0.0
        deepest = np.zeros(self.pieces.max() + 1, np.uint8)
        np.maximum.at(deepest, self.pieces[inside], self.maps[..., 2][inside])
        return float(deepest[self.pieces[inside]].mean() / 255)


def _best_look(light: NDArray[np.uint8], estimate: float, mapper: Mapper) -> _Look:
    """Look at the scales at which cells may be, and settle where the network is surest of what it sees."""
    best = _look(light, estimate, mapper)
    if best.depth < CLEAR:
        far = _look(light, 2 * estimate, mapper)
        best = far if far.depth > best.depth - BLUR else best
    for _ in range(MORE_LOOKS):
        if not LIKE_SIZE[0] <= best.found / best.assumed <= LIKE_SIZE[1]:
            other, least = _look(light, max(best.found, estimate / CLOSEST), mapper), best.depth - BLUR
        elif 0 < best.depth < SURE and best.assumed > estimate / CLOSEST:
            other, least = _look(light, best.assumed / 2, mapper), best.depth + BLUR
        else:
            break
        if other.depth < least:
            break
        best = other
    return best


def _look(light: NDArray[np.uint8], diameter: float, mapper: Mapper) -> _Look:
    """Bring the cells to the size that the network knows, and let it look."""
    factor = mapper.cell_diameter_px / diameter
    height, width = (STRIDE * max(1, round(n * factor / STRIDE)) for n in light.shape[:2])
    scaled = np.asarray(Image.fromarray(light).resize((width, height), Image.Resampling.BILINEAR))
    maps = _maps(scaled, mapper)
    seen = mapper.cell_diameter_px / STRIDE
    return _Look(diameter, maps, part(maps, seen), seen)


def _only_stained(look: _Look, rgb: NDArray[np.uint8]) -> Labels:
    """Drop the cells whose nuclei are no darker than red cells: seen far too close, those look like pale blasts."""
    small = np.asarray(Image.fromarray(rgb).resize(look.pieces.shape[::-1], Image.Resampling.BILINEAR))
    stain = chromatin(small, empty_field(rgb))
    nuclei = np.where(look.maps[..., 1] >= HALF, look.pieces, 0)
    level = least_chromatin(stain[look.pieces == 0], ABOVE_RED_CELLS)
    return keep_only(look.pieces, mean_stain(nuclei, stain) >= level)


def _maps(light: NDArray[np.uint8], mapper: Mapper) -> Maps:
    """Run the network, on tiles where the image is large; beyond its border the image goes on as there."""
    height, width = light.shape[:2]
    maps = np.empty((height // STRIDE, width // STRIDE, 3), np.uint8)
    for rows in _tiles(height):
        for columns in _tiles(width):
            tile = light[slice(*rows[0]), slice(*columns[0])]
            pad = [(0, -n % mapper.multiple) for n in tile.shape[:2]]
            found = mapper.predict(np.pad(tile, (*pad, (0, 0)), mode="edge"))
            (seen_y, kept_y), (seen_x, kept_x) = rows, columns
            maps[_halved(kept_y), _halved(kept_x)] = found[_halved(kept_y, seen_y[0]), _halved(kept_x, seen_x[0])]
    return maps


def _tiles(length: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield what of an axis the network sees at once, and the part of it that is kept."""
    if length <= TILE_PX:
        yield (0, length), (0, length)
        return
    step = TILE_PX - 2 * MARGIN_PX
    for start in range(0, length, step):
        stop = min(start + step, length)
        yield (max(0, start - MARGIN_PX), min(length, stop + MARGIN_PX)), (start, stop)


def _halved(span: tuple[int, int], origin: int = 0) -> slice:
    return slice((span[0] - origin) // STRIDE, (span[1] - origin) // STRIDE)
