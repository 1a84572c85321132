"""Readers: OME-Zarr as one RGB layer with its labels and scores, and results folders of `all-detect score`. No Qt."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from napari.utils.notifications import show_error, show_info, show_warning
from numpy.typing import NDArray

from napari_all_detect._napari.cells.layer_link import layer_looks
from napari_all_detect._napari.files.pyramid import LayerData, OpenedSmear, is_coloured_image, open_smear
from napari_all_detect._napari.files.saved import Saved, read_cells_csv, restored, run_by_record
from napari_all_detect._napari.files.scored_image import Patience, is_as_scored
from napari_all_detect._napari.files.store_labels import label_images, read_label_image, saved_scores
from napari_all_detect._napari.layers.axes import Layout
from napari_all_detect._napari.layers.compact import compact
from napari_all_detect._napari.layers.metadata_keys import FOUND_IN_KEY, LAYOUT_KEY, NAMED_KEY, SCORED_ON_KEY
from napari_all_detect._napari.notified import notified
from napari_all_detect.errors import AllDetectError, InputError
from napari_all_detect.export.ome_zarr import NAME
from napari_all_detect.params import ReadParams
from napari_all_detect.sources import ImageFile, find_images, open_planes
from napari_all_detect.sources.labels import find_labels, read_labels

__all__ = ["get_reader", "read_results", "read_zarr"]

Reader = Callable[[str], list[LayerData]]

LARGEST_NUMBER = 24
"""Images of a results folder that are opened at once."""
NO_LAYER: Any = [(None,)]
"""Tells napari that nothing is to be added, and that the user knows why."""


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return what reads a path, or None if it is not ours to read."""
    if not isinstance(path, str):
        return None
    given = Path(path)
    folder = given.parent if given.name in ("run.json", "cells.csv") else given
    if (folder / "cells.csv").is_file() and (folder / "run.json").is_file():
        return notified(lambda _: NO_LAYER)(lambda _: read_results(folder))
    if given.is_dir() and _is_ours(given):
        return notified(lambda _: NO_LAYER)(lambda _: read_zarr(given))
    return None


def _is_ours(path: Path) -> bool:
    """Return whether a folder is one image in colour; a plate's images are many, and may differ in size."""
    try:
        files = find_images([path])
        images = _images_in(files[0]) if len(files) == 1 else []
        return len(images) == 1 and is_coloured_image(images[0])
    except AllDetectError:
        return False


def _images_in(file: ImageFile) -> list[ImageFile]:
    """Return the images of a store: a plate and a collection hold several, or one that lies deeper."""
    return list(dict.fromkeys(ImageFile(plane.path, plane.image) for plane in open_planes(file)))


