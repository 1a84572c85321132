"""The parameters: the only place where defaults, ranges and help texts stand.

Command line, plugin and Python API are built from these dataclasses. A field's metadata holds what a form needs:
`tooltip` (the help text), `min` and `max` (inclusive), `step`, `choices`, `words` (that a number may be instead), and
`flag` and `metavar` for the command line.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from napari_all_detect.errors import ParameterError

__all__ = [
    "FORMATS",
    "LARGEST_LABEL",
    "PRECISIONS",
    "TILED_FROM_PX",
    "TILE_PX",
    "WEIGHTINGS",
    "ClusterParams",
    "ExplainParams",
    "OutputParams",
    "Params",
    "ReadParams",
    "Rescale",
    "ScoreParams",
    "SegmentationParams",
    "Weighting",
]

TILED_FROM_PX, TILE_PX = 2**26, 2048
"""Planes of more pixels than that (8192 x 8192) are taken in tiles this wide."""

Rescale = str | float
"""`auto`, `none` or a factor."""

Weighting = Literal["kappa", "accuracy", "auc", "f1", "equal"]
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)
FORMATS = ("csv", "parquet", "h5ad", "geojson", "ome-zarr")
"""Each is a module of `export`; what it writes is said there."""

PRECISIONS = ("fp32", "bf16", "int8")

LARGEST_LABEL = 2**22 - 1
"""Measuring takes memory for each number up to the largest: about 200 MB at this one."""


def option(default: Any, tooltip: str, **form: Any) -> Any:
    """Declare a field with its default, its help text and what a form needs."""
    return field(default=default, metadata={"tooltip": tooltip, **form})


@dataclass(frozen=True)
class Params:
    """Base: checks every field against its own type, range and choices.

    Paths become texts, lists tuples, and NumPy's numbers Python's: a record of a run holds them.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):
            given, hint = getattr(self, f.name), hints[f.name]
            value = _plain(given)
            object.__setattr__(self, f.name, value)
            check_value(f.name, value, f.metadata)
            if not _is_a(value, hint):
                expected = hint.__name__ if isinstance(hint, type) else hint
                raise ParameterError(f"{f.name} is {given!r}; expected {expected}")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    # Absolute: `Path("lite")` is a folder, "lite" an installed bundle.
    return str(Path(value).absolute()) if isinstance(value, os.PathLike) else value


def _is_a(value: Any, hint: Any) -> bool:
    """Return whether a value is of an annotated type: a class, a tuple of one, or a union of them."""
    if isinstance(hint, UnionType):
        return any(_is_a(value, kind) for kind in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_a(item, get_args(hint)[0]) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))


def check_value(name: str, value: Any, form: Any) -> None:
    """Raise ParameterError if a value lies outside its range or choices; None always passes."""
    if value is None:
        return
    choices = form.get("choices")
    if choices is not None and value not in choices:
        raise ParameterError(f"{name} is {value!r}; expected one of: {', '.join(map(str, choices))}")
    if "min" not in form or value in form.get("words", ()):
        return
    # `not <=` also refuses NaN.
    if not isinstance(value, Real) or not form["min"] <= value <= form["max"]:
        words = "".join(f"{word}, " for word in form.get("words", ()))
        raise ParameterError(f"{name} is {value!r}; expected {words}{form['min']:.10g} to {form['max']:.10g}")
    if form.get("step") == 1 and not isinstance(value, Integral):
        raise ParameterError(f"{name} is {value!r}; expected a whole number")


@dataclass(frozen=True)
class SegmentationParams(Params):
    """How white cells are found."""

    method: str = option(
        "learned",
        "What finds the cells: `learned` (a network), `classical` (colour and shape), a method that another package "
        "registers, or the name or path of a segmenter's bundle",
        flag="segmentation",
        metavar="NAME|PATH",
    )
    cell_diameter_px: float | None = option(
        None,
        "Typical diameter of a white cell in pixels; estimated from the image if not given",
        min=8,
        max=2000,
        flag="cell-diameter",
        metavar="PX",
    )


@dataclass(frozen=True)
class ReadParams(Params):
    """What is read of images that hold more than one picture."""

    level: str | int = option(
        0,
        "Resolution level of an OME-Zarr image or a pyramidal TIFF, 0 being the finest; `auto` takes the coarsest one "
        "that is as fine as the bundle's training images, if the pixel sizes of both are known",
        min=0,
        max=64,
        step=1,
        words=("auto",),
        metavar="auto|N",
    )
    channels: tuple[int, ...] | None = option(
        None,
        "Channels that are red, green and blue, or the one that is grey, from 0. Default: found by colour or name in "
        "an OME-Zarr image, else the only three",
        metavar="R,G,B",
    )
    tile_size_px: int | None = option(
        None,
        "Reads, segments and scores every plane in tiles this wide, whatever its size; results are those of the whole "
        f"plane. Default: tiles of {TILE_PX} for planes of more than {TILED_FROM_PX / 1e6:.0f} megapixels, else none",
        min=256,
        max=65536,
        step=1,
        flag="tile-size",
        metavar="PX",
    )

    def tile_px(self, shape: Sequence[int]) -> int | None:
        """Return how wide the tiles are in which a plane of this height and width is taken; None: as a whole."""
        if self.tile_size_px is not None:
            return self.tile_size_px
        return TILE_PX if shape[0] * shape[1] > TILED_FROM_PX else None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels is not None and (len(self.channels) not in (1, 3) or min(self.channels) < 0):
            raise ParameterError(f"channels is {self.channels!r}; expected one or three numbers from 0: 0,1,2")


