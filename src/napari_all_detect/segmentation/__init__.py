"""Plane -> labels of the white cells in it, and of the nucleus within each."""

import math
from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import InputError, ParameterError
from napari_all_detect.params import ScoreParams, SegmentationParams
from napari_all_detect.segmentation.methods import Method, describe_method, method_names, open_method
from napari_all_detect.segmentation.presegmented import ON_BLACK, cells_on_black, is_on_black, on_white
from napari_all_detect.segmentation.scale import WHITE_CELL_UM, estimate_diameter
from napari_all_detect.segmentation.surround import survey_border, without_surround
from napari_all_detect.segmentation.view import Found, Mapped, Survey, Unsettled, View, sample
from napari_all_detect.windows import Pixels

__all__ = [
    "ON_BLACK",
    "Find",
    "cell_finder",
    "describe_method",
    "find_whole",
    "method_names",
    "open_method",
    "segment_cells",
    "surveyed",
]

BELIEVABLE = 3.0
"""Files state pixel sizes that nobody measured: a printer's resolution, or 1. They are off by more than this."""

Labels = NDArray[np.int32]
Find = Callable[[View, bool], Found]
"""Finds the cells of a part of a plane, and their nuclei if told so."""


@overload
def segment_cells(
    rgb: NDArray[np.uint8],
    params: SegmentationParams | None = ...,
    *,
    pixel_size_um: float | None = ...,
    device: str = ...,
    engine: str = ...,
    nuclei: Literal[False] = ...,
) -> Labels: ...


@overload
def segment_cells(
    rgb: NDArray[np.uint8],
    params: SegmentationParams | None = ...,
    *,
    pixel_size_um: float | None = ...,
    device: str = ...,
    engine: str = ...,
    nuclei: Literal[True],
) -> tuple[Labels, Labels | None]: ...


def segment_cells(
    rgb: NDArray[np.uint8],
    params: SegmentationParams | None = None,
    *,
    pixel_size_um: float | None = None,
    device: str = "auto",
    engine: str = "auto",
    nuclei: bool = False,
) -> Labels | tuple[Labels, Labels | None]:
    """Label the white cells of a stained smear: nucleus and cytoplasm, one label each.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        The smear, or cells on black as in C-NMC 2019.
    params : SegmentationParams, optional
        The method, and the expected cell diameter if it should not be estimated.
    pixel_size_um : float, optional
        Micrometres per pixel: where no diameter is given, cells are expected to be 12 um wide.
    device : {"auto", "cpu", "gpu"}
        Where a network runs.
    engine : {"auto", "keras", "openvino"}
        What runs it.
    nuclei : bool
        Whether to return the nuclei too.

    Returns
    -------
    cells : (H, W) int32
        0 where there is no white cell, then 1, 2, 3 ... from top to bottom. Each label is one connected region without
        holes; cells that the border cuts are kept.
    nuclei : (H, W) int32 or None
        Only if asked for: the same numbers, 0 outside the nuclei. None if the method finds none.

    Raises
    ------
    InputError
        If `rgb` is not an (H, W, 3) array of uint8.
    ParameterError
        If there is no such method, device or engine, `params` is something else, or the pixel size is not above 0.
    BundleError, MissingDependencyError, AllDetectError
        If a segmenter's bundle, a GPU or OpenVINO can't be used, or a method of another package fails.

    Examples
    --------
    >>> from napari_all_detect.samples import draw_smear
    >>> smear = draw_smear((224, 224), n_cells=5, seed=1)
    >>> cells, nuclei = segment_cells(smear.rgb, nuclei=True)
    >>> cells.shape, cells.dtype, bool((nuclei[nuclei > 0] == cells[nuclei > 0]).all())
    ((224, 224), dtype('int32'), True)
    """
    find = cell_finder(SegmentationParams() if params is None else params, pixel_size_um, device, engine)
    found = find_whole(rgb, find, nuclei)
    return (found.cells, found.nuclei) if nuclei else found.cells


def cell_finder(params: SegmentationParams, pixel_size_um: float | None, device: str, engine: str) -> Find:
    """Return what labels the white cells of parts of a plane: all of them by one method, opened here.

    Parameters
    ----------
    params, pixel_size_um, device, engine
        As in `segment_cells`, with its errors.

    Returns
    -------
    find : callable
        Takes a `View`, the part with what is known of the whole, and whether to find the nuclei too. It finds nothing
        while the survey that the method asks is not closed.
    """
    ScoreParams(segmentation=params, device=device, engine=engine)  # checks them
    # What a file states may lie outside the range of an option: it is doubted later.
    if pixel_size_um is not None and not (isinstance(pixel_size_um, Real) and 0 < pixel_size_um < math.inf):
        raise ParameterError(f"pixel_size_um is {pixel_size_um!r}; expected a number above 0, or None if not known")
    return partial(_find_in_view, open_method(params.method, device, engine), params.cell_diameter_px, pixel_size_um)


def _find_in_view(
    method: Method, diameter_px: float | None, pixel_size_um: float | None, view: View, nuclei: bool
) -> Found:
    try:
        on_black = is_on_black(view)
        view = view if on_black else without_surround(view)
        diameter = diameter_px or _diameter_by_pixel_size(view, pixel_size_um)
        if not on_black:
            found = method(view, diameter, nuclei=nuclei)
            return found if found.nuclei is None else found._replace(nuclei=np.where(found.nuclei > 0, found.cells, 0))
        found = cells_on_black(view, diameter)
        if not nuclei:
            return found
        inner = method(View(Mapped(view.plane, on_white), view.window, view.survey), diameter, nuclei=True).nuclei
        return found._replace(nuclei=None if inner is None else np.where(inner > 0, found.cells, 0))
    except Unsettled:
        return Found.nothing(view.shape, nuclei)


def find_whole(rgb: NDArray[np.uint8], find: Find, nuclei: bool) -> Found:
    """Find the cells of a plane in memory.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    find : callable
        From `cell_finder`.
    nuclei : bool
        Whether to find the nuclei too.

    Raises
    ------
    InputError
        If `rgb` is not an (H, W, 3) array of uint8.
    """
    if not isinstance(rgb, np.ndarray):
        raise InputError(f"segmentation got {type(rgb).__name__}; expected an array: uint8 of shape (H, W, 3)")
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise InputError(f"segmentation got {rgb.dtype} of shape {rgb.shape}; expected uint8 of shape (H, W, 3)")
    return find(View.whole(rgb, surveyed(rgb, find)), nuclei)


def surveyed(plane: Pixels, find: Find) -> Survey:
    """Return the survey of a plane: one of a sample that is closed, or of a small one still open, as it is the sample.

    Parameters
    ----------
    plane : Pixels
    find : callable
        Finds the cells of a view, and their nuclei if told so.
    """
    survey, squares = Survey(), sample(plane)
    if squares is not None:
        survey_border(plane, survey)
        find(View.whole(squares, survey), True)
        survey.close()
    return survey


def _diameter_by_pixel_size(view: View, pixel_size_um: float | None) -> float | None:
    """Return how wide a white cell should be, unless the image itself says that its pixel size is wrong."""
    if not pixel_size_um:
        return None
    expected, seen = WHITE_CELL_UM / pixel_size_um, view.survey("seen diameter", lambda: estimate_diameter(view.rgb))
    return expected if seen is None or 1 / BELIEVABLE <= seen / expected <= BELIEVABLE else None
