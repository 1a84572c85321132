"""What runs the networks."""

from napari_all_detect.engines.base import Engine, Progress, open_engine

__all__ = ["Engine", "Progress", "open_engine"]
