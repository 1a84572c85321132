"""Whatever an image file holds -> 8-bit RGB."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_all_detect.errors import InputError
from napari_all_detect.windows import Window

__all__ = ["GREY_NOTE", "Extremes", "RgbPlane", "as_rgb", "extremes", "overall"]

GREY_NOTE = "grey image repeated to three channels: it carries no stain colour"

# Cameras count with 8 to 16 bits but files store 8 or 16, so the depth is told from the largest value.
_BIT_DEPTHS = (8, 10, 12, 14, 16)
# Float32 arithmetic may leave a white pixel this far above 1.
_ROUNDING = 1e-6
# More than that is no white by rounding, and less than this no white of 255: interpolation and filters overshoot.
_LEAST_OF_255 = 2

Extremes = tuple[tuple[float, float], ...]
"""Least and greatest value of the colours, and of alpha where there is one."""


@dataclass(frozen=True, eq=False)
class RgbPlane:
    """The pixels of a plane and what was done to bring them to 8-bit RGB.

    Attributes
    ----------
    rgb : (H, W, 3) uint8 array
        C-contiguous, values 0 to 255.
    notes : tuple of str
        What was done to the values, and what was missing, one sentence each; empty for 8-bit RGB that is all there.
    """

    rgb: NDArray[np.uint8]
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.rgb.shape[0], self.rgb.shape[1]

    def __getitem__(self, window: Window) -> NDArray[np.uint8]:
        return self.rgb[window]


def as_rgb(array: ArrayLike, name: str = "array", known: Extremes | None = None) -> RgbPlane:
    """Convert an image to 8-bit RGB.

    Parameters
    ----------
    array : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) array_like
        Grey, RGB or RGBA with straight alpha. Boolean; unsigned or signed integers in 0 to 65535; or finite
        floats in 0 to 1, or in 0 to 255 with one of 2 or more. 8-bit values are taken as they are. Wider integers
        are scaled by the smallest range of 8, 10, 12, 14 or 16 bits that holds the largest value.
    name : str
        What the error messages call the image: the file.
    known : Extremes, optional
        Those of the whole plane, if this is a part of it.

    Returns
    -------
    RgbPlane
        An 8-bit RGB input that is contiguous is not copied.

    Raises
    ------
    InputError
        Another number of axes or channels, no pixels, or values outside the ranges above.

    Examples
    --------
    >>> import numpy as np
    >>> plane = as_rgb(np.array([[0, 2048, 4095]], np.uint16))
    >>> plane.rgb[0, :, 0].tolist()
    [0, 128, 255]
    >>> plane.notes[0]
    '16-bit values in 0-4095 scaled to 8 bits'
    """
    if isinstance(array, str | Path):
        raise InputError(f"{name}: got the path {array}; expected its pixels: read it first, with skimage.io.imread")
    values = np.asarray(array)
    known = known or extremes(values, name)
    if values.ndim == 2:
        values = values[..., np.newaxis]
    rgb, notes = _to_8_bits(values[..., :3], name, known[0])
    if values.shape[2] == 1:
        rgb = np.repeat(rgb, 3, axis=2)
        notes = (*notes, GREY_NOTE)
    if values.shape[2] == 4:
        least, _ = _to_8_bits(np.array(known[1][0], values.dtype), name, known[1])
        if least < 255:
            alpha, _ = _to_8_bits(values[..., 3:], name, known[1])
            rgb = _over_white(rgb, alpha)
            notes = (*notes, "transparent pixels laid over white")
    return RgbPlane(np.ascontiguousarray(rgb), notes)


def extremes(array: ArrayLike, name: str) -> Extremes:
    """Return the least and greatest values of an image that `as_rgb` takes; of 8-bit colours those that can be.

    Raises
    ------
    InputError
        As `as_rgb`, if it is none.
    """
    values = np.asarray(array)
    _check_shape(values, name)
    if values.ndim == 3 and values.shape[2] == 4:
        return *extremes(values[..., :3], name), _extremes_of(values[..., 3], name)
    return ((0.0, 255.0),) if values.dtype == np.uint8 else (_extremes_of(values, name),)


def overall(one: Extremes, other: Extremes) -> Extremes:
    """Return the extremes of two parts of a plane together."""
    return tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True))


def _extremes_of(values: NDArray[np.generic], name: str) -> tuple[float, float]:
    if values.dtype.kind not in "buif":
        raise InputError(f"{name}: values of type {values.dtype}; expected integers, floats or booleans")
    low, high = float(np.min(values)), float(np.max(values))
    if not np.isfinite([low, high]).all():
        raise InputError(f"{name}: holds NaN or infinite values; expected finite ones: replace them first")
    return low, high


def _check_shape(values: NDArray[np.generic], name: str) -> None:
    if values.ndim not in (2, 3):
        raise InputError(
            f"{name}: an array of shape {values.shape}; expected one plane, (H, W), (H, W, 3) or (H, W, 4)"
        )
    if values.ndim == 3 and values.shape[2] not in (1, 3, 4):
        raise InputError(
            f"{name}: an array of shape {values.shape} with {values.shape[2]} channels on its last axis; "
            "expected 1 (grey), 3 (RGB) or 4 (RGBA): convert it to RGB, channels last"
        )
    if values.size == 0:
        raise InputError(f"{name}: an image of shape {values.shape} without pixels; expected at least one")


def _to_8_bits(
    values: NDArray[np.generic], name: str, known: tuple[float, float]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False), ()
    match values.dtype.kind:
        case "b":
            return values.astype(np.uint8) * np.uint8(255), ("two-valued image taken as 0 and 255",)
        case "u" | "i":
            return _from_integers(values, name, *known)
    return _from_floats(values.astype(np.float64, copy=False), name, *known)


def _from_integers(
    values: NDArray[np.generic], name: str, low: float, high: float
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if low < 0 or high > 65535:
        raise InputError(f"{name}: integers in {low:.0f} to {high:.0f}; expected 0 to 65535: save as 8- or 16-bit RGB")
    full = next(2**bits - 1 for bits in _BIT_DEPTHS if high < 2**bits)
    table = (np.arange(full + 1) * 255 + full // 2) // full
    done = "taken as they are" if full == 255 else "scaled to 8 bits"
    note = f"{values.dtype.itemsize * 8}-bit values in 0-{full} {done}"
    return table.astype(np.uint8)[values.astype(np.intp, copy=False)], (note,)


def _from_floats(
    values: NDArray[np.float64], name: str, low: float, high: float
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if low < -_ROUNDING or high > 255 * (1 + _ROUNDING):
        raise InputError(f"{name}: floats in {low:g} to {high:g}; expected 0 to 1 or 0 to 255: rescale them first")
    if 1 + _ROUNDING < high < _LEAST_OF_255:
        raise InputError(
            f"{name}: floats in {low:g} to {high:g}, a little more than 1 and hardly 0 to 255; expected 0 to 1 or 0 to "
            "255: clip them to 1, if white is 1"
        )
    if high <= 1 + _ROUNDING:
        values, note = values * 255, "floating-point values in 0-1 scaled to 8 bits"
    else:
        note = "floating-point values in 0-255 rounded to 8 bits"
    return np.clip(np.rint(values), 0, 255).astype(np.uint8), (note,)


def _over_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay (H, W, 3) colours with (H, W, 1) alpha over white; 16 bits hold 255 * 255 + 127."""
    covered = ((255 - rgb).astype(np.uint16) * alpha + np.uint16(127)) // np.uint16(255)
    return (255 - covered).astype(np.uint8)
