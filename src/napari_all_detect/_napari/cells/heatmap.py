"""Heat maps of cells: over the crop, and in place on the image. No Qt."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect._napari.cells.results import CellResults
from napari_all_detect.crops import first_pixel
from napari_all_detect.export.colours import CALL_COLOURS

__all__ = ["HEAT_COLOURS", "STRENGTH", "overlaid", "placed_crop", "placed_heat"]

STRENGTH = 0.6
HEAT_COLOUR = np.array(CALL_COLOURS["ALL"], np.float32)
HEAT_COLOURS = np.array([[*HEAT_COLOUR / 255, 0], [*HEAT_COLOUR / 255, 1]])
"""RGBA from no heat, which lets the image through, to the most."""


def placed_crop(results: CellResults, row: int) -> tuple[float, float, float]:
    """Return where a cell's crop lies; the crop is centred on the cell's box, at the plane's rescaling.

    Returns
    -------
    y_px, x_px : float
        Centre of the crop's first pixel, in the layer's data coordinates.
    pixel_px : float
        Edge of a crop's pixel in the layer's pixels.
    """
    cell = results.table.iloc[row]
    summary = results.rows.summary
    plane = summary[(summary["image"] == cell["image"]) & (summary["plane"] == cell["plane"])].iloc[0]
    scale, size = float(plane["rescale"]), results.run.crop_size
    first = [first_pixel(cell[f"bbox_{axis}0"], cell[f"bbox_{axis}1"], size, scale) for axis in ("y", "x")]
    # Pixel k of the rescaled plane covers k / scale to (k + 1) / scale; its centre lies half a pixel less in the layer.
    y_px, x_px = ((start + 0.5) / scale - 0.5 for start in first)
    return y_px, x_px, 1 / scale


def placed_heat(layer: Any, results: CellResults, row: int) -> dict[str, Any]:
    """Return where an image layer lies so that the heat map of a crop covers its cell, on the cell's plane alone.

    Parameters
    ----------
    layer : napari.layers.Labels
    results : CellResults
    row : int

    Returns
    -------
    place : dict
        For an array with an axis of length 1 for each of the layer's leading axes.
    """
    y_px, x_px, pixel_px = placed_crop(results, row)
    enlarged = np.ones(layer.ndim)
    enlarged[-2:] = pixel_px
    first = (*results.rows.index[row], y_px, x_px)
    return {
        "scale": np.asarray(layer.scale) * enlarged,
        # Where the centre of the first pixel lies, before the layer's affine transform.
        "translate": np.asarray(layer.affine.inverse(layer.data_to_world(first))),
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
    }


def overlaid(crop: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Lay a heat map over a crop.

    Parameters
    ----------
    crop : (s, s, 3) uint8
    heat : (s, s) float
        0 to 1.
    """
    share = STRENGTH * heat[..., None].astype(np.float32)
    return np.asarray(np.rint(crop * (1 - share) + HEAT_COLOUR * share), np.uint8)
