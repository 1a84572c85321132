"""napari's layers -> the planes that `score_plane` takes, with their names, labels and pixel size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from napari_all_detect._napari.layers.axes import Layout, cells_shape, layout_of, pixel_size_um
from napari_all_detect._napari.layers.axis_names import plane_names
from napari_all_detect._napari.layers.metadata_keys import FILE_KEY, NAMED_KEY, NUCLEI_KEY, PLANES_KEY
from napari_all_detect._napari.layers.read_anew import is_shown_in_part, read_anew
from napari_all_detect._napari.layers.viewers import finest
from napari_all_detect.errors import AllDetectError, InputError
from napari_all_detect.params import ReadParams
from napari_all_detect.pipeline import PlaneInput
from napari_all_detect.sources import Plane, RgbPlane, as_rgb, find_images, open_planes

__all__ = ["LayerPlane", "computed", "layer_planes"]


@dataclass(frozen=True, eq=False)
class LayerPlane:
    """One 2-D plane of an image layer; its pixels are computed by `read`.

    Attributes
    ----------
    index : tuple of int
        Where it lies on the leading axes of labels; empty for a 2-D image.
    source : Plane
        What the command line calls it in the tables, and knows of it.
    pixels : (H, W, C), or (C, H, W) if `channels_first`, array-like
        Numpy, dask or zarr.
    channels_first : bool
    channels : tuple of int or None
        Which of them are read; all if None.
    labels : (H, W) array-like, optional
    nuclei : (H, W) array-like, optional
    note : str
        What of the file the layer does not show; empty if it shows all.
    is_own : bool
        Whether our own reader has read the layer, with all that its file holds.
    lazy_from : Path or None
        The file or folder that is read only when the pixels are.
    """

    index: tuple[int, ...]
    source: Plane
    pixels: Any
    channels_first: bool
    channels: tuple[int, ...] | None = None
    labels: Any | None = None
    nuclei: Any | None = None
    note: str = ""
    is_own: bool = False
    lazy_from: Path | None = None

    def read(self) -> PlaneInput:
        """Compute the pixels.

        Raises
        ------
        InputError
            If the values can't be taken for 8-bit RGB, were edited where napari shows them in part, or lie in a file
            that is gone.
        """
        if self.lazy_from is not None and not self.lazy_from.exists():  # zarr has zeros for what is not there
            raise InputError(f"{self.lazy_from} is gone, where {self.source.image!r} is read from; bring it back")
        channels: Any = slice(None) if self.channels is None else list(self.channels)
        if self.channels_first:
            pixels = np.moveaxis(np.asarray(self.pixels[channels]), 0, -1)
        else:  # interleaved: whoever reads one of them reads all
            pixels = np.asarray(self.pixels)[..., channels]
        labels, nuclei = (None if array is None else np.asarray(array) for array in (self.labels, self.nuclei))
        source, rgb = self.source, as_rgb(pixels, self.source.image)
        if not self.is_own and is_shown_in_part(source.path):
            rgb = read_anew(source, self.pixels, rgb)
        if self.note:
            rgb = RgbPlane(rgb.rgb, (*rgb.notes, self.note))
        size = source.pixel_size_um
        return PlaneInput(rgb, source.image, source.plane, labels, size, source.well, source.field, nuclei)


def layer_planes(
    image: Any, layout: Layout | None = None, labels: Any | None = None, at: Sequence[int] | None = None
) -> list[LayerPlane]:
    """List the planes of an image layer, or the one at an index.

    Parameters
    ----------
    image : napari.layers.Image
        In colour, with any number of leading axes.
    layout : Layout, optional
        How it is read; found if not given.
    labels : napari.layers.Labels, optional
        Of the shape `cells_shape`.
    at : sequence of int, optional
        Of the leading axes: this plane only.

    Raises
    ------
    InputError
        If the image is grey, or the labels are another image's.
    """
    layout = layout_of(image) if layout is None else layout
    shape, pixels = cells_shape(image, layout), layout.array(image)
    numbers = None if labels is None else _labels_of(labels, image, shape)
    nuclei = None if labels is None else labels.metadata.get(NUCLEI_KEY)
    if nuclei is not None and nuclei.shape != shape:  # the labels were cut or joined since
        nuclei = None
    indices = list(np.ndindex(*shape[:-2]))
    named, note = _named(image, layout, shape)
    sources = dict(zip(indices, named, strict=True))
    return [
        LayerPlane(
            index=index,
            source=sources[index],
            pixels=_cut(pixels, layout, index),
            channels_first=layout.channel_axis is not None,
            channels=layout.channels,
            labels=None if numbers is None else numbers[index],
            nuclei=None if nuclei is None else nuclei[index],
            note=note,
            is_own=PLANES_KEY in image.metadata,
            lazy_from=_lazy_from(image),
        )
        for index in (indices if at is None else [tuple(at)])
    ]


def _labels_of(labels: Any, image: Any, shape: tuple[int, ...]) -> Any:
    numbers = finest(labels)
    if numbers.shape != shape and _sides(numbers.shape) == _sides(shape):
        numbers = (numbers if hasattr(numbers, "reshape") else np.asarray(numbers)).reshape(shape)  # zarr's has none
    if numbers.shape != shape:
        raise InputError(
            f"labels {labels.name!r} have the shape {tuple(numbers.shape)}, image {image.name!r} has {shape}; "
            "choose the labels of this image, or 'Find cells'"
        )
    return numbers


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the leading axes of length 1, of which labels may have more or fewer."""
    return *(n for n in shape[:-2] if n > 1), *shape[-2:]


