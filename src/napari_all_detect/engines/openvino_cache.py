"""Networks that were made over for OpenVINO, kept on disk: the next start needs no Keras and no TensorFlow.

    <cache>/networks/<digest of the bundle>/openvino-<version>-graph-<number>/<network>.xml, .bin

The cache is the user's own (`platformdirs`), or where the environment variable `ALL_DETECT_CACHE` says. Nothing but
the bundle's digest and the two versions decides what is in there, so it may be deleted at any time. Beside it lies what
tuning made of cells of the user's, which only tuning makes again: networks in int8 (`...-int8`), and what it measured.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from napari_all_detect.bundle import Bundle, SegmenterBundle
from napari_all_detect.bundle.places import as_path, cache_root, publish, staging_in
from napari_all_detect.engines.openvino_export import DAMAGED, GRAPH_VERSION
from napari_all_detect.engines.openvino_runtime import import_openvino, openvino_version
from napari_all_detect.errors import AllDetectError, BundleError

__all__ = ["made_once", "networks_of", "read_files", "read_networks"]

Kind = Literal["members", "segmenter"]


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
    moved = os.environ.get("ALL_DETECT_CACHE")
    return (as_path(moved).absolute() if moved else cache_root()) / "networks" / digest / name


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
        If weights do not fit the architecture that the manifest names, or the cache can't be written.
    AllDetectError
        If Keras's OpenVINO backend fails.
    """
    folder, names = networks_of(bundle.digest), list(names)
    made_once(folder, lambda out: _export(kind, bundle, out))
    try:
        return read_files(folder, names)
    except RuntimeError:
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
    if folder.exists():
        return
    with staging_in(folder.parent, "ALL_DETECT_CACHE") as staging, FileLock(folder.parent / f".{folder.name}.lock"):
        if not folder.exists():
            new = staging / folder.name
            new.mkdir()
            make(new)
            publish(new, folder)


def read_files(folder: Path, names: Iterable[str]) -> list[Any]:
    """Read networks as they are on disk.

    Raises
    ------
    RuntimeError
        If one is missing or damaged.
    """
    core = import_openvino().Core()
    return [core.read_model(folder / f"{name}.xml") for name in names]


def _export(kind: Kind, bundle: Bundle | SegmenterBundle, out: Path) -> None:
    """Export in a process of its own: see `openvino_export`."""
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
    return AllDetectError(
        f"bundle {bundle.label}: its networks could not be made over for OpenVINO ({reason}); take --engine keras"
    )
