"""PyTorch, in a process of its own: in one with TensorFlow it crashes, as each brings an LLVM."""

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.voting import votes
from napari_all_detect.bundle import Member


class TorchPeer:
    """Networks made over from ONNX, which give what Keras's do.

    Parameters
    ----------
    members : sequence of Member
    files : sequence of Path
        The members' networks as ONNX.
    """

    def __init__(self, members: Sequence[Member], files: Sequence[Path]) -> None:
        environment = os.environ | {"KERAS_BACKEND": "torch"}
        command = [sys.executable, "-m", "benchmarks.torch_peer"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._ask((list(members), list(files)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def predict(self, crops: np.ndarray) -> np.ndarray:
        """Return the members' probabilities, (N, M, 2)."""
        return np.asarray(self._ask(crops))

    def processor_s(self) -> float:
        """Return the seconds of the processor that all threads took until now."""
        import psutil

        taken = psutil.Process(self._process.pid).cpu_times()
        return float(taken.user + taken.system)

    def _ask(self, question: Any) -> Any:
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None  # noqa: S101
        assert replies is not None  # noqa: S101
        pickle.dump(question, requests)
        requests.flush()
        return pickle.load(replies)


def serve() -> None:
    """Make the networks over, then answer crops with probabilities until no more come."""
    # Before Keras: what it imports otherwise would bring TensorFlow's LLVM first.
    import onnx
    import onnx2torch
    import torch

    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the replies
    members, files = pickle.load(requests)
    networks = [onnx2torch.convert(onnx.load(file)).eval() for file in files]

    @torch.inference_mode()
    def logits(k: int, pixels: np.ndarray) -> np.ndarray:
        return np.asarray(networks[k](torch.from_numpy(pixels)))

    answer: Any = "ready"
    while True:
        pickle.dump(answer, replies)
        replies.flush()
        try:
            crops = pickle.load(requests)
        except EOFError:
            return
        answer = votes(members, logits, crops)


if __name__ == "__main__":
    serve()
