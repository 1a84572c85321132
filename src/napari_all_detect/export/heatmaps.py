"""Heat maps over the cell that they explain, side by side in one image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from napari_all_detect.errors import OutputError

__all__ = ["draw_heatmaps", "write_heatmaps"]

TILE_PX = 224
TITLE_PX = 22
GAP_PX = 6
OPACITY = 0.65
"""Of the heat where it is 1; it fades with the heat, so that the cell shows through."""


def draw_heatmaps(
    crop: NDArray[np.uint8], title: str, maps: NDArray[np.floating], titles: Sequence[str]
) -> Image.Image:
    """Draw a crop, and each map over it.

    Parameters
    ----------
    crop : (s, s, 3) uint8
    title : str
        Over the crop.
    maps : (K, s, s) float
        In 0 to 1: nothing, then red, yellow, white.
    titles : K str
        Over the maps.

    Returns
    -------
    image : PIL.Image.Image
        One row of K + 1 tiles.

    Examples
    --------
    >>> draw_heatmaps(np.zeros((8, 8, 3), np.uint8), "cell", np.zeros((2, 8, 8)), ["a", "b"]).size
    (696, 258)
    """
    large = np.asarray(Image.fromarray(crop).resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC))
    tiles = [large, *(_blend(large, _enlarge(heat)) for heat in maps)]
    width = GAP_PX + len(tiles) * (TILE_PX + GAP_PX)
    image = Image.new("RGB", (width, TITLE_PX + TILE_PX + 2 * GAP_PX), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for i, (tile, text) in enumerate(zip(tiles, [title, *titles], strict=True)):
        x = GAP_PX + i * (TILE_PX + GAP_PX)
        draw.text((x, GAP_PX), text, fill="black", font=font)
        image.paste(Image.fromarray(tile), (x, TITLE_PX + GAP_PX))
    return image


def write_heatmaps(
    path: Path, crop: NDArray[np.uint8], title: str, maps: NDArray[np.floating], titles: Sequence[str]
) -> None:
    """Write what `draw_heatmaps` draws as a PNG.

    Raises
    ------
    OutputError
        If the file can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_heatmaps(crop, title, maps, titles).save(path, format="PNG")
    except OSError as error:
        raise OutputError(
            f"{path} can't be written ({error.strerror or error}); name a file that you may write"
        ) from error


def _enlarge(heat: NDArray[np.floating]) -> NDArray[np.float32]:
    small = Image.fromarray(np.asarray(heat, np.float32))
    return np.asarray(small.resize((TILE_PX, TILE_PX), Image.Resampling.BILINEAR)).clip(0, 1)


def _blend(rgb: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay the colours of glowing iron over the pixels."""
    colour = np.stack([3 * heat, 3 * heat - 1, 3 * heat - 2], axis=-1).clip(0, 1) * 255
    opacity = OPACITY * heat[..., None]
    return np.asarray(np.round(rgb * (1 - opacity) + colour * opacity), np.uint8)
