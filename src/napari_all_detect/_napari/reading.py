"""Readers: OME-Zarr as one RGB layer with its labels and scores, and results folders of `all-detect score`. No Qt."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from napari_all_detect import table
from napari_all_detect._napari.layer_link import layer_looks
from napari_all_detect._napari.planes import FILE_KEY
from napari_all_detect._napari.saved import (
    members_of,
    read_cells_csv,
    restored,
    run_by_bundle,
    run_by_record,
    typed_again,
)
from napari_all_detect.errors import AllDetectError, InputError
from napari_all_detect.export.ome_zarr import NAME
from napari_all_detect.sources import ImageFile, Plane, find_images, open_planes
from napari_all_detect.sources.labels import label_names, read_labels
from napari_all_detect.sources.rgb import GREY_NOTE

__all__ = ["RUN_KEY", "get_reader", "read_results", "read_zarr"]

LayerData = tuple[Any, dict[str, Any], str]
Reader = Callable[[str], list[LayerData]]

LARGEST_NUMBER = 24
"""Images of a results folder that are opened at once."""
RUN_KEY = "all_detect"
"""Where a store that napari saved says what scored it."""


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return what reads a path, or None if it is not ours to read."""
    if not isinstance(path, str):
        return None
    given = Path(path)
    folder = given.parent if given.name in ("run.json", "cells.csv") else given
    if (folder / "cells.csv").is_file() and (folder / "run.json").is_file():
        return lambda _: read_results(folder)
    if given.is_dir():
        try:
            planes = open_planes(find_images([given])[0])
            # A plate's images are many, and may differ in size.
            coloured = len({plane.image for plane in planes}) == 1 and GREY_NOTE not in planes[0].read().notes
        except AllDetectError:
            return None
        return (lambda _: read_zarr(given)) if coloured else None
    return None


