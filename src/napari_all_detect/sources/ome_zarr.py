"""What the metadata of an OME-Zarr image (0.4, 0.5) say: its levels, axes, pixel sizes and colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from napari_all_detect.errors import InputError
from napari_all_detect.sources.pixel_size import believed_um, um_per_unit

if TYPE_CHECKING:
    import pydantic
    import zarr

__all__ = ["Level", "child", "choose_level", "levels", "ome_attributes", "rgb_channels", "validated"]

LARGER = 1.01
"""Pixel sizes that differ by less are the same."""

_COLOURS = ({"FF0000", "red", "r"}, {"00FF00", "green", "g"}, {"0000FF", "blue", "b"})


@dataclass(frozen=True)
class Level:
    """A resolution level of an image.

    Attributes
    ----------
    path : str
        Of its array, from the image.
    axes : tuple of str
    pixel_size_um : float or None
    downsample : float
        Pixels of the finest level that one of this level is wide.
    """

    path: str
    axes: tuple[str, ...]
    pixel_size_um: float | None
    downsample: float = 1.0


Model = TypeVar("Model", bound="pydantic.BaseModel")


def ome_attributes(group: zarr.Group, path: Path) -> tuple[Mapping[str, Any], str]:
    """Return a group's OME-Zarr attributes and their version, `0.4` or `0.5`."""
    attributes: Mapping[str, Any] = group.attrs.asdict()
    if "ome" not in attributes:
        return attributes, "0.4"
    attributes = attributes["ome"]
    if attributes.get("version") != "0.5":
        raise InputError(f"{path}: OME-Zarr version {attributes.get('version')}; expected 0.4 or 0.5: convert it")
    return attributes, "0.5"


def child(group: zarr.Group, name: str, path: Path) -> Any:
    """Return what a group's metadata name, or raise InputError if it is not there."""
    try:
        return group[name]
    except KeyError as error:
        raise InputError(f"{path}: {name} is named in the metadata but missing; copy the folder again") from error


def validated(model: type[Model], value: Any, path: Path, place: str) -> Model:
    """Return metadata as their model, or raise InputError that says where they are not valid."""
    import pydantic

    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join([place, *(str(part) for part in first["loc"])])
        raise InputError(
            f"{path}: OME-Zarr metadata not valid at {place} ({first['msg']}); "
            "expected version 0.4 or 0.5: write the image again"
        ) from error


def levels(attributes: Mapping[str, Any], version: str, path: Path) -> list[Level]:
    """Return the levels of an image, the finest first."""
    from ome_zarr_models.v04.multiscales import Multiscale as Multiscale04
    from ome_zarr_models.v05.multiscales import Multiscale as Multiscale05

    if "multiscales" not in attributes:
        raise InputError(
            f"{path}: a zarr group without an OME-Zarr image; give the path of an array or an image inside it"
        )
    model: type[Multiscale04 | Multiscale05] = Multiscale05 if version == "0.5" else Multiscale04
    multiscale = validated(model, attributes["multiscales"][0], path, "multiscales.0")
    axes = tuple("c" if axis.type == "channel" else str(axis.name) for axis in multiscale.axes)
    units = np.array([um_per_unit(axis.unit) for axis in multiscale.axes])
    found, finest_wide = list[Level](), math.nan
    for dataset in multiscale.datasets:
        scale = np.ones(len(axes))
        for transform in (*dataset.coordinateTransformations, *(multiscale.coordinateTransformations or ())):
            if transform.type == "scale":
                scale *= getattr(transform, "scale", math.nan)  # a scale kept in an array of its own isn't read
        sizes, finest_wide = units * scale, finest_wide if found else scale[-1]
        downsample = float(scale[-1] / finest_wide) if finest_wide > 0 and math.isfinite(scale[-1]) else 1.0
        # The specification lets the space axes have any name, but the last two are the plane.
        found.append(Level(dataset.path, (*axes[:-2], "y", "x"), believed_um(sizes[-1], sizes[-2]), downsample))
    return found


def choose_level(found: Sequence[Level], level: str | int, wanted_um: float | None, path: Path) -> Level:
    """Return one level.

    Parameters
    ----------
    found : sequence of Level
        The finest first.
    level : int or "auto"
        Its number; `auto` takes the coarsest whose pixels are no larger than `wanted_um`, and the finest if that, or
        the pixel size of the image, is not known.
    wanted_um : float or None
    path : Path

    Raises
    ------
    InputError
        If there is no such level.
    """
    if isinstance(level, str):
        known = [one for one in found if wanted_um and one.pixel_size_um and one.pixel_size_um <= wanted_um * LARGER]
        return max(known, key=lambda one: one.pixel_size_um or 0, default=found[0])
    if level >= len(found):
        raise InputError(f"{path}: no resolution level {level}; it has 0 to {len(found) - 1}")
    return found[level]


def rgb_channels(attributes: Mapping[str, Any], count: int | None) -> tuple[int, ...] | None:
    """Return which channels are red, green and blue by the colours, else the names, that the image gives them.

    Parameters
    ----------
    attributes : mapping
    count : int or None
        How many channels there are: a list of another length is of another image, and tells nothing.

    Examples
    --------
    >>> channels = [{"color": "0000FF"}, {"color": "#00ff00"}, {"color": "FF0000FF"}, {"color": "FFFFFF"}]
    >>> rgb_channels({"omero": {"channels": channels}}, 4)
    (2, 1, 0)
    """
    channels = (attributes.get("omero") or {}).get("channels") or []
    if len(channels) != count:
        return None
    for key in ("color", "label"):
        given = [channel.get(key, "") if isinstance(channel, Mapping) else "" for channel in channels]
        texts = [str(text).removeprefix("#") for text in given]
        texts = [text[:-2] if len(text) == 8 and text.upper().endswith("FF") else text for text in texts]  # with alpha
        places = [[i for i, text in enumerate(texts) if {text.upper(), text.lower()} & names] for names in _COLOURS]
        if all(len(place) == 1 for place in places):
            return tuple(place[0] for place in places)
    return None
