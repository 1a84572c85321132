"""Networks that were made over for OpenVINO, kept on disk: the next start needs no Keras and no TensorFlow.

    <cache>/networks/<digest of the bundle>/openvino-<version>-graph-<number>/<network>.xml, .bin, SHA256SUMS

The cache is the user's own (`platformdirs`), or where the environment variable `ALL_DETECT_CACHE` says. Nothing but
the bundle's digest and the two versions decides what is in there, so it may be deleted at any time. Beside it lies what
tuning made of cells of the user's, which only tuning makes again: networks in int8 (`...-int8`), and what it measured.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from napari_all_detect.bundle import Bundle, SegmenterBundle
from napari_all_detect.bundle.places import as_path, cache_root, publish, staging_in
from napari_all_detect.digest import file_digest
from napari_all_detect.engines.openvino_export import DAMAGED, GRAPH_VERSION
from napari_all_detect.engines.openvino_runtime import check_keras, import_openvino, openvino_version
from napari_all_detect.errors import AllDetectError, BundleError

__all__ = ["MOVE_IT", "cache_of", "made_once", "networks_of", "read_files", "read_networks"]

Kind = Literal["members", "segmenter"]

SUMS = "SHA256SUMS"
"""What `sha256sum` prints of the other files of a folder: OpenVINO reads networks whose weights are others."""

MOVE_IT = "set ALL_DETECT_CACHE to a folder that you may read and write"
REMEDY = f"{MOVE_IT}, or take engine keras"


def cache_of(digest: str) -> Path:
    """Return the folder of all that is kept for a bundle, by its digest."""
    moved = os.environ.get("ALL_DETECT_CACHE")
    return (as_path(moved).absolute() if moved else cache_root()) / "networks" / digest


def networks_of(digest: str, precision: str = "fp32") -> Path:
    """Return the folder of a bundle's networks, which may not exist yet.

    Parameters
    ----------
    digest : str
        The bundle's.
    precision : {"fp32", "int8"}
        Of the weights in the files.
    """
    name = f"openvino-{openvino_version()}-graph-{GRAPH_VERSION}" + ("" if precision == "fp32" else f"-{precision}")
    return cache_of(digest) / name


def read_networks(kind: Kind, bundle: Bundle | SegmenterBundle, names: Iterable[str]) -> list[Any]:
    """Read networks in fp32; those that are not there, or were damaged, are made anew from the bundle.

    Parameters
    ----------
    kind : {"members", "segmenter"}
    bundle : Bundle or SegmenterBundle
    names : iterable of str

    Returns
    -------
    networks : list of openvino.Model

    Raises
    ------
    BundleError
        If weights do not fit the architecture that the manifest names, or the cache can't be written or read.
    MissingDependencyError
        If Keras is too old to make them.
    AllDetectError
        If Keras's OpenVINO backend fails.
    """
    folder, names = networks_of(bundle.digest), list(names)
    made_once(folder, lambda out: _export(kind, bundle, out))
    try:
        return read_files(folder, names)
    except BundleError:
        shutil.rmtree(folder, ignore_errors=True)
        made_once(folder, lambda out: _export(kind, bundle, out))
        return read_files(folder, names)


def made_once(folder: Path, make: Callable[[Path], None]) -> None:
    """Have a folder made, unless it is there: whole, under its name, and by one process at a time.

    Raises
    ------
    BundleError
        If it can't be written.
    """
    if os.path.isdir(folder):  # noqa: PTH112 - where it can't be looked for, the reason comes below
        return
    with staging_in(folder.parent, REMEDY) as staging, FileLock(folder.parent / f".{folder.name}.lock"):
        if not folder.is_dir():
            new = staging / folder.name
            new.mkdir()
            make(new)
            (new / SUMS).write_text("\n".join(_sums(sorted(new.iterdir()))), encoding="utf-8")
            publish(new, folder)


def read_files(folder: Path, names: Sequence[str], remedy: str = REMEDY) -> list[Any]:
    """Read networks, if they are as they were made.

    Raises
    ------
    BundleError
        If one is missing, damaged or can't be read; it ends with the remedy.
    """
    core = import_openvino().Core()
    try:
        _check_sums(folder, names)
        return [core.read_model(folder / f"{name}.xml") for name in names]
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise BundleError(f"{folder}: networks can't be read ({reason}); {remedy}") from error


def _check_sums(folder: Path, names: Sequence[str]) -> None:
    """Raise a RuntimeError, as OpenVINO does of what it can't parse, if a file of these networks is another."""
    made = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    files = [folder / f"{name}.{suffix}" for name in names for suffix in ("xml", "bin")]
    if not set(made).issuperset(_sums(files)):
        raise RuntimeError("a file is not as it was made")


def _sums(files: Sequence[Path]) -> list[str]:
    """Return a line of `SUMS` for each file."""
    with ThreadPoolExecutor() as pool:
        return [f"{digest}  {file.name}" for file, digest in zip(files, pool.map(file_digest, files), strict=True)]


def _export(kind: Kind, bundle: Bundle | SegmenterBundle, out: Path) -> None:
    """Export in a process of its own: see `openvino_export`."""
    check_keras()
    program = [sys.executable, "-P", "-X", "utf8", "-m", "napari_all_detect.engines.openvino_export"]
    try:
        done = subprocess.run(
            [*program, kind, str(bundle.folder), str(out)],
            env=os.environ | {"KERAS_BACKEND": "openvino"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise _not_made(bundle, f"Python can't be started: {error}") from error
    if done.returncode == DAMAGED:
        raise BundleError(done.stdout)
    if done.returncode:
        raise _not_made(bundle, (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])


def _not_made(bundle: Bundle | SegmenterBundle, reason: str) -> AllDetectError:
    cache = networks_of(bundle.digest).parents[1]
    return AllDetectError(
        f"bundle {bundle.label}: its networks could not be made over for OpenVINO ({reason}); see whether the disk of "
        f"{cache} is full, or take engine keras"
    )
