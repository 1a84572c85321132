"""What a button was pressed for, and what became of it. No Qt."""

from dataclasses import dataclass, field
from typing import Any

from napari.layers import Image, Labels
from napari.utils.notifications import show_info, show_warning

from napari_all_detect._napari.layers.axes import Layout, cells_shape, layout_of
from napari_all_detect._napari.layers.origins import Origin, is_anothers, origin_of
from napari_all_detect._napari.layers.planes import LayerPlane, layer_planes
from napari_all_detect._napari.process.messages import Opened
from napari_all_detect.bundle import load_bundle
from napari_all_detect.params import ScoreParams

__all__ = ["Job", "Outcome", "Task", "tell_no_cell", "warn_of_others"]


@dataclass(frozen=True)
class Task:
    """What a button was pressed for.

    Attributes
    ----------
    image : napari.layers.Image
    labels : napari.layers.Labels or None
        None finds the cells.
    params : ScoreParams
    at : tuple of int or None
        The plane of a stack, on the leading axes that its labels have at the finest level; None takes all.
    channel_axis : int or None
        Of a grey image of three channels; None finds it.
    """

    image: Image
    labels: Labels | None
    params: ScoreParams
    at: tuple[int, ...] | None = None
    channel_axis: int | None = None

    def layout(self) -> Layout:
        """Return how the image is read.

        Raises
        ------
        InputError
            If it is grey, or has no such level or channels.
        BundleError
            If the level is to suit a bundle that is unknown or damaged.
        """
        reading = self.params.reading
        wanted = load_bundle(self.params.bundle).manifest.crop.pixel_size_um if reading.level == "auto" else None
        return layout_of(self.image, reading, self.channel_axis, wanted)

    def planes(self, layout: Layout) -> list[LayerPlane]:
        """Return the planes that are asked for, of the level that is read.

        Raises
        ------
        InputError
            If the labels are another image's.
        """
        return layer_planes(self.image, layout, self.labels, self._at(layout))

    def _at(self, layout: Layout) -> tuple[int, ...] | None:
        """Return where the plane lies at the level that is read: that may have fewer planes, too."""
        if self.at is None or not self.image.multiscale:
            return self.at
        first = 1 if layout.channel_axis == 0 else 0
        factors = self.image.downsample_factors[layout.level][first : first + len(self.at)]
        return tuple(int(i // factor) for i, factor in zip(self.at, factors, strict=True))


@dataclass(frozen=True)
class Job:
    """A task that was found to be possible.

    Attributes
    ----------
    task : Task
    layout : Layout
    planes : list of LayerPlane
    origin : Origin
        The image as it is scored: its layer may have got other pixels when that is done.
    """

    task: Task
    layout: Layout
    planes: list[LayerPlane]
    origin: Origin

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the labels of all planes."""
        return cells_shape(self.task.image, self.layout)


@dataclass
class Outcome:
    """What the working thread has got so far."""

    opened: Opened | None = None
    parts: list[tuple[tuple[int, ...], Any]] = field(default_factory=list)
    n_ended: int = 0
    """Planes that were done or failed: they were not broken off."""
    problems: list[str] = field(default_factory=list)


def warn_of_others(task: Task) -> None:
    """Say so if labels of the right shape belong to another image: on a second stain of the same field they fit."""
    origin = None if task.labels is None else origin_of(task.labels)
    if task.labels is not None and origin is not None and is_anothers(task.labels, task.image):
        show_warning(
            f"labels {task.labels.name!r} belong to {origin.name_beside(task.image)} and are used on "
            f"{task.image.name!r} now. If that is a mistake, press Cancel and choose 'Find cells', or labels of this "
            "image"
        )


def tell_no_cell(task: Task) -> str:
    """Say that there is no white cell, and what helps; return what the form says then."""
    if task.labels is not None:
        where = "" if task.at is None else " on the plane that is scored"
        show_info(f"labels {task.labels.name!r} hold no cell{where}; draw some with the brush, or choose 'Find cells'")
        return "The labels hold no cell"
    show_info(
        f"No white cell in {task.image.name!r}. If you see some: give the cell diameter (Advanced), or draw them in a "
        "labels layer and choose it under Cells"
    )
    return "No white cell found"
