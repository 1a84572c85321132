"""Which names and versions bundles can have."""

import json
import re

from napari_all_detect.bundle.manifest import Facts, validated
from napari_all_detect.errors import BundleError

__all__ = ["check_name"]

DEVICE = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?")
"""What Windows takes for a device, with any ending: no folder there can be called so."""


def check_name(name: str, version: str) -> None:
    """Raise BundleError unless a bundle can have this name and version."""
    if DEVICE.fullmatch(name):
        raise BundleError(f"no bundle can have the name {name!r}: on Windows it is a device; take another name")
    texts = dict.fromkeys(("description", "license", "citation"), "")
    facts = {"schema_version": 1, "name": name, "version": version, "created": "2000-01-01", "research_use_only": True}
    try:
        validated(Facts, json.dumps({**texts, **facts, "training": {}, "metrics": {}}).encode(), name)
    except BundleError as error:
        raise BundleError(
            f"no bundle can have the name {name!r} and the version {version!r}; expected a name of small letters, "
            "digits, '.', '_' and '-', not ending in '.' or '.zip', and a version such as 1.0.0, each of 64 characters "
            "at most"
        ) from error
