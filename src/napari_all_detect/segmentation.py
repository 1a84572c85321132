"""Plane -> labels of the white cells in it.

Romanowsky stains (Giemsa, Wright, Leishman) colour chromatin violet: it swallows green light, some red and little
blue. Red cells swallow green and blue, or red on slides where they come out teal. One projection of the absorbed
light therefore parts nuclei from everything else, once the slide's own background is divided out.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_multiotsu
from skimage.measure import regionprops
from skimage.segmentation import expand_labels, watershed
from skimage.transform import resize

from napari_all_detect.errors import InputError
from napari_all_detect.params import SegmentationParams

__all__ = ["segment_cells", "segment_cells_and_nuclei"]

CHROMATIN = np.array([-0.2, 1.0, -0.7], np.float32)
"""Weights of the absorbed share of red, green and blue light. On four stains that we measured nuclei come out at 0.28
to 0.5, most red cells below 0.16; where they lie on each other they reach 0.2."""

SEED_RANGE = (0.18, 0.28)
"""Where the level of what is surely chromatin may lie: above red cells, which an image without white cells would
otherwise have cut in two, and below the palest blasts."""

FAINT = (0.22, 0.07)
"""What lies below the one, and less than the other above the red cells, is no chromatin: red cells lie on each other
there."""

LEAST_NUCLEUS_RADIUS_PX = 3.0
"""Smaller specks are noise at any magnification at which a cell can be judged."""

BLACK = 8
"""Pixels no brighter than this in any channel are the background of a pre-segmented image (C-NMC)."""

WORKING_DIAMETER_PX = 48.0
"""Larger cells are found on a reduced image: more pixels improve nothing there and cost time."""

LOBE_NECK = 0.8
"""Pieces of a clump are one cell where the neck between them is at least this share of the smaller one's width."""

WHOLE_TO_NUCLEUS = 1.2
"""Ratio of a cell's diameter to its nucleus's, for blasts and lymphocytes."""

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]


def segment_cells(rgb: NDArray[np.uint8], params: SegmentationParams | None = None) -> Labels:
    """Label the white cells of a stained smear.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        The smear, or a cell on black as in C-NMC 2019.
    params : SegmentationParams, optional
        The expected cell diameter, if it should not be estimated from the image.

    Returns
    -------
    labels : (H, W) int32
        0 where there is no white cell, then 1, 2, 3 ... from top to bottom. Each label is one connected region without
        holes; cells that the border cuts are kept.

    Raises
    ------
    InputError
        If `rgb` is not an (H, W, 3) array of uint8.

    Examples
    --------
    >>> from napari_all_detect.samples import draw_smear
    >>> smear = draw_smear((224, 224), n_cells=5, seed=1)
    >>> labels = segment_cells(smear.rgb)
    >>> labels.shape, labels.dtype
    ((224, 224), dtype('int32'))
    """
    return segment_cells_and_nuclei(rgb, params)[0]


def segment_cells_and_nuclei(rgb: NDArray[np.uint8], params: SegmentationParams | None = None) -> tuple[Labels, Labels]:
    """Label the white cells of a smear, and the nucleus within each.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        The smear, or a cell on black as in C-NMC 2019.
    params : SegmentationParams, optional
        The expected cell diameter, if it should not be estimated from the image.

    Returns
    -------
    cells, nuclei : (H, W) int32
        The same numbers in both; `nuclei` is 0 outside the nuclei. In a pre-segmented image nothing tells the two
        apart: they are equal there.

    Raises
    ------
    InputError
        If `rgb` is not an (H, W, 3) array of uint8.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise InputError(f"segmentation got {rgb.dtype} of shape {rgb.shape}; expected uint8 of shape (H, W, 3)")
    diameter = (params or SegmentationParams()).cell_diameter_px
    on_black = rgb.max(axis=-1) > BLACK
    if on_black.mean() < 0.75:
        return _label_presegmented(on_black, diameter)
    factor = _reduction(rgb, diameter)
    if factor == 1:
        return _segment_stained(rgb, diameter)
    small = np.asarray(Image.fromarray(rgb).reduce(factor))
    cells, nuclei = _segment_stained(small, diameter and diameter / factor)
    cells = _enlarge(cells, rgb.shape[:2], factor)
    return cells, np.where(_enlarge(nuclei, rgb.shape[:2], factor) > 0, cells, 0)


def _label_presegmented(mask: Mask, diameter: float | None) -> tuple[Labels, Labels]:
    """Label the cells of an image whose background is black already."""
    mask = ndi.binary_fill_holes(mask)
    if not mask.any():
        return np.zeros(mask.shape, np.int32), np.zeros(mask.shape, np.int32)
    cells = _split_touching(mask, mask, diameter or 2 * _inscribed_radius(mask))
    return cells, cells.copy()


def _segment_stained(rgb: NDArray[np.uint8], diameter: float | None) -> tuple[Labels, Labels]:
    """Find the chromatin, grow it into its cytoplasm, part what touches, then outline each cell's nucleus."""
    stain = _chromatin(rgb)
    seeds = _seeds(stain)
    if not seeds.any():
        return np.zeros(stain.shape, np.int32), np.zeros(stain.shape, np.int32)
    radius = diameter / WHOLE_TO_NUCLEUS / 2 if diameter else _inscribed_radius(seeds)
    seeds = _opened(_drop_narrow(seeds, 0.4 * radius), 0.1 * radius)
    # White cells are rare, so levels come from their surroundings alone, where the classes have like sizes.
    red_cell_level = _red_cell_level(stain, ndi.distance_transform_edt(~seeds) <= 1.5 * radius)
    seeds = _drop_faint(seeds, stain, min(FAINT[0], red_cell_level + FAINT[1]))
    if not seeds.any():
        return np.zeros(stain.shape, np.int32), np.zeros(stain.shape, np.int32)
    distance = ndi.distance_transform_edt(~seeds)
    near = distance <= 1.5 * radius
    cytoplasm_level, nucleus_level = _two_thresholds(stain[near])
    cytoplasm_level = min(max(cytoplasm_level, red_cell_level), SEED_RANGE[1])
    cells = _opened((distance <= 0.8 * radius) & (stain > cytoplasm_level), 0.2 * radius) | seeds
    labels = _split_touching(ndi.binary_fill_holes(cells), seeds, diameter or 2 * radius * WHOLE_TO_NUCLEUS)
    nuclei = _opened(stain > _nucleus_levels(stain, labels, cytoplasm_level, nucleus_level), 0.1 * radius)
    return labels, np.where(nuclei, labels, 0)


