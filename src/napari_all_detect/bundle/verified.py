"""A bundle's folder, read and verified: nothing that is missing, changed or elsewhere gets past."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from napari_all_detect.bundle.manifest import AnyManifest, Manifest, SegmenterManifest, WeightsFile, parse_manifest
from napari_all_detect.digest import file_digest
from napari_all_detect.errors import BundleError

__all__ = [
    "MANIFEST",
    "MODEL_CARD",
    "AnyBundle",
    "Bundle",
    "SegmenterBundle",
    "VerifiedBundle",
    "files_of",
    "open_folder",
    "read_manifest",
    "readable",
]

M = TypeVar("M", Manifest, SegmenterManifest, AnyManifest, covariant=True)

MANIFEST = "bundle.json"
MODEL_CARD = "MODEL_CARD.md"
MAX_TEXT_BYTES = {MANIFEST: 4 * 2**20, MODEL_CARD: 64 * 2**20}
"""What is larger is no bundle of ours, and isn't read into memory, of which JSON takes some 25 times its size."""


@dataclass(frozen=True)
class VerifiedBundle(Generic[M]):
    """A verified bundle.

    Attributes
    ----------
    manifest : Manifest or SegmenterManifest
        What `bundle.json` says.
    folder : Path
        Where the files lie: absolute, unpacked.
    digest : str
        SHA-256 of the bytes of `bundle.json`, in hex. That file names the weights' digests, so this one names
        the whole.
    """

    manifest: M
    folder: Path
    digest: str

    @property
    def label(self) -> str:
        """Name and version, as in column `bundle` of `cells.csv`."""
        return f"{self.manifest.name}-{self.manifest.version}"

    def weights(self, file: WeightsFile) -> Path:
        """Return where a network's weights lie."""
        return self.folder / file.weights_file

    @property
    def card(self) -> str:
        """The text of `MODEL_CARD.md`."""
        with readable(self.label):
            return _read_card(self.folder, self.label)


AnyBundle = VerifiedBundle[AnyManifest]
Bundle = VerifiedBundle[Manifest]
SegmenterBundle = VerifiedBundle[SegmenterManifest]


def open_folder(folder: Path, source: str | None = None) -> AnyBundle:
    """Read `bundle.json` and verify every file that it speaks of.

    Parameters
    ----------
    folder : Path
        Holds `bundle.json`.
    source : str, optional
        What the user knows the bundle as, where that isn't the folder; error messages begin with it.

    Raises
    ------
    BundleError
        A file is missing, leaves the folder, doesn't match its digest or isn't understood.
    """
    source = source or str(folder)
    with readable(source):
        folder = folder.resolve()
        data, manifest = read_manifest(folder, source)
        _read_card(folder, source)
        for file in manifest.weights_files:
            _check_weights(folder, file, source)
    return VerifiedBundle(manifest, folder, hashlib.sha256(data).hexdigest())


def read_manifest(folder: Path, source: str) -> tuple[bytes, AnyManifest]:
    """Read `bundle.json`, its bytes and what they mean; raises as `open_folder`."""
    data = _read_text_file(folder, MANIFEST, source)
    return data, parse_manifest(data, source)


def files_of(manifest: AnyManifest) -> set[str]:
    """Return the paths of all that belongs to a bundle, from its folder."""
    return {MANIFEST, MODEL_CARD, *(file.weights_file for file in manifest.weights_files)}


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Turn the operating system's refusal to read into a `BundleError` that names the source."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BundleError(f"{source}: can't be read ({reason}); check the path and its permissions") from error


def _read_card(folder: Path, source: str) -> str:
    data = _read_text_file(folder, MODEL_CARD, source)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{source}: {MODEL_CARD} is not UTF-8 text; save it as UTF-8") from error


def _read_text_file(folder: Path, name: str, source: str) -> bytes:
    with _file_inside(folder, name, source).open("rb") as file:
        data = file.read(MAX_TEXT_BYTES[name] + 1)
    if len(data) > MAX_TEXT_BYTES[name]:
        raise BundleError(
            f"{source}: {name} has more than the {MAX_TEXT_BYTES[name]} bytes allowed; get the bundle again"
        )
    return data


def _check_weights(folder: Path, file: WeightsFile, source: str) -> None:
    digest = file_digest(_file_inside(folder, file.weights_file, source))
    if digest != file.sha256:
        raise BundleError(
            f"{source}: {file.weights_file} has SHA-256 {digest}, {MANIFEST} says {file.sha256}; "
            "the file was damaged or changed: get the bundle again"
        )


def _file_inside(folder: Path, name: str, source: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise BundleError(
            f"{source}: no file {name}; a bundle is a folder or a zip with {MANIFEST}, {MODEL_CARD} and its "
            "members' weights: check the path or get the bundle again"
        )
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{source}: {name} is a link that leaves the folder; put the file itself there")
    return path
