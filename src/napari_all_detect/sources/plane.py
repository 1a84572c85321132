"""What the sources hand on: an image file, one plane of it, and one way to say that it can't be read."""

import dataclasses
import errno
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from napari_all_detect.errors import InputError, StoreError
from napari_all_detect.sources.places import is_remote, network_errors
from napari_all_detect.sources.rgb import RgbPlane
from napari_all_detect.sources.tiled import TiledPlane

__all__ = ["EXPECTED", "ImageFile", "OmePlace", "Plane", "passes", "readable"]

EXPECTED = "PNG, JPEG, BMP, TIFF or zarr"

# What Pillow, tifffile, zarr and their codecs raise on a file that is damaged, cut short or not theirs. It is
# long because they pass on what their parsers ran into: SyntaxError is Pillow's "not this format",
# RuntimeError the codecs'; KeyError, TypeError and AttributeError come from metadata with parts missing,
# ArithmeticError from sizes of zero or beyond 32 bits.
UNREADABLE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)

PASSING = (errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
"""What a server answers that is too busy, or starts again."""


@dataclass(frozen=True)
class ImageFile:
    """An image on disk: a file, or a folder that is a zarr store.

    Attributes
    ----------
    path : Path
        Where it lies, as the user gave it.
    image : str
        Its name in the tables: unique among the inputs, with `/` between folders on every system.
    """

    path: Path
    image: str


@dataclass(frozen=True)
class OmePlace:
    """Where a plane lies in an OME-Zarr image.

    Attributes
    ----------
    level : str
        Path of the resolution level's array.
    place : dict of str to int
        On the axes other than c, y and x: `{"t": 0, "z": 3}`.
    """

    level: str
    place: dict[str, int]


@dataclass(frozen=True)
class Plane:
    """One 2-D RGB image that can be read when it is needed.

    It holds no pixels and can be pickled, so that another process can read it.

    Attributes
    ----------
    image : str
        Name of the image in the tables.
    plane : str
        Which plane of the image: `"0"` where there is one only, `"p3"` for page 3 of a TIFF (from 0),
        `"t0_z3"` for a place on named axes.
    path : Path
        The file or zarr store.
    pixel_size_um : float or None
        Edge of a pixel in micrometres, in 0.02 to 5; None where the file doesn't say it believably.
    reader : callable
        Opens the file and returns the pixels; call `read` instead.
    well, field : str
        Where the image lies on a plate, such as `"A1"` and `"0"`; empty if it lies on none.
    downsample : float
        Pixels of the image's finest resolution level that one of this plane is wide.
    ome : OmePlace or None
        Where the plane lies in an OME-Zarr image; None if it lies in none.
    opener : callable or None
        Opens the file for reading by tiles; None if the plane is taken as a whole. Call `open` instead.
    error : InputError or None
        Why the image can't be opened, of which this stands for all planes and can't be read.
    series : int
        Which of a TIFF's series of like pages it is of; other programs often show the first only, 0.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_all_detect.sources import as_rgb
    >>> plane = Plane("drawn", "0", Path("drawn"), 0.25, reader=lambda: as_rgb(np.zeros((4, 6, 3), np.uint8)))
    >>> plane.read().rgb.shape
    (4, 6, 3)
    """

    image: str
    plane: str
    path: Path
    pixel_size_um: float | None
    reader: Callable[[], RgbPlane] = dataclasses.field(repr=False, compare=False)
    well: str = ""
    field: str = ""
    downsample: float = 1.0
    ome: OmePlace | None = dataclasses.field(default=None, repr=False)
    opener: Callable[[], TiledPlane] | None = dataclasses.field(default=None, repr=False, compare=False)
    error: InputError | None = dataclasses.field(default=None, repr=False, compare=False)
    series: int = dataclasses.field(default=0, repr=False)

    def read(self) -> RgbPlane:
        """Open the file now and return the pixels.

        Raises
        ------
        InputError
            The file is gone, damaged or cut short, or its values can't be used.
        """
        return self.reader()

    def open(self) -> RgbPlane | TiledPlane:
        """Return the pixels, or of a plane that is taken in tiles what reads them.

        Raises
        ------
        InputError
            As `read`, and so may the reading of tiles.
        """
        return self.reader() if self.opener is None else self.opener()


@contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """Turn what the libraries raise on a bad file into one `InputError` that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        if passes(error) and isinstance(error.__cause__, Exception):
            raise _store_error(path, error.__cause__) from error
        raise InputError(f"{path}: no such file or folder, or a part of it is missing; check the path") from error
    except PermissionError as error:
        raise InputError(f"{path}: permission denied; give yourself the right to read it") from error
    except MemoryError as error:
        raise InputError(
            f"{path}: too large for the memory ({_reason(error)}); free some, crop the image, or write it as tiled "
            "TIFF or zarr, which are read in parts"
        ) from error
    except _unreadable() as error:
        if passes(error):
            raise _store_error(path, error) from error
        if (status := getattr(error, "status", None)) in (401, 403):
            raise InputError(
                f"{path}: permission denied ({status}); check the key in the address, or ask for the right to read it"
            ) from error
        served = ", and a server that sends parts of files where they are asked for" if is_remote(path) else ""
        raise InputError(
            f"{path}: can't be read as {what} ({_reason(error)}); "
            f"expected a complete, undamaged file{served}: export or copy it again"
        ) from error


def _store_error(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path}: the disk or server failed ({_reason(error)}); try again when it can be reached")


def _unreadable() -> tuple[type[Exception], ...]:
    return (*UNREADABLE, *network_errors())


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def passes(error: Exception) -> bool:
    """Return whether the trouble is the disk's or the network's, not the file's, and may be over the next time."""
    if isinstance(error, FileNotFoundError):  # fsspec's word for a server that doesn't answer, too
        return isinstance(error.__cause__, Exception) and passes(error.__cause__)
    if isinstance(error, network_errors()):
        return getattr(error, "status", 503) in PASSING_STATUS
    return isinstance(error, (ConnectionError, TimeoutError)) or (isinstance(error, OSError) and error.errno in PASSING)
