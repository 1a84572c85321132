"""Draw the demo's picture for the README, and compare the calls with the drawn classes.

all-detect score sample_data/smears --out demo
python scripts/demo_figure.py demo docs/images/demo.png
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.segmentation import find_boundaries

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap

SAMPLES = Path(__file__).parents[1] / "sample_data"
SHOWN = ("smear_1", "smear_3", "smear_6")
# Blue to vermilion of Okabe and Ito: told apart with any colour vision.
COLOURS = LinearSegmentedColormap.from_list("hem_to_all", ["#0072B2", "#7F7F7F", "#D55E00"])


def main(results: Path, picture: Path) -> None:
    """Draw three smears and print the comparison for all."""
    cells = pd.read_csv(results / "cells.csv")
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(12, 3.9), layout="constrained")
    for axis, name in zip(axes, SHOWN, strict=True):
        axis.imshow(outlined(results, cells, name))
        axis.set_title(f"{name}.png", fontsize=10)
        axis.axis("off")
    figure.colorbar(matplotlib.cm.ScalarMappable(cmap=COLOURS), ax=axes, label="P(ALL)", shrink=0.85)
    figure.savefig(picture, dpi=110)
    print(compare(results, cells))


def outlined(results: Path, cells: pd.DataFrame, name: str, factor: int = 3) -> NDArray[np.uint8]:
    """Return a smear, enlarged, with each cell outlined in the colour of its probability."""
    rgb = np.array(Image.open(SAMPLES / "smears" / f"{name}.png")).repeat(factor, 0).repeat(factor, 1)
    labels = tifffile.imread(results / "labels" / f"{name}_labels.tif").repeat(factor, 0).repeat(factor, 1)
    p_all = cells[cells["image"] == f"{name}.png"].set_index("label")["p_all"]
    edges = binary_dilation(find_boundaries(labels, mode="inner"), iterations=2) & (labels > 0)
    rgb[edges] = (np.array([COLOURS(p_all.get(i, 0.0))[:3] for i in labels[edges]]) * 255).astype(np.uint8)
    return rgb


def compare(results: Path, cells: pd.DataFrame) -> pd.DataFrame:
    """Count, for each drawn class, the calls of the cells found (at least half of union shared) and those missed."""
    truth = pd.read_csv(SAMPLES / "truth" / "cells.csv")
    calls = {(row.image, row.label): row.call for row in cells.itertuples()}
    truth["call"] = [calls.get(match(results, row.image, row.label), "not found") for row in truth.itertuples()]
    return pd.crosstab(truth["class"], truth["call"])


def match(results: Path, image: str, label: int) -> tuple[str, int]:
    """Return the found cell that shares at least half of its union with a drawn one; label 0 if none does."""
    name = image.removesuffix(".png")
    found = tifffile.imread(results / "labels" / f"{name}_labels.tif")
    drawn = tifffile.imread(SAMPLES / "truth" / f"{name}_labels.tif") == label
    best = np.bincount(found[drawn]).argmax()
    union = (drawn | (found == best)).sum()
    return image, int(best) if best and (drawn & (found == best)).sum() >= 0.5 * union else 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
