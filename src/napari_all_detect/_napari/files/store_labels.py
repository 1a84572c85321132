"""The label images of an OME-Zarr store, and the scores that it holds. No Qt."""

from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_warning
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from napari_all_detect import table
from napari_all_detect._napari.files.saved import Saved, members_of, run_by_bundle, summaries, typed_again
from napari_all_detect._napari.files.store_run import NOTES, RESCALE, noted, with_noted
from napari_all_detect.export.ome_zarr import NAME

__all__ = ["label_images", "read_label_image", "saved_scores"]


def label_images(path: Path) -> list[str]:
    """Return the names of a store's label images."""
    import zarr

    try:
        attributes: Any = zarr.open_group(path, path="labels", mode="r").attrs.asdict()
    except (OSError, KeyError, ValueError):
        return []
    return list(attributes.get("ome", attributes).get("labels", []))


def read_label_image(path: Path, name: str) -> NDArray[np.int32]:
    """Return the finest level of a label image, without leading axes of length 1."""
    import zarr

    group = zarr.open_group(path, path=f"labels/{name}", mode="r")
    attributes: Any = group.attrs.asdict()
    level = attributes.get("ome", attributes)["multiscales"][0]["datasets"][0]["path"]
    labels = np.asarray(group[level])
    leading = [n for n in labels.shape[:-2] if n > 1]
    return labels.reshape((*leading, *labels.shape[-2:])).astype(np.int32)


def saved_scores(path: Path, labels: NDArray[np.int32]) -> Saved | None:
    """Return the scores that a store holds.

    None if it has no table of ours, its labels lack cells of it, or ngio is not there to read it.
    """
    try:
        from ngio import open_ome_zarr_container
    except ImportError:
        return None
    container = open_ome_zarr_container(path)
    if NAME not in container.list_tables():
        return None
    frame = container.get_table(NAME).dataframe.reset_index()
    try:
        numbers = frame["label"].to_numpy(np.int64)
        frame = frame.drop(columns="label").rename(columns={"label_in_plane": "label"})
        cells = typed_again(frame, table.cell_columns(members_of(frame)))
    except (KeyError, ValueError):  # another program's, under our name
        return None
    run = run_by_bundle(cells)
    facts = noted(path, run.bundle)
    run, moved_to = with_noted(run, facts)
    there, n_leading = dict(enumerate(find_objects(labels), start=1)), labels.ndim - 2
    boxes = [box for number in numbers.tolist() if (box := there.get(number)) is not None]
    if len(boxes) < len(numbers):
        gone = len(numbers) - len(boxes)
        show_warning(f"{path}: {gone} of {len(numbers)} cells of its table are not in its labels; scores are left out")
        return None
    index = np.array([[side.start for side in box[:n_leading]] for box in boxes], np.int64)
    summary = summaries(cells, facts.get(NOTES, {}), facts.get(RESCALE, {}))
    return Saved(cells, run, numbers, index.reshape(len(numbers), n_leading), summary, moved_to)
