"""In how many bits a bundle's members compute: what tuning measured, and what of it is taken.

Less than fp32 is never taken on trust. A bundle may say which of its members can compute in bf16, as was measured when
it was made. `all-detect bundles tune` measures on cells of the user's own how fast each member is in each precision,
and how many cells the ensemble then calls as in fp32; what it found lies beside the networks: for this bundle, this
OpenVINO and this processor, or for this bundle and this GPU. So nothing is decided while a run is under way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock
from pydantic import Field, TypeAdapter

from napari_all_detect.atomic import write_atomically
from napari_all_detect.bundle import Bundle
from napari_all_detect.engines.openvino_cache import MOVE_IT, cache_of, networks_of
from napari_all_detect.errors import BundleError

__all__ = [
    "CELLS",
    "Agreement",
    "Device",
    "Measured",
    "Tuning",
    "fastest_that_agrees",
    "forget_tuning",
    "in_each",
    "read_tuning",
    "tuned_alone",
    "write_tuning",
]

Device = Literal["cpu", "gpu"]
"""What was tuned for: a processor, which OpenVINO runs on, or a GPU, which Keras does."""

CELLS = 1000
"""Fewer cells can't show that 999 of 1,000 get the same call."""

LEAST_AGREEMENT = 0.999
"""Share of the cells that have to get the same call, of those counted and as expected of others. The count alone
misleads: of some hundred mixtures, the one that wins has been lucky with the few cells near a threshold."""


@dataclass(frozen=True)
class Agreement:
    """How an ensemble in less than fp32 compares with the same in fp32, on the same cells.

    Attributes
    ----------
    same_calls : float
        Share of the cells that get the call they get in fp32.
    expected : float
        That share as it is to be expected of other cells like these.
    kappa : float
        Cohen's, between the calls of both.
    largest_change, mean_change : float
        Of p_all.
    """

    same_calls: float
    expected: float
    kappa: float
    largest_change: float
    mean_change: float

    @property
    def is_enough(self) -> bool:
        """Whether enough cells get the same call."""
        return min(self.same_calls, self.expected) >= LEAST_AGREEMENT


@dataclass(frozen=True)
class Measured:
    """What an ensemble takes in some precision, and what it gives.

    Attributes
    ----------
    precision : str
        One of `napari_all_detect.params.PRECISIONS`, or one for each member, joined by commas.
    ms_per_cell : float
        Time of one processor core; on a GPU, by the clock.
    agreement : Agreement
        With fp32.
    """

    precision: str
    ms_per_cell: float
    agreement: Agreement


@dataclass(frozen=True)
class Tuning:
    """What tuning found.

    Attributes
    ----------
    processor : str
        On which it ran; or the GPU, and by what.
    cells : int
    calibration : str
        Digest of the cells, in hex: int8 networks that were calibrated on others are others.
    measured : tuple of Measured
        fp32 first.
    """

    processor: str
    cells: int
    calibration: str
    measured: Annotated[tuple[Measured, ...], Field(min_length=1)]


_TUNING = TypeAdapter(Tuning)


@contextmanager
def tuned_alone(bundle: Bundle, device: Device) -> Iterator[None]:
    """Let one process at a time tune a bundle: what it finds holds for its own int8 networks."""
    path = _path(bundle, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def write_tuning(bundle: Bundle, tuning: Tuning, device: Device = "cpu") -> None:
    """Keep what tuning found, in the place of what it found before: see `tuned_alone`."""
    write_atomically(_path(bundle, device), _TUNING.dump_json(tuning, indent=2))


def forget_tuning(bundle: Bundle) -> None:
    """Delete what tuning found for a processor: the networks that it was found of are made anew."""
    _path(bundle, "cpu").unlink(missing_ok=True)


def read_tuning(bundle: Bundle, device: Device = "cpu") -> Tuning | None:
    """Return what tuning found; None if the bundle was not tuned for it, or not with this version of OpenVINO.

    Raises
    ------
    BundleError
        If the file is damaged, or can't be read.
    """
    path = _path(bundle, device)
    try:
        return _TUNING.validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        remedy = MOVE_IT if isinstance(error, PermissionError) else f"tune {bundle.label} again"
        raise BundleError(f"{path}: can't be read ({str(error).splitlines()[0]}); {remedy}") from error


def fastest_that_agrees(tuning: Tuning) -> Measured:
    """Return the fastest of what calls at least 999 of 1,000 cells as fp32 does."""
    return min((row for row in tuning.measured if row.agreement.is_enough), key=lambda row: row.ms_per_cell)


def in_each(precision: str, n_members: int) -> tuple[str, ...]:
    """Return each member's precision: of one for all, or one for each joined by commas.

    >>> in_each("bf16", 2), in_each("int8,fp32", 2)
    (('bf16', 'bf16'), ('int8', 'fp32'))
    """
    given = tuple(precision.split(","))
    return given * n_members if len(given) == 1 else given


def _path(bundle: Bundle, device: Device) -> Path:
    if device == "gpu":
        return cache_of(bundle.digest) / "gpu-tuning.json"
    folder = networks_of(bundle.digest)
    return folder.with_name(f"{folder.name}-tuning.json")
