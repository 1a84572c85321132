"""The program of a process that finds cells: `python -m napari_all_detect.batch.cutter`, started by `cutting.py`.

Planes come as pickles on standard input, replies go out on what was standard output; it ends when its input does, and
with it the run that asks.
"""

import os
import pickle
import sys

from napari_all_detect.batch.unit import cut_unit

__all__ = ["serve"]


def serve() -> None:
    """Cut the planes that come, until no more can come."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the replies
    while True:
        try:
            job, unit = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(cut_unit(job, unit), replies, protocol=pickle.HIGHEST_PROTOCOL)
        replies.flush()


if __name__ == "__main__":
    serve()
