"""The formats of `params.FORMATS`: which of them this installation can write."""

from collections.abc import Callable, Iterable

from napari_all_detect.export.h5ad import check_h5ad
from napari_all_detect.export.ome_zarr import check_ome_zarr
from napari_all_detect.export.parquet import check_parquet

__all__ = ["check_formats"]

_CHECKS: dict[str, Callable[[], None]] = {"parquet": check_parquet, "h5ad": check_h5ad, "ome-zarr": check_ome_zarr}
"""Those that need an optional package."""


def check_formats(formats: Iterable[str]) -> None:
    """Raise MissingDependencyError, with the command that installs what is missing, unless all can be written."""
    for name in formats:
        if name in _CHECKS:
            _CHECKS[name]()
