"""What surrounds a smear, the black around an eyepiece's circle or the margins of a page, is painted as bare slide.

Else a page's white would be taken for the empty field, and the edges of black for those of cells.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_all_detect.segmentation.light import BLACK, brightest, empty_field, like_field, sampled, thinned
from napari_all_detect.segmentation.view import Survey, View
from napari_all_detect.windows import Pixels, Window

__all__ = ["picture", "survey_border", "without_surround"]

WHITE = 250
"""Paper is no darker in any channel."""

PLAIN = 0.99
"""Share of a line's values that are white, or black, in a margin: pixels beside a picture suffer from its JPEG."""

CORNER_PX = 3

LEAST_DARK = 0.01
"""Share of a picture that is dark and reaches its border, in a black surround; less is a scale bar or a dead pixel."""

BLACK_CORNER, DARK = 0.15, 0.3
"""Of the empty field's light: no more is in a corner of a plane in a black surround, and in the shade beside that. The
darkest nuclei of four stains have 0.35 in one channel at least."""


@dataclass(frozen=True, eq=False)
class _Painted:
    """A plane with what surrounds the smear in one colour.

    Attributes
    ----------
    plane : Pixels
    picture : (slice, slice)
        What lies outside is painted.
    dark : (3,) uint8 or None
        What is no brighter than this in any channel is painted, too.
    colour : (3,) uint8
    """

    plane: Pixels
    picture: Window
    dark: NDArray[np.uint8] | None
    colour: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the plane."""
        return self.plane.shape

    def __getitem__(self, window: Window) -> NDArray[np.uint8]:
        rgb = self.plane[window]
        rows, columns = (
            slice(max(0, inner.start - part.start), max(0, inner.stop - part.start))
            for inner, part in zip(self.picture, window, strict=True)
        )
        hidden = np.ones(rgb.shape[:2], bool)
        hidden[rows, columns] = False if self.dark is None else (rgb[rows, columns] <= self.dark).all(axis=-1)
        return np.where(hidden[..., None], self.colour, rgb)


def without_surround(view: View) -> View:
    """Return a view with what surrounds the smear painted in the colour of bare slide; itself if nothing does."""
    painted = view.survey("surround", lambda: _surround(view))
    return view if painted is None else View(_Painted(view.plane, *painted), view.window, view.survey)


def picture(view: View) -> Window:
    """Return the window of a plane that is left without its margins: lines at the border, white or black throughout.

    All of the plane where only a sample of it is surveyed, or nothing but margin is there.
    """
    return view.survey("picture", lambda: _within_margins(view.rgb))


def survey_border(plane: Pixels, survey: Survey) -> None:
    """Tell the survey of a sample what only the plane's border says."""
    survey("darkest corner", lambda: _darkest_corner(plane))
    survey("picture", lambda: (slice(0, plane.shape[0]), slice(0, plane.shape[1])))
    survey("dark share", lambda: 1.0)  # of squares far apart nothing says what reaches the border: the corner decides


def _surround(view: View) -> tuple[Window, NDArray[np.uint8] | None, NDArray[np.uint8]] | None:
    """Return what to paint, as in `_Painted`; None if nothing. The survey takes the field's light from what is left."""
    window = picture(view)
    seen = view.rgb[window]
    corner = view.survey("darkest corner", lambda: _darkest_corner(seen))
    has_margins = seen.shape != view.rgb.shape
    if corner <= BLACK:
        seen = seen[brightest(seen) > BLACK][None]
    field = empty_field(seen) if has_margins or corner <= BLACK else view.empty_field
    dark = (DARK * field).astype(np.uint8)
    is_dark = (
        corner <= max(BLACK, BLACK_CORNER * field.max())
        and view.survey("dark share", lambda: _from_border(view.rgb[window], dark)) >= LEAST_DARK
    )
    white_on_white = field.min() >= WHITE and _darkest_corner(view.rgb) > BLACK  # glass that looks like paper
    if not is_dark and (not has_margins or white_on_white):
        return None
    view.survey("field", lambda: field)
    pixels = sampled(seen)
    alike = pixels[like_field(pixels, field)]
    glass = np.median(alike, axis=0) if len(alike) else field  # the field's colour is a little brighter
    return window, dark if is_dark else None, np.rint(glass).astype(np.uint8)


def _from_border(rgb: NDArray[np.uint8], dark: NDArray[np.uint8]) -> float:
    """Return the share of an image that is no brighter than this and hangs together with its border."""
    pieces, _ = ndi.label((thinned(rgb) <= dark).all(axis=-1))
    reaching = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    return float(np.isin(pieces, reaching[reaching > 0]).mean())


def _darkest_corner(plane: Pixels) -> int:
    """Return the brightest value in that corner of a plane in which this is lowest."""
    tops, lefts = ((slice(0, CORNER_PX), slice(max(0, n - CORNER_PX), n)) for n in plane.shape[:2])
    return min(int(plane[rows, columns].max()) for rows in tops for columns in lefts)


def _within_margins(rgb: NDArray[np.uint8]) -> Window:
    window = slice(0, rgb.shape[0]), slice(0, rgb.shape[1])
    before = None
    while before != window:  # a page may surround a black frame
        before = window
        rows = _trimmed(rgb[window])
        columns = _trimmed(rgb[window][rows].swapaxes(0, 1))
        window = _within(window[0], rows), _within(window[1], columns)
    return window


def _trimmed(lines: NDArray[np.uint8]) -> slice:
    """Return the lines that are left without plain ones at both ends; all where there is no other."""
    start, stop = 0, len(lines)
    while start < stop and _is_plain(lines[start]):
        start += 1
    while start < stop and _is_plain(lines[stop - 1]):
        stop -= 1
    return slice(start, stop) if start < stop else slice(0, len(lines))


def _within(part: slice, inner: slice) -> slice:
    return slice(part.start + inner.start, part.start + inner.stop)


def _is_plain(line: NDArray[np.uint8]) -> bool:
    return bool((line >= WHITE).mean() >= PLAIN or (line <= BLACK).mean() >= PLAIN)
