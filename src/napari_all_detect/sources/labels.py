"""Label images that the user brings: which belongs to a plane, and its numbers as they are."""

import weakref
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.errors import InputError, StoreError
from napari_all_detect.labelled import LabelImage
from napari_all_detect.retrying import with_retries
from napari_all_detect.sources import ome_xml
from napari_all_detect.sources.plane import readable
from napari_all_detect.sources.tiff_parts import read_page

__all__ = ["find_labels", "label_names", "open_labels", "read_labels"]

SUFFIXES = (".tif", ".tiff", ".png", ".npy")


def label_names(planes: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Name the label image of each plane: the image's name without suffix, with it only where two could be the same.

    Parameters
    ----------
    planes : iterable of (str, str)
        Image and plane, as the tables name them.

    Returns
    -------
    names : dict
        From (image, plane) to a path relative to the output folder, such as `day1/smear_labels.tif`.

    Examples
    --------
    >>> list(label_names([("a.png", "0"), ("b.png", "0"), ("b.tif", "p0")]).values())
    ['a_labels.tif', 'b.png_labels.tif', 'b.tif_p0_labels.tif']
    """
    planes = list(planes)
    takes: dict[str, set[str]] = {}
    for image, plane in planes:
        stem = _without_suffix(image)
        takes.setdefault(image, {stem}).add(_with_plane(stem, plane))
    # Also `a_p1.png` and page 1 of `a.tif` would come to the same name; Windows and macOS take `A` and `a` for one.
    uses = Counter(name.casefold() for names in takes.values() for name in names)
    stems = {i: _without_suffix(i) if all(uses[n.casefold()] == 1 for n in names) else i for i, names in takes.items()}
    return {(image, plane): f"{_with_plane(stems[image], plane)}_labels.tif" for image, plane in planes}


def find_labels(labels: Path, image: str, plane: str, stem: str | None = None) -> Path:
    """Return the label image that belongs to a plane.

    Parameters
    ----------
    labels : Path
        A file, taken for every plane; or a folder, searched for the names that `segment` writes, then for the image's
        own name with the suffix of a label format. Names that could be another image's of the run don't count.
    image, plane : str
        As the tables name them.
    stem : str, optional
        Under which a run with these inputs writes the plane's labels, which tells it from all its others.

    Raises
    ------
    InputError
        If there is none.
    """
    if not labels.is_dir():
        return labels
    bare, whole = _with_plane(_without_suffix(image), plane), _with_plane(image, plane)
    own = bare if stem in (None, bare) else whole
    names = dict.fromkeys([stem or bare, own, whole])
    candidates = [labels / f"{name}_labels{suffix}" for name in names for suffix in SUFFIXES]
    candidates += [labels / f"{bare}{suffix}" for suffix in SUFFIXES if own == bare or f"{bare}{suffix}" == image]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    why = "" if own == bare else ", as names of this run's images are alike but for that"
    raise InputError(f"{labels}: no label image for {image}; expected for instance {candidates[0].name}{why}")


def read_labels(path: Path) -> NDArray[np.integer]:
    """Read a label image: one number per pixel, 0 for background.

    Parameters
    ----------
    path : Path
        TIFF, PNG or NumPy file.

    Returns
    -------
    labels : (H, W) integer
        The file's own numbers.

    Raises
    ------
    InputError
        If the file can't be read or is no label image.
    """
    with readable(path, "label image"):
        labels = _read(path)
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise InputError(
            f"{path}: {labels.dtype} of shape {labels.shape}; expected a label image: whole numbers of shape (H, W)"
        )
    return labels


def open_labels(path: Path) -> LabelImage:
    """Open a label image of which parts are read, where its format allows that: TIFF and NumPy files.

    Raises
    ------
    InputError
        As `read_labels`.
    """
    if path.suffix.lower() == ".npy":
        with readable(path, "label image"):
            mapped: LabelImage = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    if path.suffix.lower() in (".tif", ".tiff"):
        with readable(path, "label image"):
            opened = TiffLabels(path)
        if len(opened.shape) == 2:
            return opened
    return read_labels(path)


class TiffLabels:
    """The first page of a TIFF file, of which parts are read; the file is open as long as this is kept.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        import tifffile

        self.path = path
        tif = tifffile.TiffFile(path)
        weakref.finalize(self, tif.close)
        ome_xml.check(tif, path)
        self._page: Any = tif.series[0].pages[0]
        self.shape: tuple[int, ...] = tif.series[0].shape
        self.dtype: np.dtype[Any] = tif.series[0].dtype

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[Any]:
        def read() -> NDArray[Any]:
            with readable(self.path, "label image"):
                return np.asarray(read_page(self._page, window))

        return with_retries(read, StoreError)


def _without_suffix(image: str) -> str:
    return str(PurePosixPath(image).with_suffix("")) if PurePosixPath(image).suffix else image


def _with_plane(stem: str, plane: str) -> str:
    return stem if plane == "0" else f"{stem}_{plane}"


def _read(path: Path) -> NDArray[np.integer]:
    if path.suffix.lower() == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        with tifffile.TiffFile(path) as tif:
            ome_xml.check(tif, path)
            return np.asarray(tif.asarray())
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)
