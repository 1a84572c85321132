"""The ways of finding cells, by name: ours, and those that other packages register.

A package registers one under the entry point group `napari_all_detect.segmentation`::

    [project.entry-points."napari_all_detect.segmentation"]
    cellpose = "my_package:find_cells"

where `find_cells(rgb, cell_diameter_px)` takes an (H, W, 3) uint8 array and a float or None, and returns an (H, W)
label image of the cells, or that and one of their nuclei.
"""

from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import relabel_sequential

from napari_all_detect.bundle import load_segmenter
from napari_all_detect.errors import AllDetectError, InputError, ParameterError, UnknownBundleError
from napari_all_detect.segmentation.classical import segment_classical
from napari_all_detect.segmentation.instances import in_one_piece
from napari_all_detect.segmentation.learned import segment_learned
from napari_all_detect.segmentation.view import Found, View

if TYPE_CHECKING:
    from napari_all_detect.engines import Mapper

__all__ = ["GROUP", "Method", "describe_method", "method_names", "open_method"]

GROUP = "napari_all_detect.segmentation"
SHIPPED = "cells"
"""The bundle behind `learned`."""


class Method(Protocol):
    """A way of finding cells."""

    def __call__(self, view: View, diameter: float | None, *, nuclei: bool = ...) -> Found:
        """Return cells and, if they are asked for and the method finds them, nuclei.

        Parameters
        ----------
        view : View
        diameter : float or None
            Of a typical white cell in pixels, if known.
        nuclei : bool
        """
        ...


def method_names() -> tuple[str, ...]:
    """Return the names of all methods, the default first."""
    return ("learned", "classical", *sorted({entry.name for entry in entry_points(group=GROUP)}))


def open_method(name: str, device: str = "auto", engine: str = "auto") -> Method:
    """Return what finds cells. A bundle is looked up and verified at each call; its network is kept for the next one.

    Parameters
    ----------
    name : str
        `learned`, `classical`, a registered name, or the name or path of a segmenter's bundle.
    device : {"auto", "cpu", "gpu"}
        Where a network runs.
    engine : {"auto", "keras", "openvino"}
        What runs it.

    Raises
    ------
    ParameterError
        If nothing has this name.
    BundleError
        If the bundle is damaged, or no segmenter's.
    MissingDependencyError
        If a GPU is asked for and none can be used.
    """
    if name == "classical":
        return segment_classical
    if name == "learned":
        return _of_bundle(SHIPPED, device, engine)
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return _registered(entry)
    try:
        return _of_bundle(name, device, engine)
    except UnknownBundleError as error:
        known = ", ".join(method_names())
        raise ParameterError(
            f"segmentation is {name!r}; expected one of: {known}; or the name or path of a segmenter's bundle"
        ) from error


def describe_method(name: str) -> dict[str, str]:
    """Return what a record of a run needs to find cells again in the same way."""
    if name in method_names() and name != "learned":
        packages = {entry.name: entry.dist for entry in entry_points(group=GROUP)}
        package = packages.get(name)
        return {"method": name} | ({"package": f"{package.name}-{package.version}"} if package else {})
    bundle = load_segmenter(SHIPPED if name == "learned" else name)
    return {"method": name, "bundle": bundle.label, "digest": bundle.digest}


def _of_bundle(name: str, device: str, engine: str) -> Method:
    bundle = load_segmenter(name)
    return partial(segment_learned, mapper=_mapper(bundle.folder, bundle.digest, device, engine))


@lru_cache(maxsize=4)
def _mapper(folder: Path, digest: str, device: str, engine: str) -> "Mapper":
    """Keep the network: a bundle of another digest has another one."""
    from napari_all_detect.engines import open_mapper

    return open_mapper(load_segmenter(folder), device, engine)


@lru_cache(maxsize=4)
def _registered(entry: EntryPoint) -> Method:
    """Wrap somebody else's method, so that what it returns is checked.

    Any exception of it is caught: no other package's fault may end a run over many images.
    """
    try:
        find = entry.load()
    except Exception as error:
        raise AllDetectError(f"segmentation {entry.name!r} ({entry.value}) can't be loaded: {error}") from error

    def method(view: View, diameter: float | None, *, nuclei: bool = True) -> Found:
        try:
            found = find(view.rgb, diameter)
        except Exception as error:
            raise AllDetectError(f"segmentation {entry.name!r} failed: {type(error).__name__}: {error}") from error
        if isinstance(found, tuple) and len(found) != 2:
            raise InputError(
                f"segmentation {entry.name!r} returned {len(found)} arrays; expected cells, or cells and nuclei"
            )
        cells, inner = found if isinstance(found, tuple) else (found, None)
        sequential = np.asarray(relabel_sequential(_checked(cells, view.shape, entry.name))[0], np.int32)
        whole = in_one_piece(sequential)
        return Found(whole, None if inner is None else _checked(inner, view.shape, entry.name), whole > 0, 1)

    return method


def _checked(labels: NDArray[np.integer], shape: tuple[int, ...], name: str) -> NDArray[np.int32]:
    labels = np.asarray(labels)
    if labels.shape != shape or labels.dtype.kind not in "iub":
        raise InputError(
            f"segmentation {name!r} returned {labels.dtype} of shape {labels.shape}; expected whole numbers of shape "
            f"{shape}, 0 for background"
        )
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high > np.iinfo(np.int32).max:
        raise InputError(f"segmentation {name!r} returned labels from {low} to {high}; expected 0 to 2147483647")
    return labels.astype(np.int32)
