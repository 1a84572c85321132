"""Members that give no numbers: of damaged weights nobody shall see a score."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_all_detect.bundle import Bundle
from napari_all_detect.engines.base import MemberEngine, Progress
from napari_all_detect.errors import BundleError

__all__ = ["CheckedEngine"]


class CheckedEngine:
    """An engine of whose probabilities none is NaN: that is below every threshold, so each cell would be called Hem.

    Parameters
    ----------
    engine : MemberEngine
    bundle : Bundle
        Whose members it runs.
    """

    def __init__(self, engine: MemberEngine, bundle: Bundle) -> None:
        self.name, self.device = engine.name, engine.device
        self._engine, self._bundle = engine, bundle

    def predict(
        self, crops: NDArray[np.uint8], progress: Progress | None = None, members: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return the members' probabilities: see `Engine`.

        Raises
        ------
        BundleError
            If a member gives no number.
        """
        probabilities = self._engine.predict(crops, progress, members)
        all_members = self._bundle.manifest.members
        asked = all_members if members is None else [all_members[k] for k in members]
        for k, member in enumerate(asked):
            if not np.isfinite(probabilities[:, k]).all():
                raise BundleError(
                    f"bundle {self._bundle.label}, member {member.name}: gives NaN, expected probabilities; its "
                    "weights are damaged: get the bundle again"
                )
        return probabilities
