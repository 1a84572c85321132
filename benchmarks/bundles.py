"""The bundles that are timed: lite, and the five whole networks of Mondal et al. at 300 px with random weights."""

import hashlib
import json
from pathlib import Path
from typing import Any

from napari_all_detect.bundle import Bundle, load_bundle

WHOLE_PX = 300
SMOKE_PX, SMOKE_MEMBERS = 40, ("vgg16", "mobilenet")


def whole_networks(folder: Path, smoke: bool = False) -> Bundle:
    """Write a bundle of five networks with random weights, which take as long as trained ones.

    Parameters
    ----------
    folder : Path
        A new folder.
    smoke : bool
        Write two networks, small and cut where lite's are, in no time.
    """
    input_px = SMOKE_PX if smoke else WHOLE_PX
    lite = load_bundle("lite")
    facts = json.loads(lite.manifest.model_dump_json())
    facts["name"], facts["description"] = "whole", "Random weights, for measuring time"
    facts["crop"] |= {"size": input_px, "cell_diameter_px": input_px * 0.6}
    facts["domain"] = None
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
