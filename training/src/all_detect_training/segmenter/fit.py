"""Train the U-Net on composed scenes."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from all_detect_training.compiling import compile_network
from all_detect_training.segmenter.scenes import Scenes
from all_detect_training.segmenter.stains import as_seen, restain
from all_detect_training.weights import round_to_half
from napari_all_detect.engines.keras_program import computing_in
from napari_all_detect.unet import build_unet

__all__ = ["SegmenterParams", "fit_segmenter"]

log = logging.getLogger(__name__)
LOG_EVERY = 200


@dataclass(frozen=True)
class SegmenterParams:
    """How a segmenter is trained.

    Attributes
    ----------
    widths : tuple of int
        Feature maps at each resolution of the U-Net.
    cell_diameter_px : float
        To which cells are resized before the network sees them.
    n_scenes, patch_px, batch_size, steps : int
        Scenes composed; side of the patches cut out of them; patches in a step; steps.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises over the first 100 steps, then falls to 0 along a cosine.
    seed : int
    """

    widths: tuple[int, ...] = (24, 48, 96, 128)
    cell_diameter_px: float = 40.0
    n_scenes: int = 12000
    patch_px: int = 96
    batch_size: int = 16
    steps: int = 10000
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    seed: int = 2021


@computing_in("fp32")
def fit_segmenter(scenes: Scenes, params: SegmenterParams) -> Any:
    """Train a network and return it as it will run: any image size, weights rounded to half precision."""
    import keras

    keras.utils.set_random_seed(params.seed)
    network = build_unet(params.widths, (params.patch_px, params.patch_px))
    optimizer = keras.optimizers.AdamW(params.learning_rate, weight_decay=params.weight_decay)
    compile_network(network, optimizer, _loss)
    losses = []
    for step, batch in enumerate(_batches(scenes, params)):
        optimizer.learning_rate = params.learning_rate * _rate(step, params.steps)
        losses.append(float(network.train_on_batch(*batch)))
        network.reset_metrics()
        if (step + 1) % LOG_EVERY == 0:
            log.info("step %d of %d: loss %.4f", step + 1, params.steps, np.mean(losses[-LOG_EVERY:]))
    final = build_unet(params.widths)
    final.set_weights(network.get_weights())
    round_to_half(final)
    return final


def _rate(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / 100)
    return float(warm * 0.5 * (1 + np.cos(np.pi * step / steps)))


def _batches(scenes: Scenes, params: SegmenterParams) -> Iterator[tuple[Any, Any]]:
    """Yield a batch for each step; the next one is made while the network learns from this one."""
    rng = np.random.default_rng(params.seed)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(_batch, scenes, params, rng)
        for _ in range(params.steps):
            batch, coming = coming.result(), pool.submit(_batch, scenes, params, rng)
            yield batch


def _batch(scenes: Scenes, params: SegmenterParams, rng: np.random.Generator) -> tuple[Any, Any]:
    """Cut patches out of random scenes, turned, mirrored and restained alike."""
    picks = rng.integers(0, len(scenes.rgb), params.batch_size)
    y, x = rng.integers(0, scenes.rgb.shape[1] - params.patch_px + 1, 2)
    turns, mirror = int(rng.integers(4)), 1 - 2 * int(rng.integers(2))
    rgb, truth = (
        np.rot90(a[picks, y : y + params.patch_px, x : x + params.patch_px], turns, (1, 2))[:, :, ::mirror]
        for a in (scenes.rgb, scenes.truth)
    )
    return as_seen(restain(rgb, rng)), truth.astype(np.float32) / 255


def _loss(truth: Any, logits: Any) -> Any:
    """Add up cross-entropy and Dice of cells and nuclei, and the error of the depth, where the truth is known."""
    from keras import ops

    size = ops.shape(truth)[1], ops.shape(truth)[2]
    logits = ops.image.resize(logits, size, interpolation="bilinear", data_format="channels_last")
    known = truth[..., 3]
    total = 0.0
    for channel in (0, 1):
        target, logit = truth[..., channel], logits[..., channel]
        # log(1 + exp(-|x|)) does not overflow.
        entropy = ops.relu(logit) - logit * target + ops.log1p(ops.exp(-ops.abs(logit)))
        total += ops.sum(entropy * known) / (ops.sum(known) + 1)
        found, drawn = ops.sigmoid(logit) * known, target * known
        overlap = 2 * ops.sum(found * drawn, axis=(1, 2)) + 20
        total += 0.5 * ops.mean(1 - overlap / (ops.sum(found, axis=(1, 2)) + ops.sum(drawn, axis=(1, 2)) + 20))
    error = ops.abs(ops.sigmoid(logits[..., 2]) - truth[..., 2])
    return total + 2 * ops.sum(error * known) / (ops.sum(known) + 1)