def _nucleus_levels(
    stain: NDArray[np.float32], labels: Labels, cytoplasm_level: float, nucleus_level: float
) -> NDArray[np.float32]:
    """Return the level above which a pixel is nucleus, (H, W): a pale blast beside dark lymphocytes has its own."""
    levels = np.full(labels.max(initial=0) + 1, np.inf, np.float32)
    for number, box in enumerate(ndi.find_objects(labels), start=1):
        dark = np.percentile(stain[box][labels[box] == number], 85)
        levels[number] = min(nucleus_level, cytoplasm_level + 0.6 * (dark - cytoplasm_level))
    return levels[labels]


def _chromatin(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Project the light absorbed, relative to the empty field, onto chromatin's colour; (H, W) float32."""
    smooth = gaussian(rgb, 1.0, channel_axis=-1, preserve_range=True).astype(np.float32)
    brightness = smooth.sum(axis=-1)
    empty = brightness >= np.percentile(brightness[::3, ::3], 90)
    field: NDArray[np.float32] = np.median(smooth[empty], axis=0) + 1
    return np.asarray((1 - smooth / field) @ CHROMATIN, np.float32)


def _seeds(stain: NDArray[np.float32]) -> Mask:
    """Mark what is surely chromatin, and wide enough to be seen as such."""
    level = np.clip(_two_thresholds(stain)[1], *SEED_RANGE)
    return _drop_narrow(ndi.binary_fill_holes(stain > level), LEAST_NUCLEUS_RADIUS_PX)


def _red_cell_level(stain: NDArray[np.float32], near: Mask) -> float:
    """Return the level that red cells far from any white cell seldom reach."""
    far = stain[~near]
    return float(np.percentile(far[:: max(1, far.size // 100_000)], 95)) if far.size > 1000 else -np.inf


def _two_thresholds(values: NDArray[np.float32]) -> tuple[float, float]:
    """Part values into three classes (Otsu 1979); a flat image has none above."""
    sample = values.ravel()[:: max(1, values.size // 100_000)]
    try:
        low, high = threshold_multiotsu(sample, classes=3, nbins=128)
    except ValueError:  # fewer than three different values
        return np.inf, np.inf
    return float(low), float(high)


def _inscribed_radius(mask: Mask) -> float:
    """Return the median, weighted by area, of the radii of the largest circles that fit in the regions, in pixels."""
    regions, n = ndi.label(mask)
    numbers = np.arange(1, n + 1)
    radii = ndi.maximum(ndi.distance_transform_edt(mask), regions, numbers)
    order = np.argsort(radii)
    area = np.cumsum(np.bincount(regions.ravel())[1:][order])
    return float(radii[order][np.searchsorted(area, area[-1] / 2)])


def _drop_narrow(mask: Mask, radius: float) -> Mask:
    """Drop the regions in which no circle of this radius fits: platelets and stain dirt."""
    regions, n = ndi.label(mask)
    radii = ndi.maximum(ndi.distance_transform_edt(mask), regions, np.arange(n + 1))
    wide = np.asarray(radii >= radius)
    wide[0] = False
    return np.asarray(wide[regions], bool)


def _drop_faint(mask: Mask, stain: NDArray[np.float32], level: float) -> Mask:
    """Drop the regions whose median stain is below a level."""
    regions, n = ndi.label(mask)
    dark = np.asarray(ndi.median(stain, regions, np.arange(n + 1)) >= level)
    dark[0] = False
    return np.asarray(dark[regions], bool)


def _opened(mask: Mask, radius: float) -> Mask:
    """Shave off what is narrower than twice the radius, by distances: discs of any size cost the same."""
    depth = _depth(mask) > radius
    return np.asarray(ndi.distance_transform_edt(~depth) <= radius, bool) & mask if depth.any() else depth


def _closed(mask: Mask, radius: float) -> Mask:
    """Bridge gaps narrower than twice the radius."""
    return np.asarray(_depth(ndi.distance_transform_edt(~mask) <= radius) > radius, bool) | mask


def _depth(mask: Mask) -> NDArray[np.float64]:
    """Return distances to the background; the world beyond the border is more of the same."""
    padded = ndi.distance_transform_edt(np.pad(mask, 1, mode="edge"))
    return np.asarray(padded[1:-1, 1:-1], np.float64)


def _split_touching(cells: Mask, seeds: Mask, diameter: float) -> Labels:
    """Cut clumps at their waists; drop pieces too small for a white cell."""
    clumps = _closed(cells, 0.05 * diameter)
    depth = gaussian(_depth(clumps), 0.05 * diameter)
    peaks = peak_local_max(
        depth, min_distance=max(1, round(0.3 * diameter)), labels=ndi.label(clumps)[0], exclude_border=False
    )
    markers = np.zeros(cells.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    pieces = _join_broad_necks(watershed(-depth, markers, mask=clumps), depth)
    return _whole_pieces(np.where(cells, pieces, 0), seeds, least_area=0.2 * np.pi / 4 * diameter**2)


def _join_broad_necks(pieces: Labels, depth: NDArray[np.floating]) -> Labels:
    """Join neighbours whose common border is nearly as wide as the smaller of them: lobes of one cell."""
    width = ndi.maximum(depth, pieces, np.arange(pieces.max(initial=0) + 1))
    owner = np.arange(len(width))
    necks = _necks(pieces, depth)
    for (one, other), neck in sorted(necks.items(), key=lambda item: -item[1]):
        a, b = owner[one], owner[other]
        if a != b and neck >= LOBE_NECK * min(width[a], width[b]):
            width[a] = max(width[a], width[b])
            owner[owner == b] = a
    return np.asarray(owner[pieces], np.int32)


def _necks(pieces: Labels, depth: NDArray[np.floating]) -> dict[tuple[int, int], float]:
    """Return for each pair of neighbours the greatest depth on the border between them."""
    necks: dict[tuple[int, int], float] = {}
    for here, there in (np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1]):
        border = (pieces[here] != pieces[there]) & (pieces[here] > 0) & (pieces[there] > 0)
        ends = np.sort([pieces[here][border], pieces[there][border]], axis=0)
        depths = np.minimum(depth[here][border], depth[there][border])
        for one, other, value in zip(*ends.tolist(), depths.tolist(), strict=True):
            necks[one, other] = max(value, necks.get((one, other), 0.0))
    return necks


def _whole_pieces(pieces: Labels, seeds: Mask, least_area: float) -> Labels:
    """Keep the largest part of each piece that has enough chromatin, fill its holes and number it."""
    labels = np.zeros(pieces.shape, np.int32)
    height, width = pieces.shape
    number = 0
    for piece in sorted(regionprops(pieces), key=lambda p: p.bbox[:2]):
        parts, n = ndi.label(piece.image)
        mask = ndi.binary_fill_holes(parts == np.bincount(parts.ravel())[1:].argmax() + 1 if n > 1 else parts > 0)
        y0, x0, y1, x1 = piece.bbox
        cut = y0 == 0 or x0 == 0 or y1 == height or x1 == width
        if (mask & seeds[piece.slice]).sum() >= least_area * (0.5 if cut else 1.0):
            number += 1
            labels[piece.slice][mask] = number
    return labels


def _reduction(rgb: NDArray[np.uint8], diameter: float | None) -> int:
    """Return by how much the image may shrink until its cells are `WORKING_DIAMETER_PX` wide."""
    if diameter is None:
        stride = 2 if min(rgb.shape[:2]) >= 64 else 1
        seeds = _seeds(_chromatin(np.ascontiguousarray(rgb[::stride, ::stride])))
        diameter = 2 * WHOLE_TO_NUCLEUS * stride * _inscribed_radius(seeds) if seeds.any() else 0.0
    return max(1, int(diameter / WORKING_DIAMETER_PX))


def _enlarge(labels: Labels, shape: tuple[int, int], factor: int) -> Labels:
    """Bring labels of a reduced image back to its full size, with smooth outlines."""
    inside = resize((labels > 0).astype(np.float32), np.array(labels.shape) * factor, order=1) > 0.5
    nearest = expand_labels(labels, 1).repeat(factor, axis=0).repeat(factor, axis=1)
    return _in_one_piece(np.asarray(np.where(inside, nearest, 0)[: shape[0], : shape[1]], np.int32))


def _in_one_piece(labels: Labels) -> Labels:
    """Drop the specks that smoothing an outline splits off beside a neighbour."""
    for number, box in enumerate(ndi.find_objects(labels), start=1):
        cell = labels[box]
        parts, n = ndi.label(cell == number)
        if n > 1:
            cell[(parts > 0) & (parts != np.bincount(parts.ravel())[1:].argmax() + 1)] = 0
    return labels
