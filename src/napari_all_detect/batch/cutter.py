"""The program of a process that finds cells: `python -m napari_all_detect.batch.cutter`, started by `cutting.py`.

Planes come as pickles; it ends when its input does, and with it the run that asks.
"""

import pickle

from napari_all_detect.batch.steps import cut_unit
from napari_all_detect.piped import own_pipes, send

__all__ = ["serve"]


def serve() -> None:
    """Cut the planes that come, until no more can come."""
    requests, replies = own_pipes()
    while True:
        try:
            job, unit = pickle.load(requests)
        except EOFError:
            return
        send(replies, cut_unit(job, unit))


if __name__ == "__main__":
    serve()
