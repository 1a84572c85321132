"""What stands in the metadata of layers, and under which keys. No Qt.

napari copies metadata to layers that are duplicated, cut or converted, and hands them to writers.
"""

__all__ = [
    "CHANNELS_KEY",
    "FILE_KEY",
    "FOUND_IN_KEY",
    "IDENTITY_KEY",
    "LAYOUT_KEY",
    "NAMED_KEY",
    "NUCLEI_KEY",
    "OUTLINE_KEY",
    "PIXELS_KEY",
    "PIXEL_SIZE_KEY",
    "PLANES_KEY",
    "RESULTS_KEY",
    "SCORED_ON_KEY",
    "SHAPE_KEY",
]

# Of an image layer.

IDENTITY_KEY = "all_detect_identity"
"""Its identity, and the shape of the layer that has it: a plane that napari cuts out of a stack is another image."""
PIXELS_KEY = "all_detect_pixels"
"""Returns the pixels that have this identity, None if they are gone: a layer or its copy may have got others since."""
FILE_KEY = "all_detect_file"
"""The file that it was read from, where the layer's source is a folder of many."""
PLANES_KEY = "all_detect_planes"
"""The names of those of the file's planes that it shows, if they were chosen."""
NAMED_KEY = "all_detect_named"
"""What it is called in the tables of the run that it was read from: `image`, `well` and `field`."""
CHANNELS_KEY = "all_detect_channels"
"""Which of the file's channels are its red, green and blue, if they were chosen among others."""
PIXEL_SIZE_KEY = "all_detect_pixel_size_um"
"""The edge of its finest pixel in micrometers, where its scale is in pixels though that is known."""

# Of a labels layer.

FOUND_IN_KEY = "all_detect_found_in"
"""The `Origin` of its cells."""
SCORED_ON_KEY = "all_detect_scored_on"
"""The `Origin` of its scores."""
NUCLEI_KEY = "all_detect_nuclei"
"""Where the nuclei are, if they were looked for."""
RESULTS_KEY = "all_detect"
"""Its `CellResults`."""
SHAPE_KEY = "all_detect_shape"
"""The shape of the labels that the results are of: other labels have them for being copies."""
LAYOUT_KEY = "all_detect_layout"
"""The `Layout` by which the image was read that the results are of."""
OUTLINE_KEY = "all_detect_outline_px"
"""How a layer that is yet to be made will be outlined: napari's readers can't say."""
