"""Which of the images to be scored a bundle has seen in its training."""

from collections.abc import Sequence

from all_detect_training.listing import LabelledImage
from all_detect_training.plans import images_digest
from all_detect_training.training_set import CONTIGUOUS, sides_of
from napari_all_detect.bundle.manifest import Manifest
from napari_all_detect.errors import InputError

__all__ = ["sides_in_training"]


def sides_in_training(manifest: Manifest, images: Sequence[LabelledImage]) -> list[str] | None:
    """Return the side on which each image was in a bundle's training.

    Parameters
    ----------
    manifest : Manifest
    images : sequence of LabelledImage
        All that were listed, not a part of them: a bundle knows its images by one digest of all.

    Returns
    -------
    sides : list of str or None
        `train`, `validation` or `test`; empty where the bundle was trained on these images in contiguous blocks, of
        which the borders are unknown; None if it was trained on others, or on others too.
    """
    data = manifest.training.get("dataset", {})
    split, sides = data.get("split"), None
    if split not in (None, CONTIGUOUS):
        try:
            sides = sides_of(images, split, manifest.training.get("seed", 0)).tolist()
        except InputError:
            return None
    if images_digest(images, sides) != data.get("images_sha256"):
        return None
    return sides or [""] * len(images)
