"""The networks that are timed: lite, and the five whole ones of Mondal et al. at 300 px with random weights."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np

from napari_all_detect.bundle import Bundle, load_bundle
from napari_all_detect.engines import Engine
from napari_all_detect.errors import MissingDependencyError

WHOLE_PX = 300
SMOKE_PX, SMOKE_MEMBERS = 40, ("vgg16", "mobilenet")


@contextmanager
def whole_networks(smoke: bool = False) -> Iterator[Bundle]:
    """Make a bundle of five networks with random weights, which take as long as trained ones, for a while.

    Parameters
    ----------
    smoke : bool
        Make two networks, small and cut where lite's are, in no time.
    """
    with TemporaryDirectory() as folder, own_cache():
        yield _written(Path(folder) / "whole", smoke)


@contextmanager
def own_cache() -> Iterator[None]:
    """Have networks that are made over for OpenVINO lie in a folder that is gone afterwards, instead of the user's."""
    with TemporaryDirectory() as folder, patch.dict(os.environ, {"ALL_DETECT_CACHE": folder}):
        yield


def _written(folder: Path, smoke: bool) -> Bundle:
    facts = json.loads(load_bundle("lite").manifest.model_dump_json())
    input_px = SMOKE_PX if smoke else WHOLE_PX
    facts["name"], facts["description"] = "whole", "Random weights, for measuring time"
    facts["crop"] |= {"size": input_px, "cell_diameter_px": input_px * 0.6}
    facts["domain"] = facts["bf16"] = None
    if smoke:
        facts["members"] = [member for member in facts["members"] if member["name"] in SMOKE_MEMBERS]
    (folder / "members").mkdir(parents=True)
    for member in facts["members"]:
        member |= {"cut": member["cut"] if smoke else None, "input_size": input_px}
        member["sha256"] = _random_weights(member, folder / member["weights_file"])
    (folder / "MODEL_CARD.md").write_text("# Random weights, for measuring time\n", encoding="utf-8")
    (folder / "bundle.json").write_text(json.dumps(facts), encoding="utf-8")
    return load_bundle(str(folder))


def _random_weights(member: dict[str, Any], path: Path) -> str:
    import keras

    from all_detect_training.weights import save_half_precision
    from napari_all_detect.networks import build_network

    keras.utils.set_random_seed(0)
    save_half_precision(build_network(member["architecture"], member["input_size"], member["cut"]), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def engines_of(bundle: Bundle, crops: np.ndarray) -> dict[str, Engine]:
    """Return our engines for a processor in every precision, but for what isn't installed or the processor lacks.

    int8 is calibrated on these crops, and takes the place of int8 networks in the cache.
    """
    from napari_all_detect.engines.keras import KerasEngine
    from napari_all_detect.engines.openvino import OpenVinoEngine
    from napari_all_detect.engines.openvino_int8 import quantise
    from napari_all_detect.engines.openvino_runtime import computes_in_bf16

    found: dict[str, Engine] = {"all-detect, Keras": KerasEngine(bundle, "cpu")}
    try:
        found["all-detect, OpenVINO fp32"] = OpenVinoEngine(bundle)
        if computes_in_bf16():
            found["all-detect, OpenVINO bf16"] = OpenVinoEngine(bundle, "bf16")
            if bundle.manifest.bf16 is not None:
                found["all-detect, --precision auto"] = OpenVinoEngine(bundle, bundle.manifest.bf16.precision)
        quantise(bundle, crops)
        found["all-detect, OpenVINO int8"] = OpenVinoEngine(bundle, "int8")
    except MissingDependencyError as error:
        print(f"left out: {error}")
    return found
