"""A member's training on disk after each epoch: everything that the next epoch depends on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from all_detect_training.cells import opened_npz
from napari_all_detect.atomic import written_atomically
from napari_all_detect.errors import OutputError

__all__ = ["Progress", "load_checkpoint", "save_checkpoint", "saved_batch_size"]

History = list[dict[str, float]]
REMEDY = "remove it, and the member is trained from its beginning"


@dataclass(frozen=True)
class Progress:
    """How far the training of a member has come.

    Attributes
    ----------
    best : list of arrays
        The network's weights after the epoch with the best validation AUC.
    history : list of dict
        A row per epoch.
    """

    best: list[NDArray[Any]]
    history: History


def save_checkpoint(path: Path, network: Any, rng: np.random.Generator, progress: Progress) -> None:
    """Write the state of network, optimiser and random numbers, and what was reached; whole or not at all.

    Raises
    ------
    OutputError
        If the disk is full or can't be written; the checkpoint of the epoch before stays.
    """
    arrays = {f"state{i}": np.asarray(v) for i, v in enumerate(_state(network))}
    arrays |= {f"best{i}": w for i, w in enumerate(progress.best)}
    facts = json.dumps({"rng": rng.bit_generator.state, "history": progress.history})
    try:
        with written_atomically(path) as file:
            np.savez(file, allow_pickle=False, facts=np.array(facts), **arrays)
    except OSError as error:
        raise OutputError(
            f"{path}: can't be written ({error.strerror or error}); make room, then go on with the same "
            "`all-detect-train fit`"
        ) from error


def load_checkpoint(path: Path, network: Any, rng: np.random.Generator) -> Progress:
    """Put network, optimiser and random numbers into the state that was saved, and return what was reached.

    Raises
    ------
    InputError
        If the file is damaged, or of another network.
    """
    with opened_npz(path, REMEDY) as arrays:
        facts = json.loads(str(arrays["facts"]))
        variables = _state_variables(network)
        for i, variable in enumerate(variables):
            variable.assign(arrays[f"state{i}"])
        best = [arrays[f"best{i}"] for i in range(len(network.get_weights()))]
    rng.bit_generator.state = facts["rng"]
    return Progress(best, facts["history"])


def saved_batch_size(path: Path) -> int:
    """Return the batch size of the last epoch that was saved; InputError if the file is damaged."""
    with opened_npz(path, REMEDY) as arrays:
        return int(json.loads(str(arrays["facts"]))["history"][-1]["batch_size"])


def _state_variables(network: Any) -> list[Any]:
    """Return what training changes: weights, seeds of dropout, and the optimiser's moments and count of updates."""
    return [*network.variables, *network.optimizer.variables]


def _state(network: Any) -> list[NDArray[Any]]:
    import keras

    return [keras.ops.convert_to_numpy(variable.value) for variable in _state_variables(network)]
