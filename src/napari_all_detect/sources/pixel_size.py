"""When a pixel size that a file states is believed."""

import math
import unicodedata

__all__ = ["believed_um", "um_per_unit"]

# Light microscopes give 0.05 to 1 um per pixel. The wide limits still shut out the 72 and 300 dpi (353 and
# 85 um) that programs write when they know nothing.
_BELIEVED_UM = (0.02, 5.0)
_LARGEST_ANISOTROPY = 0.01

_UM_PER_UNIT = {
    1e-4: ("angstrom", "Å"),
    1e-3: ("nm", "nanometer", "nanometre"),
    1.0: ("µm", "um", "micron", "microns", "micrometer", "micrometre", r"\u00b5m"),
    1e3: ("mm", "millimeter", "millimetre"),
    1e4: ("cm", "centimeter", "centimetre"),
    25400.0: ("in", "inch"),
    1e6: ("m", "meter", "metre"),
}


def _plain(unit: str) -> str:
    """Fold case and the two code points of the micro sign."""
    return unicodedata.normalize("NFKC", unit).strip().casefold()


_FACTORS = {_plain(unit): factor for factor, units in _UM_PER_UNIT.items() for unit in units}


def um_per_unit(unit: object) -> float:
    """Micrometres in one unit of length, NaN if the unit is missing or not known.

    Examples
    --------
    >>> um_per_unit("millimeter"), um_per_unit("pixel")
    (1000.0, nan)
    """
    return _FACTORS.get(_plain(unit), math.nan) if isinstance(unit, str) else math.nan


def believed_um(x_um: float, y_um: float) -> float | None:
    """Return the pixel size if it is one that a microscope gives and the pixels are square, else None.

    Examples
    --------
    >>> believed_um(0.25, 0.25)
    0.25
    >>> believed_um(25400 / 72, 25400 / 72) is None
    True
    """
    low, high = _BELIEVED_UM
    square = math.isclose(x_um, y_um, rel_tol=_LARGEST_ANISOTROPY)
    return float(x_um) if square and low <= x_um <= high else None
