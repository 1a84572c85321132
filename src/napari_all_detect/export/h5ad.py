"""AnnData (`.h5ad`), as scanpy and squidpy read it."""

from pathlib import Path

import numpy as np
import pandas as pd

from napari_all_detect.export.formats import check_formats

__all__ = ["write_h5ad"]

SHAPES = (
    *("area_px", "diameter_px", "eccentricity", "solidity", "area_um2", "diameter_um"),
    *("nc_ratio", "nucleus_area_px", "nucleus_lobes"),
)
"""What an analysis would cluster by."""


def write_h5ad(cells: pd.DataFrame, path: Path) -> None:
    """Write a cell table as AnnData.

    A cell is an observation, named `image/plane/label`. `X` holds size and shape (those columns that have a value at
    all), `obs` everything else, `obsm["spatial"]` the centroid (x, y) in pixels, and `obsm["members"]` each member's
    probability of ALL, in the order of `uns["members"]`.

    Parameters
    ----------
    cells : DataFrame
        Rows of `cells.csv`.
    path : Path

    Raises
    ------
    MissingDependencyError
        If `anndata` is not installed.
    """
    check_formats(["h5ad"])
    import anndata

    shapes = [name for name in SHAPES if len(cells) == 0 or cells[name].notna().any()]
    members = [name for name in map(str, cells.columns) if name.startswith("p_all_")]
    obs = cells.drop(columns=[*SHAPES, *members])
    obs.index = pd.Index(cells["image"] + "/" + cells["plane"] + "/" + cells["label"].astype(str), dtype="object")
    with anndata.settings.override(allow_write_nullable_strings=False):
        anndata.AnnData(
            X=cells[shapes].to_numpy(np.float32, na_value=np.nan),
            obs=obs,
            var=pd.DataFrame(index=pd.Index(shapes, dtype="object")),
            obsm={
                "spatial": cells[["x_px", "y_px"]].to_numpy(np.float32),
                "members": cells[members].to_numpy(np.float32),
            },
            uns={"members": [name.removeprefix("p_all_") for name in members]},
        ).write_h5ad(path, compression="gzip")
