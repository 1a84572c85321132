"""Images by class -> cells by class.

A smear's cells inherit its class: a weak label, for a smear of leukemia holds normal cells too.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from all_detect_training.cells import Cells
from all_detect_training.listing import Kind, LabelledImage, some
from all_detect_training.single_cells import (
    cut_centre,
    diameter_px,
    first_plane,
    is_on_black,
    read_on_black,
    warn_not_on_black,
)
from all_detect_training.telling import Telling
from napari_all_detect.batch.cutting import ENVIRONMENT
from napari_all_detect.crops import center_crop, crop_scale
from napari_all_detect.errors import InputError
from napari_all_detect.labelled import LabelImage
from napari_all_detect.segmentation import segment_cells
from napari_all_detect.shielding import shielded
from napari_all_detect.sources import Plane

__all__ = ["in_corner", "read_cells", "warn_no_cell"]

Crops = NDArray[np.uint8]
log = logging.getLogger(__name__)

MOST_PROCESSES = 61
"""That Windows can wait for at once."""

BLOCK_BYTES = 2**26
"""Of crops side by side: so large a piece of memory goes back to the system when it is freed, single crops do not."""


class Found(NamedTuple):
    """The cells of one image; `typical_px` is the median diameter of all that are there, if it is a smear."""

    crops: Crops
    diameter_px: NDArray[np.float32]
    is_on_black: bool = True
    was_read: bool = True
    typical_px: float | None = None


def read_cells(
    images: Sequence[LabelledImage],
    source: Path,
    *,
    kind: Kind,
    crop_size: int,
    mask_corner_px: int = 0,
    workers: int = 1,
    training_px: Callable[[Cells], float] | None = None,
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
        Side of a crop in pixels.
    mask_corner_px : int
        Cells that reach into a square of this side in the lower right corner are left out: a scale bar is there.
    workers : int
        Processes that read and segment.
    training_px : callable, optional
        Takes all cells, returns the median diameter of those that train: smears of another scale are rescaled to that,
        as when a bundle scores. Without it, and for images of one cell, nothing is rescaled.

    Returns
    -------
    cells : Cells
        With their diameters before rescaling.

    Raises
    ------
    InputError
        If a class ends up without cells, or a process is ended. An image that can't be read, or of one cell whose
        crop would be black, is left out, and logged; so are images of one cell that are not on black, which are kept.
        If an image changes while it is read.
    """
    if kind == "cells" and mask_corner_px:
        raise InputError("a corner can be masked in smears only: an image of one cell would be lost")
    task = partial(_cells_of_image, kind=kind, crop_size=crop_size, mask_corner_px=mask_corner_px)
    found = _found([image.path for image in images], task, workers)
    warn_not_on_black([i.image for i, one in zip(images, found, strict=True) if not one.is_on_black], len(images))
    counts, widths = [len(one.crops) for one in found], [one.typical_px for one in found]
    empty = [i.image for i, one, n in zip(images, found, counts, strict=True) if one.was_read and not n]
    warn_no_cell(empty, len(images))
    if not any(counts):
        raise InputError(f"{source}: no cell found; training needs cells of both classes")
    is_all = np.repeat([image.is_all for image in images], counts)
    for name, there in (("ALL", is_all), ("Hem", ~is_all)):
        if not there.any():
            raise InputError(f"{source}: no {name} cell found; training needs cells of both classes")
    image = np.repeat([image.image for image in images], counts)
    diameter_px = np.concatenate([one.diameter_px for one in found])
    cells = Cells(crops=_moved(found), is_all=is_all, image=image, diameter_px=diameter_px)
    if training_px is not None:
        wanted_px = training_px(cells)
        far = [i for i, px in enumerate(widths) if counts[i] and px is not None and _scale(px, wanted_px) != 1]
        again = _found([images[i].path for i in far], partial(task, training_px=wanted_px), workers) if far else []
        ends = np.cumsum(counts)
        for i, one in zip(far, again, strict=True):
            if len(one.crops) != counts[i]:
                raise InputError(f"{images[i].path}: changed while it was read; begin again when nothing writes there")
            cells.crops[ends[i] - counts[i] : ends[i]] = one.crops
    return cells


def _scale(typical_px: float, wanted_px: float) -> float:
    """Return by which an image is rescaled when a bundle scores it."""
    return crop_scale(
        "auto",
        pixel_size_um=None,
        diameters_px=np.array([typical_px]),
        bundle_pixel_size_um=None,
        bundle_diameter_px=wanted_px,
    )


