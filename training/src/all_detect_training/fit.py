"""Train the members of an ensemble, and keep all that a bundle and its card need in one run folder."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from all_detect_training.augment import augment, jitter_stain, random_transforms
from all_detect_training.cells import Cells
from all_detect_training.checkpoint import Progress, load_checkpoint, save_checkpoint, saved_batch_size
from all_detect_training.history import epochs_at_most, write_history
from all_detect_training.metrics import auc, member_figures
from all_detect_training.predicting import no_memory_for_one, predict_p_all
from all_detect_training.presets import FitParams, MemberSpec
from all_detect_training.sampling import oversample
from all_detect_training.starting import Trunks, compiled_network, trunk_weights
from all_detect_training.telling import Telling
from all_detect_training.weights import round_to_half, save_half_precision
from napari_all_detect.atomic import written_atomically
from napari_all_detect.engines.keras_program import computing_in, ran_out_of_memory
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.networks import ARCHITECTURES, build_network, preprocess
from napari_all_detect.stain import normalise_stain

__all__ = ["fit_ensemble", "fit_member"]

log = logging.getLogger(__name__)

AT_ONCE = 100
"""Crops whose stain is normalised together."""

SAME_AUC = 0.05
"""By so much the AUC of a finished member may differ from that of the epoch kept, taken in mixed precision."""


@computing_in("fp32")  # but for members in mixed precision
def fit_ensemble(cells: Cells, split: NDArray[np.str_], params: FitParams, run: Path, trunks: Trunks = None) -> None:
    """Train every member that the run folder does not hold yet.

    Parameters
    ----------
    cells : Cells
        All cells, of training, validation and test. Where the stain is to be normalised, their crops change in place:
        memory may not hold all twice.
    split : (N,) str
        The side of each cell.
    params : FitParams
    run : Path
        Gets `members/<architecture>.weights.h5`, `<architecture>.csv` (a row per epoch) and
        `<architecture>.npy` ((N,) float32, p_all of every cell).
    trunks : path, "imagenet" or None
        Folder with `<architecture>_notop.weights.h5`; an architecture without a file there starts from scratch.

    Raises
    ------
    InputError
        If a trunk's weights are damaged, not finite or of another network, or Keras's own can't be fetched; if a
        checkpoint is damaged; if the training diverges; if memory does not hold even one cell.
    OutputError
        If the disk is full or can't be written; the same call goes on from there.
    """
    with _writable(run):
        (run / "members").mkdir(parents=True, exist_ok=True)
    files = {
        m: (run / f"{m.architecture}.npy", run / "members" / f"{m.architecture}.weights.h5") for m in params.members
    }
    if not all(path.exists() for both in files.values() for path in both):
        _normalise(cells.crops, params.stain_normalisation)  # minutes, for nothing where all are trained
    for k, (spec, (predictions, member)) in enumerate(files.items(), 1):
        if predictions.exists() and member.exists():
            log.info("%s: trained already", spec.architecture)
            continue
        log.info("%s: member %d of %d", spec.architecture, k, len(params.members))
        checkpoint = run / f"{spec.architecture}.checkpoint.npz"
        log_file = run / f"{spec.architecture}.csv"
        network, history = _fit_in_memory(cells, split, spec, params, trunk_weights(trunks, spec), checkpoint, log_file)
        p_all = predict_p_all(network, cells.crops, spec)
        side = split == "validation"
        _warn_if_other(spec, auc(cells.is_all[side], p_all[side]), history)
        with _writable(run):
            save_half_precision(network, member)
            write_history(log_file, history)
            # Last, and whole or not at all: it says that the member is complete.
            with written_atomically(predictions) as file:
                np.save(file, p_all)
            checkpoint.unlink(missing_ok=True)


def _warn_if_other(spec: MemberSpec, finished: float, history: Sequence[Mapping[str, float]]) -> None:
    """Log if a finished member, in fp32 and rounded, has another validation AUC than the epoch that was kept."""
    kept = max(row["auc"] for row in history)
    if abs(finished - kept) > SAME_AUC:
        log.warning(
            "%s: validation AUC %.3f, but %.3f while it was trained, by which its epoch was kept: its probabilities "
            "are so close that rounding orders them; most likely it has learned nothing",
            *(spec.architecture, finished, kept),
        )


def _normalise(crops: NDArray[np.uint8], method: str | None) -> None:
    """Normalise the stain of crops in place."""
    if method is None:
        return
    telling = Telling(log, "normalising the stain of cells", len(crops))
    for start in range(0, len(crops), AT_ONCE):
        few = crops[start : start + AT_ONCE]
        few[:] = normalise_stain(few, method)
        telling.reach(start + len(few))


@contextmanager
def _writable(run: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an OutputError that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise OutputError(
            f"{run}: can't be written ({reason}); make room, then go on with the same `all-detect-train fit`"
        ) from error


def _fit_in_memory(
    cells: Cells,
    split: NDArray[np.str_],
    spec: MemberSpec,
    params: FitParams,
    weights: str | Path | None,
    checkpoint: Path,
    log_file: Path,
) -> tuple[Any, list[dict[str, float]]]:
    """Train one member; where memory runs out, go on after its last whole epoch with half the batch."""
    if checkpoint.exists():
        # Halved already, perhaps, before the fit was interrupted.
        params = replace(params, batch_size=saved_batch_size(checkpoint))
    while True:
        try:
            return fit_member(cells, split, spec, params, weights, checkpoint, log_file)
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            if params.batch_size == 1:
                raise no_memory_for_one(spec) from error
        params = replace(params, batch_size=params.batch_size // 2)
        log.warning("%s: out of memory; goes on with batches of %d", spec.architecture, params.batch_size)


def fit_member(
    cells: Cells,
    split: NDArray[np.str_],
    spec: MemberSpec,
    params: FitParams,
    weights: str | Path | None,
    checkpoint: Path,
    log_file: Path,
) -> tuple[Any, list[dict[str, float]]]:
    """Train one member.

    Parameters
    ----------
    cells : Cells
        With the stain normalised, if it is to be.
    split : (N,) str
        The side of each cell: those of `train` and `validation` take part.
    spec : MemberSpec
    params : FitParams
    weights : str, Path or None
        What the trunk starts from, by `starting.trunk_weights`.
    checkpoint : Path
        Written anew after each epoch. Where it is there, training goes on after its last epoch, with the same figures
        as if it had never stopped (on a GPU, whose sums have no fixed order, with about the same); with another batch
        size the rate goes on at the same place of its cycle.
    log_file : Path
        A CSV that has a row more after each epoch.

    Returns
    -------
    network : keras.Model
        With the weights of the best epoch by validation AUC, in half precision.
    history : list of dict
        For each epoch its number, loss, batch size, the rate at its end, and figures on the validation cells.

    Raises
    ------
    InputError
        If the checkpoint or the trunk's weights can't be used, or the training diverges.
    OutputError
        If the disk is full or can't be written.
    """
    import keras

    keras.utils.set_random_seed(params.seed)
    rng = np.random.default_rng(params.seed)
    train, validation = np.flatnonzero(split == "train"), cells[split == "validation"]
    updates = -(-len(_epoch(cells, train, params, rng)) // params.batch_size)
    network = compiled_network(spec, params, weights, updates)
    progress = Progress(network.get_weights(), [])
    if checkpoint.exists():
        progress = load_checkpoint(checkpoint, network, rng)
        if progress.history[-1]["batch_size"] != params.batch_size:
            network.optimizer.iterations.assign(len(progress.history) * updates)
        log.info("%s: goes on after epoch %d", spec.architecture, len(progress.history))
    epochs, began = epochs_at_most(params, spec), time.monotonic()
    first = len(progress.history)
    while len(progress.history) < epochs and not _has_stopped(progress.history, params.patience):
        loss = _train_epoch(network, cells, _epoch(cells, train, params, rng), spec, params, rng)
        p_all, epoch = predict_p_all(network, validation.crops, spec), len(progress.history) + 1
        _refuse_divergence(network, spec, params, epoch, loss, p_all)
        figures = member_figures(validation.is_all, p_all)
        rate = float(network.optimizer.learning_rate)
        row = {"epoch": epoch, "loss": loss, "batch_size": params.batch_size, "rate": rate, **figures}
        is_best = all(row["auc"] >= earlier["auc"] for earlier in progress.history)
        progress = Progress(network.get_weights() if is_best else progress.best, [*progress.history, row])
        save_checkpoint(checkpoint, network, rng, progress)
        with _writable(log_file.parent):
            write_history(log_file, progress.history)
        done = len(progress.history)
        left = timedelta(seconds=round((time.monotonic() - began) / (done - first) * (epochs - done)))
        shown = {name: value if isinstance(value, int) else float(f"{value:.4g}") for name, value in row.items()}
        log.info("%s: %s, %s left of this member", spec.architecture, shown, left)
    final = build_network(spec.architecture, spec.input_size, spec.cut)
    final.set_weights(progress.best)
    round_to_half(final)
    return final, progress.history


def _refuse_divergence(
    network: Any, spec: MemberSpec, params: FitParams, epoch: int, loss: float, p_all: NDArray[np.float32]
) -> None:
    """Raise InputError if the loss, a weight, or what the member says of a validation cell is no finite number."""
    lost = np.count_nonzero(~np.isfinite(p_all))
    # Rectifiers may turn NaN into 0: then loss and probabilities look sound.
    lost_weights = sum(np.count_nonzero(~np.isfinite(w)) for w in network.get_weights())
    if np.isfinite(loss) and not lost and not lost_weights:
        return
    rate = spec.rate * params.highest_rate
    raise InputError(
        f"{spec.architecture}: diverged in epoch {epoch}, at rates of up to {rate:g} (loss {loss:g}, no finite P(ALL) "
        f"for {lost} of {len(p_all)} validation cells, {lost_weights} weights not finite); "
        "lower highest_rate or the member's rate in a file for --preset (`all-detect-train preset` prints one), and "
        "train into a new folder; the epochs before are kept"
    )


def _has_stopped(history: list[dict[str, float]], patience: int | None) -> bool:
    """Return whether so many epochs in a row brought no better validation AUC."""
    if patience is None or len(history) <= patience:
        return False
    best = max(range(len(history)), key=lambda i: (history[i]["auc"], -i))
    return len(history) - 1 - best >= patience


def _epoch(cells: Cells, train: NDArray[np.intp], params: FitParams, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw the cells of one epoch, both classes alike."""
    return train[oversample(cells.is_all[train], rng)][: params.cells_per_epoch]


def _train_epoch(
    network: Any,
    cells: Cells,
    order: NDArray[np.intp],
    spec: MemberSpec,
    params: FitParams,
    rng: np.random.Generator,
) -> float:
    """Show every index once, augmented; return the mean loss."""
    mode = ARCHITECTURES[spec.architecture].preprocessing
    classes = np.eye(2, dtype=np.float32)[cells.is_all.astype(int)]
    losses = []
    telling = Telling(log, f"{spec.architecture}: cells of this epoch", len(order))
    for start in range(0, len(order), params.batch_size):
        batch = order[start : start + params.batch_size]
        moves = random_transforms(
            len(batch),
            params.crop_size,
            rng,
            rotation_degrees=params.rotation_degrees,
            zoom=params.zoom,
            shift=params.shift,
        )
        crops = jitter_stain(cells.crops[batch], params.stain_jitter, rng)
        pixels = preprocess(augment(crops, moves), spec.input_size, mode)
        losses.append(network.train_on_batch(pixels, classes[batch]))
        network.reset_metrics()
        telling.reach(start + len(batch))
    return float(np.mean(losses))
