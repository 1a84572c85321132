"""The command line, built from `params.py`."""

from napari_all_detect.cli.program import main, run

__all__ = ["main", "run"]
