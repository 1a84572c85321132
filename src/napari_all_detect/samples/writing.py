"""The sample data: a few drawn smears as PNG files, and the truth beside them."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from napari_all_detect.errors import OutputError
from napari_all_detect.export.labels import write_labels
from napari_all_detect.samples.smear import Smear, draw_smear

__all__ = ["write_samples"]


@dataclass(frozen=True)
class Scene:
    """Arguments of `draw_smear` for one of the sample smears."""

    shape: tuple[int, int]
    n_cells: int
    fraction_all: float
    touching: float
    border: float
    seed: int
    lobed: float = 0.0
    cell_diameter_px: float = 30.0
    stain: str = "marrow"


SCENES: dict[str, tuple[Scene, str]] = {
    "smear_1": (Scene((384, 384), 16, 0.90, touching=0.20, border=0.10, seed=1), "mostly blasts"),
    "smear_2": (Scene((384, 384), 14, 0.10, touching=0.10, border=0.10, seed=2, lobed=0.2), "mostly normal"),
    "smear_3": (Scene((320, 448), 22, 0.50, touching=0.55, border=0.25, seed=3), "mixed, clumps, cut cells"),
    "smear_4": (Scene((320, 320), 3, 0.34, touching=0.00, border=0.00, seed=4), "few cells"),
    "smear_5": (Scene((448, 448), 70, 0.80, touching=0.40, border=0.12, seed=5), "dense, mostly blasts"),
    "smear_6": (Scene((384, 512), 24, 0.40, touching=0.20, border=0.15, seed=6, lobed=0.3), "mixed"),
}

README = """\
# Sample data: drawn, not real

These smears are synthetic. No pixel of them comes from a slide or a patient:
`napari_all_detect.samples.write_samples` drew them. They show how the program is used and whether it still
works; they say nothing about how well it tells leukemic from normal cells.

- `smears/`: the pictures, to be scored: `all-detect score sample_data/smears --out results`
- `truth/<name>_labels.tif`: the whole white cells, uint16: 0 is no white cell, cells are numbered from 1
- `truth/cells.csv`: a row per white cell: `image, label, class` (`ALL`: drawn as a blast, `Hem`: as a normal
  cell), `y_px, x_px` (centroid of the visible part, pixels from the upper left one) and `diameter_px` (of
  the circle with the same area)

| picture | height x width | ALL | Hem | what | drawn by |
|---|---|---|---|---|---|
"""


def write_samples(folder: Path) -> list[Path]:
    """Draw the sample smears and write them, with their truth, into a folder; under 2 MB, a few seconds.

    The PNG files to be scored go to `folder/smears`, the truth (label images, `cells.csv`) to
    `folder/truth`, and a `README.md` tells what was drawn with which arguments. Every run draws the same.

    Parameters
    ----------
    folder : Path
        Made, with its parents, if it does not exist.

    Returns
    -------
    written : list of Path

    Raises
    ------
    OutputError
        If one of the files exists already (nothing is written then) or the folder can't be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = write_samples(Path(folder) / "sample_data")
    >>> [path.name for path in written[:2]], len(written)
    (['smear_1.png', 'smear_1_labels.tif'], 14)
    """
    smears, truth = folder / "smears", folder / "truth"
    pictures = {name: (smears / f"{name}.png", truth / f"{name}_labels.tif") for name in SCENES}
    paths = [path for pair in pictures.values() for path in pair]
    paths += [truth / "cells.csv", folder / "README.md"]
    _refuse_to_overwrite(folder, paths)
    try:
        smears.mkdir(parents=True, exist_ok=True)
        truth.mkdir(exist_ok=True)
        cells, readme = ["image,label,class,y_px,x_px,diameter_px\n"], [README]
        for name, (scene, what) in SCENES.items():
            smear = draw_smear(**asdict(scene))
            _write_smear(smear, *pictures[name])
            cells += _cell_rows(pictures[name][0].name, smear)
            readme.append(_readme_row(pictures[name][0].name, scene, what, smear))
        (truth / "cells.csv").write_text("".join(cells), encoding="utf-8", newline="\n")
        (folder / "README.md").write_text("".join(readme), encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"The samples can't be written into {folder} ({error}). Name another folder.") from error
    return paths


def _refuse_to_overwrite(folder: Path, paths: list[Path]) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file. Name a folder for the samples, a new or an empty one.")
    present = [path for path in paths if path.exists()]
    if present:
        raise OutputError(
            f"{present[0]} exists already ({len(present)} of the {len(paths)} sample files do) "
            "and is not overwritten. Name another folder, or delete this one first."
        )


def _write_smear(smear: Smear, picture: Path, labels: Path) -> None:
    from PIL import Image

    Image.fromarray(smear.rgb).save(picture, optimize=True)
    write_labels(smear.labels, labels)


def _cell_rows(image: str, smear: Smear) -> Iterator[str]:
    for label, kind in enumerate(smear.classes, start=1):
        rows, columns = np.nonzero(smear.labels == label)
        diameter = 2 * np.sqrt(rows.size / np.pi)
        yield f"{image},{label},{kind},{rows.mean():.2f},{columns.mean():.2f},{diameter:.2f}\n"


def _readme_row(image: str, scene: Scene, what: str, smear: Smear) -> str:
    n_all, n_hem = smear.classes.count("ALL"), smear.classes.count("Hem")
    arguments = ", ".join(f"{name}={value!r}" for name, value in asdict(scene).items() if name != "shape")
    height, width = scene.shape
    call = f"draw_smear({scene.shape}, {arguments})"
    return f"| `{image}` | {height} x {width} | {n_all} | {n_hem} | {what} | `{call}` |\n"
