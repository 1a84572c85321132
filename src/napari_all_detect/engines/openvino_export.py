"""A bundle's networks as OpenVINO files: `python -m napari_all_detect.engines.openvino_export KIND BUNDLE OUT`.

It is a process of its own because it runs on Keras's OpenVINO backend, and which one that is holds for the whole of a
process. TensorFlow would take longer to load, and to trace the networks, than all the rest, and keep its memory.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_all_detect.bundle import Bundle, SegmenterBundle, load_bundle, load_segmenter
from napari_all_detect.engines.keras_program import computing_in
from napari_all_detect.engines.openvino_runtime import import_openvino
from napari_all_detect.errors import BundleError
from napari_all_detect.unet import multiple_of

__all__ = ["DAMAGED", "GRAPH_VERSION", "export_members", "export_segmenter", "main"]

GRAPH_VERSION = 3
"""Of what is built here: files of another one are made anew."""

DAMAGED = 3
"""Exit status if it's the bundle's fault; the reason is on standard output."""


def export_members(bundle: Bundle, out: Path) -> None:
    """Write the graphs of the Keras engine, one for each member, as `<name>.xml` and `<name>.bin`.

    Raises
    ------
    BundleError
        If weights do not fit the architecture that the manifest names.
    """
    from napari_all_detect.engines.keras import load_member, member_graph

    for member in bundle.manifest.members:
        network = _channels_first(load_member(bundle, member))
        _write(member_graph(bundle, member, network), out / f"{member.name}.xml")


def export_segmenter(bundle: SegmenterBundle, out: Path) -> None:
    """Write the graph of the Keras mapper; as `export_members` otherwise."""
    from napari_all_detect.engines.keras_unet import load_unet, maps_graph

    # Keras exports no open sides.
    side = 2 * multiple_of(bundle.manifest.network.widths)
    graph = maps_graph(bundle, _channels_first(load_unet(bundle)), side)
    _write(graph, out / f"{bundle.manifest.name}.xml", open_sides=True)


def _channels_first(network: Any) -> Callable[[Any], Any]:
    """Return a network of channels-last pixels that computes channels first, as OpenVINO does.

    Else each layer would come with two transpositions, most of which stay.
    """
    import keras

    def turned(layer: Any) -> Any:
        config = layer.get_config()
        if "data_format" in config:
            config["data_format"] = "channels_first"
        if config.get("axis") in (-1, 3):
            config["axis"] = 1
        return layer.__class__.from_config(config)

    height, width, channels = network.input_shape[1:]
    twin = keras.models.clone_model(
        network,
        input_tensors=keras.Input((channels, height, width), dtype=network.input.dtype),
        clone_function=turned,
    )
    twin.set_weights(network.get_weights())

    def run(pixels: Any) -> Any:
        found = twin(keras.ops.transpose(pixels, (0, 3, 1, 2)))
        return keras.ops.transpose(found, (0, 2, 3, 1)) if len(found.shape) == 4 else found

    return run


def _write(graph: Any, path: Path, open_sides: bool = False) -> None:
    """Write a Keras graph with its constants folded and its batch normalisations merged into convolutions."""
    ov = import_openvino()
    from openvino._offline_transformations import apply_moc_transformations

    raw = path.with_suffix(".raw.xml")
    graph.export(str(raw), format="openvino", verbose=False)
    model = ov.Core().read_model(raw)
    if open_sides:
        _open_sides(model)
    apply_moc_transformations(model, cf=True)
    ov.save_model(model, path, compress_to_fp16=False)
    del model
    raw.unlink()
    raw.with_suffix(".bin").unlink()


def _open_sides(model: Any) -> None:
    """Let an image be of any height and width; Keras wrote those at export into its transposed convolutions."""
    from openvino.opset13 import convolution_backprop_data
    from openvino.utils import replace_node

    for node in model.get_ops():
        if node.get_type_name() == "ConvolutionBackpropData":
            image, kernel = node.input_value(0), node.input_value(1)
            strides = node.get_attributes()["strides"]
            # What `same` means where the kernel's length less the stride is even.
            pads = [(k - stride) // 2 for k, stride in zip(list(kernel.shape)[2:], strides, strict=True)]
            replace_node(node, convolution_backprop_data(image, kernel, strides, pads_begin=pads, pads_end=pads))
    model.reshape([1, -1, -1, 3])


def main(kind: str, folder: str, out: str) -> int:
    """Export the bundle in a folder: one of `members`, or a `segmenter`."""
    os.environ["KERAS_BACKEND"] = "openvino"
    # Keras looks whether it is there, and so loads it.
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        with computing_in("fp32"):
            if kind == "members":
                export_members(load_bundle(Path(folder)), Path(out))
            else:
                export_segmenter(load_segmenter(Path(folder)), Path(out))
    except BundleError as error:
        sys.stdout.write(str(error))
        return DAMAGED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
