"""OpenVINO, imported in one place."""

import os
import sys
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from napari_all_detect.errors import AllDetectError, MissingDependencyError

__all__ = [
    "check_keras",
    "check_not_forked",
    "compile_network",
    "computes_in_bf16",
    "engine_name",
    "has_openvino",
    "import_openvino",
    "openvino_version",
    "processor",
]


KERAS = (3, 15)
"""The oldest that makes networks over; the extra `openvino` asks for it."""


def has_openvino() -> bool:
    """Return whether OpenVINO is installed, and a Keras that makes networks over for it; imports neither."""
    return find_spec("openvino") is not None and _keras_version() >= KERAS


def check_keras() -> None:
    """Refuse a Keras that can't make networks over.

    Raises
    ------
    MissingDependencyError
        If it is too old.
    """
    if _keras_version() < KERAS:
        raise MissingDependencyError(
            f"Keras {version('keras')} can't make networks over for OpenVINO; expected {KERAS[0]}.{KERAS[1]} or later: "
            "pip install 'napari-all-detect[openvino]', or take engine keras"
        )


def _keras_version() -> tuple[int, ...]:
    return tuple(int(number) for number in version("keras").split(".")[:2])


def import_openvino() -> Any:
    """Import OpenVINO without what it, and NNCF, would tell their makers of each use.

    Raises
    ------
    MissingDependencyError
        If it isn't installed.
    """
    # Both do without where it can't be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            f"OpenVINO can't be imported ({error}); pip install 'napari-all-detect[openvino]'"
        ) from error
    return openvino


def openvino_version() -> str:
    """Return the number of OpenVINO's version, without its build."""
    return str(import_openvino().__version__).split("-", 1)[0]


def engine_name() -> str:
    """Return what runs a network, for records."""
    return f"openvino {openvino_version()}"


def processor() -> str:
    """Return the processor's name."""
    return str(import_openvino().Core().get_property("CPU", "FULL_DEVICE_NAME")).strip()


def computes_in_bf16() -> bool:
    """Return whether the processor has instructions for bf16."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def check_not_forked() -> None:
    """Refuse to compute in a fork of a process that computes: its threads are not there, so it would wait for ever.

    Raises
    ------
    AllDetectError
        If a process that called this before was forked into this one.
    """
    if os.getpid() != _first_process():
        raise AllDetectError(
            "this process was forked from one that had networks open in OpenVINO, whose threads a fork lacks; start "
            "processes by multiprocessing.get_context('spawn'), or score by score_batch, which starts its own"
        )


@cache
def _first_process() -> int:
    """Return the process that asked first; forks inherit the answer."""
    return os.getpid()


def compile_network(network: Any, floats: str, threads: int, streams: int) -> Any:
    """Compile a network for the processor.

    Parameters
    ----------
    network : openvino.Model
    floats : str
        What it computes in where it isn't quantised: `f32` or `bf16`.
    threads, streams : int
        Threads, and the inferences that they are divided among.
    """
    settings = {"INFERENCE_PRECISION_HINT": floats, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams}
    # Pinned, the first stream of every network, and of every process, stands on the same core while others idle.
    return import_openvino().Core().compile_model(network, "CPU", {**settings, "ENABLE_CPU_PINNING": False})
