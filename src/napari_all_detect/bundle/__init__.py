"""Model bundles: what a folder of members, weights and facts must hold, and how one is found, checked and loaded."""

from napari_all_detect.bundle.manifest import Crop, Ensemble, Manifest, Member, Validation
from napari_all_detect.bundle.store import Bundle, install_bundle, list_bundles, load_bundle

__all__ = [
    "Bundle",
    "Crop",
    "Ensemble",
    "Manifest",
    "Member",
    "Validation",
    "install_bundle",
    "list_bundles",
    "load_bundle",
]
