"""Weights on disk: Keras's own HDF5 layout, in half precision."""

from pathlib import Path
from typing import Any

import numpy as np

from napari_all_detect.errors import InputError

__all__ = ["round_to_half", "save_half_precision"]

LARGEST_HALF = float(np.finfo(np.float16).max)


def round_to_half(network: Any) -> None:
    """Round a network's weights to what half precision can hold, in place: what is measured is then what ships.

    Raises
    ------
    InputError
        If a weight is too large for it, or no number.
    """
    network.set_weights([_half(w, network.name).astype(w.dtype) for w in network.get_weights()])


def save_half_precision(network: Any, path: Path) -> None:
    """Write a `.weights.h5` file whose arrays are float16; `load_weights` of the network reads it.

    Raises
    ------
    InputError
        If a weight is too large for half precision, or no number.
    """
    import h5py

    network.save_weights(path)
    halves = path.with_suffix(".half")
    with h5py.File(path) as source, h5py.File(halves, "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                values = item[()]
                values = _half(values, path.name) if values.dtype.kind == "f" else values
                # No time stamps, so that the same weights give the same bytes and digest.
                target.create_dataset(name, data=values, track_times=False)
            else:
                # Without the attributes: they are layer names, of which Keras counts some up over the whole process,
                # and which it does not read.
                target.require_group(name)

        source.visititems(copy)
    halves.replace(path)


def _half(values: Any, name: str) -> Any:
    values = np.asarray(values)
    largest = np.abs(values).max(initial=0.0)
    # Asked this way round, as NaN is not larger than anything.
    if not largest <= LARGEST_HALF:
        raise InputError(
            f"{name}: a weight of {largest:g} does not fit half precision (+-{LARGEST_HALF:g}): the training diverged; "
            "train at a lower rate"
        )
    return values.astype(np.float16)
