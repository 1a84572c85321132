"""The bundles that can be chosen. No Qt."""

from napari_all_detect.bundle import list_bundles, load_bundle
from napari_all_detect.bundle.store import ListedBundle
from napari_all_detect.errors import BundleError

__all__ = ["card_text", "scoring_bundles"]


def scoring_bundles() -> list[ListedBundle]:
    """List the installed bundles that score cells; broken ones too, as their owner should know."""
    return [listed for listed in list_bundles() if listed.scores or listed.error is not None]


def card_text(name: str) -> str:
    """Return a bundle's model card, or what is wrong with the bundle."""
    try:
        return load_bundle(name).card
    except BundleError as error:
        return str(error)
