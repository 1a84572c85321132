"""Values of cells -> colours of labels: at most 256, and fast for any number of labels."""

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from pydantic import PrivateAttr

from napari_all_detect.export.colours import CALL_COLOURS, probability_colours

__all__ = [
    "COLOURINGS",
    "DRAWN_BYTES",
    "ScoreColormap",
    "colour_levels",
    "palette",
    "ramp",
    "share_levels",
    "shares",
    "ticks",
]

COLOURINGS = ("P(ALL)", "P(Hem)", "call", "spread")
DRAWN_BYTES = 2
"""Size of numbers that napari draws as they are; larger ones become rows of the palette first."""
N_LEVELS = 250
"""With those of labels without a value, background and selected ones fewer than 256: they fit a byte on the GPU."""
UNSCORED_LEVEL, BACKGROUND_LEVEL, SELECTED_LEVEL, FIRST_LEVEL = range(4)

# Of Okabe and Ito, told apart with any colour vision, as are those of the probabilities.
SPREAD = (204, 121, 167)
UNSCORED = (0.55, 0.55, 0.55, 0.45)
SELECTED = (0.941, 0.894, 0.259, 1.0)
LARGEST_SPREAD = 0.5
"""The standard deviation of probabilities is never larger."""


class ScoreColormap(DirectLabelColormap):
    """A colormap with a level for each label, as two arrays.

    napari's own takes a dictionary with a colour for each label: seconds for 100,000 of them, and no number above
    65,536 without numba. This one hands napari the same textures, looked up in an array.

    Parameters
    ----------
    levels : (L,) uint8
        Which row of the palette each label has, from 0 to the largest label.
    colours : (K, 4) float
        The palette; its first row is for labels that `levels` doesn't reach.
    """

    # Private parts of napari are overridden; that is why the project is bound to one minor version of it.
    _levels: NDArray[np.uint8] = PrivateAttr()
    _palette: NDArray[np.float32] = PrivateAttr()

    def __init__(self, levels: NDArray[np.uint8], colours: NDArray[np.floating]) -> None:
        background, unknown = np.zeros(4, np.float32), np.asarray(colours[0], np.float32)
        super().__init__(color_dict={None: unknown, 0: background})
        self._levels = np.append(levels, np.uint8(0))
        self._palette = np.asarray(colours, np.float32)

    def map(self, values: Any) -> NDArray[np.float32]:
        """Return the colours of labels: one number or an array -> (..., 4)."""
        colours = self._map_without_cache(np.asarray(values))
        if self.use_selection:
            colours[np.asarray(values) != self.selection] = 0
        return colours

    def looks_like(self, other: object) -> bool:
        """Return whether another colormap has the same colours for the same labels."""
        return (
            isinstance(other, ScoreColormap)
            and np.array_equal(self._levels, other._levels)
            and np.array_equal(self._palette, other._palette)
        )

    def _map_without_cache(self, values: NDArray[np.integer]) -> NDArray[np.float32]:
        return self._palette[self._looked_up(values)]

    def _looked_up(self, values: NDArray[np.integer]) -> NDArray[np.uint8]:
        return np.take(self._levels, values, mode="clip")

    def _data_to_texture(self, values: Any) -> Any:
        if values.dtype.itemsize <= DRAWN_BYTES:
            return values.view(f"u{values.dtype.itemsize}")
        if self.use_selection:
            return (values == self.selection).astype(np.uint8)
        return self._looked_up(values)

    def _selection_as_minimum_dtype(self, dtype: np.dtype[Any]) -> int | str:
        row = int(self._data_to_texture(dtype.type(self.selection)))
        # napari's shader compares this with int(t), which cuts off where it should round: 260 would be 259.
        return f"{row} + int(t) - int(t + 0.5)" if dtype.itemsize == DRAWN_BYTES else row

    def _values_mapping_to_minimum_values_set(
        self, apply_selection: bool = True
    ) -> tuple[dict[int | None, int], dict[int, NDArray[np.float32]]]:
        if self.use_selection and apply_selection:
            return {}, {0: np.zeros(4, np.float32), 1: self.map(self.selection)}
        return {}, dict(enumerate(self._palette))

    @cached_property
    def _num_unique_colors(self) -> int:
        return len(self._palette) - 2


def shares(table: pd.DataFrame, colouring: str) -> NDArray[np.float32]:
    """Return where each cell lies on the colour bar; (N,) from 0 to 1."""
    if colouring == "call":
        return table["call"].map({"Hem": 0.0, "uncertain": 0.5, "ALL": 1.0}).to_numpy(np.float32)
    if colouring == "spread":
        return np.minimum(table["spread"].to_numpy(np.float32) / LARGEST_SPREAD, 1)
    return table["p_all" if colouring == "P(ALL)" else "p_hem"].to_numpy(np.float32)


def ramp(colouring: str) -> NDArray[np.float32]:
    """Return the colours of the colour bar; (N_LEVELS, 4)."""
    share = np.linspace(0, 1, N_LEVELS)
    if colouring == "spread":
        channels = [np.interp(share, (0, 1), ends) for ends in zip(CALL_COLOURS["uncertain"], SPREAD, strict=True)]
        rgb = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    else:
        rgb = probability_colours(1 - share if colouring == "P(Hem)" else share)
    return np.pad(rgb / 255, ((0, 0), (0, 1)), constant_values=1).astype(np.float32)


def palette(colouring: str) -> NDArray[np.float32]:
    """Return all colours that a layer has; (FIRST_LEVEL + N_LEVELS, 4)."""
    return np.concatenate([np.array([UNSCORED, (0, 0, 0, 0), SELECTED], np.float32), ramp(colouring)])


def colour_levels(
    numbers: NDArray[np.integer], share: NDArray[np.floating], selected: NDArray[np.integer]
) -> NDArray[np.uint8]:
    """Return the row of the palette of each label from 0 to the largest.

    Parameters
    ----------
    numbers : (N,) int
        The cells' labels.
    share : (N,) float
        Where they lie on the colour bar; NaN has no value.
    selected : (K,) int
        Labels that are picked out.
    """
    levels = np.full(int(numbers.max(initial=0)) + 1, UNSCORED_LEVEL, np.uint8)
    levels[0] = BACKGROUND_LEVEL
    levels[numbers] = share_levels(share)
    levels[selected] = SELECTED_LEVEL
    return levels


def share_levels(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the row of the palette of each place on the colour bar; NaN has no value. (N,) -> (N,) uint8."""
    steps = FIRST_LEVEL + np.nan_to_num(share) * (N_LEVELS - 1) + 0.5
    return np.where(np.isnan(share), UNSCORED_LEVEL, steps).astype(np.uint8)


def ticks(colouring: str) -> tuple[tuple[float, str], ...]:
    """Return the marks of a colour bar: where each is, from 0 to 1, and what it says."""
    if colouring == "call":
        return (0, "Hem"), (0.5, "uncertain"), (1, "ALL")
    top = LARGEST_SPREAD if colouring == "spread" else 1.0
    return tuple((share, f"{share * top:g}") for share in (0, 0.5, 1))
