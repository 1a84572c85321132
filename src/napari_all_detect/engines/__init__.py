"""What runs the networks."""

from napari_all_detect.engines.base import Engine, Mapper, Progress, open_engine, open_mapper

__all__ = ["Engine", "Mapper", "Progress", "open_engine", "open_mapper"]
