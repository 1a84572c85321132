"""A member as its training begins: its network, with a trunk's weights if there are any, and its optimiser."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from all_detect_training.compiling import compile_network
from all_detect_training.presets import FitParams, MemberSpec
from all_detect_training.schedule import triangular2_schedule
from napari_all_detect.engines.keras_program import computing_in
from napari_all_detect.errors import InputError
from napari_all_detect.networks import build_network

__all__ = ["Trunks", "compiled_network", "refuse_no_network", "refuse_no_trunks", "trunk_weights"]

log = logging.getLogger(__name__)
Trunks = Path | str | None
"""A folder of trunk files, `imagenet`, or none."""


def trunk_weights(trunks: Trunks, spec: MemberSpec) -> str | Path | None:
    """Return what a member's trunk starts from."""
    if trunks is None or trunks == "imagenet":
        return trunks
    path = _trunk_file(Path(trunks), spec)
    if path.exists():
        return path
    log.warning("%s: no %s; starts from scratch", spec.architecture, path.name)
    return None


def refuse_no_network(source: Path, members: Sequence[MemberSpec]) -> None:
    """Raise InputError if a member is none that can be built: its input is too small, or it has no such layer."""
    for spec in members:
        try:
            build_network(spec.architecture, spec.input_size, spec.cut)
        except ValueError as error:
            raise InputError(f"{source}: {error}; correct input_size or cut of this member") from error


def refuse_no_trunks(folder: Path, members: Sequence[MemberSpec]) -> None:
    """Raise InputError unless the folder has a trunk file for a member at least."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one with <architecture>_notop.weights.h5")
    files = [_trunk_file(folder, spec) for spec in members]
    if not any(file.exists() for file in files):
        names = ", ".join(file.name for file in files)
        raise InputError(
            f"{folder}: no trunk weights of any member; expected one or more of {names}; put them there, or leave "
            "--trunks out to start from scratch"
        )


def _trunk_file(folder: Path, spec: MemberSpec) -> Path:
    return folder / f"{spec.architecture}_notop.weights.h5"


def compiled_network(spec: MemberSpec, params: FitParams, weights: str | Path | None, updates: int) -> Any:
    """Return a network with its optimiser, ready to train `updates` times an epoch.

    Raises
    ------
    InputError
        If the trunk's weights are of another network, damaged, or not all finite.
    """
    import keras

    network = _build(spec, params, weights)
    if weights is not None and not all(np.isfinite(w).all() for w in network.get_weights()):
        raise InputError(
            f"{weights}: a trunk of {spec.architecture} with weights that are NaN or infinite; get its ImageNet "
            "weights without the top, or leave --trunks out"
        )
    step = params.step_epochs * spec.stretch * updates
    rate = triangular2_schedule(params.lowest_rate, spec.rate * params.highest_rate, step)
    compile_network(
        network,
        keras.optimizers.Adamax(rate, beta_1=0.9, beta_2=0.999),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=params.label_smoothing),
    )
    network.optimizer.build(network.trainable_variables)
    return network


def _build(spec: MemberSpec, params: FitParams, weights: str | Path | None) -> Any:
    """Build a network, in mixed precision if asked; its weights stay float32 either way."""
    try:
        with computing_in("bf16" if params.mixed_precision else "fp32"), warnings.catch_warnings():
            # Keras warns of parts that it skips; they would stay random.
            warnings.filterwarnings("error", "Skipping nested container", UserWarning)
            return build_network(spec.architecture, spec.input_size, spec.cut, weights, params.dropout)
    except Exception as error:
        # What Keras can't fetch it reports as a bare Exception.
        is_of_weights = isinstance(error, ValueError | OSError | KeyError | UserWarning) or "fetch" in str(error)
        if weights is None or not is_of_weights:
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{weights}: no trunk of {spec.architecture} ({reason}); get its ImageNet weights without the top, or "
            "leave --trunks out"
        ) from error