def warn_no_cell(names: Sequence[str], n_images: int) -> None:
    """Log in which of so many images no cell was found, if in any."""
    if names:
        log.warning("no cell found in %d of %d images, which are left out: %s", len(names), n_images, some(names))


def _found(paths: Sequence[Path], task: Callable[[Path], Found], workers: int) -> list[Found]:
    """Read images in processes."""
    workers = min(workers, MOST_PROCESSES) if os.name == "nt" else workers
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare_reader)
    try:
        # One by one: after Ctrl-C what has been handed out is still read.
        return list(_in_blocks(_told(shielded(partial(pool.map, task, paths)), len(paths))))
    except BrokenProcessPool as error:
        raise InputError(
            "a process that read images was ended by the operating system, most likely for want of memory; give it "
            "more, or take fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _told(found: Iterable[Found], n_images: int) -> Iterator[Found]:
    """Pass on what was found, and log how many images are read."""
    telling = Telling(log, "reading images", n_images)
    for done, one in enumerate(found, 1):
        yield one
        telling.reach(done)


def _in_blocks(found: Iterable[Found]) -> Iterator[Found]:
    """Put the crops side by side into large blocks, whose memory is free for others once all in them are moved on."""
    block = np.zeros((0, 0, 0, 3), np.uint8)
    for one in found:
        n = len(one.crops)
        if n > len(block):
            block = np.empty((max(n, BLOCK_BYTES // one.crops[0].nbytes), *one.crops.shape[1:]), np.uint8)
        if n:
            block[:n] = one.crops
            one, block = one._replace(crops=block[:n]), block[n:]
        yield one


def _prepare_reader() -> None:
    """Keep a process that reads, one of many, to one core, unless the user's environment says otherwise.

    Ctrl-C, which on Windows all of them hear, is left to the process that they read for.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _moved(found: list[Found]) -> Crops:
    """Join the crops; emptied as it goes, as there may not be memory for all of them twice."""
    end = sum(len(one.crops) for one in found)
    crops = np.empty((end, *found[0].crops.shape[1:]), np.uint8)
    while found:
        own = found.pop().crops
        crops[end - len(own) : end] = own
        end -= len(own)
    return crops


def in_corner(labels: LabelImage, side_px: int) -> NDArray[np.int32]:
    """Return the numbers of the cells that reach into a square of this side in the lower right corner."""
    return np.unique(np.asarray(labels[-side_px:, -side_px:], np.int32)) if side_px else np.zeros(0, np.int32)


def _cells_of_image(
    path: Path, *, kind: Kind, crop_size: int, mask_corner_px: int, training_px: float | None = None
) -> Found:
    """Return an image's cells; of an image that can't be read or is black, none."""
    try:
        plane = first_plane(path)
        if kind == "cells":
            return _single_cell(plane, crop_size)
        return _cells_of_smear(plane, crop_size, mask_corner_px, training_px)
    except InputError as error:
        log.warning("left out: %s", error)
        return Found(np.zeros((0, crop_size, crop_size, 3), np.uint8), np.zeros(0, np.float32), was_read=False)


def _single_cell(plane: Plane, crop_size: int) -> Found:
    rgb = read_on_black(plane)
    diameter = np.array([diameter_px(rgb)], np.float32)
    return Found(cut_centre(rgb, crop_size, plane.path), diameter, is_on_black(rgb))


def _cells_of_smear(plane: Plane, crop_size: int, mask_corner_px: int, training_px: float | None) -> Found:
    rgb = plane.read().rgb
    if not rgb.any():
        raise InputError(f"{plane.path}: all black")
    labels = segment_cells(rgb)
    typical_px = float(np.median(_diameters(labels))) if labels.any() else None
    scale = 1.0 if training_px is None or typical_px is None else _scale(typical_px, training_px)
    labels = np.where(np.isin(labels, in_corner(labels, mask_corner_px)), 0, labels)
    crops = center_crop(rgb, labels, crop_size, scale)
    return Found(crops, _diameters(labels).astype(np.float32), typical_px=typical_px)


def _diameters(labels: NDArray[np.integer]) -> NDArray[np.float64]:
    area = np.bincount(labels.ravel())[1:]
    return np.asarray(np.sqrt(4 / np.pi * area[area > 0]))
