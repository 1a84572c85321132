"""The dialog that asks which file is to be written."""

from pathlib import Path

from napari.utils.notifications import show_error
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_all_detect._napari.files.file_names import with_suffix

__all__ = ["file_to_write"]


def file_to_write(parent: QWidget, title: str, proposed: str, formats: dict[str, str]) -> Path | None:
    """Ask for a file; its name gets the suffix of the chosen format, unless it has that of one.

    Parameters
    ----------
    parent : QWidget
    title : str
    proposed : str
        The name that the dialog begins with.
    formats : dict of str to str
        Suffixes by the names of their formats; the first is chosen at first.

    Returns
    -------
    path : Path or None
        None if nothing was chosen, or a file is there already by a name that the dialog has not asked about.
    """
    filters = {f"{name} (*{suffix})": suffix for name, suffix in formats.items()}
    name, chosen = QFileDialog.getSaveFileName(parent, title, proposed, ";;".join(filters))
    if not name:
        return None
    suffixes = list(formats.values())
    path = with_suffix(Path(name), filters.get(chosen, suffixes[0]), suffixes, proposed)
    if path != Path(name) and path.exists():
        show_error(f"{path} is there already; choose another name")
        return None
    return path
