"""Model bundles: what a folder of networks, weights and facts must hold, and how one is found, checked and loaded."""

from napari_all_detect.bundle.manifest import Crop, Ensemble, Manifest, Member, Network, SegmenterManifest, Validation
from napari_all_detect.bundle.store import (
    AnyBundle,
    Bundle,
    SegmenterBundle,
    absolute_place,
    install_bundle,
    list_bundles,
    load_any_bundle,
    load_bundle,
    load_segmenter,
)

__all__ = [
    "AnyBundle",
    "Bundle",
    "Crop",
    "Ensemble",
    "Manifest",
    "Member",
    "Network",
    "SegmenterBundle",
    "SegmenterManifest",
    "Validation",
    "absolute_place",
    "install_bundle",
    "list_bundles",
    "load_any_bundle",
    "load_bundle",
    "load_segmenter",
]