@dataclass(frozen=True, eq=False)
class _Group:
    """Planes of an image whose labels have one shape: they make one layer.

    Attributes
    ----------
    image, title : str
        The image, and what its layer is called.
    planes : DataFrame
        Their rows of `images.csv`.
    labels : list of (H, W) integer
    """

    image: str
    title: str
    planes: pd.DataFrame
    labels: list[NDArray[np.integer]]

    @property
    def names(self) -> list[str]:
        """The planes' names."""
        names: list[str] = self.planes["plane"].tolist()
        return names

    @property
    def named(self) -> dict[str, str]:
        """What the image is called in the tables, and where on a plate it lies."""
        row = self.planes.iloc[0]
        return {name: str(row[name]) for name in ("image", "well", "field")}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the layer."""
        return (*([len(self.labels)] if len(self.labels) > 1 else []), *self.labels[0].shape)


def read_results(folder: Path) -> list[LayerData]:
    """Read a results folder: each image, if it is where it was, and its labels with their scores.

    An image whose labels can't be read is left out, with a notification. So are the pixels of one that is gone,
    or another by now.

    Raises
    ------
    InputError
        If a file of the folder is missing or damaged, or no image's labels can be read.
    """
    cells, images = read_cells_csv(folder / "cells.csv"), read_cells_csv(folder / "images.csv")
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        opened = run_by_record(run)
        scored = {entry["image"]: entry | {"path": str(entry["path"])} for entry in run["images"]}
        recorded = run["parameters"]["reading"]
        reading = ReadParams(recorded["level"], recorded["channels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'run.json'}: can't be understood ({error}); score the images again") from error
    shown = list(dict.fromkeys(images["image"]))
    if len(shown) > LARGEST_NUMBER:
        show_info(f"{folder} holds {len(shown)} images; the first {LARGEST_NUMBER} are opened")
    groups = _readable(folder / "labels", images, shown[:LARGEST_NUMBER])
    smears = _in_one_unit(_opened(groups, scored, folder, reading))
    layers: list[LayerData] = []
    for group, smear in zip(groups, smears, strict=True):
        own = cells[(cells["image"] == group.image) & cells["plane"].isin(group.names)].reset_index(drop=True)
        stacked, numbers, index = _stacked(group.labels, own, group.names)
        for _, facts, *_ in layers:  # of images that lie on each other, the last is seen
            facts["visible"] = False
        if smear is not None:
            layers.append(smear.layer(group.title, {NAMED_KEY: group.named}))
        title = f"{group.title} cells"
        layers.append(_cells(group.title, smear, stacked, Saved(own, opened, numbers, index, group.planes), title))
    return layers


def read_zarr(path: Path) -> list[LayerData]:
    """Read an OME-Zarr or plain zarr image in colour as one RGB layer, and every label image in it.

    Pixels are read when they are looked at, in the resolution that the view needs.

    Raises
    ------
    InputError
        If the image can't be read.
    """
    (file,) = find_images([path])
    (image,) = _images_in(file)
    smear = open_smear(image)
    layers = [smear.layer(path.stem)]
    for name in label_images(image.path):
        labels = read_label_image(image.path, name)
        saved = saved_scores(image.path, labels) if name == NAME else None
        title = f"{path.stem} {name}"
        if saved is None:
            metadata = {FOUND_IN_KEY: smear.origin(path.stem)}
            layers.append(
                (compact(labels), {"name": title, **smear.placed(labels.shape), "metadata": metadata}, "labels")
            )
        else:
            layers.append(_cells(path.stem, smear, labels, saved, title))
    return layers


def _readable(labels: Path, images: pd.DataFrame, names: list[str]) -> list[_Group]:
    """Read the labels of these images; one that can't be read costs no other."""
    groups: list[_Group] = []
    problems: list[InputError] = []
    for image in names:
        try:
            groups += _groups(labels, image, images[images["image"] == image])
        except InputError as error:
            problems.append(error)
    if problems and not groups:
        raise problems[0]
    if problems:
        show_error(f"left out: {_first(problems)}")
    return groups


def _first(said: Sequence[object]) -> str:
    """Return what comes first, and how much there is beside."""
    more = len(set(map(str, said))) - 1
    return f"{said[0]} ({more} more)" if more else f"{said[0]}"


def _groups(labels: Path, image: str, planes: pd.DataFrame) -> list[_Group]:
    """Read the labels of an image; pages of a TIFF may differ in size."""
    read = [read_labels(find_labels(labels, image, plane)) for plane in planes["plane"]]
    shapes = list(dict.fromkeys(one.shape for one in read))
    groups = []
    for shape in shapes:
        rows = [row for row, one in enumerate(read) if one.shape == shape]
        own = planes.iloc[rows].reset_index(drop=True)
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        title = image if len(shapes) == 1 else f"{image} {own['plane'][0]}{more}"
        groups.append(_Group(image, title, own, [read[row] for row in rows]))
    return groups


def _in_one_unit(smears: list[OpenedSmear | None]) -> list[OpenedSmear | None]:
    """Return images that lie on each other all in micrometers, or all in pixels if the size of one's is not known."""
    if all(smear is not None and smear.pixel_size_um is not None for smear in smears):
        return smears
    return [None if smear is None else replace(smear, in_pixels=True) for smear in smears]


