"""Plane -> labels of the white cells in it, and of the nucleus within each."""

from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import InputError
from napari_all_detect.params import SegmentationParams
from napari_all_detect.segmentation.methods import describe_method, method_names, open_method
from napari_all_detect.segmentation.presegmented import cells_on_black, on_white
from napari_all_detect.segmentation.scale import WHITE_CELL_UM, estimate_diameter

__all__ = ["describe_method", "method_names", "open_method", "segment_cells"]

BELIEVABLE = 3.0
"""Files state pixel sizes that nobody measured: a printer's resolution, or 1. They are off by more than this."""

Labels = NDArray[np.int32]


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
        If there is no such method.

    Examples
    --------
    >>> from napari_all_detect.samples import draw_smear
    >>> smear = draw_smear((224, 224), n_cells=5, seed=1)
    >>> cells, nuclei = segment_cells(smear.rgb, nuclei=True)
    >>> cells.shape, cells.dtype, bool((nuclei[nuclei > 0] == cells[nuclei > 0]).all())
    ((224, 224), dtype('int32'), True)
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise InputError(f"segmentation got {rgb.dtype} of shape {rgb.shape}; expected uint8 of shape (H, W, 3)")
    params = params or SegmentationParams()
    method = open_method(params.method, device, engine)
    diameter = params.cell_diameter_px or _diameter_by_pixel_size(rgb, pixel_size_um)
    cells = cells_on_black(rgb, diameter)
    if cells is None:
        cells, found = method(rgb, diameter, nuclei=nuclei)
    else:
        found = method(on_white(rgb), diameter)[1] if nuclei else None
    if not nuclei:
        return cells
    return cells, None if found is None else np.where(found > 0, cells, 0)


def _diameter_by_pixel_size(rgb: NDArray[np.uint8], pixel_size_um: float | None) -> float | None:
    """Return how wide a white cell should be, unless the image itself says that its pixel size is wrong."""
    if not pixel_size_um:
        return None
    expected, seen = WHITE_CELL_UM / pixel_size_um, estimate_diameter(rgb)
    return expected if seen is None or 1 / BELIEVABLE <= seen / expected <= BELIEVABLE else None
