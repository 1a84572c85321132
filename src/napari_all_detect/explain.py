"""Where in a cell the networks see signs of ALL: Grad-CAM of every member and of the ensemble.

Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV 2017;
Mondal et al. (2021), Fig. 6 to 8.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_all_detect.bundle import Bundle, Member, load_bundle
from napari_all_detect.engines.keras import choose_device, load_member
from napari_all_detect.engines.keras_program import computing_in
from napari_all_detect.errors import InputError
from napari_all_detect.networks import preprocess
from napari_all_detect.stain import normalise_stain

__all__ = ["GradCam", "grad_cam"]

BATCH_SIZE = 32


@dataclass(frozen=True)
class GradCam:
    """Heat maps of cells.

    Attributes
    ----------
    members : (N, M, s, s) float32
        For each cell and member, in the bundle's order: 1 where the evidence for ALL is strongest in this cell, 0
        where there is none or it speaks against. All 0 if nothing in the cell speaks for ALL.
    ensemble : (N, s, s) float32
        The weighted sum of the members' maps, divided by its maximum.
    """

    members: NDArray[np.float32]
    ensemble: NDArray[np.float32]


def grad_cam(bundle: Bundle, crops: NDArray[np.uint8], weights: ArrayLike, *, device: str = "auto") -> GradCam:
    """Show which parts of each crop raise P(ALL).

    A member's map is ReLU(sum_c a_c A_c): A_c are the channels of its last feature map, a_c the mean over the map of
    the gradient of log(P(ALL) / P(Hem)) by A_c. These log-odds are the difference of two outputs of a dense layer on
    the mean of A, so that a_c is the difference of the layer's weights of channel c over the number of places: the
    gradient is known without being computed, on any backend. Either output alone would also show what moves both,
    which changes no probability.

    Parameters
    ----------
    bundle : Bundle
    crops : (N, s, s, 3) uint8
        Cells on black; s is the bundle's crop size. If the bundle normalises the stain, so does this.
    weights : (M,) float
        Of the members in the ensemble's map, as in Eq. 2; their scale does not matter.
    device : {"auto", "cpu", "gpu"}

    Returns
    -------
    maps : GradCam

    Raises
    ------
    InputError
        If the crops are not uint8 of the bundle's size, or the weights not a number from 0 on for each member.
    BundleError, MissingDependencyError
        If weights do not fit their architecture, or there is no such device.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_all_detect import load_bundle
    >>> maps = grad_cam(load_bundle("lite"), np.zeros((2, 56, 56, 3), np.uint8), [1, 1, 1, 1, 1])
    >>> maps.members.shape, maps.ensemble.shape
    ((2, 5, 56, 56), (2, 56, 56))
    """
    manifest = bundle.manifest
    size, n_members = manifest.crop.size, len(manifest.members)
    crops, weights = np.asarray(crops), np.asarray(weights, np.float64)
    if crops.dtype != np.uint8:
        raise InputError(f"crops are {crops.dtype}; expected uint8, as center_crop cuts them")
    if crops.shape[1:] != (size, size, 3):
        raise InputError(f"crops of shape {crops.shape[1:]}; bundle {bundle.label} takes ({size}, {size}, 3)")
    if weights.shape != (n_members,):
        raise InputError(f"{weights.size} weights; expected one for each of {n_members} members")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise InputError(f"weights are {weights.tolist()}; expected numbers from 0 on")
    seen = normalise_stain(crops, manifest.crop.stain_normalisation)
    members = _to_unit_range(_maps(bundle, seen, choose_device(device)))
    ensemble = np.einsum("m,nmyx->nyx", weights, members, dtype=np.float64)
    return GradCam(members, _to_unit_range(ensemble))


def _maps(bundle: Bundle, crops: NDArray[np.uint8], device: str) -> NDArray[np.float32]:
    """Return the maps at the crops' size, (N, M, s, s), not negative."""
    import keras

    size = bundle.manifest.crop.size
    nothing = np.zeros((0, len(bundle.manifest.members), size, size), np.float32)
    batches = [crops[start : start + BATCH_SIZE] for start in range(0, len(crops), BATCH_SIZE)]
    # Without a number, which would be another device than the default one to PyTorch.
    with keras.device(device):
        graph = _graph(bundle.folder, bundle.digest, device)
        maps = [keras.ops.convert_to_numpy(graph(batch)) for batch in batches]
    return np.concatenate([nothing, *maps])


@lru_cache(maxsize=1)
def _graph(folder: Path, digest: str, device: str) -> Any:
    """Join the members: uint8 crops in, maps out. Kept, so that a click on the next cell need not build it again."""
    import keras

    bundle = load_bundle(folder)
    size = bundle.manifest.crop.size
    with computing_in("fp32"):
        crops = keras.Input((size, size, 3), dtype="uint8", name="crops")
        maps = [_member_map(bundle, member, crops) for member in bundle.manifest.members]
        return keras.Model(crops, keras.ops.stack(maps, axis=1), name="grad_cam")


def _member_map(bundle: Bundle, member: Member, crops: Any) -> Any:
    """Return one member's map of the crops, (N, s, s)."""
    import keras

    network = load_member(bundle, member)
    features = keras.Model(network.input, network.get_layer("pool").input)
    hem, all_ = network.get_layer("logits").get_weights()[0].T
    pixels = preprocess(crops, member.input_size, member.preprocessing)
    heat = keras.ops.relu(keras.ops.matmul(features(pixels), (all_ - hem)[:, None]))
    size = bundle.manifest.crop.size
    return keras.ops.image.resize(heat, (size, size), interpolation="bilinear", data_format="channels_last")[..., 0]


def _to_unit_range(maps: NDArray[np.floating]) -> NDArray[np.float32]:
    """Divide each (..., s, s) map by its maximum; one of zeros stays as it is."""
    highest = maps.max(axis=(-2, -1), keepdims=True, initial=0.0)
    return np.asarray(np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0), np.float32)
