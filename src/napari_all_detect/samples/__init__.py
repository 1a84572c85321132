"""Synthetic stained smears with ground truth: the sample data, and material for tests and benchmarks.

`draw_smear` draws one field; `write_samples` writes a folder of them, as `sample_data` in the repository is. The
images are drawn from shapes, textures and the absorption of light (Beer-Lambert); nothing in them comes from
a real slide.
"""

from napari_all_detect.samples.smear import Smear, draw_smear
from napari_all_detect.samples.stains import STAINS, Stain
from napari_all_detect.samples.writing import write_samples

__all__ = ["STAINS", "Smear", "Stain", "draw_smear", "write_samples"]