@dataclass(frozen=True)
class ScoreParams(Params):
    """How cells are scored."""

    bundle: str = option(
        "lite",
        "Model bundle: the name of an installed one, or the path of a folder or zip",
        metavar="NAME|PATH",
    )
    weighting: str | None = option(
        None,
        "What weighs the members' votes (Eq. 2); `equal` is the simple average (Eq. 1). Default: the bundle's own",
        choices=WEIGHTINGS,
    )
    threshold: float | None = option(
        None,
        "A cell is called ALL from this probability on, and none uncertain; where an error rate is given, too, it "
        "decides only on cells for which that rules both calls out. Default: the bundle's own",
        min=0.0,
        max=1.0,
        metavar="P",
    )
    error_rate: str | float | None = option(
        None,
        "Cells are called uncertain where a call would be wrong for more than this share of ALL, or of Hem, cells like "
        "those the bundle was calibrated on; `none` calls every cell. Default: the bundle's own",
        min=0.001,
        max=0.5,
        words=("none",),
        metavar="none|RATE",
    )
    pixel_size_um: float | None = option(
        None,
        "Micrometres per pixel; overrides what the file says",
        min=0.001,
        max=100.0,
        metavar="UM",
        flag="pixel-size",
    )
    rescale: Rescale = option(
        "auto",
        "Brings cells to the scale that the bundle was trained at: `auto` by pixel size where image and bundle state "
        "one, else by cell diameter where that differs by more than half; `none`; or a factor",
        min=0.01,
        max=100.0,
        words=("none", "auto"),
        metavar="none|auto|FACTOR",
    )
    engine: str = option(
        "auto",
        "What runs the networks: `auto` takes Keras on a GPU if there is one, else OpenVINO if it is installed, else "
        "Keras",
        choices=("auto", "keras", "openvino"),
    )
    precision: str = option(
        "auto",
        "What the networks compute in. `auto` takes the fastest that was seen to call at least 999 of 1,000 cells as "
        "fp32 does, by `all-detect bundles tune` on cells of yours or when the bundle was made; one for each member, "
        "joined by commas, is taken too",
        metavar="auto|fp32|bf16|int8",
    )
    device: str = option("auto", "Where the networks run", choices=("auto", "cpu", "gpu"))
    batch_size: int | None = option(
        None,
        "Cells that Keras's networks see at once; found if not given. OpenVINO takes one for each core",
        min=1,
        max=4096,
        step=1,
        metavar="N",
    )
    fast_calls: bool = option(
        False,
        "Runs networks on a cell, cheapest first, only until those left can't change its call: the same calls in less "
        "time, but p_all is that of the networks that ran; least_p_all and most_p_all bound the whole ensemble's",
    )
    segmentation: SegmentationParams = field(default_factory=SegmentationParams)
    reading: ReadParams = field(default_factory=ReadParams)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.precision.split(",")
        if self.precision != "auto" and not set(given) <= set(PRECISIONS):
            raise ParameterError(f"precision is {self.precision!r}; expected one of: auto, {', '.join(PRECISIONS)}")


@dataclass(frozen=True)
class OutputParams(Params):
    """What a batch run takes beside the images, and what it writes."""

    labels: str | None = option(
        None,
        "Label images to use instead of finding cells: a file for one image, or a folder with "
        "<image>_labels.tif (as `segment` writes them) or files named like the images",
        metavar="PATH",
    )
    samples: str | None = option(
        None, "Sample sheet: a CSV with the columns image, sample and, if known, subject", metavar="CSV"
    )
    formats: tuple[str, ...] = option(
        ("csv",),
        "What to write, joined by commas: csv (always written), parquet, h5ad (AnnData), geojson (QuPath), ome-zarr "
        "(image, labels and feature table)",
        flag="format",
        metavar=",".join(FORMATS),
    )
    overwrite: bool = option(False, "Replace the results that the output folder holds")
    resume: bool = option(
        False,
        "Go on with the run that was interrupted in the output folder; try again what failed in it. Begin one if "
        "there is none",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.formats:
            check_value("format", name, {"choices": FORMATS})
        if self.overwrite and self.resume:
            raise ParameterError("overwrite and resume are both set; expected one of them: replace, or go on")


@dataclass(frozen=True)
class ExplainParams(Params):
    """Which cell is explained."""

    label: int = option(
        1, "Number of the cell: column `label` of cells.csv", min=1, max=LARGEST_LABEL, step=1, metavar="N"
    )
    plane: str | None = option(
        None, "Which plane of the image: column `plane` of cells.csv; needed where there are several", metavar="NAME"
    )
    labels: str | None = option(
        None, "Label image to use instead of finding cells, or a folder with <image>_labels.tif", metavar="PATH"
    )


@dataclass(frozen=True)
class ClusterParams(Params):
    """Where a batch runs; it changes nothing in the results."""

    workers: int = option(
        0,
        "Processes that score at once, each with its own networks (some 1.5 GB); 0 scores in this one",
        min=0,
        max=1024,
        step=1,
        metavar="N",
    )
    segmentation_processes: str | int = option(
        "auto",
        "Processes that read planes and find cells while this one scores them; 0 does that here, too. `auto` takes one "
        "for every four cores. They are not for workers, of which each does all",
        min=0,
        max=256,
        step=1,
        words=("auto",),
        metavar="auto|N",
    )
    scheduler: str | None = option(
        None, "Score on an existing Dask cluster, which must see the inputs under the same paths", metavar="ADDRESS"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers and self.scheduler is not None:
            raise ParameterError("workers and scheduler are both set; a scheduler has workers of its own")

    @property
    def is_here(self) -> bool:
        """Whether there is no cluster."""
        return not self.workers and self.scheduler is None
