"""What runs the networks."""

from napari_all_detect.engines.base import Engine, Mapper, MemberEngine, Progress
from napari_all_detect.engines.choice import Choice, choose
from napari_all_detect.engines.opening import open_engine, open_mapper
from napari_all_detect.engines.precision import in_each

__all__ = ["Choice", "Engine", "Mapper", "MemberEngine", "Progress", "choose", "in_each", "open_engine", "open_mapper"]
