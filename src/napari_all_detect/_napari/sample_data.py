"""Sample data for napari's File menu."""

from typing import Any

from napari_all_detect.samples import draw_smear

__all__ = ["sample_smear"]


def sample_smear() -> list[tuple[Any, dict[str, Any], str]]:
    """Return a drawn smear as one RGB layer, and its true cells as a labels layer that is hidden at first."""
    smear = draw_smear((512, 512), n_cells=30, touching=0.3, seed=7)
    return [
        (smear.rgb, {"name": "smear (drawn)", "rgb": True}, "image"),
        (smear.labels, {"name": "truth", "visible": False}, "labels"),
    ]
