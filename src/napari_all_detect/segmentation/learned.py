"""Cells by a network: light -> maps of cell, nucleus and core -> labels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.engines import Mapper
from napari_all_detect.segmentation.classical import found_diameter
from napari_all_detect.segmentation.grid import as_ratio, length, reduced, shrink
from napari_all_detect.segmentation.instances import HALF, enlarge, keep_only, part
from napari_all_detect.segmentation.light import chromatin, least_chromatin, mean_stain, relative_light
from napari_all_detect.segmentation.nuclei import find_nuclei
from napari_all_detect.segmentation.scale import typical_diameter
from napari_all_detect.segmentation.view import Found, View
from napari_all_detect.unet import EMPTY_FIELD, STRIDE
from napari_all_detect.windows import Window

__all__ = ["segment_learned"]

CLEAR = 0.8
"""Less depth than this may mean that lobes were taken for cells: a look from afar is cheap."""

OFF_BY, CLEARLY_OFF_BY = 0.12, 0.15
"""Cells whose diameter, as found, is off the one assumed by no more than this share of it are not looked at again; the
second where they are clear. Those that the network learned from spread by a quarter."""

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

REACH_PX = 6
"""How far a pixel of the maps acts on what becomes of others: smoothing, growing labels, resampling."""

Tile = tuple[tuple[int, int], tuple[int, int]]
"""What of an axis the network sees at once, and the part of it that is kept."""

Labels = NDArray[np.int32]
Maps = NDArray[np.uint8]


def segment_learned(view: View, diameter: float | None, mapper: Mapper, *, nuclei: bool = True) -> Found:
    """Find white cells and their nuclei with a network.

    Parameters
    ----------
    view : View
    diameter : float or None
        Of a typical white cell, in pixels; None estimates it.
    mapper : Mapper
    nuclei : bool
        Whether to outline the nuclei, too.
    """
    looked: list[_Look] = []

    def settled() -> float | None:
        estimate = found_diameter(view)
        looked.extend([] if estimate is None else [_best_look(view, estimate, mapper)])
        return looked[0].assumed if looked else None

    assumed = diameter or view.survey("learned diameter", settled)
    if assumed is None:
        return Found.nothing(view.shape, nuclei)
    look = looked[0] if looked else _look(view, assumed, mapper)
    view.survey.block_px = look.ratio.numerator
    involved, pieces = look.maps[..., 0] >= HALF, _only_stained(look, view)
    if not pieces.any():
        return Found.nothing(view.shape, nuclei)._replace(involved=involved, reach_px=REACH_PX)
    cells = enlarge(pieces, look.maps[..., 0], view.shape, look.ratio)
    inner = find_nuclei(view.rgb, cells, look.maps[..., 1], look.ratio, view.empty_field) if nuclei else None
    return Found(cells, inner, involved, REACH_PX)


def _stain(view: View, window: Window, ratio: Fraction) -> NDArray[np.float32]:
    """Return how dark in chromatin's colour a window of the reduced plane is."""
    return chromatin(shrink(view.plane, window, ratio), view.empty_field)


def _red_level(view: View, around: Callable[[], NDArray[np.float32]]) -> float:
    """Return the stain that a nucleus has at least, by that around cells where the survey asks for it first."""
    return view.survey("red cells' level", lambda: least_chromatin(around(), ABOVE_RED_CELLS))


@dataclass(frozen=True)
class _Look:
    """What the network finds when cells are taken to be `assumed` wide in the plane, and so `diameter` in the maps."""

    assumed: float
    maps: Maps
    pieces: Labels
    diameter: float
    ratio: Fraction
    """Pixels of the plane that are one of the maps."""

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


def _best_look(view: View, estimate: float, mapper: Mapper) -> _Look:
    """Look at the scales at which cells may be, and settle where the network is surest of what it sees."""
    best = _look(view, estimate, mapper)
    if best.depth < CLEAR:
        far = _look(view, 2 * estimate, mapper)
        best = far if far.depth > best.depth - BLUR else best
    for _ in range(MORE_LOOKS):
        if abs(best.found / best.assumed - 1) > (CLEARLY_OFF_BY if best.depth >= CLEAR else OFF_BY):
            other, least = _look(view, max(best.found, estimate / CLOSEST), mapper), best.depth - BLUR
        elif 0 < best.depth < SURE and best.assumed > estimate / CLOSEST:
            other, least = _look(view, best.assumed / 2, mapper), best.depth + BLUR
        else:
            break
        if other.depth < least:
            break
        best = other
    return best


