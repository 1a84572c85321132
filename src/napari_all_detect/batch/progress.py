"""What a run tells while it goes on, and at its end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from napari_all_detect.results import Failure

__all__ = ["BatchProgress", "BatchSummary"]


class BatchProgress:
    """Is told how a run goes on; this one keeps quiet. Override what you need."""

    def note(self, text: str) -> None:
        """Take what is to be known of a run before it starts."""

    def writing(self, what: str) -> None:
        """Take what is written now, when all planes are done: with many of them that lasts."""

    def start(self, planes: int) -> None:
        """Take the number of planes that are still to be scored."""

    def cells(self, n: int) -> None:
        """Take how many more cells were scored; called from other threads."""

    def plane(self) -> None:
        """One more plane is done."""

    def failed(self, failure: Failure) -> None:
        """One more input failed."""


@dataclass(frozen=True)
class BatchSummary:
    """What a run gave.

    Attributes
    ----------
    folder : Path
    planes, cells, called_all, called_hem, uncertain, out_of_domain : int
    failures : tuple of Failure
    note : str
        What of the sample sheet and the images does not match; empty if all does, or there is no sheet.
    notes : mapping of str to int
        On how many planes there is each note, as in the column of `images.csv`.
    """

    folder: Path
    planes: int
    cells: int
    called_all: int
    called_hem: int
    uncertain: int
    out_of_domain: int
    failures: tuple[Failure, ...]
    note: str = ""
    notes: Mapping[str, int] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """0 if all was done, 3 if some inputs failed, 1 if nothing could be done."""
        return 0 if not self.failures else 3 if self.planes else 1
