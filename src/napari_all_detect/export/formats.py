"""The formats of `params.FORMATS`: which of them this installation can write."""

from collections.abc import Iterable

from napari_all_detect.optional import require

__all__ = ["check_formats"]

_NEEDS = {"parquet": "pyarrow", "h5ad": "anndata", "ome-zarr": "ngio"}
"""Those that need an optional package; the extra that brings it has the format's name."""


def check_formats(formats: Iterable[str]) -> None:
    """Raise MissingDependencyError, with the command that installs what is missing, unless all can be written."""
    for name in formats:
        if name in _NEEDS:
            require(_NEEDS[name], name, name)
