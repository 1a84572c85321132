"""The schema of `bundle.json`, version 1. Unknown keys are refused."""

from datetime import date
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, from_json

from napari_all_detect.errors import BundleError
from napari_all_detect.networks import ARCHITECTURES, Preprocessing
from napari_all_detect.params import WEIGHTINGS, Weighting
from napari_all_detect.stain import Method

__all__ = [
    "AnyManifest",
    "Bf16",
    "ClassBounds",
    "Conformal",
    "Crop",
    "Domain",
    "Ensemble",
    "Facts",
    "Manifest",
    "Member",
    "Network",
    "SegmenterManifest",
    "Validation",
    "WeightsFile",
    "parse_manifest",
    "stays_inside",
    "validated",
]

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
WeightingKey = Annotated[str, Field(pattern=f"^({'|'.join(WEIGHTINGS)})$")]
Temperature = Annotated[float, Field(ge=0.01, le=100)]
"""Training fits 0.1 to 10. Far beyond, all probabilities are 0.5 or no numbers at all."""


def stays_inside(path: str) -> bool:
    """Return whether a path means a place inside its folder on every operating system.

    Examples
    --------
    >>> [stays_inside(path) for path in ("members/vgg16.weights.h5", "../x", "C:x", "/x")]
    [True, False, False, False]
    """
    parts = PurePosixPath(path).parts
    strange = "\\" in path or ":" in path or not path.isprintable()
    return bool(parts) and not path.startswith("/") and ".." not in parts and not strange


def _weights_path(path: str) -> str:
    if not stays_inside(path):
        raise ValueError(f"{path!r} leaves the bundle's folder; expected a relative path such as members/x.weights.h5")
    if not path.endswith(".weights.h5"):
        raise ValueError(f"{path!r} is not a weights file; expected a name that ends in .weights.h5")
    return path


def _folder_name(name: str) -> str:
    if name.endswith((".", ".zip")):
        raise ValueError(f"{name!r} can't name a folder; expected a name without a final dot or .zip")
    return name


def _known_architecture(name: str) -> str:
    if name not in ARCHITECTURES:
        raise ValueError(f"{name!r} is not an architecture that this version builds: {', '.join(ARCHITECTURES)}")
    return name


class Model(BaseModel):
    """Base: frozen, and strict about what it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Validation(Model):
    """A member's figures on the validation cells; one of them becomes its weight W_k in Eq. 2."""

    accuracy: Share
    auc: Share
    f1: Share
    kappa: Annotated[float, Field(ge=-1, le=1)]
    n: Annotated[int, Field(ge=1)]


class WeightsFile(Model):
    """A file of weights, and its digest."""

    weights_file: Annotated[str, AfterValidator(_weights_path)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Member(WeightsFile):
    """One network of the ensemble."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    architecture: Annotated[str, AfterValidator(_known_architecture)]
    cut: str | None = None
    input_size: Annotated[int, Field(ge=32, le=1024)]
    preprocessing: Preprocessing
    temperature: Temperature = 1.0
    validation: Validation

    @model_validator(mode="after")
    def _large_enough(self) -> "Member":
        least = ARCHITECTURES[self.architecture].least_size
        if self.input_size < least:
            raise ValueError(f"input_size is {self.input_size}; {self.architecture} needs {least} or more")
        return self


class Crop(Model):
    """How cells are cut out, at the scale at which the members were trained, and shown to them."""

    size: Annotated[int, Field(ge=16, le=2048)]
    background: Literal["black"] = "black"
    pixel_size_um: Annotated[float, Field(gt=0)] | None = None
    cell_diameter_px: Annotated[float, Field(gt=0)]
    stain_normalisation: Method | None = None
    """What brings the cells' colours to a reference before members see them (`napari_all_detect.stain`)."""


class ClassBounds(Model):
    """Of one weighting: p_all that an ALL cell falls below, and a Hem cell exceeds, at each of the rates at most."""

    least_all: tuple[Share, ...]
    most_hem: tuple[Share, ...]


class Conformal(Model):
    """Split-conformal prediction, each class by itself: where a call is uncertain."""

    error_rate_all: Rate
    error_rate_hem: Rate
    n_all: Annotated[int, Field(ge=1)]
    n_hem: Annotated[int, Field(ge=1)]
    rates: Annotated[tuple[Rate, ...], Field(min_length=1)]
    bounds: dict[WeightingKey, ClassBounds]

    @model_validator(mode="after")
    def _a_bound_for_each_rate(self) -> "Conformal":
        if list(self.rates) != sorted(set(self.rates)):
            raise ValueError("rates are not in ascending order")
        for name, bounds in self.bounds.items():
            if not len(bounds.least_all) == len(bounds.most_hem) == len(self.rates):
                raise ValueError(f"bounds of {name} are not one for each of {len(self.rates)} rates")
        return self


class Ensemble(Model):
    """How the members' votes become one."""

    weighting: Weighting = "kappa"
    threshold: Share = 0.5
    temperatures: dict[WeightingKey, Temperature] = Field(default_factory=dict)
    """Of the combined vote, for each weighting; 1 where it is missing."""
    conformal: Conformal | None = None


COLOUR_FEATURES = (6, 9)
"""Means and standard deviations of red, green and blue; with their correlations in bundles made since."""


class Domain(Model):
    """What the training cells look like: their colours (`napari_all_detect.trust.domain`) and their sharpness."""

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    threshold: Annotated[float, Field(gt=0)]
    false_alarm_rate: Rate
    least_sharpness: Annotated[float, Field(ge=0)]
    n: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _positive_definite(self) -> "Domain":
        n = len(self.mean)
        if n not in COLOUR_FEATURES or [len(row) for row in self.covariance] != [n] * n:
            raise ValueError("mean and covariance are not those of 9 colour features, or of 6 as in earlier bundles")
        covariance = np.array(self.covariance)
        if not np.array_equal(covariance, covariance.T) or np.linalg.eigvalsh(covariance).min() <= 0:
            raise ValueError("covariance is not symmetric with positive eigenvalues")
        return self


class Bf16(Model):
    """Which members may compute in bf16: measured on cells, the ensemble's calls beside those in fp32."""

    precision: Annotated[str, Field(pattern=r"^(fp32|bf16)(,(fp32|bf16))*$")]
    """`bf16`, or one for each member, joined by commas."""
    same_calls: Share
    expected: Share
    """Share of the same calls to be expected of other cells like these."""
    kappa: Annotated[float, Field(ge=-1, le=1)]
    largest_change: Share
    mean_change: Share
    n: Annotated[int, Field(ge=1)]


class Network(WeightsFile):
    """The network of a segmenter."""

    architecture: Literal["unet"]
    widths: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=2, max_length=6)]
    cell_diameter_px: Annotated[float, Field(ge=8, le=400)]


