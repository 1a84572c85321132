"""The crops of cells whose scores were read: from which planes, and at which scale. No Qt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_all_detect import trust
from napari_all_detect._napari.cells.crops_again import CropsOnDemand, CutPlane
from napari_all_detect._napari.process.messages import Opened
from napari_all_detect.bundle import Manifest, load_bundle
from napari_all_detect.crops import crop_scale
from napari_all_detect.errors import InputError

__all__ = ["CutAgain", "Planes"]

Planes = Mapping[tuple[int, ...], tuple[Any, NDArray[np.integer]]]
"""Pixels, (H, W, 3) uint8 array-like, and labels, (H, W) numbered as the layer's, of the planes that have cells."""

BOX = ["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]
SAME_DISTANCE = 1e-5
"""By how much the distance of a cell that is cut again differs at most; cut at another scale, it does by more."""


@dataclass(frozen=True, eq=False)
class CutAgain:
    """Cells, and what they are cut from.

    Attributes
    ----------
    cells : DataFrame
        N rows, the columns of `cells.csv`.
    run : Opened
        What scored them.
    numbers : (N,) int64
        Each cell's number in the layer.
    index : (N, L) int64
        Where its plane lies.
    planes : Planes
        Empty if the pixels are gone.
    """

    cells: pd.DataFrame
    run: Opened
    numbers: NDArray[np.int64]
    index: NDArray[np.int64]
    planes: Planes

    def crops(self, summary: pd.DataFrame) -> CropsOnDemand | None:
        """Return the cells as the networks saw them; None if pixels, bundle or rescaling are not known."""
        scales = dict(zip(summary["plane"], summary["rescale"], strict=True))
        places = list(map(tuple, self.index.tolist()))
        scale_at = {place: scales[plane] for place, plane in zip(places, self.cells["plane"], strict=True)}
        if not self.run.crop_size or not scale_at.keys() <= self.planes.keys() or np.isnan([*scale_at.values()]).any():
            return None
        order = list(scale_at)
        # A factor is kept in single precision: in the fewest digits that say it, it is what was asked for.
        cut = [CutPlane(*self.planes[place], float(str(np.float32(scale_at[place])))) for place in order]
        place = np.array([order.index(place) for place in places], np.int64)
        return CropsOnDemand(cut, place, self.numbers, self.cells[BOX].to_numpy(np.int64), self.run.crop_size)

    def with_default_rescaling(self, summary: pd.DataFrame) -> pd.DataFrame:
        """Fill in the default for planes whose rescaling was not saved, if a cell cut so is as it was scored.

        One way of rescaling holds for a whole run: of the plane that the default changes most, one cell is cut.
        """
        unknown = np.flatnonzero(summary["rescale"].isna())
        if not self.run.crop_size or not len(unknown):
            return summary
        manifest = load_bundle(self.run.source).manifest
        own = [np.flatnonzero(self.cells["plane"] == plane) for plane in summary["plane"].iloc[unknown]]
        scales = [
            crop_scale(
                "auto",
                pixel_size_um=None if np.isnan(size) else size,
                diameters_px=self.cells["diameter_px"].iloc[rows].to_numpy(),
                bundle_pixel_size_um=manifest.crop.pixel_size_um,
                bundle_diameter_px=manifest.crop.cell_diameter_px,
            )
            for rows, size in zip(own, summary["pixel_size_um"].iloc[unknown].tolist(), strict=True)
        ]
        rescale = summary["rescale"].to_numpy(np.float32, copy=True)
        rescale[unknown] = scales
        filled, telling = summary.assign(rescale=rescale), int(np.abs(np.log(scales)).argmax())
        return filled if self._is_as_scored(own[telling][:1], filled, manifest) else summary

    def _is_as_scored(self, row: NDArray[np.intp], summary: pd.DataFrame, manifest: Manifest) -> bool:
        """Return whether a cell, cut again, is as far from the training cells as its row says."""
        one = CutAgain(self.cells.iloc[row], self.run, self.numbers[row], self.index[row], self.planes)
        crops, domain = one.crops(summary), manifest.domain
        if crops is None or domain is None:
            return False
        try:
            features = trust.colour_features(crops[:])
        except InputError:  # told when the crops are looked at
            return False
        distance = trust.domain_distance(features, domain.mean, domain.covariance, domain.threshold)
        return np.allclose(distance, one.cells["domain_distance"], rtol=SAME_DISTANCE)