def read_results(folder: Path) -> list[LayerData]:
    """Read a results folder: each image, if it is where it was, and its labels with their scores.

    Raises
    ------
    InputError
        If a file of the folder is missing or damaged.
    """
    cells, images = read_cells_csv(folder / "cells.csv"), read_cells_csv(folder / "images.csv")
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        opened = run_by_record(run)
        paths = {entry["image"]: Path(entry["path"]) for entry in run["images"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'run.json'}: can't be understood ({error}); score the images again") from error
    names = _label_files(images)
    shown = list(dict.fromkeys(images["image"]))
    if len(shown) > LARGEST_NUMBER:
        from napari.utils.notifications import show_info

        show_info(f"{folder} holds {len(shown)} images; the first {LARGEST_NUMBER} are opened")
    layers: list[LayerData] = []
    for image in shown[:LARGEST_NUMBER]:
        planes = images[images["image"] == image].reset_index(drop=True)
        labels = [read_labels(folder / "labels" / names[image, plane]) for plane in planes["plane"]]
        pixels, size, path = _pixels(image, paths.get(image), folder, planes["plane"].tolist())
        own = cells[cells["image"] == image].reset_index(drop=True)
        stacked, numbers, index = _stacked(labels, own, planes["plane"].tolist())
        results = restored(own, opened, numbers, index, planes, list(zip(pixels, labels, strict=False)))
        placed = _placed(size, stacked.ndim)
        if pixels:
            data = pixels[0] if len(pixels) == 1 else np.stack(pixels)
            layers.append((data, {"name": image, "rgb": True, "metadata": {FILE_KEY: str(path)}, **placed}, "image"))
        layers.append((stacked, {"name": f"{image} cells", **placed, **layer_looks(results)}, "labels"))
    return layers


def read_zarr(path: Path) -> list[LayerData]:
    """Read an OME-Zarr or plain zarr image in colour as one RGB layer, and every label image in it.

    Raises
    ------
    InputError
        If the image can't be read.
    """
    file = find_images([path])[0]
    planes = open_planes(file)
    pixels = [plane.read().rgb for plane in planes]
    placed = _placed(planes[0].pixel_size_um, 1 + len(pixels[0].shape[:-1]) if len(pixels) > 1 else 2)
    data = pixels[0] if len(pixels) == 1 else np.stack(pixels)
    layers: list[LayerData] = [(data, {"name": path.stem, "rgb": True, **placed}, "image")]
    for name in _label_images(path):
        labels = _read_label_image(path, name, data.shape[:-1])
        if labels is None:
            continue
        options: dict[str, Any] = {"name": f"{path.stem} {name}", **placed}
        results = _scores(path, labels, pixels) if name == NAME else None
        layers.append((labels, options | (layer_looks(results) if results is not None else {}), "labels"))
    return layers


def _label_files(images: pd.DataFrame) -> dict[tuple[str, str], str]:
    def unread() -> Any:
        raise NotImplementedError

    return label_names(
        [Plane(image, plane, Path(), None, unread) for image, plane in images[["image", "plane"]].to_numpy()]
    )


def _pixels(
    image: str, path: Path | None, folder: Path, wanted: list[str]
) -> tuple[list[NDArray[np.uint8]], float | None, Path | None]:
    """Read the wanted planes of an image, from where it was or beside the results; nothing if it is gone."""
    candidates = [] if path is None else [path, folder / path, folder.parent / path, folder.parent / path.name]
    for candidate in candidates:
        if candidate.exists():
            try:
                planes = {plane.plane: plane for plane in open_planes(ImageFile(candidate, image))}
                pixels = [planes[name].read().rgb for name in wanted]
            except (AllDetectError, KeyError):  # another file by now
                return [], None, None
            return pixels, planes[wanted[0]].pixel_size_um, candidate
    return [], None, None


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


def _placed(pixel_size_um: float | None, ndim: int) -> dict[str, Any]:
    if pixel_size_um is None:
        return {}
    leading = ndim - 2
    return {
        "scale": (1.0,) * leading + (pixel_size_um,) * 2,
        "units": ("pixel",) * leading + ("micrometer",) * 2,
    }


def _label_images(path: Path) -> list[str]:
    import zarr

    try:
        attributes: Any = zarr.open_group(path, path="labels", mode="r").attrs.asdict()
    except (OSError, KeyError, ValueError):
        return []
    return list(attributes.get("ome", attributes).get("labels", []))


def _read_label_image(path: Path, name: str, shape: tuple[int, ...]) -> NDArray[np.int32] | None:
    """Return a label image of the size of the image, without axes of length 1; None if it is of another size."""
    import zarr

    group = zarr.open_group(path, path=f"labels/{name}", mode="r")
    attributes: Any = group.attrs.asdict()
    level = attributes.get("ome", attributes)["multiscales"][0]["datasets"][0]["path"]
    labels = np.asarray(group[level])
    return labels.reshape(shape).astype(np.int32) if labels.size == np.prod(shape) else None


def _scores(path: Path, labels: NDArray[np.int32], pixels: list[NDArray[np.uint8]]) -> Any:
    """Return the results that a store holds; None if it has no table of ours, or ngio is not there to read it."""
    try:
        from ngio import open_ome_zarr_container
    except ImportError:
        return None
    import zarr

    container = open_ome_zarr_container(path)
    if NAME not in container.list_tables():
        return None
    frame = container.get_table(NAME).dataframe.reset_index()
    numbers = frame["label"].to_numpy(np.int64)
    frame = frame.drop(columns="label").rename(columns={"label_in_plane": "label"})
    cells = typed_again(frame, table.cell_columns(members_of(frame)))
    saved: Any = zarr.open_group(path, mode="r").attrs.asdict().get(RUN_KEY)
    run = run_by_bundle(cells)
    if saved is not None and run.bundle == saved["bundle"]:
        run = replace(run, weights=tuple(saved["weights"]), threshold=saved["threshold"])
    if labels.ndim == 2:
        return restored(cells, run, numbers, np.zeros((len(cells), 0), np.int64), None, [(pixels[0], labels)])
    boxes = find_objects(labels)
    place = np.array([boxes[number - 1][0].start for number in numbers], np.int64)
    crops_of = [(pixels[k], labels[k]) for k in dict.fromkeys(place.tolist())]
    index = place[:, None]
    return restored(cells, run, numbers, index, None, crops_of)
