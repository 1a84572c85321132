"""The first half of the road: the cells of a plane, found and cut out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle import Crop
from napari_all_detect.crops import crop_scale
from napari_all_detect.labelled import LabelImage, check_labels, check_range
from napari_all_detect.params import ScoreParams
from napari_all_detect.segmentation import cell_finder, segment_cells
from napari_all_detect.sources import RgbPlane, TiledPlane
from napari_all_detect.tiling import TiledCells, WholeCells, find_in_plane, given_tiled

__all__ = ["CutCells", "PlaneInput", "cut_cells", "find_cells"]

LIKELY_UM = (5.0, 30.0)
"""White cells on a smear are 7 to 20 um wide."""

LIKE_TRAINING = 3.0
"""Cells that must be rescaled by more were photographed with another detail than the training cells."""


@dataclass(frozen=True)
class PlaneInput:
    """A plane's pixels, and what is known of them.

    Attributes
    ----------
    pixels : RgbPlane or TiledPlane
        A plane that is read by parts is segmented and cut in tiles, with the same results.
    image, plane : str
        The names in the tables.
    labels : (H, W) integer, or what reads it, optional
        Cells that somebody else found; None finds them here.
    pixel_size_um : float, optional
        As the file says.
    well, field : str
        Where the image lies on a plate; empty if it lies on none.
    nuclei : (H, W) array, optional
        Not 0 where the nuclei of `labels` are; None if nobody looked for them.
    """

    pixels: RgbPlane | TiledPlane
    image: str = "image"
    plane: str = "0"
    labels: LabelImage | None = None
    pixel_size_um: float | None = None
    well: str = ""
    field: str = ""
    nuclei: NDArray[np.integer | np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class CutCells:
    """The cells of a plane, found and cut out, not scored yet.

    Attributes
    ----------
    labels, nuclei
        As in `ScoredImage`.
    crops : (N, s, s, 3) uint8
    geometry : dict of arrays
        By `table.geometry`.
    scale : float
        By which the plane was rescaled before the crops were cut.
    names : dict of str
        Image, plane, well and field, as in the tables.
    pixel_size_um : float or None
    notes : str
        What was done to the pixels when they were read, and what is doubtful.
    """

    labels: LabelImage
    nuclei: LabelImage | None
    crops: NDArray[np.uint8]
    geometry: dict[str, Any]
    scale: float
    names: dict[str, str]
    pixel_size_um: float | None
    notes: str


def cut_cells(given: PlaneInput, params: ScoreParams, crop: Crop) -> CutCells:
    """Find the cells of one plane and cut them out, at the scale that a bundle's `crop` asks for.

    Raises
    ------
    InputError
        As by `score_plane`.
    """
    pixel_size_um = _pixel_size_um(given, params)
    cells = _cells(given, params, pixel_size_um)
    geometry = cells.measure(pixel_size_um)
    scale = crop_scale(
        params.rescale,
        pixel_size_um=pixel_size_um,
        diameters_px=geometry["diameter_px"],
        bundle_pixel_size_um=crop.pixel_size_um,
        bundle_diameter_px=crop.cell_diameter_px,
    )
    names = {"image": given.image, "plane": given.plane, "well": given.well, "field": given.field}
    doubts = *_of_pixel_size(geometry["diameter_px"], pixel_size_um), *_of_scale(geometry["diameter_px"], scale)
    notes = ";".join((*given.pixels.notes, *cells.notes, *doubts))
    return CutCells(
        cells.labels, cells.nuclei, cells.cut(crop.size, scale), geometry, scale, names, pixel_size_um, notes
    )


def _pixel_size_um(given: PlaneInput, params: ScoreParams) -> float | None:
    """Return what the user says, else what the file does."""
    return given.pixel_size_um if params.pixel_size_um is None else params.pixel_size_um


def _of_pixel_size(diameter_px: NDArray[np.floating], pixel_size_um: float | None) -> tuple[str, ...]:
    """Say if cells are far narrower or wider than white cells: then the pixel size is a guess, or another image's."""
    if pixel_size_um is None or not len(diameter_px):
        return ()
    typical_um = float(np.median(diameter_px)) * pixel_size_um
    if LIKELY_UM[0] <= typical_um <= LIKELY_UM[1]:
        return ()
    return (f"cells are {typical_um:.3g} um wide by a pixel size of {pixel_size_um:.3g} um: is that right?",)


def _of_scale(diameter_px: NDArray[np.floating], scale: float) -> tuple[str, ...]:
    """Say if cells show far more or less detail than those of the training, which no rescaling brings back."""
    if not len(diameter_px) or 1 / LIKE_TRAINING <= scale <= LIKE_TRAINING:
        return ()
    wide, than = ("more than 3 times", "more") if scale < 1 else ("less than a third", "less")
    return (f"cells are {wide} as wide as those of the training: photographed with far {than} detail",)


def _cells(given: PlaneInput, params: ScoreParams, pixel_size_um: float | None) -> WholeCells | TiledCells:
    """Return the plane's cells, found here unless given."""
    if given.labels is None:
        find = cell_finder(params.segmentation, pixel_size_um, params.device, params.engine)
        return find_in_plane(given.pixels, find)
    if isinstance(given.pixels, TiledPlane):
        check_labels(given.labels, given.pixels.shape)
        return given_tiled(given.pixels, given.labels, given.nuclei)
    return WholeCells(given.pixels.rgb, *find_cells(given, params))


def find_cells(given: PlaneInput, params: ScoreParams) -> tuple[NDArray[np.int32], NDArray[np.int32] | None]:
    """Find the cells of one plane, as scoring does, or check those that are given.

    Parameters
    ----------
    given : PlaneInput
    params : ScoreParams

    Returns
    -------
    labels : (H, W) int32
    nuclei : (H, W) int32 or None
        The same numbers where the nuclei are, if they were looked for.

    Raises
    ------
    InputError
        If the labels given are not a label image of this plane.
    """
    rgb = given.pixels.rgb
    if given.labels is None:
        return segment_cells(
            rgb,
            params.segmentation,
            pixel_size_um=_pixel_size_um(given, params),
            device=params.device,
            engine=params.engine,
            nuclei=True,
        )
    check_labels(given.labels, given.pixels.shape)
    numbers = np.asarray(given.labels)
    check_range(numbers)
    labels = numbers.astype(np.int32)
    # A cell may have been redrawn since: its nucleus is what of it still lies within.
    nuclei = None if given.nuclei is None else np.where(np.asarray(given.nuclei) > 0, labels, 0)
    return labels, nuclei
