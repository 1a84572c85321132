"""The colours of a stained smear, and how much light each stained thing takes away."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["COMPONENTS", "STAINS", "Component", "Rgb", "Stain"]

Rgb = tuple[float, float, float]
Component = Literal["red_cell", "platelet", "cytoplasm", "nucleus"]
COMPONENTS: tuple[Component, ...] = ("red_cell", "platelet", "cytoplasm", "nucleus")


@dataclass(frozen=True)
class Stain:
    """Colours of one staining, each as seen alone on the slide: RGB, above 0 and at most 255 (or ValueError).

    Attributes
    ----------
    background : (float, float, float)
        The bare slide under the lamp.
    red_cell : (float, float, float)
        A red cell where it is thickest.
    platelet : (float, float, float)
        A platelet.
    cytoplasm : (float, float, float)
        Cytoplasm of a white cell; that of blasts is drawn somewhat denser, that of lymphocytes paler.
    nucleus : (float, float, float)
        Chromatin, midway between the lighter one of blasts and the denser one of lymphocytes.

    Examples
    --------
    >>> Stain((250, 250, 250), (25, 250, 250), *[(100, 50, 100)] * 3).optical_density("red_cell").round(3)
    array([1., 0., 0.])
    """

    background: Rgb
    red_cell: Rgb
    platelet: Rgb
    cytoplasm: Rgb
    nucleus: Rgb

    def __post_init__(self) -> None:
        for name, colour in vars(self).items():
            if len(colour) != 3 or not all(0 < value <= 255 for value in colour):
                raise ValueError(f"{name} is {colour}; R, G and B are needed, above 0 and at most 255")

    def optical_density(self, component: Component) -> NDArray[np.float64]:
        """Return what a layer of a component absorbs in R, G and B: ``log10(background / colour)``."""
        colour: Rgb = getattr(self, component)
        density: NDArray[np.float64] = np.log10(np.array(self.background, float) / np.array(colour, float))
        return density


# Rounded averages measured on public smears: "marrow" has the stain of the lite bundle's training images,
# "giemsa", "yellow" and "pink" are in the manner of three other laboratories.
STAINS: Mapping[str, Stain] = MappingProxyType(
    {
        "marrow": Stain(
            background=(250, 255, 250),
            red_cell=(168, 184, 218),
            platelet=(120, 85, 190),
            cytoplasm=(168, 180, 246),
            nucleus=(134, 94, 246),
        ),
        "giemsa": Stain(
            background=(205, 212, 207),
            red_cell=(178, 146, 142),
            platelet=(150, 115, 185),
            cytoplasm=(172, 165, 206),
            nucleus=(122, 104, 199),
        ),
        "yellow": Stain(
            background=(255, 252, 155),
            red_cell=(236, 210, 134),
            platelet=(190, 130, 120),
            cytoplasm=(190, 152, 112),
            nucleus=(126, 46, 90),
        ),
        "pink": Stain(
            background=(254, 229, 203),
            red_cell=(204, 146, 156),
            platelet=(130, 80, 150),
            cytoplasm=(186, 160, 184),
            nucleus=(110, 56, 140),
        ),
    }
)
