"""Which engine runs the networks, and in which precision."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from napari_all_detect.bundle import Bundle
from napari_all_detect.engines.openvino_runtime import computes_in_bf16, has_openvino, processor
from napari_all_detect.engines.precision import fastest_that_agrees, in_each, read_tuning
from napari_all_detect.errors import BundleError, ParameterError
from napari_all_detect.params import ScoreParams

__all__ = ["Choice", "choose", "takes_openvino"]

DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Of GPUs: NVIDIA's, AMD's, and Windows's as its Linux sees it."""


@dataclass(frozen=True)
class Choice:
    """What runs the networks, in which precision, and why in that one.

    Attributes
    ----------
    engine : {"keras", "openvino"}
    precision : str
        One of `napari_all_detect.params.PRECISIONS`, or one for each member, joined by commas.
    why : str
    calibration : str
        Digest of the cells that int8 networks were calibrated on; empty without int8.
    """

    engine: str
    precision: str
    why: str
    calibration: str = ""


def choose(bundle: Bundle, params: ScoreParams) -> Choice:
    """Settle what the parameters leave open.

    Raises
    ------
    BundleError
        If int8 is asked for and the bundle was not tuned.
    ParameterError
        If the engine, the device and the precision asked for don't go together.
    MissingDependencyError
        If a GPU is asked for and there is none; where nothing needs to know, opening the engine finds that out.
    """
    engine = "openvino" if takes_openvino(params.engine, params.device) else "keras"
    if params.precision != "auto":
        _check(bundle, engine, params.precision)
        precision, why = params.precision, "asked for"
    else:
        precision, why = _enough(bundle, params, engine)
    tuning = read_tuning(bundle) if "int8" in precision else None
    return Choice(engine, precision, why, tuning.calibration if tuning else "")


def takes_openvino(engine: str, device: str) -> bool:
    """Return whether OpenVINO runs the networks: on a processor, where it is installed, unless Keras is asked for.

    Raises
    ------
    ParameterError
        If a GPU is asked of OpenVINO.
    """
    if engine == "openvino" and device == "gpu":
        raise ParameterError("engine is 'openvino' and device 'gpu'; expected device cpu, or engine keras for a GPU")
    if engine != "auto":
        return engine == "openvino"
    return device != "gpu" and has_openvino() and (device == "cpu" or not _has_gpu())


def _has_gpu() -> bool:
    """Return whether Keras sees a GPU. It isn't even imported where there is no driver of one, to start at once."""
    if not any(Path(name).exists() for name in DRIVERS) and shutil.which("nvidia-smi") is None:
        return False
    from napari_all_detect.engines.keras import choose_device

    return choose_device("auto") == "gpu"


def _check(bundle: Bundle, engine: str, precision: str) -> None:
    """Refuse a precision that can't be had."""
    given, n_members = in_each(precision, len(bundle.manifest.members)), len(bundle.manifest.members)
    if len(given) != n_members:
        raise ParameterError(f"precision is {precision!r}; expected one, or one for each of {n_members} members")
    if engine == "keras" and "int8" in given:
        raise ParameterError(f"precision is {precision!r} and the engine Keras; expected fp32, bf16, or openvino")
    if "int8" in given and read_tuning(bundle) is None:
        raise BundleError(
            f"bundle {bundle.label} has no int8 networks yet; make them from images of yours: "
            f"all-detect bundles tune {bundle.manifest.name} IMAGES"
        )
    if "bf16" in given and engine == "openvino" and not computes_in_bf16():
        raise ParameterError(
            f"precision is {precision!r}, but {processor()} does not compute in bf16; expected auto or fp32"
        )


def _enough(bundle: Bundle, params: ScoreParams, engine: str) -> tuple[str, str]:
    """Return the precision that was found to be enough, here or when the bundle was made, or fp32; and why.

    Whatever the threshold and the error rate: moving them must not change a probability.
    """
    by_openvino, own = engine == "openvino", bundle.manifest.ensemble.weighting
    rounded = bundle.manifest.bf16 if by_openvino else None
    tuning, unread = None, ""
    try:
        tuning = read_tuning(bundle, "cpu" if by_openvino else "gpu")
    except BundleError as error:
        unread = str(error)
    if tuning is not None and tuning.processor == _runs_on(engine, params.device):
        best = fastest_that_agrees(tuning)
        precision, same = best.precision, f"{best.agreement.same_calls:.2%} of {tuning.cells} when tuned"
        why = f"the fastest that calls 999 of 1,000 cells as fp32 does: {same}"
    elif rounded is not None and computes_in_bf16():
        precision = rounded.precision
        why = f"the bundle's own: {rounded.same_calls:.2%} of {rounded.n} cells called as in fp32"
        why = f"{why}; {unread}" if unread else why
    elif not by_openvino and params.device == "cpu":
        return "fp32", "Keras computes in fp32 on a processor unless bf16 is asked for"
    elif tuning is not None:
        return "fp32", f"tuned on another {'processor' if by_openvino else 'device'}: {tuning.processor}"
    else:
        where = "" if by_openvino else " on a GPU"
        return "fp32", unread or f"not tuned; `all-detect bundles tune`{where} finds out whether less is enough"
    if params.weighting not in (None, own):
        return "fp32", f"less was measured with the bundle's own weighting alone, {own}"
    return precision, why


def _runs_on(engine: str, device: str) -> str:
    """Return what the networks run on, in the words of `Tuning.processor`. Keras is tuned for no processor."""
    if engine == "openvino":
        return processor()
    from napari_all_detect.engines.keras import choose_device, gpu_name

    return gpu_name() if choose_device(device) == "gpu" else ""
