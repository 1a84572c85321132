"""Members in whole numbers: post-training quantisation by NNCF, calibrated on cells."""

import logging
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle import Bundle
from napari_all_detect.engines.openvino_cache import made_once, networks_of, read_files, read_networks
from napari_all_detect.engines.openvino_runtime import import_openvino
from napari_all_detect.errors import MissingDependencyError

__all__ = ["quantise", "read_quantised"]

CALIBRATION_CELLS = 300
"""What the ranges of activations are taken from; more change them little."""


def quantise(bundle: Bundle, crops: NDArray[np.uint8]) -> None:
    """Make the int8 networks of a bundle, in the place of those that are there.

    Parameters
    ----------
    bundle : Bundle
    crops : (N, s, s, 3) uint8
        As the networks see them; evenly spaced ones are taken for calibration.

    Raises
    ------
    MissingDependencyError
        If NNCF is not installed.
    BundleError
        If the cache can't be written.
    """
    ov = import_openvino()
    try:
        import nncf
    except ImportError as error:
        raise MissingDependencyError(
            f"NNCF can't be imported ({error}); pip install 'napari-all-detect[openvino]'"
        ) from error
    nncf.set_log_level(logging.ERROR)
    some = crops[:: max(1, len(crops) // CALIBRATION_CELLS)][:CALIBRATION_CELLS]
    names = [member.name for member in bundle.manifest.members]
    networks = read_networks("members", bundle, names)
    folder = networks_of(bundle.digest, "int8")
    shutil.rmtree(folder, ignore_errors=True)

    def make(out: Path) -> None:
        for name, network in zip(names, networks, strict=True):
            cells = nncf.Dataset(some, lambda crop: crop[None])
            ov.save_model(nncf.quantize(network, cells, subset_size=len(some)), out / f"{name}.xml")

    # It draws its progress on standard output.
    with redirect_stdout(sys.stderr):
        made_once(folder, make)


def read_quantised(bundle: Bundle, names: Sequence[str]) -> list[Any]:
    """Read the int8 networks of a bundle.

    Raises
    ------
    BundleError
        If they are missing or damaged: without the cells they can't be made anew.
    """
    return read_files(networks_of(bundle.digest, "int8"), names, "all-detect bundles tune makes them anew")