class Facts(Model):
    """What every bundle says of itself."""

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64), AfterValidator(_folder_name)]
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=64)]
    description: str
    license: str
    citation: str
    created: date
    research_use_only: bool
    training: dict[str, Any]
    metrics: dict[str, Any]


class Manifest(Facts):
    """The whole of the `bundle.json` of an ensemble."""

    classes: tuple[Literal["Hem"], Literal["ALL"]]
    crop: Crop
    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=32)]
    ensemble: Ensemble
    domain: Domain | None = None
    bf16: Bf16 | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> "Manifest":
        names = [m.name for m in self.members]
        if len(set(names)) < len(names):
            raise ValueError(f"members share a name: {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _a_precision_for_each(self) -> "Manifest":
        if self.bf16 is not None and self.bf16.precision.count(",") not in (0, len(self.members) - 1):
            raise ValueError(f"bf16.precision is {self.bf16.precision!r}; expected one, or one for each member")
        return self

    @property
    def weights_files(self) -> tuple[WeightsFile, ...]:
        """Every file of weights."""
        return self.members


class SegmenterManifest(Facts):
    """The whole of the `bundle.json` of a network that finds cells."""

    kind: Literal["segmenter"]
    network: Network

    @property
    def weights_files(self) -> tuple[WeightsFile, ...]:
        """Every file of weights."""
        return (self.network,)


AnyManifest = Manifest | SegmenterManifest
F = TypeVar("F", bound=Facts)


def parse_manifest(data: bytes, source: str) -> AnyManifest:
    """Read the bytes of a `bundle.json`: a segmenter's says so under `kind`, an ensemble's has no such key.

    Parameters
    ----------
    data : bytes
        UTF-8 JSON.
    source : str
        What the user knows the bundle as; the error message begins with it.

    Raises
    ------
    BundleError
        In one line: where the first faults lie and what they are.
    """
    if _names_a_segmenter(data):
        return validated(SegmenterManifest, data, source)
    return validated(Manifest, data, source)


def validated(kind: type[F], data: bytes, source: str) -> F:
    """Read the bytes of a `bundle.json` of this kind; as `parse_manifest` otherwise."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        reason = _one_line(error.errors(include_url=False))
    raise BundleError(f"{source}: bundle.json: {reason}")


def _names_a_segmenter(data: bytes) -> bool:
    try:
        content = from_json(data)
    except ValueError:  # reported by the validation
        return False
    return isinstance(content, dict) and content.get("kind") == "segmenter"


def _one_line(faults: list[ErrorDetails]) -> str:
    for fault in faults:
        if fault["loc"] == ("schema_version",) and fault["type"] != "missing":
            return f"schema_version is {_short(fault['input'])}, expected 1; update napari-all-detect"
    more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
    reasons = "; ".join(_reason(fault) for fault in faults[:3])
    return f"{reasons}{more}; correct it or get the bundle again"


def _reason(fault: ErrorDetails) -> str:
    steps = [f"[{step}]" if isinstance(step, int) else f".{_printable(step)}" for step in fault["loc"]]
    place = "".join(steps).removeprefix(".")
    message = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
    message = _printable(message.removeprefix("Value error, "))
    scalar = isinstance(fault["input"], str | int | float | bool)
    if scalar and fault["type"] not in ("value_error", "extra_forbidden", "json_invalid"):
        message += f", not {_short(fault['input'])}"
    return f"{place}: {message}" if place else message


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
