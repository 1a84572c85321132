"""One scoring process for all viewers of a session; it ends with the last widget that uses it."""

from napari_all_detect._napari.process.client import ScoringProcess

__all__ = ["borrow", "give_back"]

_process = ScoringProcess()
_borrowers = 0


def borrow() -> ScoringProcess:
    """Return the process; `give_back` it once."""
    global _borrowers
    _borrowers += 1
    return _process


def give_back() -> None:
    """End the process if nobody else uses it."""
    global _borrowers
    _borrowers -= 1
    if _borrowers == 0:
        _process.end()
