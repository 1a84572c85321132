"""Building the engine that is taken."""

from napari_all_detect.bundle import Bundle, SegmenterBundle
from napari_all_detect.engines.base import Mapper, MemberEngine
from napari_all_detect.engines.checked import CheckedEngine
from napari_all_detect.engines.choice import choose, takes_openvino
from napari_all_detect.params import ScoreParams

__all__ = ["open_engine", "open_mapper"]


def open_engine(bundle: Bundle, params: ScoreParams) -> MemberEngine:
    """Build the engine that the parameters ask for; its `predict` raises a `BundleError` if a member gives no number.

    Raises
    ------
    MissingDependencyError
        If a GPU or OpenVINO is asked for and can't be used.
    ParameterError
        If engine, device and precision don't go together.
    BundleError
        If the members' weights do not fit their architecture, or int8 is asked for and the bundle was not tuned.
    """
    choice = choose(bundle, params)
    if choice.engine == "openvino":
        from napari_all_detect.engines.openvino import OpenVinoEngine

        return CheckedEngine(OpenVinoEngine(bundle, choice.precision), bundle)
    from napari_all_detect.engines.keras import KerasEngine

    return CheckedEngine(KerasEngine(bundle, params.device, params.batch_size, choice.precision), bundle)


def open_mapper(bundle: SegmenterBundle, device: str = "auto", engine: str = "auto") -> Mapper:
    """Build what runs a segmenter's network.

    Raises
    ------
    MissingDependencyError
        If a GPU or OpenVINO is asked for and can't be used.
    ParameterError
        If a GPU is asked of OpenVINO.
    BundleError
        If the weights do not fit the network.
    """
    if takes_openvino(engine, device):
        from napari_all_detect.engines.openvino_unet import OpenVinoMapper

        return OpenVinoMapper(bundle)
    from napari_all_detect.engines.keras_unet import KerasMapper

    return KerasMapper(bundle, device)
