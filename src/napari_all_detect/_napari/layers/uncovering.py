"""What covers an image whose cells are shown. No Qt."""

from typing import Any

import numpy as np
from napari.layers import Image, Labels

from napari_all_detect._napari.layers.metadata_keys import IDENTITY_KEY
from napari_all_detect._napari.layers.origins import Origin, origin_of

__all__ = ["uncover"]


def uncover(viewer: Any, image: Any, labels: Any) -> None:
    """Show the image that cells are of, and hide what lies on it: other smears, and their cells.

    Outlines on another image would be taken for its own. In napari's grid, where images lie side by side, all stay.

    Parameters
    ----------
    viewer : ViewerModel
    image : napari.layers.Image
        It may be closed by now.
    labels : napari.layers.Labels
        Its cells.
    """
    layers = list(viewer.layers)
    if image not in layers or viewer.canvas.grid.enabled:
        return
    above, origin = layers[layers.index(image) + 1 :], Origin.of(image)
    covering = [one for one in above if one is not labels and _is_of_another(one, origin) and _overlap(one, labels)]
    seen = {image: True, labels: True} | dict.fromkeys(covering, False)
    for layer, visible in seen.items():
        if layer.visible != visible:  # napari draws anew what is set to what it is
            layer.visible = visible


def _is_of_another(layer: Any, origin: Origin) -> bool:
    if isinstance(layer, Image):
        # A grey stack of three planes may be anything, unless cells were found in it.
        return bool(layer.rgb or IDENTITY_KEY in layer.metadata) and not origin.is_of(layer)
    other = origin_of(layer) if isinstance(layer, Labels) else None
    return other is not None and other.identity != origin.identity


def _overlap(one: Any, other: Any) -> bool:
    """Return whether two layers overlap along y and x."""
    (first, last), (other_first, other_last) = (layer.extent.world[:, -2:] for layer in (one, other))
    return bool(np.all(first < other_last) and np.all(other_first < last))
