"""Images by class -> cells by class.

A folder holds one sub-folder per class, of smears or of single cells. A smear's cells inherit its class: a weak
label, for a smear of leukemia holds normal cells too.
"""

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from all_detect_training.listing import LabelledImage
from napari_all_detect.crops import center_crop
from napari_all_detect.errors import InputError
from napari_all_detect.labelled import LabelImage
from napari_all_detect.segmentation import segment_cells
from napari_all_detect.sources import find_images, open_planes

__all__ = ["Cells", "Kind", "list_folders", "opened_npz", "read_cells", "whole_image"]

Kind = Literal["smears", "cells"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cells:
    """Crops with their class and where they come from.

    Attributes
    ----------
    crops : (N, s, s, 3) uint8
    is_all : (N,) bool
        The class of the image that a cell was found in.
    image : (N,) str
        `<class folder>/<file>`, in the order of the folders' natural sorting.
    diameter_px : (N,) float32
        Of the circle of the same area.
    """

    crops: NDArray[np.uint8]
    is_all: NDArray[np.bool_]
    image: NDArray[np.str_]
    diameter_px: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "Cells":
        return Cells(self.crops[which], self.is_all[which], self.image[which], self.diameter_px[which])

    def save(self, path: Path) -> None:
        """Write to an `.npz` file."""
        np.savez_compressed(path, crops=self.crops, is_all=self.is_all, image=self.image, diameter_px=self.diameter_px)

    @classmethod
    def load(cls, path: Path) -> "Cells":
        """Read what `save` wrote; InputError if the file is damaged."""
        with opened_npz(path, "remove it, and the same `all-detect-train fit` reads the images again") as arrays:
            return cls(**{name: arrays[name] for name in ("crops", "is_all", "image", "diameter_px")})


@contextmanager
def opened_npz(path: Path, remedy: str) -> Iterator[Any]:
    """Open an `.npz` file; what is wrong with it, or with what is read from it, becomes an InputError.

    Parameters
    ----------
    path : Path
    remedy : str
        What to do about a damaged file; the message ends with it.
    """
    try:
        # Opened here, as NumPy leaves a file open that is no archive.
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged ({error}); {remedy}") from error


def read_cells(
    images: Sequence[LabelledImage],
    source: Path,
    *,
    kind: Kind,
    crop_size: int,
    mask_corner_px: int = 0,
    workers: int = 1,
) -> Cells:
    """Read the cells of listed images.

    Parameters
    ----------
    images : sequence of LabelledImage
    source : Path
        Where they were listed; error messages begin with it.
    kind : {"smears", "cells"}
        `smears` are segmented; in `cells` every image is one cell, whose centre is cut out.
    crop_size : int
        Side of a crop in pixels; images are not resampled.
    mask_corner_px : int
        Cells that reach into a square of this side in the lower right corner are left out: a scale bar is there.
    workers : int
        Processes that read and segment.

    Returns
    -------
    cells : Cells

    Raises
    ------
    InputError
        If a class ends up without cells. An image that can't be read is left out, and logged.
    """
    if kind == "cells" and mask_corner_px:
        raise InputError("a corner can be masked in smears only: an image of one cell would be lost")
    task = partial(_cells_of_image, kind=kind, crop_size=crop_size, mask_corner_px=mask_corner_px)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(task, (image.path for image in images), chunksize=16))
    counts = [len(crops) for crops, _ in found]
    if not any(counts):
        raise InputError(f"{source}: no cell found; training needs cells of both classes")
    cells = Cells(
        crops=np.concatenate([crops for crops, _ in found]),
        is_all=np.repeat([image.is_all for image in images], counts),
        image=np.repeat([image.image for image in images], counts),
        diameter_px=np.concatenate([diameters for _, diameters in found]),
    )
    for name, n in (("ALL", cells.is_all.sum()), ("Hem", (~cells.is_all).sum())):
        if n == 0:
            raise InputError(f"{source}: no {name} cell found; training needs cells of both classes")
    return cells


def list_folders(folder: Path, classes: Mapping[str, str]) -> list[LabelledImage]:
    """List the images of a folder that holds one sub-folder per class; whose they are is unknown.

    Raises
    ------
    InputError
        If a sub-folder is missing, or a class is none.
    """
    wrong = sorted(set(classes.values()) - {"ALL", "Hem"})
    if wrong:
        raise InputError(f"classes map to {', '.join(wrong)}; expected ALL or Hem")
    return list(_images(folder, classes))


def _images(folder: Path, classes: Mapping[str, str]) -> Iterator[LabelledImage]:
    for sub, name in classes.items():
        if not (folder / sub).is_dir():
            raise InputError(f"{folder}: no sub-folder {sub!r}; expected one for each of: {', '.join(classes)}")
        for file in find_images([folder / sub]):
            yield LabelledImage(file.path, f"{sub}/{file.image}", name == "ALL")


def whole_image(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the labels of an image that is one cell: its own centre is cut out, wherever on black the cell lies."""
    return np.ones(rgb.shape[:2], np.int32)


def in_corner(labels: LabelImage, side_px: int) -> NDArray[np.int32]:
    """Return the numbers of the cells that reach into a square of this side in the lower right corner."""
    return np.unique(np.asarray(labels[-side_px:, -side_px:], np.int32)) if side_px else np.zeros(0, np.int32)


def _cells_of_image(
    path: Path, *, kind: Kind, crop_size: int, mask_corner_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return an image's crops and their diameters; of an image that can't be read or is black, none."""
    nothing = np.zeros((0, crop_size, crop_size, 3), np.uint8), np.zeros(0, np.float32)
    try:
        rgb = np.concatenate([plane.read().rgb for plane in open_planes(find_images([path])[0])[:1]])
    except InputError as error:
        log.warning("left out: %s", error)
        return nothing
    if not rgb.any():
        log.warning("left out: %s: all black", path)
        return nothing
    labels = segment_cells(rgb) if kind == "smears" else whole_image(rgb)
    labels = np.where(np.isin(labels, in_corner(labels, mask_corner_px)), 0, labels)
    area = np.bincount((labels if kind == "smears" else rgb.any(axis=-1)).ravel())[1:]
    diameters = np.sqrt(4 / np.pi * area[area > 0])
    return center_crop(rgb, labels, crop_size), diameters.astype(np.float32)