def _cut(pixels: Any, layout: Layout, index: tuple[int, ...]) -> Any:
    """Cut a plane with its channels out of an array; `index` has none for channels first, a 0 for others."""
    axis = layout.channel_axis
    if axis is None:
        return pixels[index] if index else pixels
    if axis == 0:
        return pixels[(slice(None), *index)]
    return pixels[(*index[:axis], slice(None), *index[axis + 1 :])]


def _named(image: Any, layout: Layout, shape: tuple[int, ...]) -> tuple[list[Plane], str]:
    """Return planes as the command line has them, if the layer's file is known, else by its axes; and what is missing.

    Their pixel size is that of the level that is read; what the layer's scale says counts more than its file.
    """
    n = math.prod(shape[:-2])
    of_level = _planes_of_file(image, ReadParams(layout.level, layout.channels))
    of_finest = of_level if layout.level == 0 else _planes_of_file(image, ReadParams(channels=layout.channels))
    planes, at_finest, note = _shown(image, of_level, n), _shown(image, of_finest, n), ""
    if not planes:
        names = plane_names(image.axis_labels[-len(shape) :], shape)
        # Pixels come from the layer.
        planes = [Plane(image.name, name, Path(), None, _unread) for name in names]
        if len({plane.series for plane in of_level}) > 1 and len(of_level) == n:
            note = (
                f"the pages of {of_level[0].image} are of several kinds, all shown as the first: score the file itself"
            )
    elif n < len(of_level) and PLANES_KEY not in image.metadata:
        note = f"{n} of {len(of_level)} planes of {planes[0].image}: napari shows these, the command line scores all"
    size = pixel_size_um(image)
    if size is None or (at_finest and size == at_finest[0].pixel_size_um):
        return planes, note
    if image.multiscale:
        size *= float(image.downsample_factors[layout.level][image.ndim - 1])
    return [replace(plane, pixel_size_um=size) for plane in planes], note


def _shown(image: Any, planes: list[Plane], n: int) -> list[Plane]:
    """Return which planes of its file a layer of n planes shows, none if that can't be told.

    They are those that were chosen, or those of the first series: napari's reader knows no more of a TIFF.
    """
    chosen = image.metadata.get(PLANES_KEY)
    if chosen is None:
        shown = [plane for plane in planes if plane.series == 0]
    else:
        by_name = {plane.plane: plane for plane in planes}
        shown = [by_name[name] for name in chosen if name in by_name]
    named: dict[str, Any] = image.metadata.get(NAMED_KEY, {})
    return [replace(plane, **named) for plane in shown] if len(shown) == n else []


def _file_of(image: Any) -> str | None:
    """Return which file a layer was read from; a copy that napari makes knows only of which layer it is one."""
    path: str | None = image.metadata.get(FILE_KEY) or image.source.path
    original = None if path is not None or image.source.parent is None else image.source.parent()
    if original is None or finest(original).shape != finest(image).shape:
        return path
    return _file_of(original)


def _lazy_from(image: Any) -> Path | None:
    path = _file_of(image)
    is_read = path is None or "://" in str(path) or isinstance(finest(image), np.ndarray)
    return None if is_read else Path(str(path))


def _planes_of_file(image: Any, reading: ReadParams) -> list[Plane]:
    path = _file_of(image)
    if path is None:
        return []
    try:
        if Path(path).is_file():
            stat = Path(path).stat()
            return _remembered(Path(path), reading, stat.st_size, stat.st_mtime_ns)
        return _opened(Path(path), reading)
    except (AllDetectError, OSError):  # moved meanwhile, or of a format that only napari reads
        return []


def _opened(path: Path, reading: ReadParams) -> list[Plane]:
    files = find_images([path])
    return open_planes(files[0], reading) if len(files) == 1 else []


@lru_cache(maxsize=4)
def _remembered(path: Path, reading: ReadParams, _size: int, _mtime_ns: int) -> list[Plane]:
    """Return a file's planes: whoever chooses a long stack and then scores it has its pages listed once."""
    return _opened(path, reading)


def _unread() -> NoReturn:
    raise NotImplementedError


def computed(plane: LayerPlane) -> PlaneInput | AllDetectError:
    """Compute a layer's pixels; whatever is raised by what computes them becomes one line."""
    try:
        return plane.read()
    except AllDetectError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a layer's array may be anything
        return InputError(
            f"the pixels of {plane.source.image!r} can't be computed ({type(error).__name__}: {error}); "
            "open the image again"
        )