def _opened(
    groups: Sequence[_Group], scored: Mapping[str, Mapping[str, Any]], folder: Path, reading: ReadParams
) -> list[OpenedSmear | None]:
    """Open each group's image, None where it can't be; say where that is so, and where it may be another one by now."""
    smears, alone, doubtful = list[OpenedSmear | None](), list[str](), list[str]()
    patience = Patience()
    for group in groups:
        try:
            entry = scored.get(group.image, {"path": group.image})
            smear, is_sure = _open_scored(group, entry, folder, reading, patience)
        except InputError as error:
            smears.append(None)
            alone.append(str(error))
        else:
            smears.append(smear)
            doubtful += [] if is_sure else [str(smear.path)]
    if alone:
        show_warning(f"opened without their image: {_first(alone)}")
    if doubtful:
        show_warning(
            f"look whether the outlines fit: it can't be told whether {_first(doubtful)} is still the image that was "
            "scored, as that takes too long or the run noted too little"
        )
    return smears


def _open_scored(
    group: _Group, entry: Mapping[str, Any], folder: Path, reading: ReadParams, patience: Patience
) -> tuple[OpenedSmear, bool]:
    """Open an image where it was or beside the results, and return whether it is known to be the one of then.

    Raises
    ------
    InputError
        If it is gone, can't be read, or is another one by now.
    """
    path = Path(entry["path"])
    problems = []
    for place in dict.fromkeys([path, folder / path, folder.parent / path, folder.parent / path.name]):
        if place.exists():
            try:
                smear = open_smear(ImageFile(place, group.image), group.names, reading)
                level = smear.level_of(group.shape)
                same = None if level is None else is_as_scored(entry, smear, level, group.names, patience)
            except AllDetectError as error:
                problems.append(str(error))
                continue
            if level is not None and same is not False:
                return smear, same is True
            what = "of another size than" if level is None else "not"
            problems.append(f"{place} is {what} the image that was scored; bring that back and open the results again")
    gone = f"{entry['path']} is not there any more; bring it back and open the results again"
    raise InputError(problems[0] if problems else gone)


def _stacked(
    labels: list[NDArray[np.integer]], cells: pd.DataFrame, planes: list[str]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Return one array of labels, numbered on from plane to plane, and each cell's number and place in it."""
    numbers = cells["label"].to_numpy(np.int64)
    if len(labels) == 1:
        return labels[0].astype(np.int32), numbers, np.zeros((len(cells), 0), np.int64)
    before = np.cumsum([0, *(int(plane.max(initial=0)) for plane in labels[:-1])])
    stacked = np.stack([np.where(plane > 0, plane + n, 0) for plane, n in zip(labels, before, strict=True)])
    place: NDArray[np.int64] = np.asarray(cells["plane"].map({name: k for k, name in enumerate(planes)}), np.int64)
    return stacked.astype(np.int32), (numbers + before[place]).astype(np.int64), place[:, None]


def _cells(image: str, smear: OpenedSmear | None, labels: NDArray[np.integer], saved: Saved, title: str) -> LayerData:
    """Return the layer of an image's scored cells; without a smear they know no more of it than its name."""
    labels, planes = compact(labels), {}
    level = None if smear is None else smear.level_of(labels.shape)
    if smear is not None and level is not None:
        with_cells = set(map(tuple, saved.index.tolist()))
        planes = {place: (smear.arrays[level][place], labels[place]) for place in with_cells}
    looks = layer_looks(restored(saved, planes), labels)
    if level is not None:
        looks["metadata"][LAYOUT_KEY] = Layout(level)
    if smear is None:
        return labels, {"name": title, **looks}, "labels"
    looks["metadata"][SCORED_ON_KEY] = smear.origin(image)
    return labels, {"name": title, **smear.placed(labels.shape), **looks}, "labels"