def _look(view: View, diameter: float, mapper: Mapper) -> _Look:
    """Bring the cells to the size that the network knows, and let it look."""
    ratio = as_ratio(diameter / mapper.cell_diameter_px)
    maps = _maps(view, ratio, mapper)
    seen = mapper.cell_diameter_px / STRIDE
    return _Look(float(ratio) * mapper.cell_diameter_px, maps, part(maps, seen), seen, STRIDE * ratio)


def _only_stained(look: _Look, view: View) -> Labels:
    """Drop the cells whose nuclei are no darker than red cells: seen far too close, those look like pale blasts."""
    if view.survey.closed and not look.pieces.any():
        return look.pieces
    stain = _stain(view, reduced(view, look.ratio), look.ratio)
    nuclei = np.where(look.maps[..., 1] >= HALF, look.pieces, 0)
    level = _red_level(view, lambda: stain[look.pieces == 0])
    return keep_only(look.pieces, mean_stain(nuclei, stain) >= level)


def _maps(view: View, ratio: Fraction, mapper: Mapper) -> Maps:
    """Run the network, on tiles where the plane is large, the same whatever part of it is looked at."""
    window = reduced(view, ratio, STRIDE)
    maps = np.zeros((*((part.stop - part.start) // STRIDE for part in window), 3), np.uint8)
    height, width = (length(n, ratio, STRIDE) for n in view.plane.shape[:2])
    for rows in _tiles(height, window[0]):
        for columns in _tiles(width, window[1]):
            found = view.survey.kept((ratio, rows, columns), partial(_tile_maps, view, ratio, rows, columns, mapper))
            (to_y, from_y), (to_x, from_x) = (_shared(t, p) for t, p in zip((rows, columns), window, strict=True))
            maps[to_y, to_x] = found[from_y, from_x]
    return maps


def _tile_maps(view: View, ratio: Fraction, rows: Tile, columns: Tile, mapper: Mapper) -> Maps:
    """Return the maps of what of a tile is kept; beyond the plane's border the image goes on as there."""
    (seen_y, kept_y), (seen_x, kept_x) = rows, columns
    if _is_bare(view, (_halved(seen_y), _halved(seen_x)), STRIDE * ratio):
        return np.zeros(((kept_y[1] - kept_y[0]) // STRIDE, (kept_x[1] - kept_x[0]) // STRIDE, 3), np.uint8)
    change = partial(relative_light, field=view.empty_field, full=EMPTY_FIELD)
    light = shrink(view.plane, (slice(*seen_y), slice(*seen_x)), ratio, STRIDE, change)
    pad = [(0, -n % mapper.multiple) for n in light.shape[:2]]
    found = mapper.predict(np.pad(light, (*pad, (0, 0)), mode="edge"))
    return found[_halved(kept_y, seen_y[0]), _halved(kept_x, seen_x[0])]


def _is_bare(view: View, window: Window, ratio: Fraction) -> bool:
    """Return whether nothing in a tile, its margin with it, is as dark as a nucleus: most of a slide is glass.

    Whatever the network found there would be dropped: no nucleus is darker on average than its darkest pixel.
    """
    if not view.survey.closed:
        return False
    return bool(_stain(view, window, ratio).max() < _red_level(view, lambda: np.empty(0, np.float32)))


def _tiles(length: int, part: slice) -> Iterator[Tile]:
    """Yield the tiles of an axis that lie in a part of it."""
    step = TILE_PX - 2 * MARGIN_PX if length > TILE_PX else length
    for start in range(0, length, step):
        stop = min(start + step, length)
        if start < part.stop and part.start < stop:
            yield (max(0, start - MARGIN_PX), min(length, stop + MARGIN_PX)), (start, stop)


def _shared(tile: Tile, part: slice) -> tuple[slice, slice]:
    """Return where what a tile and a part share lies in the maps of the part, and in those of the tile."""
    start, stop = tile[1]
    shared = max(start, part.start), min(stop, part.stop)
    return _halved(shared, part.start), _halved(shared, start)


def _halved(span: tuple[int, int], origin: int = 0) -> slice:
    return slice((span[0] - origin) // STRIDE, (span[1] - origin) // STRIDE)
