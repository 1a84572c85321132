"""The bundles that can be chosen. No Qt."""

from dataclasses import dataclass

from napari_all_detect.bundle import list_bundles, load_bundle
from napari_all_detect.errors import BundleError

__all__ = ["BundleChoice", "bundle_choices", "card_text"]


@dataclass(frozen=True)
class BundleChoice:
    """A bundle by the name or path that loads it; a broken one says why."""

    name: str
    text: str
    error: str | None = None


def bundle_choices() -> list[BundleChoice]:
    """List the installed bundles that score cells; broken ones too, as their owner should know."""
    choices = []
    for listed in list_bundles():
        if listed.error is not None:
            choices.append(BundleChoice(listed.name, f"{listed.name} (broken)", listed.error))
            continue
        try:
            choices.append(BundleChoice(listed.name, load_bundle(listed.name).label))
        except BundleError:  # a segmenter's
            continue
    return choices


def card_text(name: str) -> str:
    """Return a bundle's model card, or what is wrong with the bundle."""
    try:
        return load_bundle(name).card
    except BundleError as error:
        return str(error)
